//! Reading and changing what a file is said to be.
//!
//! What can bear an attribute has its record there, so that it stays with the file: through renames, under all its names,
//! in copies of a directory, and until the next run. The rest is remembered by the [`Table`](super::table::Table).
//!
//! The attribute can be set only by who may write the file, and root may do everything on Linux. So the real permissions
//! of a file always let the real owner read and write it (search it, run it where anybody may), whatever the pretended
//! ones say; and set-id bits are only ever pretended.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use nix::sys::stat::{FchmodatFlags, FileStat, Mode, SFlag, fchmodat, fstat};

use super::record::{Device, FileCapability, Record};
use super::table::{Birth, Key};
use super::{SET_GROUP, attribute};
use crate::file::judge;
use crate::file::object::kind;
use crate::file::reopen;
use crate::guest::Guest;
use crate::sys;

/// What the guest is told of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    /// Its owner.
    pub(crate) user: u32,
    /// Its group.
    pub(crate) group: u32,
    /// Permissions, with set-id and sticky bits.
    pub(crate) mode: u32,
    /// The device that it stands for.
    pub(crate) device: Option<Device>,
    /// What running it gives.
    pub(crate) capability: Option<FileCapability>,
}

impl Said {
    /// What is said of a file without a record: it is root's, for its real owner is either the real user, who is root here,
    /// or somebody whom the sandbox does not know.
    fn by_default(stat: &FileStat) -> Self {
        Self { user: 0, group: 0, mode: stat.st_mode & 0o7777, device: None, capability: None }
    }

    /// The same with what its record says.
    fn with(self, record: Option<Record>, stat: &FileStat) -> Self {
        let Some(record) = record else { return self };
        // Whoever wrote something into the file outside has made it a file again.
        let stands = kind(stat) == SFlag::S_IFREG && stat.st_size == 0;
        Self {
            user: record.user,
            group: record.group,
            mode: record.mode.unwrap_or(self.mode),
            device: record.device.filter(|_| stands),
            capability: record.capability,
        }
    }

    /// The permissions that the file really has for this to be said of it.
    fn real_mode(&self, stat: &FileStat) -> u32 {
        let plain = self.mode & 0o1777;
        match kind(stat) {
            // A real set-group-id bit of a directory came with the tree, and is harmless.
            SFlag::S_IFDIR => plain | 0o700 | self.mode & stat.st_mode & SET_GROUP,
            SFlag::S_IFREG if self.device.is_some() => plain & 0o666 | 0o600,
            _ if plain & 0o111 != 0 => plain | 0o700,
            _ => plain | 0o600,
        }
    }

    fn record(&self, real_mode: u32) -> Record {
        Record {
            user: self.user,
            group: self.group,
            mode: Some(self.mode).filter(|mode| *mode != real_mode),
            device: self.device,
            capability: self.capability.clone(),
        }
    }

    /// Whether nothing has to be written down about a file that really has this mode.
    fn goes_without_saying(&self, real_mode: u32) -> bool {
        (self.user, self.group, self.mode) == (0, 0, real_mode) && self.device.is_none() && self.capability.is_none()
    }
}

/// Whether an object of this kind can bear an attribute of ours.
fn can_bear(stat: &FileStat) -> bool {
    matches!(kind(stat), SFlag::S_IFREG | SFlag::S_IFDIR)
}

fn key(stat: &FileStat) -> Key {
    (stat.st_dev, stat.st_ino)
}

/// When an object came to be; always the same moment where the file system does not know.
fn birth(object: &OwnedFd) -> Birth {
    let Ok(found) = sys::statx(object.as_fd(), 0, libc::STATX_BTIME) else { return Birth::default() };
    let number = |at: usize| i64::from_ne_bytes(std::array::from_fn(|index| found[at + index]));
    let at = std::mem::offset_of!(libc::statx, stx_btime);
    // The second word holds the nanoseconds and nothing else; for telling moments apart its bytes will do.
    (number(at), number(at + 8))
}

/// What is said of `object`, which is so.
pub(crate) fn look(guest: &dyn Guest, object: &OwnedFd, stat: &FileStat) -> Said {
    let borne = if can_bear(stat) { attribute::read(guest, object) } else { None };
    let record = borne.or_else(|| guest.remembered().get(key(stat), || birth(object)));
    Said::by_default(stat).with(record, stat)
}

/// Changes what is said of `object`. Two changes of one file come one after the other.
pub(crate) fn change(
    guest: &dyn Guest,
    object: &OwnedFd,
    edit: impl FnOnce(&mut Said, &FileStat) -> Result<(), Errno>,
) -> Result<(), Errno> {
    let stat = fstat(object)?;
    if reopen::copies_first(object, &stat)? {
        // Whoever waits for the lock below must not wait for a long copy.
        reopen::copy_now(guest, object);
    }
    let _alone = alone(key(&stat));
    let stat = fstat(object)?;
    let before = look(guest, object, &stat);
    let mut after = before.clone();
    edit(&mut after, &stat)?;
    if after == before {
        // The kernel still says what it thinks of changes here.
        return permitted(object);
    }
    write(guest, object, &stat, &after)
}

