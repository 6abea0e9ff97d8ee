//! The keeper of one container: takes over the listeners of its filters, hands each to the container's supervisor, writes
//! the audit log, and ends the container if its supervisor dies.
//!
//! It is forked by the runtime before the container exists, outlives it, and has nothing of the caller's: an engine that
//! waits for the end of a pipe must not wait for the keeper. It ends, and takes its socket along, when the container's
//! first process is gone and nobody is left who could make a call.

use std::fs::remove_file;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, accept4, bind, getsockopt, listen, socket, sockopt,
};
use nix::sys::stat::{Mode, umask};
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, chdir, geteuid, setsid};
use shim::failure::{Failure, Step};
use shim::keeper::{ANNOUNCE, LISTENER, READY, receive, send, within};
use shim::sys;

use super::Container;
use super::log::Log;
use super::policy::{ContainerPolicy, log_beside};
use super::supervisor::{Place, Supervisor, keep_only};
use crate::platform::Listener;
use crate::platform::notify::Notify;

/// Processes that enter the container at the same moment, at most.
const MOST_VISITORS: usize = 64;
/// How long one of them may take to hand its listener over.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long the supervisor may take to end after a container whose processes are gone.
const FAREWELL: Duration = Duration::from_secs(5);

/// A keeper that was started.
#[derive(Debug)]
pub struct Keeper {
    /// Its process: a child of the caller's, which it outlives.
    pub pid: Pid,
    /// What init says to it: [`shim::keeper::announce`], then [`shim::keeper::hand_over`].
    pub channel: OwnedFd,
}

/// Starts the keeper of a container that is about to be made. The caller must be single-threaded. It listens at `socket` for
/// processes that enter the container later ([`shim::keeper::connect`], [`shim::keeper::hand_over`]).
pub fn start(container: &Container, policy: &ContainerPolicy, socket: &Path) -> Result<Keeper, Failure> {
    start_with::<Notify>(container, policy, socket)
}

/// The same with another way to answer.
pub fn start_with<L: Listener>(
    container: &Container,
    policy: &ContainerPolicy,
    socket: &Path,
) -> Result<Keeper, Failure> {
    // What can fail for a reason of the user's fails here, where the user hears of it.
    let door = door(socket)?;
    let log = Log::open(&policy.audit.clone().unwrap_or_else(|| log_beside(socket)))?;
    let (here, there) = super::channel()?;
    let Some(pid) = sys::clone(0).step(|| "start the container's keeper")? else {
        drop(here);
        let code = match retire(&door, &log, &there) {
            Ok(()) => Keeping { container, policy, door, log, supervised: None }.run::<L>(there, socket),
            Err(failure) => {
                let _ = send(there.as_fd(), failure.to_string().as_bytes(), &[]);
                125
            }
        };
        sys::exit_now(code);
    };
    Ok(Keeper { pid: Pid::from_raw(pid), channel: here })
}

/// Listens at `path`, for the same user only.
fn door(path: &Path) -> Result<OwnedFd, Failure> {
    let step = || format!("listen at {}", path.display());
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let door = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).step(step)?;
    let before = umask(Mode::from_bits_truncate(0o177));
    let bound = within(path, |short| bind(door.as_raw_fd(), &UnixAddr::new(short)?));
    umask(before);
    bound.step(step)?;
    listen(&door, Backlog::new(16).unwrap_or(Backlog::MAXCONN)).step(step)?;
    Ok(door)
}

/// Lets go of all that is the caller's.
fn retire(door: &OwnedFd, log: &Log, channel: &OwnedFd) -> Result<(), Failure> {
    setsid().step(|| "begin a session for the keeper")?;
    // What a supervisor leaves behind when it dies is to be waited for too.
    sys::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0).step(|| "prepare to wait for the supervisor's own processes")?;
    keep_only(&[door.as_fd(), log.as_fd(), channel.as_fd()])?;
    chdir(c"/").step(|| "leave the caller's directory")?;
    sys::prctl(libc::PR_SET_DUMPABLE, 0, 0).step(|| "protect the keeper")?;
    sys::default_signals();
    sys::ignore_signal(libc::SIGPIPE).step(|| "ignore SIGPIPE")?;
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None).step(|| "unblock signals")
}

/// A keeper at work.
struct Keeping<'a> {
    container: &'a Container,
    policy: &'a ContainerPolicy,
    door: OwnedFd,
    log: Log,
    /// Once the container has come to be.
    supervised: Option<(Place, Supervisor)>,
}

/// Somebody with a listener to hand over.
struct Visitor {
    channel: OwnedFd,
    /// Init has no deadline: it waits for `start`.
    until: Option<Instant>,
}

