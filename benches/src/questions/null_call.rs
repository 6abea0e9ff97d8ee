//! What does a call cost that nobody is interested in?
//!
//! `getppid` does nothing and is never cached, so what is left is the way into the kernel and back, and the seccomp
//! filter on that way.

use std::hint::black_box;
use std::io;

use super::{Granted, Method, Question};
use crate::stopwatch::per_operation;

pub(super) const QUESTION: Question =
    Question { name: "null_call", asks: "`getppid`", times: 200_000, method: Method::Inside(ask), prepare: None };

fn ask(_: &Granted, times: u64) -> io::Result<f64> {
    per_operation(times, || {
        black_box(nix::unistd::getppid());
        Ok(())
    })
}
