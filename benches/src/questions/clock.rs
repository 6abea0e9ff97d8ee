//! What does reading the clock cost?
//!
//! Natively it is no syscall at all but a function in the vDSO page. A sandbox that traps it, or hides the vDSO, pays
//! here, and so does every program that logs.

use std::io;

use nix::time::{ClockId, clock_gettime};

use super::{Granted, Question};
use crate::stopwatch::Stint;

pub(super) const QUESTION: Question = Question::call("clock", "`clock_gettime`, by the vDSO", 400_000, ask);

fn ask(_: &Granted, stint: Stint) -> io::Result<f64> {
    stint.per_operation(|| {
        clock_gettime(ClockId::CLOCK_REALTIME)?;
        Ok(())
    })
}
