//! What does running a program cost?
//!
//! Forks a child that becomes `micro nothing`, a static program that ends at once. What shells and builds do all day.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStringExt;

use super::{Granted, Method, Question};
use crate::stopwatch::per_operation;
use crate::sys::fork_exec_and_wait;

pub(super) const QUESTION: Question =
    Question { name: "exec", asks: "`fork`, `exec` and `wait`", times: 90, method: Method::Inside(ask), prepare: None };

fn ask(granted: &Granted, times: u64) -> io::Result<f64> {
    let micro = CString::new(granted.micro().into_os_string().into_vec())?;
    per_operation(times, || fork_exec_and_wait(&micro, c"nothing"))
}
