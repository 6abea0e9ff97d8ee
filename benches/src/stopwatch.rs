//! Timing a loop from within.

use std::io;
use std::time::{Duration, Instant};

use crate::statistics::median;

/// Batches a loop is cut into: the median batch does not see the one that was interrupted.
const BATCHES: u64 = 9;

/// How much work one sample may be: as many operations as make a sound median, but not forever where each is dear.
#[derive(Clone, Copy, Debug)]
pub struct Stint {
    /// Operations, at most.
    pub most: u64,
    /// How long all of them should take; a few are done in any case.
    pub within: Duration,
}

impl Stint {
    /// Runs `operation` over and over and tells how many nanoseconds one took, by CLOCK_MONOTONIC.
    ///
    /// A tenth more is run first, untimed, so that caches and lazily filled pages cost nobody; it also shows how many
    /// fit into the time. The first failure ends it.
    pub fn per_operation(self, mut operation: impl FnMut() -> io::Result<()>) -> io::Result<f64> {
        let (began, patience, mut done) = (Instant::now(), self.within / 10, 0);
        let spent = loop {
            operation()?;
            done += 1;
            let spent = began.elapsed();
            if done >= self.most.div_ceil(10) || spent > patience {
                break spent;
            }
        };
        let each = (spent.as_nanos() / u128::from(done)).max(1);
        let fit = u64::try_from(self.within.as_nanos() / each).unwrap_or(u64::MAX);
        let batch = self.most.min(fit).div_ceil(BATCHES).max(1);
        let mut batches = Vec::with_capacity(9);
        for _ in 0..BATCHES {
            let start = Instant::now();
            for _ in 0..batch {
                operation()?;
            }
            batches.push(start.elapsed().as_nanos() as f64 / batch as f64);
        }
        median(&batches).ok_or_else(|| io::Error::other("nothing was measured"))
    }

    /// Runs `operation` once untimed and then timed, each alone: the median in nanoseconds. For what takes milliseconds.
    pub fn per_run(self, mut operation: impl FnMut() -> io::Result<()>) -> io::Result<f64> {
        operation()?;
        let (began, mut runs) = (Instant::now(), Vec::new());
        while runs.is_empty() || (runs.len() as u64) < self.most && began.elapsed() < self.within {
            let start = Instant::now();
            operation()?;
            runs.push(start.elapsed().as_nanos() as f64);
        }
        median(&runs).ok_or_else(|| io::Error::other("nothing was measured"))
    }
}

/// [`Stint::per_operation`] of about `times` operations, however long they take.
pub fn per_operation(times: u64, operation: impl FnMut() -> io::Result<()>) -> io::Result<f64> {
    Stint { most: times, within: Duration::MAX }.per_operation(operation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operation_runs_as_often_as_asked() {
        let mut calls = 0;
        let nanoseconds = per_operation(90, || {
            calls += 1;
            Ok(())
        });
        assert_eq!(calls, 9 + 90);
        assert!(nanoseconds.unwrap() >= 0.0);
    }

    #[test]
    fn one_run_is_not_timed() {
        let mut calls = 0;
        let nanoseconds = Stint { most: 3, within: Duration::MAX }.per_run(|| {
            calls += 1;
            std::thread::sleep(std::time::Duration::from_millis(if calls == 1 { 500 } else { 1 }));
            Ok(())
        });
        assert_eq!(calls, 4);
        assert!((1e6..4e8).contains(&nanoseconds.unwrap()));
    }

    #[test]
    fn dear_operations_are_done_less_often() {
        let mut calls = 0;
        let stint = Stint { most: 100_000, within: Duration::from_millis(45) };
        let nanoseconds = stint.per_operation(|| {
            calls += 1;
            std::thread::sleep(Duration::from_millis(1));
            Ok(())
        });
        assert!((10..200).contains(&calls), "{calls}");
        assert!(nanoseconds.unwrap() >= 1e6);
        let mut runs = 0;
        let once = Stint { most: 100, within: Duration::ZERO }.per_run(|| {
            runs += 1;
            Ok(())
        });
        assert!(once.is_ok() && runs == 2);
    }

    #[test]
    fn a_sleep_takes_as_long_as_it_says() {
        let pause = std::time::Duration::from_millis(2);
        let nanoseconds = per_operation(9, || {
            std::thread::sleep(pause);
            Ok(())
        });
        assert!(nanoseconds.unwrap() >= 2e6);
    }

    #[test]
    fn a_failing_operation_has_no_time() {
        let mut left = 20;
        let result = per_operation(90, || {
            left -= 1;
            if left == 0 { Err(io::Error::other("refused")) } else { Ok(()) }
        });
        assert_eq!(result.unwrap_err().to_string(), "refused");
    }
}
