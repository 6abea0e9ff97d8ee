//! What does a process cost?
//!
//! Forks a child that ends at once and waits for it: the price of the sandbox's namespaces, and of a supervisor that
//! keeps a book on processes.

use std::io;

use super::{Granted, Question};
use crate::stopwatch::Stint;
use crate::sys::fork_and_wait;

pub(super) const QUESTION: Question = Question::call("fork", "`fork` and `wait`", 270, ask);

fn ask(_: &Granted, stint: Stint) -> io::Result<f64> {
    stint.per_operation(fork_and_wait)
}
