//! What does a call cost that nobody is interested in?
//!
//! `getppid` does nothing and is never cached, so what is left is the way into the kernel and back, and the seccomp
//! filter on that way.

use std::hint::black_box;
use std::io;

use super::{Granted, Question};
use crate::stopwatch::Stint;

pub(super) const QUESTION: Question = Question::call("null_call", "`getppid`", 200_000, ask);

fn ask(_: &Granted, stint: Stint) -> io::Result<f64> {
    stint.per_operation(|| {
        black_box(nix::unistd::getppid());
        Ok(())
    })
}
