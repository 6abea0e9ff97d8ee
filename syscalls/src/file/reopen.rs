//! Opens the file behind an object once more, for the guest, without holding others up.
//!
//! Two things make the open of a plain file take long. Another process may hold a lease on it (`F_SETLEASE` in fcntl(2)):
//! the kernel asks it to let go, and waits up to 45 seconds. And a file below a copy-on-write grant is copied before it
//! is changed for the first time, all of it. Whoever leads must do neither.

use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::sys::stat::{FileStat, SFlag, fstat};
use nix::sys::statfs::{OVERLAYFS_SUPER_MAGIC, fstatfs};

use super::object::kind;
use super::resolve::is_own;
use crate::guest::Guest;
use crate::{sys, waits};

/// What is shorter is copied in about the time of a few calls.
const LONG: i64 = 1 << 20;

/// Opens a regular file. If that has to wait for somebody who holds a lease, others are answered meanwhile; `EINTR`, which
/// the kernel says when it gives up that wait, if too many calls wait already.
pub(super) fn file(guest: &dyn Guest, object: &OwnedFd, stat: &FileStat, flags: i32) -> Result<OwnedFd, Errno> {
    // Only the owner of a file may lease it, and privileged programs outside, which no sandbox can be. What belongs to
    // others, as most files of the system do, is spared a call.
    if flags & libc::O_NONBLOCK != 0 || !is_own(stat) {
        return guest.reopen(object, flags);
    }
    match guest.reopen(object, flags | libc::O_NONBLOCK) {
        Ok(file) => {
            // The guest asked for no such flag, and can see it (F_GETFL).
            fcntl(&file, FcntlArg::F_SETFL(OFlag::from_bits_retain(flags)))?;
            Ok(file)
        }
        Err(Errno::EWOULDBLOCK) => {
            let _place = waits::place(guest).ok_or(Errno::EINTR)?;
            guest.reopen(object, flags)
        }
        Err(errno) => Err(errno),
    }
}

/// Called before `object` is changed other than by an open: lets somebody else lead if all of it may have to be copied first.
pub(super) fn may_copy(guest: &dyn Guest, object: &OwnedFd) -> Result<(), Errno> {
    if copies_first(object, &fstat(object)?)? {
        // A copy comes to an end in any case.
        let _ = guest.may_wait();
    }
    Ok(())
}

/// Whether a change of `object` may first copy so much that others should not wait for it.
pub(super) fn copies_first(object: &OwnedFd, stat: &FileStat) -> Result<bool, Errno> {
    let long = kind(stat) == SFlag::S_IFREG && stat.st_size > LONG;
    Ok(long && is_copy_on_write(object)?)
}

/// Whether an object lies below a copy-on-write grant.
pub(super) fn is_copy_on_write(object: &OwnedFd) -> Result<bool, Errno> {
    Ok(fstatfs(object)?.filesystem_type() == OVERLAYFS_SUPER_MAGIC)
}

/// Copies a file whose name is about to be moved, before that is done under a lock. It changes as by the move itself: only
/// the time of its last change of metadata. Where it fails, the move will copy, or fail for the same reason.
pub(super) fn copy_now(guest: &dyn Guest, object: &OwnedFd) {
    const UNCHANGED: u32 = u32::MAX;
    if guest.may_wait() {
        let _ = sys::set_owner(object.as_fd(), UNCHANGED, UNCHANGED);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, unsafe_code)]
mod tests {
    use std::fs::{File, OpenOptions};
    use std::os::fd::AsRawFd;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::file::trial::{CWD, Trial, contents};
    use crate::table::Feature::PathCalls;

    /// Takes a lease, or lets go of it.
    fn lease(file: &File, kind: i32) {
        // SAFETY: integers only.
        Errno::result(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, kind) }).unwrap();
    }

    #[test]
    fn the_guest_gets_the_flags_that_it_asked_for() {
        let trial = Trial::with(PathCalls);
        trial.write("file", "text");
        for flags in [
            libc::O_RDONLY,
            libc::O_RDWR | libc::O_APPEND,
            libc::O_RDONLY | libc::O_NONBLOCK,
            libc::O_RDONLY | libc::O_NOATIME,
            libc::O_WRONLY | libc::O_SYNC,
            libc::O_RDONLY | libc::O_ASYNC,
        ] {
            let file = trial.opened("openat", &[CWD, trial.path("file"), flags as u64, 0]);
            let direct = nix::fcntl::open(
                &trial.root.join("file"),
                OFlag::from_bits_retain(flags),
                nix::sys::stat::Mode::empty(),
            );
            let seen = |file: &OwnedFd| fcntl(file, FcntlArg::F_GETFL).unwrap();
            assert_eq!(seen(&file), seen(&direct.unwrap()), "{flags:o}");
        }
    }

    #[test]
    fn a_lease_is_waited_for_by_those_who_would_wait() {
        let trial = Trial::with(PathCalls);
        trial.write("file", "text");
        let holder = OpenOptions::new().write(true).open(trial.root.join("file")).unwrap();
        // SAFETY: the lease is broken by a signal that ends the process unless ignored.
        unsafe { libc::signal(libc::SIGIO, libc::SIG_IGN) };
        lease(&holder, libc::F_WRLCK);
        assert_eq!(trial.errno("openat", &[CWD, trial.path("file"), libc::O_NONBLOCK as u64, 0]), Errno::EWOULDBLOCK);
        let began = Instant::now();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(50));
                lease(&holder, libc::F_UNLCK);
            });
            assert_eq!(contents(trial.opened("openat", &[CWD, trial.path("file"), 0, 0])), "text");
        });
        assert!(began.elapsed() >= Duration::from_millis(50));
    }
}
