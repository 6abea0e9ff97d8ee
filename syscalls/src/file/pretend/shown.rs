//! What the stat family tells: the kernel's answer with what is pretended in its place.

use std::mem::offset_of;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::libc;
use nix::sys::stat::{FileStat, SFlag, fstat, makedev};

use super::store::{Said, look};
use crate::file::object::kind;
use crate::file::resolve::is_procfs;
use crate::guest::Guest;

/// The block size that procfs tells (`proc_fill_super`).
const PROC_BLOCK: i64 = 1024;

/// Rewrites the `struct stat` of an object.
pub(crate) fn in_stat(
    guest: &dyn Guest,
    object: &OwnedFd,
    answer: &mut [u8; size_of::<libc::stat>()],
) -> Result<(), Errno> {
    let (said, stat) = of(guest, object)?;
    put(answer, offset_of!(libc::stat, st_uid), &said.user.to_ne_bytes());
    put(answer, offset_of!(libc::stat, st_gid), &said.group.to_ne_bytes());
    put(answer, offset_of!(libc::stat, st_mode), &mode(&said, &stat).to_ne_bytes());
    if let Some(device) = said.device {
        let number = makedev(device.major.into(), device.minor.into());
        put(answer, offset_of!(libc::stat, st_rdev), &number.to_ne_bytes());
    }
    Ok(())
}

/// Rewrites the `struct statx` of an object. What was not asked for is told all the same, as file systems do.
pub(crate) fn in_statx(
    guest: &dyn Guest,
    object: &OwnedFd,
    answer: &mut [u8; size_of::<libc::statx>()],
) -> Result<(), Errno> {
    let (said, stat) = of(guest, object)?;
    put(answer, offset_of!(libc::statx, stx_uid), &said.user.to_ne_bytes());
    put(answer, offset_of!(libc::statx, stx_gid), &said.group.to_ne_bytes());
    let mode = u16::try_from(mode(&said, &stat)).map_err(|_| Errno::EOVERFLOW)?;
    put(answer, offset_of!(libc::statx, stx_mode), &mode.to_ne_bytes());
    if let Some(device) = said.device {
        put(answer, offset_of!(libc::statx, stx_rdev_major), &device.major.to_ne_bytes());
        put(answer, offset_of!(libc::statx, stx_rdev_minor), &device.minor.to_ne_bytes());
    }
    Ok(())
}

fn of(guest: &dyn Guest, object: &OwnedFd) -> Result<(Said, FileStat), Errno> {
    let stat = fstat(object)?;
    let mut said = look(guest, object, &stat);
    // The directory of a process belongs to whom the process acts as: so does `ps` know. Only procfs has such blocks.
    if kind(&stat) == SFlag::S_IFDIR
        && stat.st_blksize == PROC_BLOCK
        && is_procfs(object)?
        && let Ok((user, group)) = guest.owner_of_process(object)
    {
        (said.user, said.group) = (user, group);
    }
    Ok((said, stat))
}

/// Type and permissions.
fn mode(said: &Said, stat: &FileStat) -> u32 {
    let kind = match said.device {
        Some(device) if device.block => libc::S_IFBLK,
        Some(_) => libc::S_IFCHR,
        None => stat.st_mode & libc::S_IFMT,
    };
    kind | said.mode
}

fn put(answer: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = answer.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}
