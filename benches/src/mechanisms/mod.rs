//! The study of mechanisms: what the kernel's ways to interpose on a call cost, each alone, without a sandbox around.
//!
//! A *family* is a file of mechanisms that answer the same questions. Each answer is a [`Cell`]: a function that sets the
//! mechanism up, proves that it answers, and times a loop. It runs in a process of its own, for a filter cannot be taken
//! off again, and that process is killed when it takes too long.

use std::io;
use std::time::Duration;

use crate::record::{Question, Subject};

pub mod alone;
#[allow(unsafe_code)]
mod sys;

/// The time limit of one sample.
pub const LIMIT: Duration = Duration::from_secs(10);

/// Sets a mechanism up, and times about so many operations: nanoseconds for one.
pub type Measure = Box<dyn Fn(u64) -> io::Result<f64>>;

/// One subject's way to answer one question.
pub struct Cell {
    /// The question's name.
    pub question: String,
    /// The subject's name.
    pub subject: String,
    /// Operations in a sample of the full study; the quick one does a fifth.
    pub times: u64,
    /// How it is answered.
    pub measure: Measure,
}

/// Questions, who is asked, and the answers that make sense.
#[derive(Default)]
pub struct Family {
    /// In the order of tables.
    pub questions: Vec<Question>,
    /// Beside native and its control, which every family has; `missing` where the kernel lacks one.
    pub subjects: Vec<Subject>,
    /// Those of native and of its control among them.
    pub cells: Vec<Cell>,
}
