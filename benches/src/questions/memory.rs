//! How much memory does a sandbox hold around a program that sleeps?
//!
//! The proportional set size of every process of the sandbox but the sleeping program itself. Processes that protect
//! themselves can be weighed by root only.

use std::fs;

use super::{Method, Question};

pub(super) const QUESTION: Question = Question {
    name: "memory",
    asks: "memory of the sandbox's own processes",
    times: 1,
    method: Method::Weigh,
    prepare: None,
};

/// `pid` and everything below it.
pub fn family(pid: u32) -> Vec<u32> {
    let below = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let below = below.split_ascii_whitespace().filter_map(|pid| pid.parse().ok());
    std::iter::once(pid).chain(below.flat_map(family)).collect()
}

/// The proportional set size of one process in bytes. An error if it may not be read.
pub fn weigh(pid: u32) -> std::io::Result<f64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
    let kib = line.and_then(|line| line.split_ascii_whitespace().next()?.parse::<f64>().ok());
    kib.map(|kib| kib * 1024.0).ok_or_else(|| std::io::Error::other("smaps_rollup has no Pss"))
}
