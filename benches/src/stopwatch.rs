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
