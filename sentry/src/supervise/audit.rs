//! Decisions on their way from the handlers to the monitor, which writes the log: the sandbox has no hand in it.
//!
//! Every decision of a run is wanted, so a handler that finds the queue full waits for the main thread for a moment; what
//! cannot be told even then is counted, and the number is the last line of the log.

use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use crossbeam::queue::SegQueue;
use nix::sys::eventfd::{EfdFlags, EventFd};
use shim::message::{ToMonitor, send};
use syscalls::guest::Decision;

/// Decisions waiting for the main thread.
const QUEUE: usize = 4096;
/// How often, and how long each time, a handler waits for room.
const PATIENCE: (u32, Duration) = (100, Duration::from_millis(1));

/// One decision, as it was made.
#[derive(Debug)]
struct Made {
    ids: (i32, i32),
    at: Duration,
    decision: Decision,
}

/// The queue. It takes memory when there is something in it: most runs have no log, and each would pay for the room.
#[derive(Debug)]
pub struct Audit {
    queue: SegQueue<Made>,
    dropped: AtomicU64,
    bell: EventFd,
}

impl Audit {
    /// An empty queue.
    pub fn new() -> Result<Self, nix::errno::Errno> {
        let bell = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        Ok(Self { queue: SegQueue::new(), dropped: AtomicU64::new(0), bell })
    }

    /// Notes what was decided about a call of this process and thread, as the guest numbers them.
    pub fn record(&self, ids: (i32, i32), decision: Decision) {
        let at = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        for _ in 0..PATIENCE.0 {
            // Several threads may see the last free place; there are few of them.
            if self.queue.len() < QUEUE {
                self.queue.push(Made { ids, at, decision });
                let _ = self.bell.write(1);
                return;
            }
            std::thread::sleep(PATIENCE.1);
        }
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    /// Readable when something was noted.
    pub fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    /// Tells the monitor what has been noted.
    pub fn drain(&self, monitor: BorrowedFd) {
        let _ = self.bell.read();
        while let Some(Made { ids, at, decision }) = self.queue.pop() {
            let message = ToMonitor::Decided {
                seconds: at.as_secs(),
                nanoseconds: at.subsec_nanos(),
                pid: ids.0,
                tid: ids.1,
                call: decision.call.to_owned(),
                path: decision.path.as_os_str().as_bytes().to_vec(),
                rule: decision.rule,
                errno: decision.refused.map(|errno| errno as i32),
            };
            if send(monitor, &message, None).is_err() {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// The last word: how many could not be told.
    pub fn finish(&self, monitor: BorrowedFd) {
        self.drain(monitor);
        let dropped = self.dropped.load(Ordering::Relaxed);
        if dropped > 0 {
            let _ = send(monitor, &ToMonitor::DecisionsDropped(dropped), None);
        }
    }
}
