//! The thread that traces the guest: it takes every stop, answers quick calls, and tells all answers.
//!
//! While no call is out at a worker it sleeps in waitpid(2), so that a stop wakes it at once; otherwise it also has to hear of
//! answers, and waits for both. Signals, stops of job control and the births of threads are passed on as they are.

use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::uio::{RemoteIoVec, process_vm_writev};
use nix::unistd::{Pid, read, write};
use syscalls::abi::Arch;
use syscalls::guest::Around;
use syscalls::reply::{Reply, Response};
use syscalls::table::Verdict;

use super::inject::{self, Injection};
use super::quick::Quick;
use super::registers::{Call, Registers};
use super::sys::{self, Stop};
use super::workers::{Done, be_independent};
use super::{Ptrace, answer, locked};
use crate::platform::Notification;
use crate::supervise::Shared;
use crate::task::Task;

/// A call that a worker answers.
struct Out {
    id: u64,
    registers: Registers,
}

/// Memory that is given back when a call ends.
struct Borrowed {
    at: u64,
    bytes: Vec<u8>,
}

/// The thread's own.
pub(super) struct Tracer {
    shared: Arc<Shared<Ptrace>>,
    quick: Quick,
    /// Until the first program begins.
    init: Option<OwnedFd>,
    last_id: u64,
    out: HashMap<i32, Out>,
    borrowed: HashMap<i32, Borrowed>,
    /// Stops that were seen while another thread's were waited for.
    seen: VecDeque<(i32, Stop)>,
}

/// Begins to trace the guest's first process, which waits for that.
pub fn start(shared: Arc<Shared<Ptrace>>) -> Result<(), Errno> {
    let channel = shared.platform.channel.try_clone().map_err(|_| Errno::EMFILE)?;
    let run = move || {
        be_independent(&shared);
        let errno = sys::seize(shared.platform.first).map_or_else(|errno| errno as i32, |()| 0);
        if write(&channel, &errno.to_ne_bytes()).is_err() || errno != 0 {
            // The guest's process has told the monitor, or is gone.
            return;
        }
        let tracer = Tracer {
            quick: Quick::new(&shared.dispatch, Arch::native()),
            shared,
            init: Some(channel),
            last_id: 0,
            out: HashMap::new(),
            borrowed: HashMap::new(),
            seen: VecDeque::new(),
        };
        tracer.run();
    };
    let thread = std::thread::Builder::new().stack_size(512 * 1024).spawn(run);
    thread.map(drop).map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(nix::libc::EAGAIN)))
}

impl Tracer {
    fn run(mut self) {
        loop {
            match self.next() {
                Ok(Some((tid, stop))) => self.stopped(tid, stop),
                // Nobody is left.
                Ok(None) => return,
                Err(errno) => {
                    tracing::error!(%errno, "the guest cannot be waited for");
                    self.shared.fail();
                }
            }
        }
    }

    fn next(&mut self) -> Result<Option<(i32, Stop)>, Errno> {
        loop {
            if let Some(seen) = self.seen.pop_front() {
                return Ok(Some(seen));
            }
            match sys::next_stop(self.out.is_empty()) {
                Ok(Some(stop)) => return Ok(Some(stop)),
                Ok(None) => {}
                Err(Errno::EINTR) => continue,
                Err(Errno::ECHILD) => return Ok(None),
                Err(errno) => return Err(errno),
            }
            if !self.take_answers() {
                self.sleep()?;
            }
        }
    }

