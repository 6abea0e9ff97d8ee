//! What does it cost to be answered by a supervisor at all?
//!
//! `sethostname` with a length that cannot be: our supervisor answers it without reading or opening anything. What is left
//! is the floor of every emulated call: the trap, two context switches, and two calls to receive and to answer.

use std::ffi::c_int;
use std::io;

use nix::errno::Errno;

use super::{Granted, Question};
use crate::stopwatch::Stint;
use crate::sys::name_nothing;

pub(super) const QUESTION: Question =
    Question::call("trapped", "a call that the supervisor answers unread (`sethostname`, refused)", 40_000, ask);

/// A length that no host name has.
const NO_LENGTH: c_int = -1;

fn ask(_: &Granted, stint: Stint) -> io::Result<f64> {
    stint.per_operation(|| match name_nothing(NO_LENGTH) {
        // The kernel asks for the capability first, and whoever has it is told of the length.
        Err(Errno::EPERM | Errno::EINVAL) => Ok(()),
        Err(errno) => Err(errno.into()),
        Ok(()) => Err(io::Error::other("the host name was changed")),
    })
}
