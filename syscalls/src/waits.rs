//! Calls that wait for another program, and how many of them the sentry makes at once.
//!
//! A FIFO is opened when somebody opens its other end, a connection is made when somebody accepts it: perhaps never.
//! Each such call keeps a thread of the sentry, also after its caller was killed, and the threads are few. Without a
//! bound a guest that lets 64 of them wait would be answered no call at all any more. So some threads are always left,
//! and a call that finds no place within a moment fails with an errno.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// How many calls may wait at once. A platform needs more threads than this, for all other calls.
pub const MOST: usize = 48;

/// How long a call stands in line for a place: long enough for a burst of calls that hardly wait.
const PATIENCE: Duration = Duration::from_millis(100);

static PLACES: Places = Places::new(MOST);

/// Takes a place among the calls that may wait, until it is dropped. `None`: all are taken, and stay so.
pub(crate) fn place() -> Option<Place<'static>> {
    PLACES.take(PATIENCE)
}

/// Places, of which there are few.
struct Places {
    free: Mutex<usize>,
    given_back: Condvar,
}

/// One of them.
pub(crate) struct Place<'a>(&'a Places);

impl Places {
    const fn new(free: usize) -> Self {
        Self { free: Mutex::new(free), given_back: Condvar::new() }
    }

    fn take(&self, patience: Duration) -> Option<Place<'_>> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.given_back.wait_timeout_while(free, patience, |free| *free == 0);
        let (mut free, _) = waited.unwrap_or_else(PoisonError::into_inner);
        *free = free.checked_sub(1)?;
        Some(Place(self))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.given_back.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn places_run_out_and_come_back() {
        let places = Places::new(2);
        let moment = Duration::from_millis(1);
        let (first, second) = (places.take(moment), places.take(moment));
        assert!(first.is_some() && second.is_some());
        assert!(places.take(moment).is_none());
        assert!(places.take(moment).is_none(), "failing takes none");
        drop(first);
        let third = places.take(moment);
        assert!(third.is_some());
        assert!(places.take(moment).is_none());
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
        let places = Places::new(1);
        let only = places.take(PATIENCE);
        std::thread::scope(|scope| {
            let in_line = scope.spawn(|| {
                let began = Instant::now();
                (places.take(Duration::from_secs(60)).is_some(), began.elapsed())
            });
            std::thread::sleep(Duration::from_millis(20));
            drop(only);
            let (taken, after) = in_line.join().expect("no panic");
            assert!(taken && after < Duration::from_secs(30), "{after:?}");
        });
    }
}
