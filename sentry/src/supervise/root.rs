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
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::{chroot, fchdir};

/// The view's root.
#[derive(Debug)]
pub struct Roots {
    view: OwnedFd,
    place: (u64, u64),
    differ: AtomicBool,
}

impl Roots {
    /// To be called with the view's root as one's own.
    pub fn new() -> Result<Self, Errno> {
        let view = open("/", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
        let place = crate::raw::place(view.as_fd())?;
        Ok(Self { view, place, differ: AtomicBool::new(false) })
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
