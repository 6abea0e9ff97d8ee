//! What does it cost to look for a name that is not there?
//!
//! Loaders, interpreters and compilers try directory after directory, so most of their lookups fail. A sandbox that knows
//! of files that the host does not have, or reports what was looked for in vain, has to look twice.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStringExt;

use nix::errno::Errno;
use nix::sys::stat::stat;

use super::{Granted, Method, Question};
use crate::stopwatch::per_operation;

pub(super) const QUESTION: Question = Question {
    name: "missing",
    asks: "`stat` of a name that is not there",
    times: 40_000,
    method: Method::Inside(ask),
    prepare: None,
};

fn ask(granted: &Granted, times: u64) -> io::Result<f64> {
    let nothing = CString::new(granted.path().join("nothing").into_os_string().into_vec())?;
    per_operation(times, || match stat(nothing.as_c_str()) {
        Err(Errno::ENOENT) => Ok(()),
        Err(errno) => Err(errno.into()),
        Ok(_) => Err(io::Error::other("there is a file called nothing")),
    })
}
