//! Moving a directory that overlayfs does not move.
//!
//! A directory that a copy-on-write layer shows through cannot be renamed there (`EXDEV`), and programs that never meet
//! that elsewhere give up: `git mv` does. So a new directory is made beside the target, what is in the old one is moved
//! into it, by the kernel, name by name, and the new one takes the target's place. Everything is done on descriptors and
//! with single names, so that no link is followed. The guest's other threads may see the move half done, and the directory
//! has another inode afterwards; when something fails, what was moved goes back.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, RenameFlags, openat, renameat2};
use nix::libc;
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, fstatat, mkdirat};
use nix::sys::statfs::{OVERLAYFS_SUPER_MAGIC, fstatfs};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::object::kind;
use super::walk::Parent;
use crate::guest::Guest;
use crate::sys::{self, Bearer};

/// What is moved at most: names, bytes (for they are copied up), and directories within one another.
const NAMES: u64 = 100_000;
const BYTES: u64 = 1 << 30;
const DEPTH: usize = 40;

/// Moves the directory `source` to `target`, after the kernel answered `EXDEV`. Whatever stands in the way of that is told
/// by the same errno, which programs know to deal with.
pub(super) fn relocate(guest: &dyn Guest, source: &Parent, target: &Parent, flags: RenameFlags) -> Result<(), Errno> {
    let refused = Errno::EXDEV;
    if !(RenameFlags::RENAME_NOREPLACE.contains(flags)) || !same_overlay(source, target)? {
        return Err(refused);
    }
    let from = list(&source.dir, &source.name).map_err(|_| refused)?;
    replaceable(target, flags)?;
    // Copying up takes as long as it takes; others are answered meanwhile.
    guest.may_wait();
    let mut load = Load::default();
    load.weigh(&from, 0).map_err(|_| refused)?;

    let beside = CString::new(format!(".sentry-rename-{}", guest.tid())).map_err(|_| refused)?;
    move_directory(&source.dir, &source.name, &target.dir, &beside)?;
    let placed = renameat2(&target.dir, beside.as_c_str(), &target.dir, target.name.as_c_str(), flags);
    if placed.is_err() {
        let _ = move_directory(&target.dir, &beside, &source.dir, &source.name);
    }
    placed
}

/// Whether the name is a directory on an overlay, and the target in the very same mount: between mounts `EXDEV` is right.
fn same_overlay(source: &Parent, target: &Parent) -> Result<bool, Errno> {
    // The kernel asks whether both lie in one mount before it looks whether there is anything: so its answer stands.
    let Ok(stat) = fstatat(&source.dir, source.name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW) else { return Ok(false) };
    let is_overlay = |dir: &OwnedFd| fstatfs(dir).is_ok_and(|found| found.filesystem_type() == OVERLAYFS_SUPER_MAGIC);
    Ok(kind(&stat) == SFlag::S_IFDIR
        && is_overlay(&source.dir)
        && is_overlay(&target.dir)
        && mount_of(&source.dir)? == mount_of(&target.dir)?)
}

fn mount_of(dir: &OwnedFd) -> Result<u64, Errno> {
    const MOUNT_ID: u32 = 0x1000;
    let found = sys::statx(dir.as_fd(), 0, MOUNT_ID)?;
    let at = std::mem::offset_of!(libc::statx, stx_mnt_id);
    let bytes = found.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
    bytes.map(u64::from_ne_bytes).ok_or(Errno::EXDEV)
}

/// What rename(2) says of a target that exists: nothing but an empty directory gives way to a directory.
fn replaceable(target: &Parent, flags: RenameFlags) -> Result<(), Errno> {
    let stat = match fstatat(&target.dir, target.name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
        Err(Errno::ENOENT) => return Ok(()),
        other => other?,
    };
    if flags.contains(RenameFlags::RENAME_NOREPLACE) {
        return Err(Errno::EEXIST);
    }
    if kind(&stat) != SFlag::S_IFDIR {
        return Err(Errno::ENOTDIR);
    }
    let there = list(&target.dir, &target.name)?;
    if names(&there)?.is_empty() { Ok(()) } else { Err(Errno::ENOTEMPTY) }
}

fn list(dir: &OwnedFd, name: &CStr) -> Result<OwnedFd, Errno> {
    openat(dir, name, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())
}

