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
use nix::sys::wait::waitpid;
use shim::failure::Failure;

use super::process::{Mounts, Process};
use crate::agent::Container;
use crate::agent::log::Log as CallLog;
use crate::agent::policy::ContainerPolicy;
use crate::agent::supervisor::{Place, Supervisor};
use crate::platform::notify::Notify;

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
    Lives(Place, Mounts),
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
        let looked = self.process.place().and_then(|place| Ok((place, self.process.mounts()?)));
        match looked {
            Ok((place, mounts)) => return Look::Lives(place, mounts),
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

/// A container with a supervisor.
#[derive(Debug)]
pub struct Charge {
    /// Which one.
    pub container: Container,
    /// Where it lives.
    pub mounts: Mounts,
    supervisor: Supervisor,
    /// What it is refused goes there.
    log: Option<CallLog>,
    /// Its first process, until that has ended.
    init: Option<OwnedFd>,
    /// Listeners that the supervisor has not been told of.
    waiting: VecDeque<OwnedFd>,
    /// Whether it owes an answer.
    asked: bool,
}

/// What was heard of a charge.
#[derive(Debug)]
pub enum Heard {
    /// It goes on.
    Nothing,
    /// Its supervisor has ended.
    End,
    /// Its supervisor has ended before it could answer, for this reason.
    Failed(String),
}

impl Charge {
    /// Starts a supervisor at `place`, and hands the first listener on.
    pub fn begin(arrival: Arrival, place: Place, mounts: Mounts, log: Option<CallLog>) -> Result<Self, Failure> {
        let Arrival { container, policy, listener, .. } = arrival;
        let supervisor = Supervisor::start::<Notify>(&container, &policy, &place)?;
        let mut charge =
            Self { container, mounts, supervisor, log, init: Some(place.init), waiting: VecDeque::new(), asked: false };
        charge.take(listener)?;
        Ok(charge)
    }

    /// Hands a listener on.
    pub fn take(&mut self, listener: OwnedFd) -> Result<(), Failure> {
        self.waiting.push_back(listener);
        self.hand_on()
    }

    fn hand_on(&mut self) -> Result<(), Failure> {
        if self.asked {
            return Ok(());
        }
        let Some(listener) = self.waiting.pop_front() else { return Ok(()) };
        self.asked = true;
        self.supervisor.offer(listener)
    }

    /// What is to be waited for: what the supervisor says, its answer, and the end of the container.
    pub fn bells(&self) -> [PollFd<'_>; 3] {
        let messages = PollFd::new(self.supervisor.messages(), PollFlags::POLLIN);
        let asked = if self.asked { PollFlags::POLLIN } else { PollFlags::empty() };
        let init = self.init.as_ref().map_or(self.supervisor.answers(), |init| init.as_fd());
        let ended = if self.init.is_some() { PollFlags::POLLIN } else { PollFlags::empty() };
        [messages, PollFd::new(self.supervisor.answers(), asked), PollFd::new(init, ended)]
    }

    /// Deals with what has rung of [`bells`](Self::bells).
    pub fn hear(&mut self, rung: [bool; 3]) -> Heard {
        let [speaks, answers, ended] = rung;
        if answers && self.asked {
            self.asked = false;
            if let Err(failure) = self.supervisor.has_taken().and_then(|()| self.hand_on()) {
                return Heard::Failed(failure.to_string());
            }
        }
        if ended && self.init.take().is_some() {
            self.supervisor.no_more();
        }
        if speaks {
            let Some(message) = self.supervisor.message() else { return Heard::End };
            if let Some(log) = &mut self.log {
                log.note(&self.container, &message);
            }
        }
        Heard::Nothing
    }
}

impl Drop for Charge {
    /// Calls that nobody answers any more fail.
    fn drop(&mut self) {
        self.supervisor.end();
        let _ = waitpid(self.supervisor.pid, None);
    }
}

fn events(file: BorrowedFd) -> PollFlags {
    let mut asked = [PollFd::new(file, PollFlags::POLLIN)];
    match poll(&mut asked, PollTimeout::ZERO) {
        Ok(_) => asked[0].revents().unwrap_or(PollFlags::empty()),
        Err(_) => PollFlags::empty(),
    }
}
