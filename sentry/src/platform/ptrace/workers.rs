//! The threads that answer calls which may wait.
//!
//! ptrace(2) belongs to the thread that attached, so these only read and write memory and use procfs; what they answer goes back
//! to the tracer. There is always one for a call, or the tracer is told that there is none.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use nix::sys::stat::{Mode, umask};
use syscalls::guest::Around;
use syscalls::reply::Response;

use super::{Ptrace, answer};
use crate::platform::Notification;
use crate::supervise::Shared;
use crate::supervise::pool::{SPARE, THREADS};
use crate::task::Task;

/// Calls on their way to a thread.
#[derive(Default)]
pub struct Workers {
    queue: Mutex<Queue>,
    more: Condvar,
}

#[derive(Default)]
struct Queue {
    calls: VecDeque<Notification>,
    threads: usize,
    idle: usize,
}

impl Workers {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes sure that a thread is free for one more call. Only the tracer asks, and only it hands calls in.
    pub fn can_take_one(&self, shared: &Arc<Shared<Ptrace>>) -> bool {
        let mut queue = self.queue();
        if queue.idle > queue.calls.len() {
            return true;
        }
        if queue.threads == THREADS {
            // Of these some are always on their way back (`syscalls::waits`).
            return true;
        }
        let shared = Arc::clone(shared);
        // Counted as idle from now on, so that the call which is handed in next is its own.
        let spawned = std::thread::Builder::new().stack_size(256 * 1024).spawn(move || work(&shared));
        if spawned.is_ok() {
            queue.threads += 1;
            queue.idle += 1;
        }
        spawned.is_ok()
    }

    /// Hands a call in.
    pub fn hand_in(&self, notification: Notification) {
        self.queue().calls.push_back(notification);
        self.more.notify_one();
    }

    /// The next call for a thread that is idle. `None`: there are enough others.
    fn next(&self) -> Option<Notification> {
        let mut queue = self.queue();
        loop {
            if let Some(call) = queue.calls.pop_front() {
                queue.idle -= 1;
                return Some(call);
            }
            if queue.idle > SPARE {
                queue.idle -= 1;
                queue.threads -= 1;
                return None;
            }
            queue = self.more.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn is_idle_again(&self) {
        self.queue().idle += 1;
    }
}

/// Gives this thread a root, working directory and mask of its own: handlers change directory and rely on an empty mask.
pub fn be_independent(shared: &Shared<Ptrace>) {
    if shim::sys::unshare(nix::libc::CLONE_FS).is_err() {
        shared.fail();
    }
    umask(Mode::empty());
}

/// The life of one thread.
fn work(shared: &Arc<Shared<Ptrace>>) {
    be_independent(shared);
    let platform = &shared.platform;
    while let Some(notification) = platform.workers.next() {
        let task = Task::new(notification, shared);
        let response = answer(shared, &task, &notification);
        platform.done(Done { id: notification.id, tid: notification.tid, response, wish: task.wish() });
        platform.workers.is_idle_again();
    }
}

/// A call that was answered.
pub struct Done {
    /// Which.
    pub id: u64,
    /// Whose.
    pub tid: i32,
    /// With what.
    pub response: Response,
    /// What is to be done around it.
    pub wish: Option<Around>,
}
