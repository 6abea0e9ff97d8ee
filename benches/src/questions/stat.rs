//! What does looking at a name cost?
//!
//! The commonest path call: build systems and version control make little else. It shows the price of the view (bind
//! mounts, overlays) and of judging paths.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStringExt;

use super::{Granted, Question};
use crate::stopwatch::Stint;

pub(super) const QUESTION: Question = Question::call("stat", "`stat` in the granted directory", 40_000, ask);

fn ask(granted: &Granted, stint: Stint) -> io::Result<f64> {
    // Converted once: the copy that each call would make is no business of the kernel's.
    let data = CString::new(granted.data().into_os_string().into_vec())?;
    stint.per_operation(|| {
        nix::sys::stat::stat(data.as_c_str())?;
        Ok(())
    })
}
