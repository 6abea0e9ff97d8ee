//! What do a shell's many small processes cost?
//!
//! A shell script that starts `/bin/true` a hundred times: forks, execs, and a dynamic loader that looks for its libraries.

use std::io;

use super::super::{Granted, Question};
use crate::stopwatch::Stint;

pub(in super::super) const QUESTION: Question = Question::program("shell", "`sh`, 100 times `/bin/true`", &["sh"], ask);

const SCRIPT: &str = "i=0; while [ $i -lt 100 ]; do /bin/true || exit 1; i=$((i+1)); done; echo $i";

fn ask(_: &Granted, stint: Stint) -> io::Result<f64> {
    super::time(stint, super::program("sh").args(["-c", SCRIPT]), |text| text == b"100\n")
}
