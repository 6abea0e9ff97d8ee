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
    let error = String::from_utf8_lossy(&output.stderr);
    let last = error.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no reason given").to_owned();
    Err(io::Error::other(format!("{} failed with {}: {last}", command.get_program().display(), output.status)))
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
