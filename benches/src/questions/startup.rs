//! How long does a sandbox take to run a program that does nothing?
//!
//! From just before the sandbox is started until it has been waited for, around `micro nothing`, which is static.
//! `micro` does the timing: it is small, so starting a process from it is as cheap as it gets, and native is honest.

use std::ffi::OsString;
use std::io;
use std::process::Command;
use std::time::Instant;

use super::{Method, Question};
use crate::proof::Token;
use crate::statistics::median;

pub(super) const QUESTION: Question =
    Question { name: "startup", asks: "start, run `true`, end", times: 5, method: Method::Around, prepare: None };

/// Runs `command` `times` times after a warm-up; the median in nanoseconds. A run that does not end with the code that the
/// guest computes from its token is an error, not a time.
pub fn time(command: &[OsString], times: u64, mut token: Token) -> io::Result<f64> {
    let (program, arguments) =
        command.split_first().ok_or_else(|| io::Error::other("no command to start: name one after the number"))?;
    let mut samples = Vec::new();
    for turn in 0..=times {
        token = token.next();
        let proof = token.to_string();
        let start = Instant::now();
        let status = Command::new(program).args(arguments).arg(proof).status()?;
        let elapsed = start.elapsed().as_nanos() as f64;
        if status.code() != Some(i32::from(token.exit_code())) {
            return Err(io::Error::other(format!("the guest did not run: {status}")));
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

    fn script(text: &str) -> Vec<OsString> {
        ["sh", "-c", text].map(OsString::from).to_vec()
    }

    #[test]
    fn a_start_takes_time() {
        let (token, mut answers) = (Token::new(), String::new());
        let mut turn = token;
        for _ in 0..4 {
            turn = turn.next();
            answers.push_str(&format!("{turn}) exit {};; ", turn.exit_code()));
        }
        let guest = script(&format!("case $0 in {answers} esac"));
        assert!(time(&guest, 3, token).unwrap() > 10_000.0);
    }

    #[test]
    fn a_command_that_runs_no_guest_is_not_fast() {
        let token = Token::new();
        for script in [script("exit 0"), script("exit 1"), script("exit 200")] {
            assert!(time(&script, 9, token).is_err());
        }
        assert!(time(&["/nonexistent/program".into()], 3, token).is_err());
        assert!(time(&[], 3, token).is_err());
    }
}
