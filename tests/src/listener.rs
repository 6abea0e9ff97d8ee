//! The raw ioctls of a seccomp listener, for the control that answers CONTINUE.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use sentry::platform::{Listener, Notification};
use syscalls::reply::Response;

/// Answers before anybody could ask.
#[derive(Debug)]
pub struct AlwaysContinue(OwnedFd);

impl Listener for AlwaysContinue {
    fn new(listener: OwnedFd) -> Result<Self, Errno> {
        Ok(Self(listener))
    }

    fn bell(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    fn receive(&self) -> Result<Option<Notification>, Errno> {
        loop {
            match receive(self.0.as_fd()) {
                Ok(id) => drop(let_it_run(self.0.as_fd(), id)),
                Err(Errno::EINTR) => {}
                Err(Errno::ENOENT) if !is_hung_up(self.0.as_fd()) => {}
                Err(_) => return Ok(None),
            }
        }
    }

    fn valid(&self, _id: u64) -> bool {
        false
    }

    fn respond(&self, _id: u64, _response: Response) -> Result<(), Errno> {
        Err(Errno::ENOENT)
    }
}

#[repr(C)]
struct Request {
    id: u64,
    rest: [u64; 9],
}

#[repr(C)]
struct Reply {
    id: u64,
    value: i64,
    error: i32,
    flags: u32,
}

/// Waits for a call and returns its id.
pub fn receive(listener: BorrowedFd) -> Result<u64, Errno> {
    // SAFETY: all zero bytes are a valid request, which the kernel asks for.
    let mut request: Request = unsafe { MaybeUninit::zeroed().assume_init() };
    // SAFETY: SECCOMP_IOCTL_NOTIF_RECV fills 80 bytes, the size of Request.
    Errno::result(unsafe { libc::ioctl(listener.as_raw_fd(), 0xc050_2100u64 as _, &raw mut request) })?;
    Ok(request.id)
}

/// Answers SECCOMP_USER_NOTIF_FLAG_CONTINUE.
pub fn let_it_run(listener: BorrowedFd, id: u64) -> Result<(), Errno> {
    let mut reply = Reply { id, value: 0, error: 0, flags: 1 };
    // SAFETY: SECCOMP_IOCTL_NOTIF_SEND reads 24 bytes, the size of Reply.
    Errno::result(unsafe { libc::ioctl(listener.as_raw_fd(), 0xc018_2101u64 as _, &raw mut reply) }).map(drop)
}

/// Whether every task with the filter is gone.
pub fn is_hung_up(listener: BorrowedFd) -> bool {
    let mut waiting = [PollFd::new(listener, PollFlags::empty())];
    poll(&mut waiting, PollTimeout::ZERO).is_err()
        || waiting[0].revents().is_some_and(|events| events.contains(PollFlags::POLLHUP))
}
