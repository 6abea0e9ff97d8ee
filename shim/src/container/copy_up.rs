//! `tmpcopyup`: a file system in memory begins with what it covers.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, readlinkat};
use nix::libc;
use nix::sys::stat::{FileStat, Mode, SFlag, UtimensatFlags, fchmod, fstat, mkdirat, mknodat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchownat, symlinkat};

use super::root::type_of;
use crate::sys;

/// Directories within directories: more is nobody's image.
const DEEPEST: usize = 256;
const READ: OFlag = OFlag::O_RDONLY.union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC).union(OFlag::O_NONBLOCK);

/// Copies what the directory `covered` holds into `into`.
pub(super) fn copy(covered: &OwnedFd, into: &OwnedFd) -> Result<(), Errno> {
    let from = sys::open_at(Some(covered.as_fd()), c".", libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC, 0, 0)?;
    let to = sys::open_at(Some(into.as_fd()), c".", libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC, 0, 0)?;
    let stat = fstat(&from)?;
    directory(from, &to, 0)?;
    finish(to.as_fd(), None, &stat)
}

fn directory(from: OwnedFd, to: &OwnedFd, depth: usize) -> Result<(), Errno> {
    if depth > DEEPEST {
        return Err(Errno::ELOOP);
    }
    let mut names = Dir::from_fd(from)?;
    let mut all: Vec<CString> = Vec::new();
    for entry in names.iter() {
        let name = entry?.file_name().to_owned();
        if name.as_c_str() != c"." && name.as_c_str() != c".." {
            all.push(name);
        }
    }
    for name in all {
        entry(names.as_fd(), to, &name, depth)?;
    }
    Ok(())
}

fn entry(from: BorrowedFd, to: &OwnedFd, name: &CStr, depth: usize) -> Result<(), Errno> {
    let object = sys::open_at(Some(from), name, libc::O_PATH | libc::O_NOFOLLOW | libc::O_CLOEXEC, 0, 0)?;
    let stat = fstat(&object)?;
    match type_of(&stat) {
        libc::S_IFDIR => {
            mkdirat(to, name, Mode::from_bits_truncate(0o700))?;
            let into = openat(to, name, READ | OFlag::O_DIRECTORY, Mode::empty())?;
            directory(openat(from, name, READ | OFlag::O_DIRECTORY, Mode::empty())?, &into, depth + 1)?;
        }
        libc::S_IFLNK => symlinkat(readlinkat(&object, c"")?.as_os_str(), to, name)?,
        libc::S_IFREG => {
            let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
            let mut into = std::fs::File::from(openat(to, name, flags, Mode::from_bits_truncate(0o600))?);
            let mut file = std::fs::File::from(openat(from, name, READ, Mode::empty())?);
            std::io::copy(&mut file, &mut into)
                .map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))?;
        }
        kind => {
            match mknodat(to, name, SFlag::from_bits_truncate(kind), Mode::from_bits_truncate(0o600), stat.st_rdev) {
                // A device that cannot be made here could not be used either.
                Err(Errno::EPERM) => return Ok(()),
                other => other?,
            }
        }
    }
    finish(to.as_fd(), Some(name), &stat)
}

/// Owner, mode and times, in this order: changing the owner takes away set-id bits, and everything changes times.
fn finish(to: BorrowedFd, name: Option<&CStr>, stat: &FileStat) -> Result<(), Errno> {
    let at = nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW | nix::fcntl::AtFlags::AT_EMPTY_PATH;
    let path = name.unwrap_or(c"");
    match fchownat(to, path, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)), at) {
        // An owner that this user namespace does not have.
        Ok(()) | Err(Errno::EINVAL) => {}
        Err(errno) => return Err(errno),
    }
    if type_of(stat) != libc::S_IFLNK {
        let mode = Mode::from_bits_truncate(stat.st_mode & 0o7777);
        match name {
            None => fchmod(to, mode)?,
            Some(name) => {
                let flags = nix::sys::stat::FchmodatFlags::FollowSymlink;
                nix::sys::stat::fchmodat(to, name, mode, flags)?;
            }
        }
    }
    let times = (TimeSpec::new(stat.st_atime, stat.st_atime_nsec), TimeSpec::new(stat.st_mtime, stat.st_mtime_nsec));
    let path = name.unwrap_or(c".");
    utimensat(to, path, &times.0, &times.1, UtimensatFlags::NoFollowSymlink)
}
