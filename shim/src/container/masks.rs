//! Paths that the container must not see or not write: `linux.maskedPaths` and `linux.readonlyPaths`.
//!
//! What covers a file is the container's `/dev/null` if it is the real one; an image can put something else there, which
//! would then be mounted over procfs or, as a symlink, uncover it (CVE-2025-31133). It is looked at and mounted by the same
//! descriptor.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::libc;
use nix::sys::stat::{Mode, SFlag, fstat, mknodat};
use nix::unistd::{chdir, fchdir};

use super::mount::file_system;
use super::root::{Root, type_of};
use crate::failure::{Failure, Step};
use crate::sys::{self, MountAttributes};

const COVER: u64 = sys::READ_ONLY | sys::NO_SUID | sys::NO_DEV | sys::NO_EXEC;

/// What is there to be covered; `None` if nothing is.
pub(super) fn find(root: &Root, path: &Path) -> Result<Option<OwnedFd>, Failure> {
    match root.open(path, libc::O_PATH) {
        Ok(found) => Ok(Some(found)),
        Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
        // A symlink of the kernel's that leads out of procfs, or a directory that even root may not enter.
        Err(errno) => Err(Failure::new(format!("look at {} to cover it", path.display()), errno)),
    }
}

/// Makes what is at `path`, and all beneath, read-only.
pub(super) fn freeze(root: &Root, path: &Path) -> Result<(), Failure> {
    let Some(object) = find(root, path)? else { return Ok(()) };
    let step = || format!("make {} read-only", path.display());
    let tree = sys::clone_tree(Some(object.as_fd()), c"", true).step(step)?;
    let attributes = MountAttributes { set: sys::READ_ONLY, ..Default::default() };
    sys::set_mount_attributes(tree.as_fd(), true, &attributes).step(step)?;
    sys::attach(tree.as_fd(), object.as_fd()).step(step)
}

/// What covers: once the first of each kind is attached, the others are copies of it.
pub(super) struct Masks<'a> {
    root: &'a Root,
    directory: Option<OwnedFd>,
    file: Option<OwnedFd>,
}

impl<'a> Masks<'a> {
    pub fn new(root: &'a Root) -> Self {
        Self { root, directory: None, file: None }
    }

    /// Covers what is at `path`.
    pub fn cover(&mut self, path: &Path) -> Result<(), Failure> {
        let Some(object) = find(self.root, path)? else { return Ok(()) };
        let step = || format!("cover {}", path.display());
        let directory = type_of(&fstat(&object).step(step)?) == libc::S_IFDIR;
        let first = if directory { &mut self.directory } else { &mut self.file };
        let tree = match first {
            Some(attached) => sys::clone_tree(Some(attached.as_fd()), c"", false).step(step)?,
            None if directory => empty()?,
            None => file(self.root)?,
        };
        sys::attach(tree.as_fd(), object.as_fd()).step(step)?;
        first.get_or_insert(tree);
        Ok(())
    }
}

/// The container's null device as a detached mount, or an empty file of our own.
fn file(root: &Root) -> Result<OwnedFd, Failure> {
    let step = || "prepare what covers files";
    if let Ok(device) = root.open_plain(Path::new("/dev/null"))
        && is_null(&device).step(step)?
    {
        return sys::clone_tree(Some(device.as_fd()), c"", false).step(step);
    }
    let area = area()?;
    mknodat(&area, EMPTY, SFlag::S_IFREG, Mode::from_bits_truncate(0o444), 0).step(step)?;
    seal(&area)?;
    // Only of what is attached can a part be copied, so it lies on top of the root for a moment.
    sys::attach(area.as_fd(), root.as_fd()).step(step)?;
    let file = sys::open_at(Some(area.as_fd()), EMPTY, libc::O_PATH | libc::O_CLOEXEC, 0, 0).step(step)?;
    let tree = sys::clone_tree(Some(file.as_fd()), c"", false).step(step)?;
    fchdir(&area).step(step)?;
    sys::detach_here().step(step)?;
    chdir(c"/").step(step)?;
    Ok(tree)
}

fn is_null(device: &OwnedFd) -> Result<bool, Errno> {
    let stat = fstat(device)?;
    Ok(type_of(&stat) == libc::S_IFCHR && stat.st_rdev == libc::makedev(1, 3))
}

const EMPTY: &std::ffi::CStr = c"empty";

/// A file system in memory with room for almost nothing.
fn area() -> Result<OwnedFd, Failure> {
    let settings = [("size", "4k"), ("nr_inodes", "4"), ("mode", "555")];
    file_system("tmpfs", &settings.map(|(key, value)| (key.to_owned(), Some(value.to_owned()))))
}

/// A sealed empty directory.
fn empty() -> Result<OwnedFd, Failure> {
    let area = area()?;
    seal(&area).map(|()| area)
}

fn seal(mount: &OwnedFd) -> Result<(), Failure> {
    let attributes = MountAttributes { set: COVER, ..Default::default() };
    sys::set_mount_attributes(mount.as_fd(), false, &attributes).step(|| "seal what covers others")
}
