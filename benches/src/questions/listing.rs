//! What does listing a directory cost?
//!
//! Opens a directory of a thousand names, reads them all and closes it. Where names are hidden by pattern, each has to be
//! compared before it is shown.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{Granted, Question};
use crate::stopwatch::Stint;

pub(super) const QUESTION: Question =
    Question::call("listing", "list a directory of 1000 names", 180, ask).prepared(prepare);

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

fn ask(granted: &Granted, stint: Stint) -> io::Result<f64> {
    let many = directory(granted);
    stint.per_operation(|| match count(&many)? {
        NAMES => Ok(()),
        other => Err(io::Error::other(format!("{other} names were listed instead of {NAMES}"))),
    })
}
