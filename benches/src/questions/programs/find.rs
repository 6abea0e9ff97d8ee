//! What does searching a tree cost?
//!
//! `find` over the upper levels of `/usr`, asking each file for its size: `stat` and `getdents`, and little else.

use std::io;

use super::super::{Granted, Question};
use crate::stopwatch::Stint;

pub(in super::super) const QUESTION: Question =
    Question::program("find", "`find /usr -maxdepth 3 -size +1k`", &["find"], ask);

/// Even a small system has so many.
const AT_LEAST: usize = 500;

fn ask(_: &Granted, stint: Stint) -> io::Result<f64> {
    let mut command = super::program("find");
    command.args(["/usr", "-maxdepth", "3", "-size", "+1k"]);
    super::time(stint, &mut command, |found| found.iter().filter(|byte| **byte == b'\n').count() >= AT_LEAST)
}
