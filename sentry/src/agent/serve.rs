//! `sentry agent`: answers trapped calls of containers that runc and crun made.
//!
//! One process, one thread, and no waiting for anybody: connections that say nothing, runtimes that have not become their program yet
//! and supervisors that owe an answer are all waited for at once. Each container gets a supervisor in its own namespaces; the
//! agent itself resolves none of its paths.
//!
//! Whatever is refused is closed: the runtime or the container finds its calls failing, and the log says why. When the agent
//! ends, so do its supervisors, and the trapped calls of containers fail from then on with `ENOSYS`.

mod charge;
mod process;
mod socket;

use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{SockFlag, accept4, getsockopt, sockopt::PeerCredentials};
use nix::unistd::Uid;
use shim::failure::{Failure, Step};

use super::Container;
use super::audit::{Event, Log};
use super::policy::{ContainerPolicy, Owner};
use super::protocol::{Incoming, ProcessState};
use super::supervisor::Place;
use charge::{Arrival, Charge, Heard, Look};
use process::Process;
use socket::Socket;
pub use socket::usual as usual_socket;

/// How long a runtime may take to say who it is.
const DEADLINE: Duration = Duration::from_secs(10);
/// Runtimes that are listened to at once.
const CONNECTIONS: usize = 256;

/// What the agent is told at its start.
#[derive(Debug)]
pub struct Options {
    /// Where runtimes connect to.
    pub socket: PathBuf,
    /// What containers may choose.
    pub owner: Owner,
    /// Where the log goes; `-` is the standard output.
    pub audit: PathBuf,
    /// Containers at most.
    pub most: usize,
}

/// A runtime that has connected.
#[derive(Debug)]
struct Connection {
    stream: OwnedFd,
    /// What the runtime's parent calls the container. The runtime may have ended when it has been heard.
    name: Option<String>,
    incoming: Incoming,
    deadline: Instant,
}

struct Agent {
    options: Options,
    log: Log,
    connections: Vec<Connection>,
    arrivals: Vec<Arrival>,
    charges: Vec<Charge>,
}

/// Serves until `SIGTERM` or `SIGINT`. `tell` hears when it listens.
pub fn run(options: Options, tell: &mut dyn Write) -> Result<(), Failure> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    signals.thread_block().step(|| "hold signals back")?;
    let ending =
        SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).step(|| "receive signals")?;
    more_descriptors();
    let socket = Socket::listen(&options.socket)?;
    let log = Log::open(&options.audit)?;
    let _ = writeln!(tell, "sentry: the agent listens at {}", options.socket.display()).and_then(|()| tell.flush());
    let mut agent = Agent { options, log, connections: Vec::new(), arrivals: Vec::new(), charges: Vec::new() };
    while agent.wait(socket.listener(), ending.as_fd())? {}
    Ok(())
}

/// Each container takes two.
fn more_descriptors() {
    if let Ok((_, hard)) = shim::sys::limit(libc::RLIMIT_NOFILE) {
        let _ = shim::sys::set_limit(libc::RLIMIT_NOFILE, hard, hard);
    }
}

