//! What does a thread cost?
//!
//! Starts a thread that ends at once and waits for it: a stack, a `clone`, an exit. Supervisors that keep a book on threads,
//! or trace them, are told of each.

use std::io;
use std::thread::Builder;

use super::{Granted, Question};
use crate::stopwatch::Stint;

pub(super) const QUESTION: Question = Question::call("thread", "start a thread and join it", 900, ask);

fn ask(_: &Granted, stint: Stint) -> io::Result<f64> {
    stint.per_operation(|| {
        let thread = Builder::new().spawn(|| ())?;
        thread.join().map_err(|_| io::Error::other("the thread panicked"))
    })
}
