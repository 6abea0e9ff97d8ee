//! What a container may change where the kernel locks nothing.
//!
//! Its user namespace owns its mounts, so nothing keeps whoever mounts there from undoing what the runtime has made: to
//! unmount what covers a file of `/proc`, to show a directory without what covers a part of it, to make writable what was
//! given to be read. So only what was mounted for the container itself is unmounted, moved or loosened, and never to less
//! than its source had; copies take along what is mounted in their source; and nothing is mounted where the host, or
//! anybody else, would see it too. Orders come one after the other, and nobody else may mount there.

use std::collections::{HashMap, HashSet};
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;
use nix::fcntl::readlinkat;
use nix::libc;
use nix::sys::statfs::{PROC_SUPER_MAGIC, SYSFS_MAGIC, fstatfs};
use nix::sys::statvfs::FsFlags;
use nix::unistd::fchdir;
use syscalls::mount::order::{Kind, Order, RECURSIVE};

use super::serve::Server;
use super::table::{self, Mount};
use crate::sys;

/// `ST_NOSYMFOLLOW` and `MOUNT_ATTR_NOSYMFOLLOW`.
const NO_SYMLINKS_SHOWN: u64 = 0x2000;
const NO_SYMLINKS: u64 = 0x0020_0000;

/// A mount, by identifier, device and the mount that it is on: identifiers are given again, but not to one that is there.
type Key = (u64, u64, u64);

/// What was mounted for the container, and the attributes that each must keep.
#[derive(Debug, Default)]
pub(super) struct Guard(HashMap<Key, u64>);

fn key(mount: &Mount) -> Key {
    (mount.id, mount.device, mount.parent)
}

impl Guard {
    /// Forgets what is mounted no longer. To be asked before anything that gives identifiers: what they are given to next
    /// must not pass for the container's own.
    fn forget_gone(&mut self, table: &[Mount]) {
        let there: HashSet<Key> = table.iter().map(key).collect();
        self.0.retain(|known, _| there.contains(known));
    }
}

impl Server {
    /// Whether this lies on a mount that was made for the container; the attributes that it must keep.
    fn own(&mut self, object: BorrowedFd) -> Result<Option<u64>, Errno> {
        let id = sys::mount_id(object)?;
        let table = self.mounts()?;
        let Some(guard) = &mut self.guard else { return Ok(None) };
        guard.forget_gone(&table);
        let mount = table.iter().find(|mount| mount.id == id).ok_or(Errno::EINVAL)?;
        Ok(guard.0.get(&key(mount)).copied())
    }

    /// What stays on a mount that is changed: all that it has, unless it is the container's own.
    pub(super) fn stays(&mut self, target: BorrowedFd) -> Result<u64, Errno> {
        if self.guard.is_none() {
            return Ok(0);
        }
        Ok(self.own(target)?.unwrap_or(u64::MAX))
    }

    /// Moves a mount. In a container it must be its own, and go to where nobody else sees it.
    pub(super) fn move_mount(&mut self, source: BorrowedFd, target: BorrowedFd) -> Result<(), Errno> {
        if self.guard.is_none() {
            return sys::attach(source, target);
        }
        let keeps = self.own(source)?.ok_or(Errno::EPERM)?;
        self.is_apart(target, &self.mounts()?)?;
        sys::attach(source, target)?;
        // It is on another mount now.
        let id = sys::mount_id(source)?;
        let moved = self.mounts()?.iter().find(|mount| mount.id == id).map(key);
        if let (Some(moved), Some(guard)) = (moved, &mut self.guard) {
            guard.0.retain(|known, _| known.0 != id);
            guard.0.insert(moved, keeps);
        }
        Ok(())
    }

    /// Fails unless `target` lies on a mount of this namespace that is shared with nobody.
    fn is_apart(&self, target: BorrowedFd, table: &[Mount]) -> Result<(), Errno> {
        let id = sys::mount_id(target)?;
        match table.iter().find(|mount| mount.id == id) {
            // A directory of another mount namespace, which the caller holds open.
            None => Err(Errno::EINVAL),
            Some(mount) if mount.shared => Err(Errno::EPERM),
            Some(_) => Ok(()),
        }
    }

    /// Looks before something is mounted, and returns what its source had.
    pub(super) fn place(&mut self, kind: Kind, files: &[OwnedFd]) -> Result<u64, Errno> {
        if self.guard.is_none() {
            return Ok(0);
        }
        let (keeps, target) = match (kind, files) {
            (Kind::Bind | Kind::BindAll, [source, target]) => {
                let has = attributes(source.as_fd())?;
                // What it was made of counts, not what it has at the moment.
                (self.own(source.as_fd())?.unwrap_or(has), target)
            }
            (Kind::Processes, [target]) => (u64::MAX, target),
            (_, [target, ..]) => (0, target),
            _ => return Err(Errno::EINVAL),
        };
        let table = self.mounts()?;
        self.is_apart(target.as_fd(), &table)?;
        if let Some(guard) = &mut self.guard {
            guard.forget_gone(&table);
        }
        Ok(keeps)
    }

