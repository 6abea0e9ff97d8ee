//! What does a process cost?
//!
//! Forks a child that ends at once and waits for it: the price of the sandbox's namespaces, and of a supervisor that
//! keeps a book on processes.

use std::io;

use super::{Granted, Method, Question};
use crate::stopwatch::per_operation;
use crate::sys::fork_and_wait;

pub(super) const QUESTION: Question =
    Question { name: "fork", asks: "`fork` and `wait`", times: 270, method: Method::Inside(ask), prepare: None };

fn ask(_: &Granted, times: u64) -> io::Result<f64> {
    per_operation(times, fork_and_wait)
}