/// Says of an object that has just been made what it is. Its real permissions are those that it was asked for.
pub(crate) fn begin(guest: &dyn Guest, object: &OwnedFd, edit: impl FnOnce(&mut Said, &FileStat)) -> Result<(), Errno> {
    let stat = fstat(object)?;
    let mut said = Said::by_default(&stat);
    edit(&mut said, &stat);
    if kind(&stat) == SFlag::S_IFLNK {
        said.mode = stat.st_mode & 0o7777;
    }
    // Nearly always, when root makes files.
    if said.goes_without_saying(stat.st_mode & 0o7777) && said.mode == said.real_mode(&stat) {
        return Ok(());
    }
    let _alone = alone(key(&stat));
    write(guest, object, &stat, &said)
}

/// Lets the real owner do what root may: whether the real permissions of `object` were in the way, and are not any more.
pub(crate) fn lift(guest: &dyn Guest, object: &OwnedFd) -> bool {
    let Ok(stat) = fstat(object) else { return false };
    if !can_bear(&stat) || !judge::may_change(guest, object) {
        return false;
    }
    let _alone = alone(key(&stat));
    let Ok(stat) = fstat(object) else { return false };
    let said = look(guest, object, &stat);
    said.real_mode(&stat) != stat.st_mode & 0o7777 && write(guest, object, &stat, &said).is_ok()
}

/// Forgets what is remembered of an object whose last name is gone.
pub(crate) fn forget(guest: &dyn Guest, stat: &FileStat) {
    guest.remembered().forget(key(stat));
}

fn write(guest: &dyn Guest, object: &OwnedFd, stat: &FileStat, said: &Said) -> Result<(), Errno> {
    let present = stat.st_mode & 0o7777;
    let wanted = if kind(stat) == SFlag::S_IFLNK { present } else { said.real_mode(stat) };
    // First, for without the right to write there is no attribute to be set.
    let mode = if wanted == present { Ok(()) } else { set_mode(guest, object, wanted) };
    let mode = match mode {
        Ok(()) => wanted,
        // Somebody else's: what is said of it is only remembered.
        Err(Errno::EPERM | Errno::EACCES | Errno::EOPNOTSUPP) => present,
        Err(errno) => return Err(errno),
    };
    let silent = said.goes_without_saying(mode);
    if can_bear(stat) {
        let written =
            if silent { attribute::remove(guest, object) } else { attribute::write(guest, object, &said.record(mode)) };
        match written {
            Ok(()) => {
                guest.remembered().forget(key(stat));
                return Ok(());
            }
            Err(Errno::EPERM | Errno::EACCES | Errno::EOPNOTSUPP) => {}
            Err(errno) => return Err(errno),
        }
    }
    permitted(object)?;
    if silent {
        guest.remembered().forget(key(stat));
        return Ok(());
    }
    // A pipe, a socket between processes: nobody else will ever ask, and nothing would say when it is gone.
    let has_name = stat.st_nlink > 0 && guest.label_of(object)?.as_encoded_bytes().starts_with(b"/");
    if has_name { guest.remembered().put(key(stat), birth(object), said.record(mode)) } else { Ok(()) }
}

/// Fails where the file system lets nobody change anything (`EROFS`).
fn permitted(object: &OwnedFd) -> Result<(), Errno> {
    const UNCHANGED: u32 = u32::MAX;
    match sys::set_owner(object.as_fd(), UNCHANGED, UNCHANGED) {
        Err(errno @ Errno::EROFS) => Err(errno),
        _ => Ok(()),
    }
}

fn set_mode(guest: &dyn Guest, object: &OwnedFd, mode: u32) -> Result<(), Errno> {
    // Through the entry, for the object may be one that is not open (`O_PATH`).
    let entry = object.as_raw_fd().to_string();
    let mode = Mode::from_bits_truncate(mode);
    fchmodat(guest.descriptors()?, entry.as_str(), mode, FchmodatFlags::FollowSymlink)
}

/// The right to change a record. Taken by the object, and never while another is held.
fn alone((device, inode): Key) -> MutexGuard<'static, ()> {
    const MANY: usize = 64;
    static LOCKS: [Mutex<()>; MANY] = [const { Mutex::new(()) }; MANY];
    let index = usize::try_from((device ^ inode.rotate_left(7)) % MANY as u64).unwrap_or_default();
    LOCKS[index].lock().unwrap_or_else(PoisonError::into_inner)
}