impl Agent {
    /// Waits for something to happen and deals with it; false when it is time to end.
    fn wait(&mut self, listener: &OwnedFd, ending: BorrowedFd) -> Result<bool, Failure> {
        let has_room = self.connections.len() < CONNECTIONS;
        let mut waiting = vec![PollFd::new(ending, PollFlags::POLLIN)];
        waiting.push(PollFd::new(listener.as_fd(), if has_room { PollFlags::POLLIN } else { PollFlags::empty() }));
        waiting.extend(self.connections.iter().map(|each| PollFd::new(each.stream.as_fd(), PollFlags::POLLIN)));
        waiting.extend(self.charges.iter().flat_map(Charge::bells));
        let bells = self.arrivals.iter().filter_map(Arrival::bell);
        waiting.extend(bells.map(|bell| PollFd::new(bell, PollFlags::POLLIN)));
        let soonest =
            self.connections.iter().map(|each| each.deadline).chain(self.arrivals.iter().map(Arrival::next)).min();
        let patience = soonest.map_or(PollTimeout::NONE, |at| {
            let left = at.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
        });
        match poll(&mut waiting, patience) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(Failure::new("wait for runtimes", errno)),
        }
        let happened: Vec<bool> = waiting.iter().map(|each| each.any() == Some(true)).collect();
        let (told, rest) = happened.split_at(2);
        let (speaking, rest) = rest.split_at(self.connections.len());
        let (supervisors, _) = rest.split_at(3 * self.charges.len());
        if told[0] {
            return Ok(false);
        }
        self.hear_supervisors(supervisors);
        self.hear_runtimes(speaking);
        if told[1] {
            self.accept(listener);
        }
        self.look_at_arrivals();
        Ok(true)
    }

    fn note(&mut self, container: Option<&Container>, event: Event) {
        self.log.event(container, event);
    }

    /// Takes one connection, of our own user only.
    fn accept(&mut self, listener: &OwnedFd) {
        let stream = match accept4(listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK) {
            Ok(stream) => shim::sys::own_received(stream),
            Err(Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM | Errno::ENOBUFS) => {
                // The connection stays there: it would wake us at once, for nothing.
                std::thread::sleep(Duration::from_millis(20));
                return;
            }
            Err(_) => return,
        };
        match getsockopt(&stream, PeerCredentials) {
            // Inside of an engine's user namespace its user is root, and the same to us.
            Ok(peer) if peer.uid() == Uid::effective().as_raw() => self.connections.push(Connection {
                stream,
                name: process::told_to_conmon(peer.pid()),
                incoming: Incoming::default(),
                deadline: Instant::now() + DEADLINE,
            }),
            Ok(peer) => {
                let why = format!("user {} is not the one whom this agent serves", peer.uid());
                self.note(None, Event::Refused(&why));
            }
            Err(_) => {}
        }
    }

    /// Listens to the runtimes that speak, and ends the patience with others.
    fn hear_runtimes(&mut self, speaking: &[bool]) {
        let now = Instant::now();
        let connections = std::mem::take(&mut self.connections);
        for (mut connection, speaks) in connections.into_iter().zip(speaking) {
            let heard = if *speaks { connection.incoming.take(connection.stream.as_fd()) } else { Ok(None) };
            match heard {
                Ok(None) if now < connection.deadline => self.connections.push(connection),
                Ok(None) => self.note(None, Event::Refused("the runtime did not say in time which container it is")),
                Ok(Some((state, listener))) => self.arrive(&state, listener, connection.name),
                Err(why) => self.note(None, Event::Refused(&why)),
            }
        }
    }

    /// A runtime has said which container it has a listener of.
    fn arrive(&mut self, state: &ProcessState, listener: OwnedFd, name: Option<String>) {
        let known = |container: &&Container| container.id == state.state.id;
        let nameless = || Container { id: state.state.id.clone(), ..Container::default() };
        // crun does not know the number of a process that enters a container: its word for which one has to do.
        if state.pid <= 0 {
            let charge = self.charges.iter_mut().rev().find(|charge| known(&&charge.container));
            let (container, taken) = match charge {
                Some(charge) => {
                    (charge.container.clone(), charge.take(listener).map_err(|failure| failure.to_string()))
                }
                None => (nameless(), Err("a process enters a container that is not supervised".to_owned())),
            };
            return taken.unwrap_or_else(|why| self.note(Some(&container), Event::Refused(&why)));
        }
        let mut all =
            self.charges.iter().map(|charge| &charge.container).chain(self.arrivals.iter().map(|each| &each.container));
        let container = all.rfind(known).cloned();
        let Ok(process) = Process::find(state.pid) else {
            let container = container.unwrap_or_else(nameless);
            return self.note(Some(&container), Event::Refused("its process has ended"));
        };
        let container = container.unwrap_or_else(|| process::container(&state.state, &process, name));
        match self.policy(&state.metadata) {
            Ok(policy) => self.arrivals.push(Arrival::new(container, policy, process, listener)),
            Err(failure) => self.note(Some(&container), Event::Refused(&failure.to_string())),
        }
    }

    /// The policy that a profile names, if the owner lets containers choose it.
    fn policy(&self, metadata: &str) -> Result<ContainerPolicy, Failure> {
        let wanted = Some(metadata.trim()).filter(|wanted| !wanted.is_empty());
        self.options.owner.policy(wanted)
    }

    fn look_at_arrivals(&mut self) {
        for mut arrival in std::mem::take(&mut self.arrivals) {
            match arrival.look() {
                Look::Wait => self.arrivals.push(arrival),
                Look::Never(why) => self.note(Some(&arrival.container), Event::Refused(&why)),
                Look::Lives(place, mounts) => self.take_over(arrival, place, mounts),
            }
        }
    }

    /// Gives the listener to the supervisor of its container: that with the same id which lives in the same place.
    fn take_over(&mut self, arrival: Arrival, place: Place, mounts: process::Mounts) {
        let same = |charge: &&mut Charge| charge.container.id == arrival.container.id && charge.mounts == mounts;
        if let Some(charge) = self.charges.iter_mut().find(same) {
            if let Err(failure) = charge.take(arrival.listener) {
                self.note(Some(&arrival.container), Event::Refused(&failure.to_string()));
            }
            return;
        }
        let container = arrival.container.clone();
        if self.charges.len() >= self.options.most {
            let why = format!("{} containers are supervised already; raise it with --max", self.charges.len());
            return self.note(Some(&container), Event::Refused(&why));
        }
        let policy = arrival.policy.name.clone();
        // What is held back from us is not held back from the supervisor.
        let held = SigSet::thread_get_mask().unwrap_or(SigSet::empty());
        let _ = SigSet::empty().thread_set_mask();
        let charge = Charge::begin(arrival, place, mounts, self.log.calls());
        let _ = held.thread_set_mask();
        match charge {
            Ok(charge) => {
                self.charges.push(charge);
                self.note(Some(&container), Event::Accepted(&policy));
            }
            Err(failure) => self.note(Some(&container), Event::Refused(&failure.to_string())),
        }
    }

    fn hear_supervisors(&mut self, rung: &[bool]) {
        for (mut charge, rung) in std::mem::take(&mut self.charges).into_iter().zip(rung.chunks_exact(3)) {
            match charge.hear([rung[0], rung[1], rung[2]]) {
                Heard::Nothing => self.charges.push(charge),
                Heard::End => self.note(Some(&charge.container), Event::Ended),
                Heard::Failed(why) => self.note(Some(&charge.container), Event::Refused(&why)),
            }
        }
    }
}
