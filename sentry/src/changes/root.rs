//! A directory tree reached from one descriptor of its root: nothing above it, no link followed, no other mount entered.
//!
//! Both the copy, which the guest filled, and the directory on the host, where anybody may be renaming, are looked at
//! through this only. openat2(2) does the confinement in the kernel, so there is no moment between check and use.

use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, readlinkat};
use nix::libc;
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat, fstat, fstatat};

use super::Object;

const CONFINED: u64 =
    libc::RESOLVE_BENEATH | libc::RESOLVE_NO_SYMLINKS | libc::RESOLVE_NO_MAGICLINKS | libc::RESOLVE_NO_XDEV;
const PATH: i32 = libc::O_PATH | libc::O_NOFOLLOW | libc::O_CLOEXEC;
const LIST: i32 = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW | libc::O_CLOEXEC;
const READ: i32 = libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_NOFOLLOW | libc::O_CLOEXEC;

/// Where the mode of a directory in the copy is kept while we have to give ourselves more rights in it. The guest cannot
/// set it: overlayfs renames what it sets under this prefix.
const MODE: &std::ffi::CStr = c"user.overlay.sentry-mode";

/// The root of a tree.
#[derive(Debug)]
pub struct Root {
    fd: OwnedFd,
    /// Whether the tree is a copy of ours, in which we may give ourselves the right to look.
    ours: bool,
}

fn c(path: &Path) -> Result<CString, Errno> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)
}

impl Root {
    /// The directory at `path`, which must hold no symlink. `ours`: a copy whose run is over, see [`Root::list`].
    pub fn open(path: &Path, ours: bool) -> Result<Self, Errno> {
        let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
        let fd = shim::sys::open_at(None, &c(path)?, flags, 0, libc::RESOLVE_NO_SYMLINKS)?;
        Ok(Self { fd, ours })
    }

    /// A tree by its descriptor.
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self { fd, ours: false }
    }

    /// The root itself.
    pub fn object(&self) -> Result<Object, Errno> {
        Ok(Object::new(&fstat(&self.fd)?))
    }

    fn at(&self, path: &Path, flags: i32) -> Result<OwnedFd, Errno> {
        let path = if path.as_os_str().is_empty() { c".".to_owned() } else { c(path)? };
        shim::sys::open_at(Some(self.fd.as_fd()), &path, flags, 0, CONFINED)
    }

    /// The object at `path`, not opened; `None` if there is none.
    pub fn find(&self, path: &Path) -> Result<Option<OwnedFd>, Errno> {
        match self.at(path, PATH) {
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => Ok(None),
            other => other.map(Some),
        }
    }

    /// What stands at `path`; `None` if nothing does.
    pub fn look(&self, path: &Path) -> Result<Option<Object>, Errno> {
        let Some(found) = self.find(path)? else { return Ok(None) };
        let mut object = Object::new(&fstat(&found)?);
        if object.kind == super::Type::Symlink {
            object.target = Some(readlinkat(&found, c"")?);
        }
        Ok(Some(object))
    }

    /// A directory, open for listing and for work in it. In a copy the guest may have taken our rights away.
    pub fn list(&self, path: &Path) -> Result<OwnedFd, Errno> {
        match self.at(path, LIST) {
            Err(Errno::EACCES) if self.ours => {}
            Ok(open) if !self.ours => return Ok(open),
            Ok(open) => {
                let mode = fstat(&open)?.st_mode;
                if mode & 0o700 == 0o700 || nix::unistd::Uid::effective().is_root() {
                    return Ok(open);
                }
            }
            Err(errno) => return Err(errno),
        }
        let found = self.at(path, PATH)?;
        let mode = fstat(&found)?.st_mode & 0o7777;
        set_mode(found.as_fd(), mode | 0o700)?;
        let open = self.at(path, LIST)?;
        let _ = crate::raw::set_attribute(open.as_fd(), MODE, format!("{mode:o}").as_bytes());
        Ok(open)
    }

    /// A regular file, open for reading. In a copy the guest may have taken our rights away.
    pub fn read(&self, path: &Path) -> Result<OwnedFd, Errno> {
        let open = match self.at(path, READ) {
            Err(Errno::EACCES) if self.ours => {
                let found = self.at(path, PATH)?;
                let stat = fstat(&found)?;
                if stat.st_mode & libc::S_IFMT != libc::S_IFREG {
                    return Err(Errno::EACCES);
                }
                let mode = stat.st_mode & 0o7777;
                set_mode(found.as_fd(), mode | 0o400)?;
                let open = self.at(path, READ);
                set_mode(found.as_fd(), mode)?;
                open?
            }
            other => other?,
        };
        match fstat(&open)?.st_mode & libc::S_IFMT {
            libc::S_IFREG => Ok(open),
            _ => Err(Errno::EINVAL),
        }
    }

    /// The directory that holds `path`, open for work in it, and the last name.
    pub fn parent(&self, path: &Path) -> Result<(OwnedFd, CString), Errno> {
        let name = path.file_name().ok_or(Errno::EINVAL)?;
        Ok((self.list(path.parent().unwrap_or(Path::new("")))?, c(Path::new(name))?))
    }
}

/// chmod(2) of an object that is known by an `O_PATH` descriptor only.
pub fn set_mode(object: BorrowedFd, mode: u32) -> Result<(), Errno> {
    let link = format!("/proc/self/fd/{}", object.as_raw_fd());
    let mode = Mode::from_bits_truncate(mode);
    fchmodat(nix::fcntl::AT_FDCWD, link.as_str(), mode, FchmodatFlags::FollowSymlink)
}

/// What `name` in an open directory is; `None` if it is not there any more.
pub fn look_in(directory: &OwnedFd, name: &OsStr) -> Result<Option<Object>, Errno> {
    let stat = match fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Err(Errno::ENOENT) => return Ok(None),
        other => other?,
    };
    let mut object = Object::new(&stat);
    if object.kind == super::Type::Symlink {
        object.target = readlinkat(directory, name).ok();
    }
    Ok(Some(object))
}

/// The mode that a directory of a copy had before [`Root::list`] changed it.
pub fn real_mode(directory: BorrowedFd, mode: u32) -> u32 {
    let kept = crate::raw::attribute(directory, MODE).and_then(|text| String::from_utf8(text).ok());
    kept.and_then(|text| u32::from_str_radix(&text, 8).ok()).map_or(mode, |mode| mode & 0o7777)
}

/// The names in an open directory, sorted.
pub fn names(directory: &OwnedFd) -> Result<Vec<OsString>, Errno> {
    let mut open = Dir::openat(directory, ".", OFlag::from_bits_truncate(LIST), Mode::empty())?;
    let mut names = Vec::new();
    for entry in open.iter() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(OsString::from_vec(name.to_vec()));
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Counts what lies in a directory, itself not counted.
pub fn count(root: &Root, path: &Path) -> u64 {
    let mut total = 0;
    let mut queue: Vec<PathBuf> = vec![path.to_owned()];
    while let Some(path) = queue.pop() {
        let Ok(open) = root.list(&path) else { continue };
        for name in names(&open).unwrap_or_default() {
            total += 1;
            if fstatat(&open, name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW)
                .is_ok_and(|stat| stat.st_mode & libc::S_IFMT == libc::S_IFDIR)
            {
                queue.push(path.join(name));
            }
        }
    }
    total
}
