//! What does a call on an open descriptor cost?
//!
//! No path is walked. Where `stat` is dear and this is not, names are judged; where both are, every call is.

use std::fs::File;
use std::io;

use nix::sys::stat::fstat;

use super::{Granted, Method, Question};
use crate::stopwatch::per_operation;

pub(super) const QUESTION: Question =
    Question { name: "fstat", asks: "`fstat`", times: 100_000, method: Method::Inside(ask), prepare: None };

fn ask(granted: &Granted, times: u64) -> io::Result<f64> {
    let data = File::open(granted.data())?;
    per_operation(times, || {
        fstat(&data)?;
        Ok(())
    })
}
