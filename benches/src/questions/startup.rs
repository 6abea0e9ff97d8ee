//! How long does a sandbox take to run a program that does nothing?
//!
//! From just before the sandbox is started until it has been waited for, around `micro nothing`, which is static.
//! `micro` does the timing: it is small, so starting a process from it is as cheap as it gets, and native is honest.

use std::ffi::OsString;
use std::io;
use std::process::Command;
use std::time::Instant;

use super::{Method, Question};
use crate::proof::{Token, filled_in};
use crate::statistics::median;
use crate::stopwatch::Stint;

pub(super) const QUESTION: Question = Question::new("startup", "start, run `true`, end", "start", 5, Method::Start);

/// One start of `command`, whose guest is to end with the code that it computes from `token`.
pub(super) fn command(command: &[OsString], token: Token) -> io::Result<Command> {
    let (program, arguments) =
        command.split_first().ok_or_else(|| io::Error::other("no command to start: name one after the number"))?;
    let mut command = Command::new(filled_in(program, token));
    command.args(arguments.iter().map(|word| filled_in(word, token))).arg(token.to_string());
    Ok(command)
}

/// Runs `command` after a warm-up as often as the stint says; the median in nanoseconds. A run that does not end with the
/// code that the guest computes from its token is an error, not a time.
pub fn time(words: &[OsString], stint: Stint, mut token: Token) -> io::Result<f64> {
    let mut samples = Vec::new();
    let began = Instant::now();
    for turn in 0..=stint.most.max(1) {
        token = token.next();
        let mut command = command(words, token)?;
        let start = Instant::now();
        let status = command.status()?;
        let elapsed = start.elapsed().as_nanos() as f64;
        if status.code() != Some(i32::from(token.exit_code())) {
            return Err(io::Error::other(format!("the guest did not run: {status}")));
        }
        if turn > 0 {
            samples.push(elapsed);
            if began.elapsed() > stint.within {
                break;
            }
        }
    }
    median(&samples).ok_or_else(|| io::Error::other("nothing was measured: ask for at least one start"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn script(text: &str) -> Vec<OsString> {
        ["sh", "-c", text].map(OsString::from).to_vec()
    }

    const THRICE: Stint = Stint { most: 3, within: Duration::MAX };

    #[test]
    fn a_start_takes_time() {
        let (token, mut answers) = (Token::new(), String::new());
        let mut turn = token;
        for _ in 0..4 {
            turn = turn.next();
            answers.push_str(&format!("{turn}) exit {};; ", turn.exit_code()));
        }
        let guest = script(&format!("case $0 in {answers} esac"));
        assert!(time(&guest, THRICE, token).unwrap() > 10_000.0);
        let once = Stint { most: 3, within: Duration::ZERO };
        assert!(time(&guest, once, token).unwrap() > 10_000.0);
    }

    #[test]
    fn a_command_that_runs_no_guest_is_not_fast() {
        let token = Token::new();
        for script in [script("exit 0"), script("exit 1"), script("exit 200")] {
            assert!(time(&script, THRICE, token).is_err());
        }
        assert!(time(&["/nonexistent/program".into()], THRICE, token).is_err());
        assert!(time(&[], THRICE, token).is_err());
    }
}
