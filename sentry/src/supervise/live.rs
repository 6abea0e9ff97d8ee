//! `--proc-files live`: files that tell how large the sandbox is, written anew for each open of them.
//!
//! The same names are covered by files from the start, so that whoever comes to them past the sentry, by running or
//! mapping what is open already, finds sizes and never the machine's.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;

use super::watch::Usage;
use crate::monitor::numbers;

/// Longer than any `/proc/stat`.
const LONGEST: usize = 1 << 22;

/// What is told.
#[derive(Debug, Default)]
pub struct Live {
    /// The machine's `/proc/meminfo` as it was at start, and the limit.
    pub memory: Option<(String, u64)>,
    /// The processors of the sandbox.
    pub cpus: Option<Vec<usize>>,
}

impl Live {
    /// What is to be read now in the file called `name` in the view; `None` if that is not one of these.
    pub fn content(&self, name: &OsStr, proc: &OwnedFd, usage: &Usage) -> Option<Result<Vec<u8>, Errno>> {
        // What lies there lost the name that it was made under when the view was done.
        let name = name.as_encoded_bytes();
        match (name.strip_suffix(b" (deleted)").unwrap_or(name), &self.memory, &self.cpus) {
            (b"/proc/meminfo", Some((machine, limit)), _) => {
                Some(Ok(numbers::meminfo(machine, *limit, usage.now().0).into_bytes()))
            }
            (b"/proc/stat", _, Some(cpus)) => {
                Some(read(proc).map(|text| numbers::stat(&String::from_utf8_lossy(&text), cpus).into_bytes()))
            }
            _ => None,
        }
    }

    /// Whether there is none at all.
    pub fn is_empty(&self) -> bool {
        self.memory.is_none() && self.cpus.is_none()
    }
}

/// The machine's `/proc/stat`, from the supervisor's own procfs.
fn read(proc: &OwnedFd) -> Result<Vec<u8>, Errno> {
    let file = shim::sys::open_at(Some(proc.as_fd()), c"stat", libc::O_RDONLY | libc::O_CLOEXEC, 0, 0)?;
    let mut text = Vec::new();
    let mut buffer = [0; 16 * 1024];
    loop {
        match nix::unistd::read(&file, &mut buffer)? {
            0 => return Ok(text),
            length => text.extend_from_slice(&buffer[..length]),
        }
        if text.len() > LONGEST {
            return Err(Errno::EFBIG);
        }
    }
}
