//! What do real programs take inside?
//!
//! Each question runs one program as people do and compares what came out with what it must be, for a program that
//! could not do its work is no faster for that. It runs once untimed, so that the disk and lazily copied pages cost nobody.

use std::io;
use std::process::{Command, Stdio};

use super::{Granted, Method, Question};
use crate::stopwatch::per_run;

pub(super) mod compile;
pub(super) mod find;
pub(super) mod python;
pub(super) mod status;

/// A question about a program that is run `times` times.
const fn question(
    name: &'static str,
    asks: &'static str,
    ask: fn(&Granted, u64) -> io::Result<f64>,
    prepare: Option<fn(&Granted) -> io::Result<()>>,
) -> Question {
    Question { name, asks, times: 3, method: Method::Inside(ask), prepare }
}

/// Times `times` runs of `command`; `right` looks at what each wrote.
fn time(times: u64, command: &mut Command, right: impl Fn(&[u8]) -> bool) -> io::Result<f64> {
    command.stdin(Stdio::null());
    per_run(times, || {
        let output = command.output()?;
        let program = command.get_program().display();
        if !output.status.success() {
            let error = String::from_utf8_lossy(&output.stderr);
            let last = error.lines().next_back().unwrap_or("no reason given").to_owned();
            return Err(io::Error::other(format!("{program} failed with {}: {last}", output.status)));
        }
        if right(&output.stdout) { Ok(()) } else { Err(io::Error::other(format!("{program} did not do its work"))) }
    })
}
