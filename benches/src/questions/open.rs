//! What does opening a file cost?
//!
//! Opens a file of the granted directory for reading and closes it again. This is where rules about files bite:
//! Landlock, overlays, and a supervisor that opens on the program's behalf.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStringExt;

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use super::{Granted, Question};
use crate::stopwatch::Stint;

pub(super) const QUESTION: Question =
    Question::call("open", "`open` and `close` in the granted directory", 30_000, ask);

fn ask(granted: &Granted, stint: Stint) -> io::Result<f64> {
    let data = CString::new(granted.data().into_os_string().into_vec())?;
    stint.per_operation(|| {
        drop(open(data.as_c_str(), OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?);
        Ok(())
    })
}
