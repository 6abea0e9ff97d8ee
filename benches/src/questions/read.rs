//! What does moving data cost?
//!
//! Reads 4 KiB, one page, from the cache. Only a sandbox that stands between a program and its open files pays here.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::{Granted, Method, Question};
use crate::stopwatch::per_operation;

pub(super) const QUESTION: Question = Question {
    name: "read",
    asks: "`pread` of 4 KiB, cached",
    times: 60_000,
    method: Method::Inside(ask),
    prepare: None,
};

fn ask(granted: &Granted, times: u64) -> io::Result<f64> {
    let data = File::open(granted.data())?;
    let mut page = [0; 4096];
    per_operation(times, || data.read_exact_at(&mut page, 4096))
}
