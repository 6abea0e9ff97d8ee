//! Timing a loop from within.

use std::io;
use std::time::Instant;

use crate::statistics::median;

/// Batches a loop is cut into: the median batch does not see the one that was interrupted.
const BATCHES: u64 = 9;

/// Runs `operation` about `times` times and tells how many nanoseconds one took, by CLOCK_MONOTONIC.
///
/// A tenth more is run first, untimed, so that caches and lazily filled pages cost nobody. The first failure ends it.
pub fn per_operation(times: u64, mut operation: impl FnMut() -> io::Result<()>) -> io::Result<f64> {
    let batch = times.div_ceil(BATCHES).max(1);
    for _ in 0..times.div_ceil(10) {
        operation()?;
    }
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

/// Runs `operation` once untimed and then `times` times, each timed alone: the median in nanoseconds. For what takes
/// milliseconds.
pub fn per_run(times: u64, mut operation: impl FnMut() -> io::Result<()>) -> io::Result<f64> {
    operation()?;
    let mut runs = Vec::new();
    for _ in 0..times.max(1) {
        let start = Instant::now();
        operation()?;
        runs.push(start.elapsed().as_nanos() as f64);
    }
    median(&runs).ok_or_else(|| io::Error::other("nothing was measured"))
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
        let nanoseconds = per_run(3, || {
            calls += 1;
            std::thread::sleep(std::time::Duration::from_millis(if calls == 1 { 500 } else { 1 }));
            Ok(())
        });
        assert_eq!(calls, 4);
        assert!((1e6..4e8).contains(&nanoseconds.unwrap()));
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
