//! Stops programs at their exec, to patch their vDSO, and lets them go.
//!
//! One thread does it for all, so that no number of programs that begin at once can take the threads that answer. While
//! the caller of `execve` still waits for its answer it is seized (ptrace(2)) and asked to stop; then the call goes on. If
//! the exec succeeds, the stop is the one before the new program's first instruction; if it fails, the one at the return to
//! the old program. Either way the caller is let go at once. The same stop gives back memory that was changed for the time
//! of another call ([`Around::Change`]).
//!
//! A program that a debugger of the guest traces cannot be seized. Its new vDSO is made to read the clock by system call when
//! its C library sets up the first thread, which is a call that comes to us; for programs without one it is looked for a
//! while in their memory.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::time::TimeSpec;
use shim::vdso::trace::{self, Event};
use syscalls::guest::Around;
use syscalls::reply::Response;

use super::clock::Clock;
use super::{Shared, World};
use crate::platform::{Listener, Notification};

/// How long the new vDSO of a program is looked for that cannot be stopped.
const PATIENCE: Duration = Duration::from_secs(1);
/// Between two such looks.
const PAUSE: Duration = Duration::from_micros(500);

/// Whom a call is answered through.
pub trait Source: Send + Sync {
    /// Whether the call is still pending.
    fn valid(&self, id: u64) -> bool;

    /// Answers it, as [`Listener::respond`].
    fn respond(&self, id: u64, response: Response) -> Result<(), Errno>;
}

impl<P: Listener> Source for Shared<P> {
    fn valid(&self, id: u64) -> bool {
        Listener::valid(&self.platform, id)
    }

    fn respond(&self, id: u64, response: Response) -> Result<(), Errno> {
        self.platform.respond(id, response)
    }
}

/// A call that is to go on under the tracer's eyes.
struct Errand {
    source: Arc<dyn Source>,
    notification: Notification,
    response: Response,
    wish: Around,
}

/// Where such calls are handed in.
pub struct Tracer {
    queue: Mutex<Vec<Errand>>,
    late: Mutex<Vec<Late>>,
    bell: EventFd,
    signals: SignalFd,
}

impl Tracer {
    /// Makes the queue. From here on this thread and those it makes are not interrupted by `SIGCHLD`, by which the kernel
    /// tells of stops.
    pub fn new() -> Result<Self, Errno> {
        let mut set = SigSet::empty();
        set.add(Signal::SIGCHLD);
        set.thread_block()?;
        Ok(Self {
            queue: Mutex::default(),
            late: Mutex::default(),
            bell: EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?,
            signals: SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?,
        })
    }

    /// Hands a call in: it is answered with `response` when its wish has been prepared.
    pub fn hand_in(&self, source: Arc<dyn Source>, notification: Notification, response: Response, wish: Around) {
        let errand = Errand { source, notification, response, wish };
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).push(errand);
        // It cannot be full: it is emptied by whoever takes the queue.
        let _ = self.bell.write(1);
    }
}

impl Tracer {
    fn late(&self) -> MutexGuard<'_, Vec<Late>> {
        self.late.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The new program of a process goes about its first business: nothing has read the clock yet, so this is the time for
    /// one that could not be stopped before.
    pub fn settle(&self, clock: &Clock, proc: BorrowedFd, process: i32) {
        let mut late = self.late();
        if late.iter().any(|late| late.process == process) && clock.make_plain(proc, process, true) == Ok(true) {
            late.retain(|late| late.process != process);
        }
    }
}

/// A program whose exec could not be followed.
struct Late {
    process: i32,
    until: Instant,
}

/// The thread's own.
struct Rounds<'a> {
    world: &'a World,
    clock: &'a Clock,
    init: Option<i32>,
    /// What is to be given back at the stop of a thread.
    traced: HashMap<i32, Around>,
}

/// Starts the tracer's thread. `init` traces the first program; of a container nobody does.
pub fn start(world: Arc<World>, init: Option<i32>) -> Result<(), Errno> {
    let run = move || {
        let Some(clock) = &world.clock else { return };
        let mut rounds = Rounds { world: &world, clock, init, traced: HashMap::new() };
        loop {
            if rounds.round().is_err() {
                world.fail();
            }
        }
    };
    let thread = std::thread::Builder::new().stack_size(256 * 1024).spawn(run);
    thread.map(drop).map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EAGAIN)))
}

