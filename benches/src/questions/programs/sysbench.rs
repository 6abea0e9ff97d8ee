//! What does mere computing cost?
//!
//! `sysbench cpu`: next to no calls, so nobody should pay anything here. Whoever does pays for being looked at, or runs the
//! program on a machine of its own.

use std::io;

use super::super::{Granted, Question, When};
use crate::stopwatch::Stint;

pub(in super::super) const QUESTION: Question =
    Question::program("sysbench", "`sysbench cpu`, 300 events", &["sysbench"], ask).only(When::Full);

fn ask(_: &Granted, stint: Stint) -> io::Result<f64> {
    let mut sysbench = super::program("sysbench");
    sysbench.args(["cpu", "--events=300", "--time=0", "--threads=1", "--cpu-max-prime=10000", "run"]);
    super::time(stint, &mut sysbench, |text| {
        let text = String::from_utf8_lossy(text);
        text.lines().any(|line| line.trim().strip_prefix("total number of events:").is_some_and(|n| n.trim() == "300"))
    })
}
