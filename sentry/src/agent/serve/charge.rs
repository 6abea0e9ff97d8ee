//! One container of the agent's, and the processes whose listeners wait to be taken over.
//!
//! A runtime does not wait for the agent: it hands the listener over and goes on. Until it has become the container's program it may
//! not be looked at by others of its user (it is not dumpable), so where the container lives is not known yet. Its trapped calls wait
//! in the listener meanwhile.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use shim::keeper as channel;

use super::process::{Home, Mounts, Process};
use crate::agent::Container;
use crate::agent::keeper::Keeper;
use crate::agent::policy::ContainerPolicy;

/// How often a process is looked at that may not be looked at yet: at first, and when it takes its time.
const SOON: Duration = Duration::from_millis(1);
const LATER: Duration = Duration::from_millis(250);
/// How long it may make a call and not be looked at.
const PATIENCE: Duration = Duration::from_secs(10);

/// A process whose listener was sent, before it is known where it lives.
#[derive(Debug)]
pub struct Arrival {
    /// Of which container.
    pub container: Container,
    /// And by which policy its calls are to be answered.
    pub policy: ContainerPolicy,
    /// The process.
    pub process: Process,
    /// The listener of its filter.
    pub listener: OwnedFd,
    pause: Duration,
    next: Instant,
    /// Since when a call of it has been waiting.
    calling: Option<Instant>,
}

/// What a look at an arrival tells.
#[derive(Debug)]
pub enum Look {
    /// Not yet.
    Wait,
    /// It lives there.
    Lives(Home, Mounts),
    /// It will never be supervised.
    Never(String),
}

impl Arrival {
    /// A process to be looked at from now on.
    pub fn new(container: Container, policy: ContainerPolicy, process: Process, listener: OwnedFd) -> Self {
        Self { container, policy, process, listener, pause: SOON, next: Instant::now(), calling: None }
    }

    /// When to look next.
    pub fn next(&self) -> Instant {
        self.next
    }

    /// What makes a look worth while before: a call.
    pub fn bell(&self) -> Option<BorrowedFd<'_>> {
        self.calling.is_none().then(|| self.listener.as_fd())
    }

    /// Looks at it, if it is time to.
    pub fn look(&mut self) -> Look {
        let now = Instant::now();
        let events = events(self.listener.as_fd());
        if events.contains(PollFlags::POLLHUP) || !self.process.lives() {
            return Look::Never("the process ended before it could be looked at".to_owned());
        }
        if events.contains(PollFlags::POLLIN) && self.calling.is_none() {
            self.calling = Some(now);
            self.pause = SOON;
        } else if now < self.next {
            return Look::Wait;
        }
        let looked = self.process.home().and_then(|home| Ok((home, self.process.mounts()?)));
        match looked {
            Ok((home, mounts)) => return Look::Lives(home, mounts),
            Err(Errno::EACCES | Errno::EPERM | Errno::ENOENT) => {}
            Err(Errno::ESRCH) => return Look::Never("the process ended before it could be looked at".to_owned()),
            Err(errno) => return Look::Never(format!("the process cannot be looked at: {}", errno.desc())),
        }
        if self.calling.is_some_and(|since| now - since > PATIENCE) {
            return Look::Never("the process may not be looked at: its program cannot be read by this user".to_owned());
        }
        self.pause =
            (self.pause + self.pause / 8 + SOON / 8).min(if self.calling.is_some() { 20 * SOON } else { LATER });
        self.next = now + self.pause;
        Look::Wait
    }
}

/// A container with a keeper.
#[derive(Debug)]
pub struct Charge {
    /// Which one.
    pub container: Container,
    /// Where it lives.
    pub mounts: Mounts,
    keeper: Keeper,
    /// Listeners that the keeper has not been told of.
    waiting: VecDeque<OwnedFd>,
    /// Whether the keeper owes an answer.
    asked: bool,
}

impl Charge {
    /// A container whose keeper was started, at `home`.
    pub fn begin(container: Container, mounts: Mounts, keeper: Keeper, home: &Home) -> Result<Self, String> {
        channel::announce(keeper.channel.as_fd(), &home.place()).map_err(|failure| failure.to_string())?;
        Ok(Self { container, mounts, keeper, waiting: VecDeque::new(), asked: false })
    }

    /// Hands a listener on.
    pub fn take(&mut self, listener: OwnedFd) -> Result<(), Errno> {
        self.waiting.push_back(listener);
        self.hand_on()
    }

    fn hand_on(&mut self) -> Result<(), Errno> {
        if self.asked {
            return Ok(());
        }
        let Some(listener) = self.waiting.pop_front() else { return Ok(()) };
        self.asked = true;
        channel::send(self.keeper.channel.as_fd(), &[channel::LISTENER], &[listener.as_fd()])
    }

    /// What the keeper says comes here.
    pub fn bell(&self) -> BorrowedFd<'_> {
        self.keeper.channel.as_fd()
    }

    /// Listens to the keeper, which has said something or ended: true as long as it is there. The error is what it refused.
    pub fn listen(&mut self) -> Result<bool, String> {
        match channel::receive(self.keeper.channel.as_fd()) {
            Ok((answer, _)) if answer.is_empty() => Ok(false),
            Ok((answer, _)) => {
                self.asked = false;
                let handed_on = self.hand_on().is_ok();
                if answer == channel::READY {
                    Ok(handed_on)
                } else {
                    Err(String::from_utf8_lossy(&answer).into_owned())
                }
            }
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(true),
            Err(_) => Ok(false),
        }
    }
}

impl Drop for Charge {
    /// The supervisor ends with the keeper, and calls that nobody answers any more fail.
    fn drop(&mut self) {
        let _ = kill(self.keeper.pid, Signal::SIGKILL);
        let _ = waitpid(self.keeper.pid, Some(WaitPidFlag::empty()));
    }
}

fn events(file: BorrowedFd) -> PollFlags {
    let mut asked = [PollFd::new(file, PollFlags::POLLIN)];
    match poll(&mut asked, PollTimeout::ZERO) {
        Ok(_) => asked[0].revents().unwrap_or(PollFlags::empty()),
        Err(_) => PollFlags::empty(),
    }
}
