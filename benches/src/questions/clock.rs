//! What does reading the clock cost?
//!
//! Natively it is no syscall at all but a function in the vDSO page. A sandbox that traps it, or hides the vDSO, pays
//! here, and so does every program that logs.

use std::io;

use nix::time::{ClockId, clock_gettime};

use super::{Granted, Method, Question};
use crate::stopwatch::per_operation;

pub(super) const QUESTION: Question = Question {
    name: "clock",
    asks: "`clock_gettime`, by the vDSO",
    times: 400_000,
    method: Method::Inside(ask),
    prepare: None,
};

fn ask(_: &Granted, times: u64) -> io::Result<f64> {
    per_operation(times, || {
        clock_gettime(ClockId::CLOCK_REALTIME)?;
        Ok(())
    })
}