fn names(dir: &OwnedFd) -> Result<Vec<CString>, Errno> {
    let mut open = Dir::from_fd(list(dir, c".")?)?;
    let mut names = Vec::new();
    for entry in open.iter() {
        let name = entry?.file_name().to_owned();
        if !matches!(name.as_bytes(), b"." | b"..") {
            names.push(name);
        }
    }
    Ok(names)
}

/// How much there is to move.
#[derive(Default)]
struct Load {
    names: u64,
    bytes: u64,
}

impl Load {
    fn weigh(&mut self, dir: &OwnedFd, depth: usize) -> Result<(), Errno> {
        for name in names(dir)? {
            let stat = fstatat(dir, name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW)?;
            self.names += 1;
            if kind(&stat) == SFlag::S_IFREG {
                self.bytes += u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
            }
            if self.names > NAMES || self.bytes > BYTES || depth > DEPTH {
                return Err(Errno::EXDEV);
            }
            if kind(&stat) == SFlag::S_IFDIR {
                self.weigh(&list(dir, &name)?, depth + 1)?;
            }
        }
        Ok(())
    }
}

/// Moves a directory to a name that is free. Either all of it is moved, or nothing.
fn move_directory(from: &OwnedFd, name: &CStr, to: &OwnedFd, new: &CStr) -> Result<(), Errno> {
    let old = list(from, name)?;
    let stat = fstat(&old)?;
    let mode = Mode::from_bits_truncate(stat.st_mode & 0o1777);
    // Whoever moves a directory needs no rights in those beneath it.
    if !mode.contains(Mode::S_IRWXU) {
        fchmod(&old, mode | Mode::S_IRWXU)?;
    }
    let moved = match renameat2(from, name, to, new, RenameFlags::RENAME_NOREPLACE) {
        Err(Errno::EXDEV) => move_contents((from, name), &old, (to, new), &stat),
        other => other,
    };
    // Gone, moved, or where it was: the descriptor knows it.
    if !mode.contains(Mode::S_IRWXU) {
        let _ = fchmod(&old, mode);
    }
    moved
}

/// Makes a new directory, moves into it what is in `old`, and removes that.
fn move_contents(from: (&OwnedFd, &CStr), old: &OwnedFd, to: (&OwnedFd, &CStr), stat: &FileStat) -> Result<(), Errno> {
    mkdirat(to.0, to.1, Mode::S_IRWXU)?;
    let made = list(to.0, to.1)?;
    let moved = move_entries(old, &made).and_then(|()| {
        look_alike(old, &made, stat)?;
        unlinkat(from.0, from.1, UnlinkatFlags::RemoveDir)
    });
    if moved.is_err() {
        let _ = fchmod(&made, Mode::S_IRWXU);
        let _ = move_entries(&made, old);
        let _ = unlinkat(to.0, to.1, UnlinkatFlags::RemoveDir);
    }
    moved
}

fn move_entries(from: &OwnedFd, to: &OwnedFd) -> Result<(), Errno> {
    names(from)?.iter().try_for_each(|name| {
        let stat = fstatat(from, name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW)?;
        if kind(&stat) == SFlag::S_IFDIR {
            return move_directory(from, name, to, name);
        }
        renameat2(from, name.as_c_str(), to, name.as_c_str(), RenameFlags::RENAME_NOREPLACE)
    })
}

/// Gives the new directory what the old one had: attributes, mode, times.
fn look_alike(old: &OwnedFd, new: &OwnedFd, stat: &FileStat) -> Result<(), Errno> {
    let mut list = vec![0; 65536];
    let length = sys::attributes(Bearer::File(old.as_fd()), &mut list).unwrap_or(0);
    for name in list[..length].split_inclusive(|byte| *byte == 0) {
        let Ok(name) = CStr::from_bytes_with_nul(name) else { continue };
        let mut value = vec![0; 65536];
        // Some are the kernel's own and cannot be set; the kernel would have kept them.
        if let Ok(length) = sys::attribute(Bearer::File(old.as_fd()), name, &mut value) {
            let _ = sys::set_attribute(Bearer::File(new.as_fd()), name, &value[..length], 0);
        }
    }
    let inherited = fstat(new)?.st_mode & 0o2000;
    fchmod(new, Mode::from_bits_truncate(stat.st_mode & 0o1777 | inherited))?;
    let times = [(stat.st_atime, stat.st_atime_nsec), (stat.st_mtime, stat.st_mtime_nsec)];
    sys::set_times_of_file(new.as_fd(), times)
}
