//! What do real programs take inside?
//!
//! Each question runs one program as people do and compares what came out with what it must be, for a program that
//! could not do its work is no faster for that. It runs once untimed, so that the disk and lazily copied pages cost nobody.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::Granted;
use crate::place::PATH;
use crate::stopwatch::Stint;

pub(super) mod compile;
pub(super) mod find;
pub(super) mod npm;
pub(super) mod python;
pub(super) mod redis;
pub(super) mod shell;
pub(super) mod sqlite;
pub(super) mod status;
pub(super) mod sysbench;
pub(super) mod tar;

/// A command that looks for its program and its home where all subjects have them alike.
fn program(name: &str) -> Command {
    let mut command = Command::new(name);
    command.env("PATH", PATH).stdin(Stdio::null());
    command
}

/// Runs `command` to its end and gives what it wrote; a failure is an error with its last words.
fn output(command: &mut Command) -> io::Result<Vec<u8>> {
    let output = command.output().map_err(|error| {
        io::Error::new(error.kind(), format!("cannot run {}: {error}", command.get_program().display()))
    })?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let why = complaint(&String::from_utf8_lossy(&output.stderr)).to_owned();
    Err(io::Error::other(format!("{} failed with {}: {why}", command.get_program().display(), output.status)))
}

/// The line that tells what went wrong: the first that says so, or the last that says anything.
fn complaint(text: &str) -> &str {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let tells =
        |line: &&str| ["error", "fatal", "denied", "cannot"].iter().any(|word| line.to_lowercase().contains(word));
    lines.clone().find(tells).or_else(|| lines.next_back()).unwrap_or("no reason given")
}

fn did(right: bool, program: &str) -> io::Result<()> {
    if right { Ok(()) } else { Err(io::Error::other(format!("{program} did not do its work"))) }
}

/// Times runs of `command`; `right` looks at what each wrote.
fn time(stint: Stint, command: &mut Command, right: impl Fn(&[u8]) -> bool) -> io::Result<f64> {
    stint.per_run(|| did(right(&output(command)?), &command.get_program().to_string_lossy()))
}

/// A directory for what a program writes, in the granted one; removed when dropped.
struct Work(TempDir);

impl Work {
    fn new(granted: &Granted) -> io::Result<Self> {
        Ok(Self(tempfile::Builder::new().prefix("work-").tempdir_in(granted.path())?))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// A name in it that no other run has.
    fn fresh(&self) -> PathBuf {
        let taken = fs::read_dir(self.path()).map_or(0, Iterator::count);
        self.path().join(format!("run-{taken}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_fails_says_why() {
        let failed = output(
            program("sh").args(["-c", "echo; echo fatal: no luck; echo see the log; exit 3"]).stderr(Stdio::piped()),
        );
        assert!(
            failed.unwrap_err().to_string().contains("exit status: 3: no reason given"),
            "its output is no complaint"
        );
        assert_eq!(complaint("\nnpm error code EPERM\nnpm error see the log\n"), "npm error code EPERM");
        assert_eq!(complaint("one\ntwo\n\n"), "two");
        assert!(output(&mut program("no-such-program")).unwrap_err().to_string().contains("no-such-program"));
    }
}
