//! What does a signal cost?
//!
//! A thread signals itself and its handler runs before `tgkill` is back: calls, a frame on the stack, `sigreturn`. Tracers
//! see each signal first.

use std::io;

use super::{Granted, Question};
use crate::stopwatch::Stint;
use crate::sys::Handler;

pub(super) const QUESTION: Question = Question::call("signal", "signal oneself, with a handler", 30_000, ask);

fn ask(_: &Granted, stint: Stint) -> io::Result<f64> {
    let handler = Handler::install()?;
    stint.per_operation(|| {
        let before = handler.seen();
        handler.signal_myself()?;
        if handler.seen() == before + 1 { Ok(()) } else { Err(io::Error::other("the handler did not run")) }
    })
}
