//! What does a call on an open descriptor cost?
//!
//! No path is walked. Where `stat` is dear and this is not, names are judged; where both are, every call is.

use std::fs::File;
use std::io;

use nix::sys::stat::fstat;

use super::{Granted, Question};
use crate::stopwatch::Stint;

pub(super) const QUESTION: Question = Question::call("fstat", "`fstat`", 100_000, ask);

fn ask(granted: &Granted, stint: Stint) -> io::Result<f64> {
    let data = File::open(granted.data())?;
    stint.per_operation(|| {
        fstat(&data)?;
        Ok(())
    })
}
