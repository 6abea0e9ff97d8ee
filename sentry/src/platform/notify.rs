//! Seccomp user notification: the default platform.
//!
//! Two context switches a call. Descriptors go in by `ADDFD` with `SEND`, in one step, so none can leak. Whatever fails on
//! our side becomes an errno for the guest, never a continued call.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use syscalls::reply::{Reply, Response};

use super::{Listener, Notification, sys};

/// The listener of one filter.
#[derive(Debug)]
pub struct Notify {
    listener: OwnedFd,
}

impl Notify {
    fn finish(&self, id: u64, value: i64, error: i32, flags: u32) -> Result<(), Errno> {
        sys::send(self.listener.as_fd(), sys::Reply { id, value, error, flags })
    }

    fn fail(&self, id: u64, errno: Errno) -> Result<(), Errno> {
        self.finish(id, 0, -(errno as i32), 0)
    }
}

impl Listener for Notify {
    fn new(listener: OwnedFd) -> Result<Self, Errno> {
        // Halves the round trip where known (Linux 6.6); nothing depends on it.
        let _ = sys::wake_synchronously(listener.as_fd());
        Ok(Self { listener })
    }

    fn receive(&self) -> Result<Option<Notification>, Errno> {
        loop {
            match sys::receive(self.listener.as_fd()) {
                Ok(request) => {
                    return Ok(Some(Notification {
                        id: request.id,
                        tid: request.pid.cast_signed(),
                        number: request.number,
                        registers: request.registers,
                        instruction_pointer: request.instruction_pointer,
                    }));
                }
                // ENOENT: the caller was killed before we could take its call, or nobody uses the filter any more.
                Err(Errno::EINTR) => {}
                Err(Errno::ENOENT) if self.in_use() => {}
                Err(Errno::ENOENT) => return Ok(None),
                Err(errno) => return Err(errno),
            }
        }
    }

    fn valid(&self, id: u64) -> bool {
        sys::valid(self.listener.as_fd(), id).is_ok()
    }

    fn respond(&self, id: u64, response: Response) -> Result<(), Errno> {
        match response {
            Response::Reply(Reply::Return(value)) => self.finish(id, value, 0, 0),
            Response::Fail(errno) => self.fail(id, errno),
            // No route of a policy that listens says so, for the kernel offers no such answer.
            Response::Rewrite(_) => self.fail(id, Errno::ENOSYS),
            Response::Continue(_) => self.finish(id, 0, 0, sys::CONTINUE),
            Response::Reply(Reply::Inject { file, cloexec }) => {
                match sys::inject(self.listener.as_fd(), id, file.as_raw_fd(), cloexec) {
                    Err(Errno::ENOENT) => Err(Errno::ENOENT),
                    // The guest's table is full (EMFILE), or the kernel will not pass this kind of file on.
                    Err(errno) => self.fail(id, errno),
                    Ok(()) => Ok(()),
                }
            }
        }
    }
}

impl Notify {
    /// False once every task with this filter is gone: the kernel then hangs the listener up.
    fn in_use(&self) -> bool {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        let mut waiting = [PollFd::new(self.listener.as_fd(), PollFlags::empty())];
        match poll(&mut waiting, PollTimeout::ZERO) {
            Ok(_) => !waiting[0].revents().is_some_and(|events| events.contains(PollFlags::POLLHUP)),
            Err(_) => false,
        }
    }
}
