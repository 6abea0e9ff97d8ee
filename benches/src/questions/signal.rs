//! What does a signal cost?
//!
//! A process signals itself and its handler runs before `kill` is back: a call, a frame on the stack, `sigreturn`. Tracers see
//! each signal first.

use std::io;

use super::{Granted, Question};
use crate::stopwatch::Stint;
use crate::sys::Handler;

pub(super) const QUESTION: Question = Question::call("signal", "`kill` oneself, with a handler", 30_000, ask);

fn ask(_: &Granted, stint: Stint) -> io::Result<f64> {
    let handler = Handler::install()?;
    stint.per_operation(|| {
        let before = handler.seen();
        handler.signal_myself()?;
        // The only thread that can take it is this one, so it has come.
        if handler.seen() == before + 1 { Ok(()) } else { Err(io::Error::other("the handler did not run")) }
    })
}