impl Keeping<'_> {
    fn run<L: Listener>(mut self, init: OwnedFd, socket: &Path) -> i32 {
        let mut visitors = vec![Visitor { channel: init, until: None }];
        let code = loop {
            match self.round::<L>(&mut visitors) {
                Ok(None) => {}
                Ok(Some(code)) => break code,
                Err(failure) => {
                    self.log.say(self.container, &failure.to_string(), None);
                    break 125;
                }
            }
        };
        if let Some((place, supervisor)) = &self.supervised {
            // After a container that has ended this changes nothing.
            let _ = crate::raw::signal_process(place.init.as_fd(), libc::SIGKILL);
            supervisor.end();
            // The process that mounts dies with it.
            while waitpid(None, None).is_ok() {}
        }
        let _ = remove_file(socket);
        code
    }

    /// Waits for something to happen, and deals with it. `Some`: all is over. An error ends the container.
    fn round<L: Listener>(&mut self, visitors: &mut Vec<Visitor>) -> Result<Option<i32>, Failure> {
        let knocks = if visitors.len() < MOST_VISITORS { PollFlags::POLLIN } else { PollFlags::empty() };
        let mut waiting = vec![PollFd::new(self.door.as_fd(), knocks)];
        waiting.extend(visitors.iter().map(|visitor| PollFd::new(visitor.channel.as_fd(), PollFlags::POLLIN)));
        if let Some((place, supervisor)) = &self.supervised {
            let both = [supervisor.messages(), place.init.as_fd()];
            waiting.extend(both.map(|file| PollFd::new(file, PollFlags::POLLIN)));
        }
        let soonest = visitors.iter().filter_map(|visitor| visitor.until).min();
        let left = soonest.map(|until| until.saturating_duration_since(Instant::now()) + Duration::from_millis(1));
        match poll(&mut waiting, timeout(left)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(Failure::new("wait for the container", errno)),
        }
        let ready: Vec<bool> = waiting.iter().map(|each| each.any() == Some(true)).collect();
        drop(waiting);

        if let [speaks, ended] = ready[1 + visitors.len()..] {
            if speaks && !self.hear() {
                return self.bereaved();
            }
            if ended {
                return Ok(Some(self.last_words()));
            }
        }
        let mut spoken = ready[1..].iter();
        let mut kept = Vec::new();
        for visitor in visitors.drain(..) {
            let stays = match spoken.next() {
                Some(true) => self.listen_to::<L>(&visitor)?,
                _ => visitor.until.is_none_or(|until| until > Instant::now()),
            };
            if stays {
                kept.push(visitor);
            }
        }
        *visitors = kept;
        if ready[0] {
            visitors.extend(self.let_in());
        }
        // Init is gone before there was a container.
        let is_over = self.supervised.is_none() && !visitors.iter().any(|visitor| visitor.until.is_none());
        Ok(is_over.then_some(0))
    }

    /// Writes down what the supervisor says. False: it is gone.
    fn hear(&mut self) -> bool {
        let Some((_, supervisor)) = &self.supervised else { return false };
        let Some(message) = supervisor.message() else { return false };
        self.log.note(self.container, &message);
        true
    }

    /// The supervisor ended while there is a container: nobody answers its calls.
    fn bereaved(&self) -> Result<Option<i32>, Failure> {
        // It may have been the end of all.
        if self.supervised.as_ref().is_some_and(|(place, _)| has_ended(place.init.as_fd())) {
            return Ok(Some(0));
        }
        Err(Failure::check_text("the supervisor ended unexpectedly, and the container with it"))
    }

    /// The first process is gone: no more listeners, and what the supervisor has to say until it ends.
    fn last_words(&mut self) -> i32 {
        if let Some((_, supervisor)) = &self.supervised {
            supervisor.no_more();
        }
        // Without a pid namespace of its own its other processes go on, and are supervised as ever.
        let deadline = (!self.container.shares_pids).then(|| Instant::now() + FAREWELL);
        while let Some((_, supervisor)) = &self.supervised {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            match poll(&mut [PollFd::new(supervisor.messages(), PollFlags::POLLIN)], timeout(left)) {
                Ok(0) => return 125,
                Err(Errno::EINTR) => {}
                Err(_) => return 125,
                Ok(_) if self.hear() => {}
                Ok(_) => break,
            }
        }
        0
    }

    /// Somebody knocks: a process of the same user, or it is not let in.
    fn let_in(&self) -> Option<Visitor> {
        let channel = crate::raw::own_received(accept4(self.door.as_raw_fd(), SockFlag::SOCK_CLOEXEC).ok()?);
        let peer = getsockopt(&channel, sockopt::PeerCredentials).ok()?;
        let is_same = peer.uid() == geteuid().as_raw();
        is_same.then(|| Visitor { channel, until: Some(Instant::now() + PATIENCE) })
    }

    /// Takes the message of somebody. False: that was the last one.
    fn listen_to<L: Listener>(&mut self, visitor: &Visitor) -> Result<bool, Failure> {
        let is_init = visitor.until.is_none();
        let (message, files) = match receive(visitor.channel.as_fd()) {
            Ok((message, files)) if !message.is_empty() => (message, files),
            _ => return Ok(false),
        };
        let result = match (message.as_slice(), &self.supervised) {
            ([ANNOUNCE], None) if is_init => {
                let place =
                    Place::of_message(files).ok_or_else(|| Failure::check("find the container's namespaces"))?;
                let supervisor = Supervisor::start::<L>(self.container, self.policy, &place)?;
                self.supervised = Some((place, supervisor));
                return Ok(true);
            }
            ([LISTENER], Some((_, supervisor))) => match <[OwnedFd; 1]>::try_from(files) {
                Ok([listener]) => supervisor.adopt(listener),
                Err(_) => Err(Failure::check_text("a listener comes alone")),
            },
            _ => Err(Failure::check_text("the container's keeper was told something else than it expects")),
        };
        let answer = match &result {
            Ok(()) => READY.to_vec(),
            Err(failure) => failure.to_string().into_bytes(),
        };
        let _ = send(visitor.channel.as_fd(), &answer, &[]);
        match result {
            Err(failure) if is_init => Err(failure),
            _ => Ok(false),
        }
    }
}

/// Whether a process has ended, by its pidfd.
fn has_ended(process: BorrowedFd) -> bool {
    poll(&mut [PollFd::new(process, PollFlags::POLLIN)], PollTimeout::ZERO) == Ok(1)
}

fn timeout(left: Option<Duration>) -> PollTimeout {
    left.map_or(PollTimeout::NONE, |left| PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX))
}
