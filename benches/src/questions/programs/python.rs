//! What does starting an interpreter cost?
//!
//! Imports of Python's standard library: a search through several directories for each module, most of it in vain.

use std::io;
use std::process::Command;

use super::super::{Granted, Question};

pub(in super::super) const QUESTION: Question =
    super::question("python", "`python3 -c 'import asyncio, json, ...'`", ask, None);

const PROGRAM: &str =
    "import asyncio, email.message, http.client, json, logging, subprocess, unittest; print(json.dumps(6 * 7))";

fn ask(_: &Granted, times: u64) -> io::Result<f64> {
    // The distribution's own, which every subject shows; without the user's settings and directories.
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-I", "-c", PROGRAM]);
    super::time(times, &mut command, |text| text == b"42\n")
}
