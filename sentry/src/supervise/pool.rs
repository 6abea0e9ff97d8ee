//! The threads that answer: leader and followers.
//!
//! One thread, the leader, waits for calls and answers them itself, so that nobody has to be woken. Before it does
//! something that may sleep in the kernel ([`Guest::may_wait`](syscalls::guest::Guest::may_wait)) it hands the lead to a
//! follower. Several threads waiting in the kernel at once would
//! all wake for every call (measured: 3.95 wake-ups a call with four of them).

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::sys::stat::{Mode, umask};
use syscalls::dispatch::Handler;
use syscalls::guest::Guest;
use syscalls::reply::{Reply, Response};

use super::Shared;
use super::pace::Pace;
use super::tracer::Source;
use super::untold::{Begin, Call, Caller, Kept, Untold};
use crate::platform::{Listener, Notification};
use crate::task::Task;

/// Threads at most: a call beyond that waits until one is free, and the leader never is.
pub const THREADS: usize = 64;
// Calls that wait for another program, or stand in line for that, never take all of them: some are left for every other.
const _: () = assert!(THREADS > syscalls::waits::MOST + syscalls::waits::IN_LINE + SPARE);
/// How often, and how long each time, the leader waits for one of the others to come back: they are on their way, but for
/// those who wait for another program, who are never all of them.
const PATIENCE: (u32, Duration) = (200, Duration::from_millis(1));
/// Followers that stay for the next slow call.
pub const SPARE: usize = 2;

/// Whether an answer was heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Heard,
    /// A signal came at the same moment.
    Perhaps,
    Unheard,
}

/// The pool's shared state.
pub struct Pool<P> {
    shared: Arc<Shared<P>>,
    lead: Mutex<()>,
    threads: AtomicUsize,
    waiting: AtomicUsize,
    pace: Pace,
}

impl<P: Listener> Pool<P> {
    /// Starts with a single thread.
    pub fn start(shared: Arc<Shared<P>>) -> Result<Arc<Self>, Errno> {
        let pool = Arc::new(Self {
            shared,
            lead: Mutex::new(()),
            threads: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            pace: Pace::default(),
        });
        pool.grow().map(|()| pool)
    }

    fn grow(self: &Arc<Self>) -> Result<(), Errno> {
        let pool = Arc::clone(self);
        self.threads.fetch_add(1, Ordering::SeqCst);
        let builder = thread::Builder::new().stack_size(256 * 1024);
        match builder.spawn(move || pool.serve()) {
            Ok(_) => Ok(()),
            Err(error) => {
                self.threads.fetch_sub(1, Ordering::SeqCst);
                Err(Errno::from_raw(error.raw_os_error().unwrap_or(libc::EAGAIN)))
            }
        }
    }

    /// The life of one thread.
    fn serve(self: &Arc<Self>) {
        // A root, working directory and mask of its own: handlers change directory and rely on an empty mask.
        if shim::sys::unshare(libc::CLONE_FS).is_err() {
            // Another thread has let go of the lead already, for this one.
            self.shared.fail();
        }
        umask(Mode::empty());
        loop {
            self.waiting.fetch_add(1, Ordering::SeqCst);
            let lead = Cell::new(Some(self.lead.lock().unwrap_or_else(PoisonError::into_inner)));
            self.waiting.fetch_sub(1, Ordering::SeqCst);
            let leads = Cell::new(true);
            let hand_over = || {
                if leads.get() && self.somebody_follows() {
                    leads.set(false);
                    drop(lead.take());
                }
                !leads.get()
            };
            while leads.get() {
                let Some(notification) = self.next() else { return };
                if matches!(self.handler(notification), Some(Handler::EmulateSlow(_))) {
                    let _ = hand_over();
                }
                self.answer(notification, &Task::new(notification, &self.shared).led(&hand_over));
            }
            if self.waiting.load(Ordering::SeqCst) > SPARE {
                self.threads.fetch_sub(1, Ordering::SeqCst);
                return;
            }
        }
    }

    /// Whether there is a thread, perhaps a new one, that takes the lead when it is let go. If not it must be kept: the
    /// user's limit on processes may leave us no thread but the one that leads.
    fn somebody_follows(self: &Arc<Self>) -> bool {
        for _ in 0..PATIENCE.0 {
            // Only whoever leads takes from those who wait for the lead, so none of these is promised to another.
            if self.waiting.load(Ordering::SeqCst) > 0 {
                return true;
            }
            let threads = self.threads.load(Ordering::SeqCst);
            if threads < THREADS && self.grow().is_ok() {
                return true;
            }
            // Alone, and no other thread to be had.
            if threads == 1 {
                return false;
            }
            // On a busy machine many have answered and not come back yet: the call that was answered runs first.
            thread::sleep(PATIENCE.1);
        }
        false
    }

