//! What does listing a directory cost?
//!
//! Opens a directory of a thousand names, reads them all and closes it. Where names are hidden by pattern, each has to be
//! compared before it is shown.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{Granted, Method, Question};
use crate::stopwatch::per_operation;

pub(super) const QUESTION: Question = Question {
    name: "listing",
    asks: "list a directory of 1000 names",
    times: 180,
    method: Method::Inside(ask),
    prepare: Some(prepare),
};

const NAMES: usize = 1000;

fn directory(granted: &Granted) -> PathBuf {
    granted.path().join("many")
}

fn prepare(granted: &Granted) -> io::Result<()> {
    let many = directory(granted);
    fs::create_dir(&many)?;
    (0..NAMES).try_for_each(|number| fs::write(many.join(format!("name-{number:04}")), ""))
}

fn count(directory: &Path) -> io::Result<usize> {
    fs::read_dir(directory)?.try_fold(0, |count, entry| entry.map(|_| count + 1))
}

fn ask(granted: &Granted, times: u64) -> io::Result<f64> {
    let many = directory(granted);
    per_operation(times, || match count(&many)? {
        NAMES => Ok(()),
        other => Err(io::Error::other(format!("{other} names were listed instead of {NAMES}"))),
    })
}
