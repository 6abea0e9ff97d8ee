//! What does searching a tree cost?
//!
//! `find` over the upper levels of `/usr`, asking each file for its size: `stat` and `getdents`, and little else.

use std::io;
use std::process::Command;

use super::super::{Granted, Question};

pub(in super::super) const QUESTION: Question = super::question("find", "`find /usr -maxdepth 3 -size +1k`", ask, None);

/// Even a small system has so many.
const AT_LEAST: usize = 500;

fn ask(_: &Granted, times: u64) -> io::Result<f64> {
    let mut command = Command::new("find");
    command.args(["/usr", "-maxdepth", "3", "-size", "+1k"]);
    super::time(times, &mut command, |found| found.iter().filter(|byte| **byte == b'\n').count() >= AT_LEAST)
}
