//! Refusals on their way from the handlers to the monitor.
//!
//! A guest can be refused millions of times a second. Handlers therefore only push onto a bounded queue and count what
//! does not fit; the main thread folds equal ones together and tells each kind once.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crossbeam::queue::SegQueue;
use hashbrown::HashSet;
use nix::sys::eventfd::{EfdFlags, EventFd};
use shim::message::{ToMonitor, send};
use syscalls::guest::Denial;

/// Refusals waiting for the main thread: more than can be made while it rests.
const QUEUE: usize = 4096;
/// Different refusals told in one run.
const KINDS: usize = 1000;
/// The longest text of one refusal, in bytes.
const TEXT: usize = 4096;

/// The handlers' end.
#[derive(Debug)]
pub struct Denials {
    /// Takes memory only when there is something in it. Threads that push at the same moment may exceed its bound by one each.
    queue: SegQueue<Denial>,
    total: AtomicU64,
    overflow: AtomicU64,
    bell: EventFd,
    /// Whether the bell has been rung since the queue was last emptied.
    rung: AtomicBool,
}

impl Denials {
    /// An empty queue.
    pub fn new() -> Result<Self, nix::errno::Errno> {
        Ok(Self {
            queue: SegQueue::new(),
            total: AtomicU64::new(0),
            overflow: AtomicU64::new(0),
            bell: EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?,
            rung: AtomicBool::new(false),
        })
    }

    /// Notes a refusal; never waits.
    pub fn record(&self, mut denial: Denial) {
        self.total.fetch_add(1, Ordering::Relaxed);
        if denial.what.len() > TEXT {
            let cut = (0..=TEXT).rev().find(|&at| denial.what.is_char_boundary(at)).unwrap_or(0);
            denial.what.truncate(cut);
        }
        if self.queue.len() >= QUEUE {
            self.overflow.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.queue.push(denial);
        if !self.rung.swap(true, Ordering::SeqCst) {
            let _ = self.bell.write(1);
        }
    }

    /// Readable when something was recorded.
    pub fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}

/// The main thread's end.
#[derive(Debug, Default)]
pub struct Told {
    kinds: HashSet<Denial>,
    dropped: u64,
}

impl Told {
    /// Empties the queue and tells the monitor what it has not heard yet.
    pub fn drain(&mut self, denials: &Denials, monitor: BorrowedFd) {
        let _ = denials.bell.read();
        // Before the queue is emptied: what is pushed from here on rings anew.
        denials.rung.store(false, Ordering::SeqCst);
        while let Some(denial) = denials.queue.pop() {
            if self.kinds.contains(&denial) {
                continue;
            }
            if self.kinds.len() >= KINDS {
                self.dropped += 1;
                continue;
            }
            let message = ToMonitor::Denied {
                call: denial.call.to_owned(),
                what: denial.what.clone(),
                remedy: denial.remedy.clone().into_owned(),
            };
            if send(monitor, &message, None).is_err() {
                self.dropped += 1;
            }
            self.kinds.insert(denial);
        }
    }

    /// The last word: how many there were.
    pub fn finish(&mut self, denials: &Denials, monitor: BorrowedFd) {
        self.drain(denials, monitor);
        let total = denials.total.load(Ordering::Relaxed);
        if total > 0 {
            let dropped = self.dropped + denials.overflow.load(Ordering::Relaxed);
            let _ = send(monitor, &ToMonitor::DenialCount { total, dropped }, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_and_bounded() {
        let denials = Denials::new().unwrap();
        for number in 0..10_000 {
            denials.record(Denial { call: "mount", what: format!("{number}"), remedy: "none".into() });
        }
        assert_eq!(denials.queue.len(), QUEUE);
        assert_eq!(denials.overflow.load(Ordering::Relaxed), 10_000 - QUEUE as u64);
        assert_eq!(denials.total.load(Ordering::Relaxed), 10_000);
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let denials = Denials::new().unwrap();
        denials.record(Denial { call: "open", what: "ä".repeat(TEXT), remedy: "none".into() });
        assert_eq!(denials.queue.pop().unwrap().what.len(), TEXT);
    }
}