impl Rounds<'_> {
    fn proc(&self) -> BorrowedFd<'_> {
        self.world.proc.as_fd()
    }

    /// Waits for something to happen, and deals with all that has.
    fn round(&mut self) -> Result<(), Errno> {
        let tracer = &self.clock.tracer;
        let mut waiting = [
            PollFd::new(tracer.bell.as_fd(), PollFlags::POLLIN),
            PollFd::new(tracer.signals.as_fd(), PollFlags::POLLIN),
        ];
        let pause = (!tracer.late().is_empty()).then(|| TimeSpec::from(PAUSE));
        match ppoll(&mut waiting, pause, None) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
        // Emptied before anything is looked for, so that what comes meanwhile wakes us again.
        while let Ok(Some(_)) = tracer.signals.read_signal() {}
        let _ = tracer.bell.read();
        let errands = std::mem::take(&mut *tracer.queue.lock().unwrap_or_else(PoisonError::into_inner));
        for errand in errands {
            self.begin(errand);
        }
        while let Ok(Some((tid, event))) = trace::next_event() {
            self.stopped(tid, event);
        }
        self.look_for_late_ones();
        Ok(())
    }

    /// Seizes the caller and lets its call go on.
    fn begin(&mut self, errand: Errand) {
        let Errand { source, notification, response, wish } = errand;
        let tid = notification.tid;
        match trace::seize(tid) {
            Ok(()) => {
                if let Around::Change { at, to, .. } = &wish {
                    // Now the thread id cannot be given to another any more.
                    if source.valid(notification.id) {
                        let _ = write(tid, at.0, to);
                    }
                }
                let _ = trace::interrupt(tid);
                self.traced.insert(tid, wish);
            }
            Err(Errno::EPERM) if wish == Around::Exec => self.expect_late(tid),
            // It is gone, or it is traced by a debugger and its timer goes by the host's clock.
            Err(_) => {}
        }
        match source.respond(notification.id, response) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(_) => self.world.fail(),
        }
    }

    fn stopped(&mut self, tid: i32, event: Event) {
        match event {
            Event::Exec(former) => {
                self.traced.remove(&former);
                self.traced.remove(&tid);
                self.clock.patch_new_program(self.proc(), tid);
                let _ = trace::release(tid, 0);
            }
            Event::Stopped(signal) => {
                if let Some(Around::Change { at, from, .. }) = self.traced.remove(&tid) {
                    let _ = write(tid, at.0, &from);
                }
                let _ = trace::release(tid, signal);
            }
            Event::Ended => {
                self.traced.remove(&tid);
            }
        }
    }

    fn expect_late(&mut self, tid: i32) {
        if self.clock.patch().is_none() {
            return;
        }
        let Some((process, tracer)) = self.process_and_tracer(tid) else { return };
        // The first program is patched by init.
        if Some(tracer) != self.init {
            self.clock.tracer.late().push(Late { process, until: Instant::now() + PATIENCE });
        }
    }

    fn look_for_late_ones(&mut self) {
        let (clock, proc) = (self.clock, self.world.proc.as_fd());
        clock.tracer.late().retain(|late| match clock.make_plain(proc, late.process, true) {
            Ok(true) | Err(Errno::ENOENT | Errno::ESRCH) => false,
            _ => Instant::now() < late.until,
        });
    }

    /// The process of a thread, and who traces it, proc_pid_status(5).
    fn process_and_tracer(&self, tid: i32) -> Option<(i32, i32)> {
        let name = crate::entry::Entry::new(format_args!("{tid}/status")).ok()?;
        let file = shim::sys::open_at(Some(self.proc()), name.name().ok()?, libc::O_RDONLY | libc::O_CLOEXEC, 0, 0);
        let mut text = vec![0; 1024];
        let length = nix::unistd::read(&file.ok()?, &mut text).ok()?;
        let text = String::from_utf8_lossy(text.get(..length)?);
        let number = |key| text.lines().find_map(|line| line.strip_prefix(key)?.trim().parse().ok());
        Some((number("Tgid:")?, number("TracerPid:")?))
    }
}

/// Writes to memory that the thread itself may write to.
fn write(tid: i32, at: u64, bytes: &[u8]) -> Result<(), Errno> {
    let base = usize::try_from(at).map_err(|_| Errno::EFAULT)?;
    let remote = [nix::sys::uio::RemoteIoVec { base, len: bytes.len() }];
    nix::sys::uio::process_vm_writev(nix::unistd::Pid::from_raw(tid), &[std::io::IoSlice::new(bytes)], &remote)
        .map(drop)
}
