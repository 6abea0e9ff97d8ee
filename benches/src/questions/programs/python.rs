//! What does starting an interpreter cost?
//!
//! Imports of Python's standard library: a search through several directories for each module, most of it in vain.

use std::io;

use super::super::{Granted, Question};
use crate::stopwatch::Stint;

pub(in super::super) const QUESTION: Question =
    Question::program("python", "`python3 -c 'import asyncio, json, ...'`", &["/usr/bin/python3"], ask);

const PROGRAM: &str =
    "import asyncio, email.message, http.client, json, logging, subprocess, unittest; print(json.dumps(6 * 7))";

fn ask(_: &Granted, stint: Stint) -> io::Result<f64> {
    // The distribution's own, which every subject shows; without the user's settings and directories.
    let mut command = super::program("/usr/bin/python3");
    command.args(["-I", "-c", PROGRAM]);
    super::time(stint, &mut command, |text| text == b"42\n")
}
