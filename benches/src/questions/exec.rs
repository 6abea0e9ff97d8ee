//! What does running a program cost?
//!
//! Forks a child that becomes `micro nothing`, a static program that ends at once. What shells and builds do all day.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStringExt;

use super::{Granted, Question};
use crate::stopwatch::Stint;
use crate::sys::fork_exec_and_wait;

pub(super) const QUESTION: Question = Question::call("exec", "`fork`, `exec` and `wait`", 90, ask);

fn ask(granted: &Granted, stint: Stint) -> io::Result<f64> {
    let micro = CString::new(granted.micro().into_os_string().into_vec())?;
    stint.per_operation(|| fork_exec_and_wait(&micro, c"nothing"))
}
