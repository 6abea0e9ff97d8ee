//! What does a relative path cost?
//!
//! A supervisor cannot stand in the program's working directory: it has to fetch it anew for each call.

use std::io;

use super::{Granted, Method, Question};
use crate::stopwatch::per_operation;

pub(super) const QUESTION: Question = Question {
    name: "relative",
    asks: "`stat` of a relative path",
    times: 40_000,
    method: Method::Inside(ask),
    prepare: None,
};

fn ask(granted: &Granted, times: u64) -> io::Result<f64> {
    std::env::set_current_dir(granted.path())?;
    per_operation(times, || {
        nix::sys::stat::stat(c"data")?;
        Ok(())
    })
}
