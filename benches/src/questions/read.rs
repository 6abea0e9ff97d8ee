//! What does moving data cost?
//!
//! Reads 4 KiB, one page, from the cache. Only a sandbox that stands between a program and its open files pays here.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::{Granted, Question};
use crate::stopwatch::Stint;

pub(super) const QUESTION: Question = Question::call("read", "`pread` of 4 KiB, cached", 60_000, ask);

fn ask(granted: &Granted, stint: Stint) -> io::Result<f64> {
    let data = File::open(granted.data())?;
    let mut page = [0; 4096];
    stint.per_operation(|| data.read_exact_at(&mut page, 4096))
}
