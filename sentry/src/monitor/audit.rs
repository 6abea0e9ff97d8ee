//! The audit log: a line of JSON for every decision about a path, written outside of the sandbox.
//!
//! What a line says comes from the supervisor. Paths are the guest's to choose, so they are escaped by the encoder, and no
//! name can end a line or begin one. Lines are numbered: a missing one shows.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::libc;
use serde::Serialize;
use shim::failure::Failure;
use shim::message::ToMonitor;

/// One line.
#[derive(Serialize)]
struct Line<'a> {
    seq: u64,
    /// Seconds since the epoch, to the microsecond.
    time: f64,
    pid: i32,
    tid: i32,
    syscall: &'a str,
    path: String,
    /// The bytes of the path in hexadecimal, when they are not text.
    #[serde(skip_serializing_if = "Option::is_none")]
    path_hex: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<&'a str>,
    verdict: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    errno: Option<String>,
}

/// The last line, when some are missing.
#[derive(Serialize)]
struct Missing {
    seq: u64,
    dropped: u64,
}

/// An open log.
#[derive(Debug)]
pub struct Log {
    file: BufWriter<File>,
    name: String,
    lines: u64,
    failed: Option<std::io::Error>,
}

impl Log {
    /// Makes or empties the log at `path`.
    pub fn create(path: &Path) -> Result<Self, Failure> {
        // Whoever reads a FIFO or a terminal may stop to, and the sandbox would stop with it: so could what is inside.
        let open = || {
            let file = OpenOptions::new().write(true).create(true).custom_flags(libc::O_NONBLOCK).open(path)?;
            if !file.metadata()?.is_file() {
                return Err(std::io::Error::from_raw_os_error(libc::EINVAL));
            }
            file.set_len(0)?;
            Ok(file)
        };
        let file = open().map_err(|error: std::io::Error| {
            let errno = Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO));
            let remedy = "choose another --audit FILE: a regular one, which never lets the sandbox wait";
            Failure::new(format!("write the audit log {}", path.display()), errno).remedy(remedy)
        })?;
        Ok(Self { file: BufWriter::new(file), name: path.display().to_string(), lines: 0, failed: None })
    }

    /// Writes down what the supervisor tells, if it is a decision.
    pub fn note(&mut self, message: &ToMonitor) {
        let line = match message {
            ToMonitor::Decided { seconds, nanoseconds, pid, tid, call, path, rule, errno } => {
                let text = String::from_utf8_lossy(path);
                let is_text = std::str::from_utf8(path).is_ok();
                serde_json::to_string(&Line {
                    seq: self.lines,
                    #[allow(clippy::cast_precision_loss)] // a double holds microseconds until the year 2255
                    time: *seconds as f64 + f64::from(*nanoseconds / 1000) / 1e6,
                    pid: *pid,
                    tid: *tid,
                    syscall: call,
                    path: text.into_owned(),
                    path_hex: (!is_text).then(|| path.iter().map(|byte| format!("{byte:02x}")).collect()),
                    rule: rule.as_deref(),
                    verdict: if errno.is_some() { "refused" } else { "allowed" },
                    errno: errno.map(|errno| format!("{:?}", Errno::from_raw(errno))),
                })
            }
            ToMonitor::DecisionsDropped(dropped) => {
                serde_json::to_string(&Missing { seq: self.lines, dropped: *dropped })
            }
            _ => return,
        };
        self.lines += 1;
        let written = line.map_err(std::io::Error::from).and_then(|line| writeln!(self.file, "{line}"));
        if let Err(error) = written {
            self.failed.get_or_insert(error);
        }
    }

    /// Brings the last lines to the file. The error names the log: it is not complete then.
    pub fn finish(mut self) -> Result<(), Failure> {
        let flushed = self.file.flush();
        match self.failed.take().map_or(flushed, Err) {
            Ok(()) => Ok(()),
            Err(error) => {
                let errno = Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO));
                Err(Failure::new(format!("write the whole audit log {}", self.name), errno)
                    .remedy("the program ran; what it did is not all on record"))
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_a_regular_file() {
        let dir = tempfile::tempdir().unwrap();
        let (fifo, file) = (dir.path().join("fifo"), dir.path().join("log"));
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
        assert!(Log::create(&fifo).is_err(), "without a reader");
        let _reader = OpenOptions::new().read(true).write(true).open(&fifo).unwrap();
        let message = Log::create(&fifo).unwrap_err().to_string();
        assert!(message.contains("a regular one"), "{message}");
        assert!(Log::create(Path::new("/dev/null")).is_err());
        std::fs::write(&file, "old").unwrap();
        Log::create(&file).unwrap().finish().unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), b"");
    }

    #[test]
    fn no_name_forges_a_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = Log::create(&path).unwrap();
        for name in [b"/a\n{\"seq\":7}".to_vec(), b"/\xff\x1b[2J".to_vec()] {
            log.note(&ToMonitor::Decided {
                seconds: 1_700_000_000,
                nanoseconds: 5000,
                pid: 2,
                tid: 3,
                call: "openat".into(),
                path: name,
                rule: Some("--hide a".into()),
                errno: Some(2),
            });
        }
        log.note(&ToMonitor::DecisionsDropped(3));
        log.finish().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[0]["path"], "/a\n{\"seq\":7}");
        assert_eq!((&lines[0]["errno"], &lines[0]["verdict"]), (&"ENOENT".into(), &"refused".into()));
        assert_eq!(lines[1]["path_hex"], "2fff1b5b324a");
        assert!(!text.contains('\u{1b}'));
        assert_eq!(lines[2]["dropped"], 3);
    }
}