    /// The next call. `None`: nobody is left who could make one.
    fn next(&self) -> Option<Notification> {
        match self.shared.platform.receive() {
            Ok(notification) => notification,
            Err(errno) => {
                tracing::error!(%errno, "the listener failed");
                self.shared.fail()
            }
        }
    }

    fn handler(&self, notification: Notification) -> Option<Handler> {
        self.shared.dispatch.handler(usize::try_from(notification.number).ok()?)
    }

    fn respond(&self, notification: Notification, response: Response, task: &Task<P>) -> Result<(), Errno> {
        let respond = |response| self.shared.platform.respond(notification.id, response);
        if !matches!(response, Response::Reply(Reply::Inject { .. })) {
            return respond(response);
        }
        if self.pace.is_slow() {
            let _ = task.may_wait();
            return respond(response);
        }
        let start = Instant::now();
        let result = respond(response);
        self.pace.took(start.elapsed());
        result
    }

    fn answer(&self, notification: Notification, task: &Task<P>) {
        match self.shared.untold.as_ref().filter(|untold| untold.is_about(notification.number)) {
            Some(untold) => self.answer_once(untold, notification, task),
            None => self.give(notification, self.response(notification, task), task),
        }
    }

    /// What is to be answered.
    fn response(&self, notification: Notification, task: &Task<P>) -> Response {
        match usize::try_from(notification.number) {
            Ok(number) => {
                let answer = || self.shared.dispatch.answer(task, number, notification.registers);
                task.in_its_root(answer).unwrap_or_else(Response::Fail)
            }
            Err(_) => Response::Fail(Errno::ENOSYS),
        }
    }

    /// Answers a call that must not be done twice, even if its caller was gone and comes again.
    fn answer_once(&self, untold: &Untold, notification: Notification, task: &Task<P>) {
        let number = usize::try_from(notification.number).unwrap_or(usize::MAX);
        let call = Call::of(&notification, self.shared.dispatch.arguments(number));
        match untold.begin(notification.tid, &call, task) {
            Begin::Gone => untold.saw_interruption(),
            Begin::Done(value) => match self.tell(untold, notification, value, task) {
                Told::Heard => untold.end(notification.tid, None),
                Told::Perhaps => untold.gave_again(notification.tid),
                Told::Unheard => {}
            },
            Begin::Do => {
                let began = task.began();
                task.keep_what_is_read();
                let response = self.response(notification, task);
                let Response::Reply(Reply::Return(value)) = response else {
                    // Nothing was done.
                    self.give(notification, response, task);
                    return untold.end(notification.tid, None);
                };
                let told = self.tell(untold, notification, value, task);
                let reads = untold.meant(notification.number, task.what_was_read());
                let kept = began.map(|began| Kept { call, reads, began, value, until: None });
                let kept = match told {
                    Told::Heard => None,
                    Told::Perhaps => kept.map(Kept::perhaps),
                    Told::Unheard => kept,
                };
                untold.end(notification.tid, kept);
            }
        }
    }

    /// Gives an answer, and finds out whether it was heard.
    fn tell(&self, untold: &Untold, notification: Notification, value: i64, task: &Task<P>) -> Told {
        let called_away = task.is_called_away();
        match self.respond(notification, Response::Reply(Reply::Return(value)), task) {
            Err(Errno::ENOENT) => {
                untold.saw_interruption();
                Told::Unheard
            }
            _ if called_away || untold.is_restless() || task.is_called_away() => Told::Perhaps,
            _ => Told::Heard,
        }
    }

    fn give(&self, notification: Notification, response: Response, task: &Task<P>) {
        if let (Response::Continue(_), Some(clock)) = (&response, &self.shared.clock)
            && let Some(wish) = task.wish()
        {
            let source: Arc<dyn Source> = Arc::clone(&self.shared) as _;
            clock.tracer.hand_in(source, notification, response, wish);
            return;
        }
        // ENOENT: the caller was killed meanwhile; there is nobody to tell.
        match self.respond(notification, response, task) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => {
                tracing::error!(%errno, "an answer was refused");
                if self.shared.platform.respond(notification.id, Response::Fail(Errno::EIO)).is_err() {
                    self.shared.fail();
                }
            }
        }
    }
}
