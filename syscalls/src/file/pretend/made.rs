//! Files that come into being belong to whom their maker pretends to be, or to the group of a set-group-id directory.

use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::ResolveFlag;
use nix::sys::stat::{SFlag, fstat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::record::Device;
use super::store::{begin, lift, look};
use super::{SET_GROUP, SET_USER, capability};
use crate::file::object::kind;
use crate::file::walk::Parent;
use crate::guest::Guest;

/// Says whose `object` is, which the caller has just made in `dir`. `asked` are the permissions that it asked for, of which
/// the real file has all but the set-id bits.
pub(crate) fn file(
    guest: &dyn Guest,
    object: &OwnedFd,
    dir: &OwnedFd,
    asked: u32,
    device: Option<Device>,
) -> Result<(), Errno> {
    if !guest.rules().fake_root {
        return Ok(());
    }
    let who = guest.credentials()?;
    let around = look(guest, dir, &fstat(dir)?);
    let inherits = around.mode & SET_GROUP != 0;
    begin(guest, object, |said, stat| {
        said.user = who.user.file;
        said.group = if inherits { around.group } else { who.group.file };
        said.device = device;
        match kind(stat) {
            SFlag::S_IFDIR if inherits => said.mode |= SET_GROUP,
            SFlag::S_IFDIR => {}
            _ => {
                let keeps_group = said.mode & 0o010 == 0 || who.is_in(said.group) || who.can(capability::FSETID);
                let kept = if keeps_group { SET_USER | SET_GROUP } else { SET_USER };
                said.mode |= asked & kept;
            }
        }
    })
}

/// The same for a name that has just been made. What cannot be said of it must not be thought of it: then it goes again.
pub(crate) fn name(guest: &dyn Guest, parent: &Parent, asked: u32, device: Option<Device>) -> Result<(), Errno> {
    if !guest.rules().fake_root {
        return Ok(());
    }
    let object = parent.object(guest, ResolveFlag::empty())?;
    let said = file(guest, &object, &parent.dir, asked, device);
    if said.is_err() {
        let is_directory = fstat(&object).is_ok_and(|stat| kind(&stat) == SFlag::S_IFDIR);
        let how = if is_directory { UnlinkatFlags::RemoveDir } else { UnlinkatFlags::NoRemoveDir };
        let _ = unlinkat(&parent.dir, parent.name.as_c_str(), how);
    }
    said
}

/// Acts in `directories`; once more where only their real permissions were in root's way.
pub(crate) fn as_root<T>(
    guest: &dyn Guest,
    directories: &[&OwnedFd],
    act: impl Fn() -> Result<T, Errno>,
) -> Result<T, Errno> {
    match act() {
        Err(Errno::EACCES) if overrides(guest) => {
            // All of them, though one may have been enough.
            let lifted = directories.iter().filter(|directory| lift(guest, directory)).count();
            if lifted > 0 { act() } else { Err(Errno::EACCES) }
        }
        other => other,
    }
}

/// Whether permissions do not count for the caller.
pub(crate) fn overrides(guest: &dyn Guest) -> bool {
    guest.rules().fake_root && guest.credentials().is_ok_and(|who| who.can(capability::DAC_OVERRIDE))
}
