//! What does looking at a name cost?
//!
//! The commonest path call: build systems and version control make little else. It shows the price of the view (bind
//! mounts, overlays) and of judging paths.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStringExt;

use super::{Granted, Method, Question};
use crate::stopwatch::per_operation;

pub(super) const QUESTION: Question = Question {
    name: "stat",
    asks: "`stat` in the granted directory",
    times: 40_000,
    method: Method::Inside(ask),
    prepare: None,
};

fn ask(granted: &Granted, times: u64) -> io::Result<f64> {
    // Converted once: the copy that each call would make is no business of the kernel's.
    let data = CString::new(granted.data().into_os_string().into_vec())?;
    per_operation(times, || {
        nix::sys::stat::stat(data.as_c_str())?;
        Ok(())
    })
}
