//! Copy-on-write directories: rootless overlayfs, see Documentation/filesystems/overlayfs.rst.
//!
//! The layers are named to the kernel through `/proc/self/fd/N`, so that no path with a colon, a comma or a swapped link
//! can be misunderstood.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::libc;
use nix::sys::stat::{Mode, fstat, mkdirat};
use nix::unistd::{chdir, fchdir};

use super::place::{Opened, Tree, open};
use super::tmpfs;
use crate::failure::{Failure, Step};
use crate::plan::{Place, Source, Store};
use crate::sys;

fn by_descriptor(fd: BorrowedFd) -> Result<CString, Failure> {
    CString::new(format!("/proc/self/fd/{}", fd.as_raw_fd())).map_err(|_| Failure::check("name a descriptor"))
}

fn child(directory: BorrowedFd, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(directory, name, flags, Mode::empty())
}

/// Makes the overlay of `place` as a detached mount. `None`: it is optional, and what it would show is not there.
pub(super) fn mount(
    tree: &Tree,
    place: &Place,
    lower: &Source,
    store: &Store,
    upper: &mut dyn FnMut(&CStr, BorrowedFd),
) -> Result<Option<OwnedFd>, Failure> {
    let subject = place.inside.to_string_lossy().into_owned();
    let step = || format!("make /{subject} copy-on-write");
    let remedy = |failure: Failure| {
        failure.remedy(format!("choose --write /{subject} (changes reach the host) or --read /{subject} (no changes)"))
    };
    let mut staged = Vec::new();
    let lower = match open(lower, &place.origin, place.optional)? {
        None => return Ok(None),
        Some(Opened::Object(object)) => object,
        Some(Opened::Mount(mount)) => {
            let root = tree.stage_mount(c"lower", mount.as_fd())?;
            staged.push(root.try_clone().map_err(|_| Failure::check(step()))?);
            root
        }
    };
    if fstat(&lower).step(step)?.st_mode & libc::S_IFMT != libc::S_IFDIR {
        return Err(remedy(Failure::new(step(), Errno::ENOTDIR)));
    }
    let base = match store {
        Store::Path(path) => {
            let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
            sys::open_at(None, path, flags, 0, libc::RESOLVE_NO_SYMLINKS | libc::RESOLVE_NO_MAGICLINKS)
                .step(|| format!("open the copy-on-write store {}", path.to_string_lossy()))?
        }
        Store::Detached(mount) => {
            let root = tree.stage_mount(c"store", mount.as_fd())?;
            staged.push(root.try_clone().map_err(|_| Failure::check(step()))?);
            root
        }
        Store::Memory { size } => {
            let memory = tmpfs(*size, 0o700, sys::NO_SUID | sys::NO_DEV)?;
            let root = tree.stage_mount(c"store", memory.as_fd())?;
            for name in [c"upper", c"work"] {
                mkdirat(&root, name, Mode::from_bits_truncate(0o755)).step(step)?;
            }
            staged.push(root.try_clone().map_err(|_| Failure::check(step()))?);
            root
        }
    };
    let (changes, work) = (child(base.as_fd(), c"upper").step(step)?, child(base.as_fd(), c"work").step(step)?);

    let context = sys::fs_open(c"overlay").step(step).map_err(remedy)?;
    let set = |key: &CStr, value: Option<&CStr>| sys::fs_set(context.as_fd(), key, value).step(step).map_err(remedy);
    set(c"lowerdir", Some(&by_descriptor(lower.as_fd())?))?;
    set(c"upperdir", Some(&by_descriptor(changes.as_fd())?))?;
    set(c"workdir", Some(&by_descriptor(work.as_fd())?))?;
    // Without privilege over the host, overlayfs keeps its marks in user.* attributes.
    set(c"userxattr", None)?;
    let overlay = sys::fs_mount(context.as_fd(), sys::NO_SUID | sys::NO_DEV).step(step).map_err(remedy)?;

    if matches!(store, Store::Memory { .. }) {
        upper(&place.inside, changes.as_fd());
    }
    // The overlay holds its layers by itself; their scaffolding must not stay in the view.
    drop((lower, base, changes, work));
    for root in staged {
        fchdir(&root).step(step)?;
        sys::detach_here().step(step)?;
        chdir(c"/").step(step)?;
    }
    Ok(Some(overlay))
}
