//! How long does a sandbox take to run a program that does nothing?
//!
//! From just before the sandbox is started until it has been waited for, around `micro nothing`, which is static.
//! `micro` does the timing: it is small, so starting a process from it is as cheap as it gets, and native is honest.

use std::ffi::OsString;
use std::io;
use std::process::Command;
use std::time::Instant;

use super::{Method, Question};
use crate::statistics::median;

pub(super) const QUESTION: Question =
    Question { name: "startup", asks: "start, run `true`, end", times: 5, method: Method::Around };

/// Runs `command` `times` times after a warm-up; the median in nanoseconds. A run that fails is an error, not a time.
pub fn time(command: &[OsString], times: u64) -> io::Result<f64> {
    let (program, arguments) =
        command.split_first().ok_or_else(|| io::Error::other("no command to start: name one after the number"))?;
    let mut samples = Vec::new();
    for turn in 0..=times {
        let start = Instant::now();
        let status = Command::new(program).args(arguments).status()?;
        let elapsed = start.elapsed().as_nanos() as f64;
        if !status.success() {
            return Err(io::Error::other(format!("the command failed: {status}")));
        }
        if turn > 0 {
            samples.push(elapsed);
        }
    }
    median(&samples).ok_or_else(|| io::Error::other("nothing was measured: ask for at least one start"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_takes_time() {
        assert!(time(&["true".into()], 3).unwrap() > 10_000.0);
    }

    #[test]
    fn a_command_that_fails_is_not_fast() {
        assert!(time(&["false".into()], 3).is_err());
        assert!(time(&["/nonexistent/program".into()], 3).is_err());
        assert!(time(&[], 3).is_err());
        assert!(time(&["true".into()], 0).is_err());
    }
}