    /// The next stop, while it is waited for what becomes of `tid`: what others do is put off, but for their ends, after which
    /// their ids may be given to others.
    pub(super) fn next_of(&mut self, tid: i32) -> Result<Stop, Errno> {
        loop {
            match sys::next_stop(true) {
                Ok(Some((of, stop))) if of == tid => return Ok(stop),
                Ok(Some((of, Stop::Ended))) => self.ended(of),
                Ok(Some(other)) => self.seen.push_back(other),
                Ok(None) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }

    /// Sleeps until there is a stop or an answer.
    fn sleep(&self) -> Result<(), Errno> {
        let platform = &self.shared.platform;
        let mut waiting = [
            PollFd::new(platform.bell.as_fd(), PollFlags::POLLIN),
            PollFd::new(platform.signals.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut waiting, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
        // Emptied before anything is looked for, so that what comes meanwhile wakes us again.
        if waiting[0].any() == Some(true) {
            let _ = platform.bell.read();
        }
        if waiting[1].any() == Some(true) {
            while let Ok(Some(_)) = platform.signals.read_signal() {}
        }
        Ok(())
    }

    /// Tells what workers have answered. False if there was nothing.
    fn take_answers(&mut self) -> bool {
        let done = std::mem::take(&mut *locked(&self.shared.platform.done));
        let some = !done.is_empty();
        for Done { id, tid, response, wish } in done {
            // Of a caller that is gone nothing is out any more.
            if self.out.get(&tid).is_some_and(|out| out.id == id)
                && let Some(out) = self.out.remove(&tid)
            {
                locked(&self.shared.platform.out).remove(&id);
                self.tell(tid, &out.registers, response, wish);
            }
        }
        some
    }

    fn stopped(&mut self, tid: i32, stop: Stop) {
        let done = match stop {
            Stop::Ended => {
                self.ended(tid);
                Ok(())
            }
            Stop::Call => self.call(tid),
            Stop::Edge => {
                if let Some(Borrowed { at, bytes }) = self.borrowed.remove(&tid) {
                    let _ = put(tid, at, &bytes);
                }
                sys::resume(tid, 0)
            }
            Stop::Born => sys::resume(tid, 0),
            Stop::Exec => self.new_program(tid),
            Stop::Group(_) => sys::stay_stopped(tid),
            Stop::Signal(signal) => sys::resume(tid, signal),
        };
        self.check(done);
    }

    /// A thread that can be neither answered nor let go would wait for ever.
    fn check(&self, done: Result<(), Errno>) {
        match done {
            // It was killed while it was stopped, and its end will be told.
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(errno) => {
                tracing::error!(%errno, "a traced thread cannot be let go");
                self.shared.fail();
            }
        }
    }

    fn ended(&mut self, tid: i32) {
        self.borrowed.remove(&tid);
        if let Some(out) = self.out.remove(&tid) {
            locked(&self.shared.platform.out).remove(&out.id);
        }
    }

    /// A thread has begun a program. The others of its process are gone, and it has the id of the first of them.
    fn new_program(&mut self, tid: i32) -> Result<(), Errno> {
        if let Ok(former) = sys::message(tid) {
            self.ended(former);
        }
        self.ended(tid);
        if let Some(init) = self.init.take() {
            // Not before init cannot be looked into any more.
            let mut said = [0];
            if read(&init, &mut said) != Ok(1) || said != *shim::exec::OUT_OF_REACH {
                self.shared.fail();
            }
        }
        if let Some(clock) = &self.shared.clock {
            clock.patch_new_program(self.shared.proc.as_fd(), tid);
        }
        sys::resume(tid, 0)
    }

    /// A call that our filter asks about, or another that the guest has put upon itself.
    fn call(&mut self, tid: i32) -> Result<(), Errno> {
        let registers = sys::registers(tid)?;
        let (number, arguments) = (registers.number(), registers.arguments());
        let index = usize::try_from(number).unwrap_or(usize::MAX);
        let response = match self.shared.dispatch.verdict(index, &arguments) {
            Verdict::Notify => {
                self.last_id += 1;
                let notification = Notification {
                    id: self.last_id,
                    tid,
                    number,
                    registers: arguments,
                    instruction_pointer: registers.instruction_pointer(),
                };
                return self.ask(index, notification, registers);
            }
            // One of our tools, which this guest has not.
            Verdict::Fail(errno) => errno,
            // Without a tracer, which a guest's own filter asks for, there is no such call.
            Verdict::Allow | Verdict::Kill => Errno::ENOSYS,
        };
        finish(tid, &registers, -i64::from(response as i32))
    }

    /// Has a call answered, here or by a worker.
    fn ask(&mut self, number: usize, notification: Notification, registers: Registers) -> Result<(), Errno> {
        let shared = Arc::clone(&self.shared);
        let platform = &shared.platform;
        let can_leave = || platform.workers.can_take_one(&shared);
        let quick = self.quick.is(number, &notification.registers);
        if !quick && can_leave() {
            self.send_out(notification, registers);
            return Ok(());
        }
        platform.current.store(notification.id, Ordering::Relaxed);
        // A slow one comes here only if nobody else can be had.
        let never = || false;
        let task = Task::new(notification, &shared).briefly(if quick { &can_leave } else { &never });
        let response = answer(&shared, &task, &notification);
        let is_left = task.is_left();
        platform.current.store(0, Ordering::Relaxed);
        if is_left {
            self.send_out(notification, registers);
            return Ok(());
        }
        self.tell(notification.tid, &registers, response, task.wish());
        Ok(())
    }

    fn send_out(&mut self, notification: Notification, registers: Registers) {
        locked(&self.shared.platform.out).insert(notification.id);
        self.out.insert(notification.tid, Out { id: notification.id, registers });
        self.shared.platform.workers.hand_in(notification);
    }

    /// Tells a caller what is answered. Whatever goes wrong here is an errno for it, never a call that goes on unanswered; one
    /// that is gone is told nothing.
    fn tell(&mut self, tid: i32, registers: &Registers, response: Response, wish: Option<Around>) {
        let done = match response {
            Response::Reply(Reply::Return(value)) => finish(tid, registers, value),
            Response::Fail(errno) => finish(tid, registers, -i64::from(errno as i32)),
            Response::Continue(_) => match wish {
                Some(Around::Change { at, from, to }) => {
                    let _ = put(tid, at.0, &to);
                    self.borrowed.insert(tid, Borrowed { at: at.0, bytes: from });
                    sys::resume_to_edge(tid, 0)
                }
                _ => sys::resume(tid, 0),
            },
            Response::Rewrite(rewritten) => {
                let mut registers = *registers;
                registers.set_arguments(rewritten.registers());
                sys::set_registers(tid, &registers).and_then(|()| sys::resume(tid, 0))
            }
            Response::Reply(Reply::Inject { file, cloexec }) => {
                match inject::give(self, tid, registers, &file, cloexec) {
                    Injection::Told(done) => done,
                    Injection::Interrupted(stop) => {
                        self.stopped(tid, stop);
                        Ok(())
                    }
                }
            }
        };
        self.check(done);
    }
}

/// Answers a call that is not made.
pub(super) fn finish(tid: i32, registers: &Registers, result: i64) -> Result<(), Errno> {
    sys::set_number(tid, -1)?;
    sys::set_registers(tid, &registers.returning(result))?;
    sys::resume(tid, 0)
}

/// Writes to memory that the thread itself may write to.
fn put(tid: i32, at: u64, bytes: &[u8]) -> Result<(), Errno> {
    let base = usize::try_from(at).map_err(|_| Errno::EFAULT)?;
    let remote = [RemoteIoVec { base, len: bytes.len() }];
    process_vm_writev(Pid::from_raw(tid), &[std::io::IoSlice::new(bytes)], &remote).map(drop)
}
