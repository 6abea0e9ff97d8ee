//! ptrace(2): the platform for where no listener can be had, such as below another sandbox that has one.
//!
//! The guest's filter asks a tracer (`SECCOMP_RET_TRACE`), and one thread of the supervisor traces every thread of the guest. It
//! answers what is quick itself; what may wait goes to other threads, which only read and write memory, and comes back to it. An
//! answer is written into the stopped thread's registers, and the call is not made. What was refused or allowed by the filter
//! itself never stops, so ring 1 is the same as with a listener; and a call of a guest that is traced by nobody fails (`ENOSYS`).
//!
//! Only registers of the guest are rewritten, never memory that decides something: other threads could change it meanwhile.
//! [`inject`] is how a descriptor is given.

mod inject;
mod quick;
mod registers;
#[allow(unsafe_code)]
mod sys;
mod tracer;
mod workers;

use std::collections::HashSet;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use nix::libc;
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use shim::failure::{Failure, Step};
use syscalls::reply::Response;

use super::{Notification, Platform};
use crate::entry::Entry;
use crate::supervise::{Shared, receive};
use crate::task::Task;
use workers::{Done, Workers};

pub use inject::INJECTED;

/// What the threads of this platform share.
pub struct Ptrace {
    /// The guest's first process, and where it waits for being traced.
    first: i32,
    channel: OwnedFd,
    /// The call that the tracer answers itself at the moment.
    current: AtomicU64,
    /// Calls that others answer.
    out: Mutex<HashSet<u64>>,
    done: Mutex<Vec<Done>>,
    bell: EventFd,
    signals: SignalFd,
    workers: Workers,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Ptrace {
    fn new(first: i32, channel: OwnedFd) -> Result<Self, Errno> {
        // The kernel tells of stops by SIGCHLD as well, which must wake nobody who waits for something else. Threads that are
        // made later block it too.
        let mut set = SigSet::empty();
        set.add(Signal::SIGCHLD);
        set.thread_block()?;
        Ok(Self {
            first,
            channel,
            current: AtomicU64::new(0),
            out: Mutex::default(),
            done: Mutex::default(),
            bell: EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?,
            signals: SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?,
            workers: Workers::default(),
        })
    }

    /// Takes what a worker has answered, for the tracer to tell.
    fn done(&self, done: Done) {
        locked(&self.done).push(done);
        // It cannot be full: it is emptied by whoever takes the answers.
        let _ = self.bell.write(1);
    }
}

/// What is to be answered to a call, by its handler.
fn answer(shared: &Shared<Ptrace>, task: &Task<Ptrace>, notification: &Notification) -> Response {
    let Ok(number) = usize::try_from(notification.number) else { return Response::Fail(Errno::ENOSYS) };
    let answer = || shared.dispatch.answer(task, number, notification.registers);
    task.in_its_root(answer).unwrap_or_else(Response::Fail)
}

impl Platform for Ptrace {
    const TRACES: bool = true;
    // The file, and the socket that it comes by.
    const FREE_NUMBERS: u64 = 2;

    fn receive_guest(channel: OwnedFd, proc: BorrowedFd) -> Result<Option<Self>, Failure> {
        let step = || "find the guest's process";
        let Some(pidfd) = receive(&channel, *shim::exec::TRACE_ME, step)? else { return Ok(None) };
        let first = process_of(&pidfd, proc).step(step)?;
        Self::new(first, channel).step(|| "get ready to trace the guest").map(Some)
    }

    fn serve(shared: Arc<Shared<Self>>, _init: i32) -> Result<(), Failure> {
        tracer::start(shared).step(|| "start the thread that traces the guest")
    }

    fn valid(&self, id: u64) -> bool {
        // A thread's id belongs to it until the tracer has taken notice of its end, and then its calls are no longer among these.
        self.current.load(Ordering::Relaxed) == id || locked(&self.out).contains(&id)
    }
}

/// The process behind a pidfd, as the supervisor's pid namespace numbers it: see proc_pid_fdinfo(5).
fn process_of(pidfd: &OwnedFd, proc: BorrowedFd) -> Result<i32, Errno> {
    let name = Entry::new(format_args!("self/fdinfo/{}", pidfd.as_raw_fd()))?;
    let file = shim::sys::open_at(Some(proc.as_fd()), name.name()?, libc::O_RDONLY | libc::O_CLOEXEC, 0, 0)?;
    let mut text = [0; 512];
    let length = nix::unistd::read(&file, &mut text)?;
    let text = String::from_utf8_lossy(&text[..length]);
    let pid = text.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok());
    pid.filter(|pid| *pid > 0).ok_or(Errno::ESRCH)
}
