//! What was read of the caller's memory, kept for the case that it makes the same call again ([`untold`](crate::supervise::untold)).

use std::io::Read as _;
use std::os::fd::AsFd;

use nix::libc;
use shim::sys;
use syscalls::args::UserPtr;
use syscalls::guest::Guest;

use super::Task;
use crate::entry::Entry;
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

    fn is_called_away(&self) -> bool {
        // Also of a thread that has its answer already.
        let Ok(name) = Entry::new(format_args!("{}/status", self.notification.tid)) else { return false };
        let file = name.name().and_then(|name| {
            sys::open_at(Some(self.shared.proc.as_fd()), name, libc::O_RDONLY | libc::O_CLOEXEC, 0, 0)
        });
        file.and_then(|file| super::whole(&file)).is_ok_and(|status| has_signals(&status))
    }
}

/// Whether `/proc/TID/status` tells of a signal that is pending and not blocked.
fn has_signals(status: &str) -> bool {
    let set = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        line.and_then(|line| u64::from_str_radix(line.trim(), 16).ok()).unwrap_or(0)
    };
    (set("SigPnd:") | set("ShdPnd:")) & !set("SigBlk:") != 0
}

/// When the thread of a line of `/proc/PID/stat` began: the 22nd word, counted behind the name, which may be anything.
fn beginning(line: &str) -> Option<u64> {
    line.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_calls_away_unless_it_is_blocked() {
        let status = "SigPnd:\t0000000000000000\nShdPnd:\t0000000000002000\nSigBlk:\t0000000000000000\n";
        assert!(has_signals(status));
        assert!(!has_signals(&status.replace("SigBlk:\t0000000000000000", "SigBlk:\t0000000000002000")));
        assert!(!has_signals(""));
    }

    #[test]
    fn the_beginning_stands_behind_any_name() {
        let line = "7 (a) 1 2 (b) S 1 7 7 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 98765 2 3";
        assert_eq!(beginning(line), Some(98765));
        assert_eq!(beginning("7 (a"), None);
        let own = std::fs::read_to_string("/proc/self/stat").unwrap();
        assert!(beginning(&own).is_some());
    }
}
