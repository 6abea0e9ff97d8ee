//! The supervisor of one container, as its keeper or an agent starts it and talks to it.
//!
//! It is started as soon as the container's namespaces exist, and takes over listeners from then on: that of the first
//! process, and one of each that enters the container later. It ends when it is told that no more will come and the last
//! process with a filter is gone. What it says comes as [`ToMonitor`] messages, to be taken as hostile.

mod inside;
mod join;

pub(crate) use join::keep_only;

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{Shutdown, setsockopt, shutdown, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};
use nix::unistd::Pid;
use shim::failure::{Failure, Step};
use shim::keeper::{LISTENER, READY, receive, send};
use shim::message::ToMonitor;
use shim::{message, sys};

use super::Container;
use super::policy::ContainerPolicy;
use crate::platform::Listener;

/// How long a supervisor may take to be ready, or to take over a listener, in seconds.
const PATIENCE: i64 = 20;

/// Where a container is.
#[derive(Debug)]
pub struct Place {
    /// Its user namespace; it may be the caller's own.
    pub users: OwnedFd,
    /// Its mount namespace.
    pub mounts: OwnedFd,
    /// Its root directory, `O_PATH`.
    pub root: OwnedFd,
    /// Its first process, as a pidfd.
    pub init: OwnedFd,
}

impl Place {
    /// From the descriptors of a message of [`shim::keeper::announce`].
    pub fn of_message(files: Vec<OwnedFd>) -> Option<Self> {
        let [users, mounts, root, init] = <[OwnedFd; 4]>::try_from(files).ok()?;
        Some(Self { users, mounts, root, init })
    }
}

/// A supervisor that was started.
#[derive(Debug)]
pub struct Supervisor {
    /// Its process, a child of the caller's.
    pub pid: Pid,
    orders: OwnedFd,
    messages: OwnedFd,
}

impl Supervisor {
    /// Starts one for the container at `place`. The caller must be single-threaded, and its `/proc` must show its own pid
    /// namespace. What goes wrong from here on is an error of [`adopt`](Self::adopt).
    pub fn start<L: Listener>(container: &Container, policy: &ContainerPolicy, place: &Place) -> Result<Self, Failure> {
        let (orders, orders_there) = super::channel()?;
        let (messages, messages_there) = super::channel()?;
        let Some(pid) = sys::clone(0).step(|| "start the container's supervisor")? else {
            drop((orders, messages));
            let code = inside::run::<L>(container, policy, place, &orders_there, &messages_there);
            sys::exit_now(code);
        };
        setsockopt(&orders, sockopt::ReceiveTimeout, &TimeVal::seconds(PATIENCE))
            .step(|| "prepare to wait for the supervisor")?;
        Ok(Self { pid: Pid::from_raw(pid), orders, messages })
    }

    /// Hands a listener over, and waits until its calls are answered.
    pub fn adopt(&self, listener: OwnedFd) -> Result<(), Failure> {
        self.offer(listener)?;
        self.has_taken()
    }

    /// Hands a listener over. One at a time: [`has_taken`](Self::has_taken) must be asked before the next.
    pub fn offer(&self, listener: OwnedFd) -> Result<(), Failure> {
        // A listener must exist in one process only: here it is closed.
        send(self.orders.as_fd(), &[LISTENER], &[listener.as_fd()]).map_err(|errno| self.why(errno))
    }

    /// Waits until the calls of the listener that was handed over are answered. It does not wait when
    /// [`answers`](Self::answers) can be read.
    pub fn has_taken(&self) -> Result<(), Failure> {
        match receive(self.orders.as_fd()) {
            Ok((answer, _)) if answer == READY => Ok(()),
            Ok(_) => Err(self.why(Errno::EPIPE)),
            Err(errno) => Err(self.why(errno)),
        }
    }

    /// What it has said of its failure, or else this one.
    fn why(&self, errno: Errno) -> Failure {
        while poll(&mut [PollFd::new(self.messages(), PollFlags::POLLIN)], PollTimeout::ZERO) == Ok(1) {
            match self.message() {
                Some(ToMonitor::Failed(failure)) => return failure,
                Some(_) => {}
                None => break,
            }
        }
        Failure::new("hand a listener to the container's supervisor", errno)
    }

    /// Whether it has taken a listener over can be read when this can.
    pub fn answers(&self) -> BorrowedFd<'_> {
        self.orders.as_fd()
    }

    /// What it has to say can be read when this can.
    pub fn messages(&self) -> BorrowedFd<'_> {
        self.messages.as_fd()
    }

    /// The next message. `None`: it is gone. Waits for one.
    pub fn message(&self) -> Option<ToMonitor> {
        loop {
            match message::receive(self.messages.as_fd()) {
                Ok(message) => return message.map(|(message, _)| message),
                // Something that does not parse.
                Err(Errno::EBADMSG | Errno::EINTR) => {}
                Err(_) => return None,
            }
        }
    }

    /// No more listeners will come: it ends with the last of those that it has.
    pub fn no_more(&self) {
        let _ = shutdown(self.orders.as_raw_fd(), Shutdown::Write);
    }

    /// Ends it at once; calls that its listeners trap fail with `ENOSYS` from then on.
    pub fn end(&self) {
        let _ = sys::kill(self.pid.as_raw(), libc::SIGKILL);
    }
}
