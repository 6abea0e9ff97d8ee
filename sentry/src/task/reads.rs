//! What was read of the caller's memory, kept for the case that it makes the same call again ([`untold`](crate::supervise::untold)).

use std::io::Read as _;

use nix::libc;
use syscalls::args::UserPtr;
use syscalls::guest::Guest;

use super::Task;
use crate::platform::Platform;
use crate::supervise::untold::{Caller, Read};

impl<P: Platform> Task<'_, P> {
    /// Keeps what is read from now on.
    pub fn keep_what_is_read(&self) {
        self.reads.replace(Some(Vec::new()));
    }

    /// What was read since.
    pub fn what_was_read(&self) -> Vec<Read> {
        self.reads.take().unwrap_or_default()
    }

    pub(super) fn note_read(&self, at: UserPtr, bytes: &[u8]) {
        if let Some(reads) = &mut *self.reads.borrow_mut() {
            reads.push((at.0, bytes.to_vec()));
        }
    }
}

impl<P: Platform> Caller for Task<'_, P> {
    fn waits(&self) -> bool {
        self.still_pending().is_ok()
    }

    fn has(&self, reads: &[Read]) -> bool {
        reads.iter().all(|(at, bytes)| {
            let mut now = vec![0; bytes.len()];
            self.glance(UserPtr(*at), &mut now).is_ok() && now == *bytes
        })
    }

    fn began(&self) -> Option<u64> {
        let file = self.open_proc(format_args!("stat"), libc::O_RDONLY).ok()?;
        let mut text = String::new();
        std::fs::File::from(file).read_to_string(&mut text).ok()?;
        beginning(&text)
    }
}

/// When the thread of a line of `/proc/PID/stat` began: the 22nd word, counted behind the name, which may be anything.
fn beginning(line: &str) -> Option<u64> {
    line.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_stands_behind_any_name() {
        let line = "7 (a) 1 2 (b) S 1 7 7 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 98765 2 3";
        assert_eq!(beginning(line), Some(98765));
        assert_eq!(beginning("7 (a"), None);
        let own = std::fs::read_to_string("/proc/self/stat").unwrap();
        assert!(beginning(&own).is_some());
    }
}