    /// Notes the mount that has been made, by itself: others may have come to the table too, with it or from the host. What
    /// came along with it is not the container's to undo.
    pub(super) fn note_own(&mut self, keeps: u64, made: &OwnedFd) {
        let (Ok(id), Ok(table)) = (sys::mount_id(made.as_fd()), self.mounts()) else { return };
        let new = table.iter().find(|mount| mount.id == id);
        if let (Some(new), Some(guard)) = (new, &mut self.guard) {
            guard.0.insert(key(new), keeps);
        }
    }

    /// Makes the directory that a mount lies in this process's own, and returns its name there. A name in it cannot come to
    /// mean another mount meanwhile: what something is mounted on can be neither moved nor removed.
    pub(super) fn pin(&mut self, path: &CStr) -> Result<CString, Errno> {
        let path = path.to_bytes();
        let cut = path.iter().rposition(|byte| *byte == b'/').ok_or(Errno::EINVAL)?;
        let (above, name) = (&path[..=cut], &path[cut + 1..]);
        if matches!(name, b"" | b"." | b"..") {
            return Err(Errno::EINVAL);
        }
        let text = |bytes: &[u8]| CString::new(bytes).map_err(|_| Errno::EINVAL);
        let directory = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
        let above = sys::open_at(None, &text(above)?, directory, 0, libc::RESOLVE_NO_SYMLINKS)?;
        fchdir(&above)?;
        let name = text(name)?;
        let mount = sys::open_at(None, &name, libc::O_PATH | libc::O_NOFOLLOW | libc::O_CLOEXEC, 0, 0)?;
        if sys::mount_id(mount.as_fd())? == sys::mount_id(above.as_fd())? {
            return Err(Errno::EINVAL);
        }
        self.own(mount.as_fd())?.ok_or(Errno::EPERM)?;
        Ok(name)
    }

    /// Fails where another propagation would show the container something, or others something of it.
    pub(super) fn may_propagate(&mut self, order: &Order, target: BorrowedFd) -> Result<(), Errno> {
        if self.guard.is_none() || matches!(u64::from(order.propagation), libc::MS_PRIVATE | libc::MS_SLAVE) {
            return Ok(());
        }
        let own = self.own(target)?.is_some();
        if own && order.flags & RECURSIVE == 0 { Ok(()) } else { Err(Errno::EPERM) }
    }

    /// Whether something is mounted in this part of the tree that is not the container's own: a copy without it would show
    /// what it covers.
    pub(super) fn covers_something(&mut self, source: BorrowedFd) -> Result<bool, Errno> {
        let Some(guard) = &mut self.guard else { return Ok(false) };
        let label = readlinkat(&self.descriptors, source.as_raw_fd().to_string().as_str())?;
        let mut beneath = label.as_bytes().to_vec();
        if beneath.last() != Some(&b'/') {
            beneath.push(b'/');
        }
        let places = table::places(&self.proc)?;
        guard.forget_gone(&places.iter().map(|(mount, _)| *mount).collect::<Vec<_>>());
        let mut covers =
            places.iter().filter(|(mount, at)| at.starts_with(&beneath) && !guard.0.contains_key(&key(mount)));
        // A copy leaves such a mount out.
        if covers.clone().any(|(mount, _)| mount.unbindable) {
            return Err(Errno::EPERM);
        }
        Ok(covers.next().is_some())
    }

    /// Fails where an overlay would show what something else covers: it takes nothing along.
    pub(super) fn may_be_layers(&mut self, layers: &[OwnedFd]) -> Result<(), Errno> {
        if self.guard.is_none() {
            return Ok(());
        }
        for layer in layers {
            let kind = fstatfs(layer)?.filesystem_type();
            // One of another mount namespace, which the caller holds open, has no place here: it is `EINVAL`.
            self.own(layer.as_fd())?;
            if kind == PROC_SUPER_MAGIC || kind == SYSFS_MAGIC || self.covers_something(layer.as_fd())? {
                return Err(Errno::EPERM);
            }
        }
        Ok(())
    }
}

/// The attributes that a mount has, of those that can be taken off.
fn attributes(object: BorrowedFd) -> Result<u64, Errno> {
    let flags = fstatfs(object)?.flags();
    let mut attributes = 0;
    if flags.contains(FsFlags::ST_RDONLY) {
        attributes |= sys::READ_ONLY;
    }
    if flags.contains(FsFlags::ST_NOEXEC) {
        attributes |= sys::NO_EXEC;
    }
    if flags.bits() & NO_SYMLINKS_SHOWN != 0 {
        attributes |= NO_SYMLINKS;
    }
    Ok(attributes)
}
