//! How long the guest takes to accept a descriptor, and what to do where that is long.
//!
//! An answer wakes the guest on the CPU that the answer comes from (`SYNC_WAKE_UP`), but a descriptor does not: for
//! `ADDFD` the kernel wakes the guest as any other sleeper, on an idle CPU if there is one, and lets us sleep until the
//! guest has taken it. Where an idle CPU is slow to wake, as a halted virtual one is, each open costs two such wake-ups
//! (measured: 60 us instead of 5). If the lead is handed on first, the follower is what wakes the idle CPU, the guest
//! goes on here, and the next call finds somebody who listens. That costs two more context switches, so it is done only
//! while it pays: now and then a descriptor goes in without, to see.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// More than an answer on the same CPU ever takes, less than a wake-up of a halted one.
const SLOW: Duration = Duration::from_micros(20);
/// So many in a row are no accident, such as another program's turn on this CPU.
const IN_A_ROW: u32 = 3;
/// One in so many is a trial.
const TRIAL: u32 = 64;

/// What was seen of the latest descriptors.
#[derive(Debug, Default)]
pub struct Pace {
    slow_in_a_row: AtomicU32,
    turn: AtomicU32,
}

impl Pace {
    /// Whether somebody else should lead while the next descriptor goes in.
    pub fn is_slow(&self) -> bool {
        let slow = self.slow_in_a_row.load(Ordering::Relaxed) >= IN_A_ROW;
        slow && !self.turn.fetch_add(1, Ordering::Relaxed).is_multiple_of(TRIAL)
    }

    /// One went in by the leader's own hand, in this time.
    pub fn took(&self, time: Duration) {
        let before = self.slow_in_a_row.load(Ordering::Relaxed);
        let now = if time > SLOW { before.saturating_add(1) } else { 0 };
        self.slow_in_a_row.store(now, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lead_is_kept_until_descriptors_are_slow_and_from_then_on_tried_again() {
        let pace = Pace::default();
        assert!((0..200).all(|_| !pace.is_slow()));
        let (long, short) = (Duration::from_micros(60), Duration::from_micros(3));
        for time in [long, long, short, long, long] {
            pace.took(time);
        }
        assert!((0..200).all(|_| !pace.is_slow()), "a turn of another program is no reason");
        pace.took(long);
        let trials = (0..640).filter(|_| !pace.is_slow()).count();
        assert_eq!(trials, 10);
        pace.took(short);
        assert!((0..200).all(|_| !pace.is_slow()));
    }
}
