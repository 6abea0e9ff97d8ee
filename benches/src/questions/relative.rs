//! What does a relative path cost?
//!
//! A supervisor cannot stand in the program's working directory: it has to fetch it anew for each call.

use std::io;

use super::{Granted, Question};
use crate::stopwatch::Stint;

pub(super) const QUESTION: Question = Question::call("relative", "`stat` of a relative path", 40_000, ask);

fn ask(granted: &Granted, stint: Stint) -> io::Result<f64> {
    std::env::set_current_dir(granted.path())?;
    stint.per_operation(|| {
        nix::sys::stat::stat(c"data")?;
        Ok(())
    })
}
