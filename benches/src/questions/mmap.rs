//! What does fresh memory cost?
//!
//! Maps 16 pages, touches each and unmaps them: two calls and 16 faults. A sandbox with a kernel of its own, or one that
//! runs programs through a tracer, makes page tables twice.

use std::io;
use std::num::NonZeroUsize;

use super::{Granted, Question};
use crate::stopwatch::Stint;
use crate::sys::map_and_touch;

pub(super) const QUESTION: Question = Question::call("mmap", "`mmap`, 16 page faults, `munmap`", 18_000, ask);

const PAGES: NonZeroUsize = NonZeroUsize::new(16).unwrap();

fn ask(_: &Granted, stint: Stint) -> io::Result<f64> {
    stint.per_operation(|| map_and_touch(PAGES))
}
