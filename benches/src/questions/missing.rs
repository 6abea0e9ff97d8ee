//! What does it cost to look for a name that is not there?
//!
//! Loaders, interpreters and compilers try directory after directory, so most of their lookups fail. A sandbox that knows
//! of files that the host does not have, or reports what was looked for in vain, has to look twice.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStringExt;

use nix::errno::Errno;
use nix::sys::stat::stat;

use super::{Granted, Question};
use crate::stopwatch::Stint;

pub(super) const QUESTION: Question = Question::call("missing", "`stat` of a name that is not there", 40_000, ask);

fn ask(granted: &Granted, stint: Stint) -> io::Result<f64> {
    let nothing = CString::new(granted.path().join("nothing").into_os_string().into_vec())?;
    stint.per_operation(|| match stat(nothing.as_c_str()) {
        Err(Errno::ENOENT) => Ok(()),
        Err(errno) => Err(errno.into()),
        Ok(_) => Err(io::Error::other("there is a file called nothing")),
    })
}
