//! Files of other owners in copy-on-write directories: root changes them, so it gets a copy of its own.
//!
//! overlayfs copies a file before it is changed, but not one whose owner the sandbox does not know (`EOVERFLOW`), and where
//! the permissions are in the way it does not come to that. For the guest such a file is root's, as all that has no record.
//! So the sentry makes the copy itself, beside the file, and puts it in the file's place: what can be read can be copied.
//! The host sees nothing of it; like every copy that overlayfs makes it is another inode, and other names of the file stay
//! what they were.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::libc;
use nix::sys::stat::{FileStat, Mode, SFlag, UtimensatFlags, fstat, fstatat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{UnlinkatFlags, symlinkat, unlinkat};

use super::made::overrides;
use crate::file::object::kind;
use crate::file::reopen::is_copy_on_write;
use crate::file::resolve::{is_own, look};
use crate::file::walk::names_move;
use crate::guest::Guest;

/// Copied at once between two looks at whether the caller still waits.
const CHUNK: usize = 1 << 20;
/// Names that are tried for a copy.
const NAMES: usize = 100;

/// Whether `object` must be copied by us before root can change it.
pub(crate) fn is_foreign(guest: &dyn Guest, object: &OwnedFd, stat: &FileStat) -> Result<bool, Errno> {
    let copied = matches!(kind(stat), SFlag::S_IFREG | SFlag::S_IFLNK);
    Ok(guest.rules().fake_root && copied && !is_own(stat) && is_copy_on_write(object)? && overrides(guest))
}

/// The object that is to be changed: `object`, or the copy of it that has just taken its name. Where that cannot be made the
/// call itself tells why.
pub(crate) fn own(guest: &dyn Guest, object: OwnedFd) -> Result<OwnedFd, Errno> {
    if !guest.rules().fake_root {
        return Ok(object);
    }
    let stat = fstat(&object)?;
    if !is_foreign(guest, &object, &stat)? {
        return Ok(object);
    }
    // A copy comes to an end, and takes as long as the file is.
    guest.wait_or_leave()?;
    match replace(guest, &object, &stat) {
        Ok(copy) => Ok(copy),
        Err(Errno::ENOSPC) => Err(Errno::ENOSPC),
        Err(_) => Ok(object),
    }
}

fn replace(guest: &dyn Guest, object: &OwnedFd, stat: &FileStat) -> Result<OwnedFd, Errno> {
    guest.confirm()?;
    let path = guest.path_of(object)?;
    let (parent, name) = (path.parent().ok_or(Errno::ENOENT)?, path.file_name().ok_or(Errno::ENOENT)?);
    let name = CString::new(name.as_bytes()).map_err(|_| Errno::ENOENT)?;
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
    let nothing = nix::fcntl::ResolveFlag::RESOLVE_NO_SYMLINKS;
    // From the view's root, which the path begins at, whatever root the caller has.
    let dir = look(guest, Some(guest.view()?.as_fd()), beneath_root(parent), flags, nothing)?;

    let mut beside = fresh_name()?;
    let mut copied = copy(guest, object, stat, &dir, &beside);
    for _ in 0..NAMES {
        // Somebody else's, or left by a run that was killed: it stays, and another name is taken.
        if copied != Err(Errno::EEXIST) {
            break;
        }
        beside = fresh_name()?;
        copied = copy(guest, object, stat, &dir, &beside);
    }
    if copied == Err(Errno::EEXIST) {
        return Err(Errno::EEXIST);
    }
    let made = copied.and_then(|()| {
        let _names = names_move();
        let there = fstatat(&dir, name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW)?;
        if (there.st_dev, there.st_ino) != (stat.st_dev, stat.st_ino) {
            return Err(Errno::ESTALE);
        }
        nix::fcntl::renameat(&dir, beside.as_c_str(), &dir, name.as_c_str())
    });
    if let Err(errno) = made {
        let _ = unlinkat(&dir, beside.as_c_str(), UnlinkatFlags::NoRemoveDir);
        return Err(errno);
    }
    look(guest, Some(dir.as_fd()), name.as_bytes(), OFlag::O_NOFOLLOW, nothing)
}

fn beneath_root(path: &Path) -> &[u8] {
    let beneath = path.as_os_str().as_bytes().strip_prefix(b"/").unwrap_or_default();
    if beneath.is_empty() { b"." } else { beneath }
}

/// A name that no other copy of this run has.
fn fresh_name() -> Result<CString, Errno> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    CString::new(format!(".sentry-copy-{number}")).map_err(|_| Errno::EINVAL)
}

/// Makes `name` in `dir` what `object` is: contents, permissions that let root work with it, times.
fn copy(guest: &dyn Guest, object: &OwnedFd, stat: &FileStat, dir: &OwnedFd, name: &CString) -> Result<(), Errno> {
    if kind(stat) == SFlag::S_IFLNK {
        symlinkat(readlinkat(object, "")?.as_os_str(), dir, name.as_c_str())?;
    } else {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        let mode = Mode::from_bits_truncate(stat.st_mode & 0o777 | 0o600);
        let to = openat(dir, name.as_c_str(), flags, mode)?;
        // What is empty need not be read: lock files that only root may read are like that.
        if stat.st_size > 0 {
            let from = guest.reopen(object, libc::O_RDONLY | libc::O_NONBLOCK)?;
            pour(guest, &from, &to)?;
        }
    }
    let time = |seconds, nanoseconds| TimeSpec::new(seconds, nanoseconds);
    let (read, written) = (time(stat.st_atime, stat.st_atime_nsec), time(stat.st_mtime, stat.st_mtime_nsec));
    utimensat(dir, name.as_c_str(), &read, &written, UtimensatFlags::NoFollowSymlink)
}

fn pour(guest: &dyn Guest, from: &OwnedFd, to: &OwnedFd) -> Result<(), Errno> {
    let mut bytes = vec![0; CHUNK];
    loop {
        let length = nix::unistd::read(from, &mut bytes)?;
        if length == 0 {
            return Ok(());
        }
        let mut rest = &bytes[..length];
        while !rest.is_empty() {
            rest = &rest[nix::unistd::write(to, rest)?..];
        }
        guest.confirm()?;
    }
}
