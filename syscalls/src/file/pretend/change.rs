//! Changes of what is pretended, by the rules of chown(2), chmod(2) and setxattr(2) for the ids that the caller pretends.

use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::sys::stat::{FileStat, SFlag};

use super::record::FileCapability;
use super::store::{Said, change, look};
use super::{SET_GROUP, SET_USER, capability};
use crate::credentials::Credentials;
use crate::file::object::kind;
use crate::guest::Guest;

/// "Leave as it is".
const UNCHANGED: u32 = u32::MAX;

/// Gives `object` to a user and a group, either of which may be left as it is.
pub(crate) fn owner(guest: &dyn Guest, object: &OwnedFd, user: u32, group: u32) -> Result<(), Errno> {
    let who = guest.credentials()?;
    change(guest, object, |said, stat| give(&who, said, stat, user, group))
}

fn give(who: &Credentials, said: &mut Said, stat: &FileStat, user: u32, group: u32) -> Result<(), Errno> {
    let owns = who.user.file == said.user;
    let may_all = who.can(capability::CHOWN);
    let user_stays = user == UNCHANGED || user == said.user && owns;
    let group_may = group == UNCHANGED || owns && (group == said.group || who.is_in(group));
    if !(may_all || user_stays && group_may) {
        return Err(Errno::EPERM);
    }
    if kind(stat) != SFlag::S_IFDIR {
        // Whoever gets a program does not get what it may do, not even from root.
        let keeps_group = said.mode & 0o010 == 0 && (who.is_in(said.group) || who.can(capability::FSETID));
        said.mode &= if keeps_group { !SET_USER } else { !(SET_USER | SET_GROUP) };
        said.capability = None;
    }
    if user != UNCHANGED {
        said.user = user;
    }
    if group != UNCHANGED {
        said.group = group;
    }
    Ok(())
}

/// Gives `object` permissions, set-id bits among them.
pub(crate) fn mode(guest: &dyn Guest, object: &OwnedFd, mode: u32) -> Result<(), Errno> {
    let who = guest.credentials()?;
    change(guest, object, |said, _| permit(&who, said, mode & 0o7777))
}

fn permit(who: &Credentials, said: &mut Said, mode: u32) -> Result<(), Errno> {
    owns(who, said)?;
    let keeps_group = who.is_in(said.group) || who.can(capability::FSETID);
    said.mode = if keeps_group { mode } else { mode & !SET_GROUP };
    Ok(())
}

/// Whether the caller counts as the owner. `EPERM` if not.
fn owns(who: &Credentials, said: &Said) -> Result<(), Errno> {
    if who.user.file == said.user || who.can(capability::FOWNER) { Ok(()) } else { Err(Errno::EPERM) }
}

/// The value of `security.capability`, if there is one.
pub(crate) fn file_capability(guest: &dyn Guest, object: &OwnedFd) -> Result<Vec<u8>, Errno> {
    let stat = nix::sys::stat::fstat(object)?;
    look(guest, object, &stat).capability.map(|value| value.bytes().to_vec()).ok_or(Errno::ENODATA)
}

/// Sets `security.capability`, with the flags of setxattr(2).
pub(crate) fn set_file_capability(guest: &dyn Guest, object: &OwnedFd, value: &[u8], flags: u32) -> Result<(), Errno> {
    const CREATE: u32 = libc::XATTR_CREATE.cast_unsigned();
    const REPLACE: u32 = libc::XATTR_REPLACE.cast_unsigned();
    let value = FileCapability::new(value).ok_or(Errno::EINVAL)?;
    may_set_capabilities(guest)?;
    change(guest, object, |said, _| {
        match said.capability {
            Some(_) if flags & CREATE != 0 => return Err(Errno::EEXIST),
            None if flags & REPLACE != 0 => return Err(Errno::ENODATA),
            _ => {}
        }
        said.capability = Some(value);
        Ok(())
    })
}

/// Takes `security.capability` away.
pub(crate) fn remove_file_capability(guest: &dyn Guest, object: &OwnedFd) -> Result<(), Errno> {
    may_set_capabilities(guest)?;
    change(guest, object, |said, _| said.capability.take().map(drop).ok_or(Errno::ENODATA))
}

fn may_set_capabilities(guest: &dyn Guest) -> Result<(), Errno> {
    if guest.credentials()?.can(capability::SETFCAP) { Ok(()) } else { Err(Errno::EPERM) }
}
