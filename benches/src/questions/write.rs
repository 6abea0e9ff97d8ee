//! What does storing data cost?
//!
//! Writes 4 KiB, one page, over the same place of a file in the granted directory. Copies on write pay once, at the first
//! one, which is not timed; a sandbox that stands between a program and its files pays each time.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use super::{Granted, Question};
use crate::stopwatch::Stint;

pub(super) const QUESTION: Question =
    Question::call("write", "`pwrite` of 4 KiB, cached", 60_000, ask).prepared(prepare);

fn file(granted: &Granted) -> PathBuf {
    granted.path().join("written")
}

fn prepare(granted: &Granted) -> io::Result<()> {
    fs::write(file(granted), [1; 16 * 1024])
}

fn ask(granted: &Granted, stint: Stint) -> io::Result<f64> {
    let data = File::options().write(true).open(file(granted))?;
    let page = [1; 4096];
    stint.per_operation(|| data.write_all_at(&page, 4096))
}
