//! The file tree that the guest sees: a new root made of grants, and nothing else.
//!
//! Built by init in the outer sandbox's mount namespace, where the supervisor sees it too; the guest's own, inner
//! namespace gets a copy in which every mount is locked, for it was made by a more privileged user namespace
//! (mount_namespaces(7)). Sources are opened once, without following links that may have been swapped since the monitor
//! looked; targets are resolved beneath the new root, never through a symlink (CVE-2021-30465, CVE-2024-42472).

mod overlay;
mod place;
mod proc;

use std::ffi::{CStr, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::libc;
use nix::sys::stat::{Mode, fstat};
use nix::unistd::{chdir, fchdir};

use crate::failure::{Failure, Step};
use crate::plan::{Plan, Ranges, Root, View};
use crate::sys::{self, MountAttributes};

use place::Tree;

const SEALED: u64 = sys::READ_ONLY | sys::NO_SUID | sys::NO_DEV;

/// Where the new root is attached while the old one is still there: an existing directory that holds none of the sources,
/// for it covers what is beneath it.
const SCAFFOLDS: [&CStr; 6] = [c"/sys", c"/mnt", c"/media", c"/tmp", c"/srv", c"/var"];

/// A tmpfs of at most `size` bytes, not attached yet.
pub(crate) fn tmpfs(size: u64, mode: u32, attributes: u64) -> Result<OwnedFd, Failure> {
    let step = || "make a file system in memory";
    let context = sys::fs_open(c"tmpfs").step(step)?;
    let set = |key: &CStr, value: String| {
        let value = std::ffi::CString::new(value).map_err(|_| nix::errno::Errno::EINVAL);
        value.and_then(|value| sys::fs_set(context.as_fd(), key, Some(&value))).step(step)
    };
    set(c"size", size.to_string())?;
    set(c"mode", format!("{mode:o}"))?;
    sys::fs_mount(context.as_fd(), attributes).step(step)
}

/// Attaches the new root somewhere, so that mounts can be made in it.
fn attach_root(root: BorrowedFd, view: &View) -> Result<(), Failure> {
    let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
    let free = SCAFFOLDS.iter().filter(|scaffold| {
        let covered = |path: &CStr| {
            Path::new(OsStr::from_bytes(path.to_bytes())).starts_with(OsStr::from_bytes(scaffold.to_bytes()))
        };
        !view.places.iter().any(|place| place.source.host_paths().any(covered))
    });
    let scaffold = free.filter_map(|path| sys::open_at(None, path, flags, 0, 0).ok()).next();
    let scaffold = scaffold.ok_or_else(|| {
        Failure::check("find a directory to build the view on")
            .remedy("one of /sys, /mnt, /media, /tmp, /srv, /var must exist without being granted")
    })?;
    sys::attach(root, scaffold.as_fd()).step(|| "attach the view's root")
}

/// Builds the whole view and makes it the root of this mount namespace. What the host lacks and the user allowed to do
/// without is told to `lost`; the upper directories of overlays in memory are handed to `upper`.
pub fn build(plan: &Plan, lost: &mut dyn FnMut(&str), upper: &mut dyn FnMut(&CStr, BorrowedFd)) -> Result<(), Failure> {
    let view = &plan.view;
    let root = match &view.root {
        None => tmpfs(view.size, 0o755, sys::NO_SUID | sys::NO_DEV)?,
        Some(source) => place::open(source, "--root", false)?
            .ok_or_else(|| Failure::check("open the root directory (--root)"))?
            .into_mount(view.root_writable)?,
    };
    attach_root(root.as_fd(), view)?;
    let tree = Tree::new(root, view.root.is_none())?;

    for (path, target) in &view.links {
        tree.link(path, target)?;
    }
    for (path, content) in &view.texts {
        tree.text(path, content)?;
    }
    if view.root.is_none() {
        for directory in [c"dev", c"proc"] {
            tree.directory(directory, 0o755)?;
        }
    }
    tree.stage(matches!(plan.root, Root::Mapped(_)).then_some(Ranges::NOBODYS))?;
    devices(plan, &tree)?;
    for place in &view.places {
        tree.place(place, view.size, upper)?;
    }
    proc::mount(&tree, view, plan.allow_degraded, lost)?;
    tree.unstage()?;
    tree.seal(plan.view.root_writable)?;
    enter(&tree)
}

/// A minimal `/dev`: harmless devices bound from the host, our own terminals, shared memory.
fn devices(plan: &Plan, tree: &Tree) -> Result<(), Failure> {
    if plan.view.root.is_some() {
        let dev = tmpfs(1 << 20, 0o755, sys::NO_SUID)?;
        tree.attach_dev(&dev)?;
    }
    for (name, major, minor) in &plan.view.devices {
        let shown = name.to_string_lossy().into_owned();
        let step = || format!("show /dev/{shown}");
        let host = std::ffi::CString::new(format!("/dev/{shown}")).map_err(|_| Failure::check(step()))?;
        let flags = libc::O_PATH | libc::O_NOFOLLOW | libc::O_CLOEXEC;
        let device = sys::open_at(None, &host, flags, 0, 0).step(step)?;
        let stat = fstat(&device).step(step)?;
        if stat.st_mode & libc::S_IFMT != libc::S_IFCHR || stat.st_rdev != libc::makedev(*major, *minor) {
            return Err(
                Failure::check(step()).remedy(format!("the host's /dev/{shown} is not the device it should be"))
            );
        }
        let mount = sys::clone_tree(Some(device.as_fd()), c"", false).step(step)?;
        let attributes =
            MountAttributes { set: sys::NO_SUID | sys::NO_EXEC, propagation: libc::MS_PRIVATE, ..Default::default() };
        sys::set_mount_attributes(mount.as_fd(), false, &attributes).step(step)?;
        let inside = std::ffi::CString::new(format!("dev/{shown}")).map_err(|_| Failure::check(step()))?;
        tree.put(&mount, false, &inside, "/dev")?;
    }

    let step = || "mount the sandbox's own terminals (devpts)";
    let context = sys::fs_open(c"devpts").step(step)?;
    sys::fs_set(context.as_fd(), c"newinstance", None).step(step)?;
    sys::fs_set(context.as_fd(), c"ptmxmode", Some(c"666")).step(step)?;
    sys::fs_set(context.as_fd(), c"mode", Some(c"620")).step(step)?;
    let terminals = sys::fs_mount(context.as_fd(), sys::NO_SUID | sys::NO_EXEC).step(step)?;
    tree.put(&terminals, true, c"dev/pts", "/dev/pts")?;
    for (link, target) in [
        (c"dev/ptmx", c"pts/ptmx"),
        (c"dev/fd", c"/proc/self/fd"),
        (c"dev/stdin", c"/proc/self/fd/0"),
        (c"dev/stdout", c"/proc/self/fd/1"),
        (c"dev/stderr", c"/proc/self/fd/2"),
    ] {
        tree.link(link, target)?;
    }
    Ok(())
}

/// Makes the new root the root of every process in this mount namespace, and lets go of the old one.
fn enter(tree: &Tree) -> Result<(), Failure> {
    fchdir(tree.root()).step(|| "enter the view")?;
    sys::pivot_here().step(|| "make the view the root (pivot_root)")?;
    sys::detach_here().step(|| "detach the host's root")?;
    chdir(c"/").step(|| "enter the view")?;

    let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
    let here = sys::open_at(None, c"/", flags, Mode::empty().bits(), 0).step(|| "open the view's root")?;
    let (new, expected) = (fstat(&here).step(|| "look at /")?, fstat(tree.root()).step(|| "look at /")?);
    let above = nix::sys::stat::stat(c"/..").step(|| "look above /")?;
    if (new.st_dev, new.st_ino) != (expected.st_dev, expected.st_ino)
        || (above.st_dev, above.st_ino) != (new.st_dev, new.st_ino)
    {
        return Err(Failure::check("verify that the host's root is gone"));
    }
    Ok(())
}
