//! Calls that wait for another program, and how many of them the sentry makes at once.
//!
//! A FIFO is opened when somebody opens its other end, a connection is made when somebody accepts it: perhaps never.
//! Each such call keeps a thread of the sentry, also after its caller was killed, and the threads are few. Without a
//! bound a guest that lets 64 of them wait would be answered no call at all any more. So some threads are always left,
//! and a call that finds no place within a moment fails with an errno. Those that stand in line for a place keep a thread
//! too, so the line is short as well; behind it a call fails at once. And no call waits at all while nobody else could
//! answer meanwhile: at the user's limit on processes the sentry may have only one thread.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::guest::Guest;

/// How many calls may wait at once. A platform needs more threads than this, for all other calls.
pub const MOST: usize = 48;
/// How many may stand in line for that. These need threads as well.
pub const IN_LINE: usize = 12;

/// How long a call stands in line for a place: long enough for a burst of calls that hardly wait.
const PATIENCE: Duration = Duration::from_millis(100);

static PLACES: Places = Places::new(MOST, IN_LINE);

/// Takes a place among the calls that may wait, until it is dropped; others are answered meanwhile. `None`: all are
/// taken, and stay so, or nobody else could answer.
pub(crate) fn place(guest: &dyn Guest) -> Option<Place<'static>> {
    PLACES.take(PATIENCE, &|| guest.may_wait())
}

/// Places, of which there are few.
struct Places {
    left: Mutex<Left>,
    given_back: Condvar,
}

/// What is left of the places, and of the line for them.
struct Left {
    places: usize,
    line: usize,
}

/// One of them.
pub(crate) struct Place<'a>(&'a Places);

impl Places {
    const fn new(places: usize, line: usize) -> Self {
        Self { left: Mutex::new(Left { places, line }), given_back: Condvar::new() }
    }

    fn left(&self) -> MutexGuard<'_, Left> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing here sleeps before `may_wait` has said that it may.
    fn take(&self, patience: Duration, may_wait: &dyn Fn() -> bool) -> Option<Place<'_>> {
        let mut left = self.left();
        if let Some(places) = left.places.checked_sub(1) {
            left.places = places;
            drop(left);
            let place = Place(self);
            return may_wait().then_some(place);
        }
        left.line = left.line.checked_sub(1)?;
        drop(left);
        let place = if may_wait() { self.stand_in_line(patience) } else { None };
        self.left().line += 1;
        place
    }

    fn stand_in_line(&self, patience: Duration) -> Option<Place<'_>> {
        let waited = self.given_back.wait_timeout_while(self.left(), patience, |left| left.places == 0);
        let (mut left, _) = waited.unwrap_or_else(PoisonError::into_inner);
        left.places = left.places.checked_sub(1)?;
        Some(Place(self))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.left().places += 1;
        self.0.given_back.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    const MOMENT: Duration = Duration::from_millis(1);
    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn places_run_out_and_come_back() {
        let places = Places::new(2, 1);
        let take = || places.take(MOMENT, &|| true);
        let (first, second) = (take(), take());
        assert!(first.is_some() && second.is_some());
        assert!(take().is_none());
        assert!(take().is_none(), "failing takes none");
        drop(first);
        let third = take();
        assert!(third.is_some());
        assert!(take().is_none());
    }

    #[test]
    fn nobody_waits_while_nobody_else_can_answer() {
        let places = Places::new(1, 1);
        assert!(places.take(LONG, &|| false).is_none());
        let only = places.take(LONG, &|| true);
        assert!(only.is_some(), "failing takes none");
        let began = Instant::now();
        assert!(places.take(LONG, &|| false).is_none());
        assert!(began.elapsed() < LONG / 2);
        drop(only);
        assert!(places.take(LONG, &|| true).is_some());
    }

    #[test]
    fn behind_a_full_line_a_call_fails_at_once() {
        let places = Places::new(0, 2);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| places.take(Duration::from_secs(2), &|| true));
            }
            while places.left().line > 0 {
                std::thread::yield_now();
            }
            assert!(places.take(LONG, &|| panic!("no other thread is needed")).is_none());
        });
        assert_eq!(places.left().line, 2, "whoever gives up leaves the line");
    }

    #[test]
    fn the_page_tells_the_right_number() {
        for name in ["connect", "open"] {
            let call = crate::table::find(name).expect("there is a row");
            assert!(call.limits().any(|limit| limit.contains(&format!(" {MOST} calls "))), "{name}");
        }
    }

    #[test]
    fn a_place_that_is_given_back_is_taken_by_who_stands_in_line() {
        let places = Places::new(1, 1);
        let only = places.take(MOMENT, &|| true);
        std::thread::scope(|scope| {
            let in_line = scope.spawn(|| {
                let began = Instant::now();
                (places.take(LONG, &|| true).is_some(), began.elapsed())
            });
            std::thread::sleep(Duration::from_millis(20));
            drop(only);
            let (taken, after) = in_line.join().expect("no panic");
            assert!(taken && after < LONG / 2, "{after:?}");
        });
    }
}
