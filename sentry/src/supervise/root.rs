//! Guests with another root than the view's, which `chroot(2)` gives them under `--fake-root`.
//!
//! The supervisor's threads have the view's root. For such a guest a thread takes the guest's own for the time of one call:
//! then the kernel does for it what it would do for the guest, also with `..` at the root, with absolute links, and with
//! directories that lie outside of that root and are still open. This is no boundary, neither here nor for the guest: all
//! there is to reach from any of these roots is the view.
//!
//! Every thread has a root of its own (`unshare(CLONE_FS)`), and goes back before it answers anybody else. Where that
//! fails the supervisor ends, and the sandbox with it.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::sys::statfs::{
    BTRFS_SUPER_MAGIC, EXT4_SUPER_MAGIC, FsType, OVERLAYFS_SUPER_MAGIC, TMPFS_MAGIC, XFS_SUPER_MAGIC, fstatfs,
};
use nix::unistd::{chroot, fchdir};

/// File systems that no other program serves.
const LOCAL: [FsType; 5] = [BTRFS_SUPER_MAGIC, EXT4_SUPER_MAGIC, OVERLAYFS_SUPER_MAGIC, TMPFS_MAGIC, XFS_SUPER_MAGIC];
/// No mount.
const NONE: u64 = u64::MAX;

/// The view's root.
#[derive(Debug)]
pub struct Roots {
    view: OwnedFd,
    place: (u64, u64),
    differ: AtomicBool,
    quick: AtomicU64,
}

impl Roots {
    /// To be called with the view's root as one's own.
    pub fn new() -> Result<Self, Errno> {
        let view = open("/", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
        let place = crate::raw::place(view.as_fd())?;
        Ok(Self { view, place, differ: AtomicBool::new(false), quick: AtomicU64::new(NONE) })
    }

    /// The view's root.
    pub fn view(&self) -> Result<OwnedFd, Errno> {
        self.view.try_clone().map_err(|_| Errno::EMFILE)
    }

    /// A guest is about to change its root.
    pub fn may_differ_from_now_on(&self) {
        self.differ.store(true, Ordering::SeqCst);
    }

    /// Whether any guest may have another root.
    pub fn may_differ(&self) -> bool {
        self.differ.load(Ordering::SeqCst)
    }

    /// Whether `root` is the view's.
    pub fn is_views(&self, root: &OwnedFd) -> Result<bool, Errno> {
        Ok(crate::raw::place(root.as_fd())? == self.place)
    }

    /// Whether `root` is known to lie on this machine: to enter it is not to wait for a program that serves it.
    pub fn is_quick(&self, root: &OwnedFd) -> bool {
        crate::raw::place(root.as_fd()).is_ok_and(|(mount, _)| mount == self.quick.load(Ordering::Relaxed))
    }

    /// Finds that out, which may take as long as it takes the server.
    pub fn learn(&self, root: &OwnedFd) {
        if let (Ok((mount, _)), Ok(found)) = (crate::raw::place(root.as_fd()), fstatfs(root))
            && LOCAL.contains(&found.filesystem_type())
        {
            self.quick.store(mount, Ordering::Relaxed);
        }
    }

    /// Makes `root` this thread's root until dropped.
    pub fn enter(&self, root: &OwnedFd) -> Result<Entered<'_>, Errno> {
        let entered = Entered(self);
        go(root)?;
        Ok(entered)
    }

    /// Runs `act` with the view's root on a thread that has `root`, wherever it works at the moment.
    pub fn seen_from_view<T>(&self, root: &OwnedFd, act: impl FnOnce() -> Result<T, Errno>) -> Result<T, Errno> {
        let here = open(".", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
        go(&self.view)?;
        let result = act();
        go(root)?;
        fchdir(here)?;
        result
    }
}

/// A thread's stay in another root.
#[derive(Debug)]
pub struct Entered<'a>(&'a Roots);

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        if go(&self.0.view).is_err() {
            shim::sys::exit_now(125);
        }
    }
}

fn go(root: &OwnedFd) -> Result<(), Errno> {
    fchdir(root)?;
    chroot(".")
}
