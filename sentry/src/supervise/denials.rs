//! Refusals on their way from the handlers to the monitor.
//!
//! A guest can be refused millions of times a second. Handlers therefore only push onto a bounded queue and count what
//! does not fit; the main thread folds equal ones together and tells each kind once.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam::queue::SegQueue;
use hashbrown::HashSet;
use nix::sys::eventfd::{EfdFlags, EventFd};
use shim::message::{ToMonitor, send};
use syscalls::guest::Denial;

/// Refusals waiting for the main thread: more than can be made while it rests.
const QUEUE: usize = 4096;
/// Different refusals told in one run.
const KINDS: usize = 1000;
/// After how long a refusal of a container is told again.
const AGAIN: Duration = Duration::from_secs(60);
/// The longest text of one refusal, in bytes.
const TEXT: usize = 4096;

/// Who made a call of a container, and when.
#[derive(Clone, Debug, Default)]
pub struct By {
    /// Process and thread, as the container numbers them.
    pub ids: (i32, i32),
    /// The thread's name.
    pub name: String,
    /// Since the epoch.
    pub at: Duration,
}

/// What a handler has to tell.
#[derive(Debug)]
struct Noted {
    denial: Denial,
    /// It was done, not refused.
    done: bool,
    /// Of containers.
    by: Option<By>,
}

/// The handlers' end.
#[derive(Debug)]
pub struct Denials {
    /// Takes memory only when there is something in it. Threads that push at the same moment may exceed its bound by one each.
    queue: SegQueue<Noted>,
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
    pub fn record(&self, denial: Denial) {
        self.total.fetch_add(1, Ordering::Relaxed);
        self.push(denial, false, None);
    }

    /// Notes what became of a call of a container; never waits. `by` is asked only while there is room.
    pub fn record_of(&self, denial: Denial, done: bool, by: impl FnOnce() -> By) {
        self.total.fetch_add(u64::from(!done), Ordering::Relaxed);
        let by = if self.queue.len() < QUEUE { by() } else { By::default() };
        self.push(denial, done, Some(by));
    }

    fn push(&self, mut denial: Denial, done: bool, by: Option<By>) {
        if denial.what.len() > TEXT {
            let cut = (0..=TEXT).rev().find(|&at| denial.what.is_char_boundary(at)).unwrap_or(0);
            denial.what.truncate(cut);
        }
        if self.queue.len() >= QUEUE {
            self.overflow.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.queue.push(Noted { denial, done, by });
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
    /// Of a container, which may run for years, each kind is told again after a while.
    since: Option<Instant>,
    dropped: u64,
}

impl Told {
    /// Empties the queue and tells the monitor what it has not heard yet.
    pub fn drain(&mut self, denials: &Denials, monitor: BorrowedFd) {
        let _ = denials.bell.read();
        // Before the queue is emptied: what is pushed from here on rings anew.
        denials.rung.store(false, Ordering::SeqCst);
        while let Some(Noted { denial, done, by }) = denials.queue.pop() {
            if by.is_some() && self.since.is_none_or(|since| since.elapsed() > AGAIN) {
                self.kinds.clear();
                self.since = Some(Instant::now());
            }
            if self.kinds.contains(&denial) {
                continue;
            }
            if self.kinds.len() >= KINDS {
                self.dropped += 1;
                continue;
            }
            let (call, what) = (denial.call.to_owned(), denial.what.clone());
            let remedy = denial.remedy.clone().into_owned();
            let message = match by {
                None => ToMonitor::Denied { call, what, remedy },
                Some(By { ids: (pid, tid), name, at }) => ToMonitor::Audited {
                    seconds: at.as_secs(),
                    nanoseconds: at.subsec_nanos(),
                    pid,
                    tid,
                    comm: name,
                    call,
                    what,
                    remedy: (!done).then_some(remedy),
                },
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
    fn the_bell_rings_once_until_the_queue_was_emptied() {
        let (denials, mut told) = (Denials::new().unwrap(), Told::default());
        let (monitor, _other) = std::os::unix::net::UnixDatagram::pair().unwrap();
        let refuse = || denials.record(Denial { call: "mount", what: "/".to_owned(), remedy: "none".into() });
        for _ in 0..2 {
            refuse();
            refuse();
            assert_eq!(denials.bell.read(), Ok(1));
            told.drain(&denials, monitor.as_fd());
            assert!(denials.bell.read().is_err());
        }
        assert_eq!(told.dropped, 0);
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let denials = Denials::new().unwrap();
        denials.record(Denial { call: "open", what: "ä".repeat(TEXT), remedy: "none".into() });
        assert_eq!(denials.queue.pop().unwrap().denial.what.len(), TEXT);
    }
}
