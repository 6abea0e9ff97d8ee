//! The audit log of containers: a line of JSON for each call that was refused, or done in the kernel's stead.
//!
//! What a line says comes from a supervisor that a container may have hijacked, and names are the container's to choose:
//! the encoder escapes them, so that no name ends a line or begins one. Lines are only added, by one write each, so that
//! several keepers may share a file. One keeper writes no more than [`MOST`] bytes.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::libc;
use serde::Serialize;
use shim::failure::Failure;
use shim::message::ToMonitor;

use super::Container;

/// What one keeper may write: a container that is refused something else all the time must not fill the disk.
const MOST: u64 = 64 << 20;

/// One line.
#[derive(Serialize)]
struct Line<'a> {
    /// Seconds since the epoch, to the microsecond.
    time: f64,
    container: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    pid: i32,
    tid: i32,
    comm: &'a str,
    syscall: &'a str,
    what: &'a str,
    verdict: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<&'a str>,
}

/// A line about the log itself or the supervisor.
#[derive(Serialize)]
struct Note<'a> {
    container: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    note: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
}

/// An open log.
#[derive(Debug)]
pub struct Log {
    file: File,
    written: u64,
}

impl AsFd for Log {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Log {
    /// Opens or makes the log at `path`, a file that only its owner reads.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let failed = |error: &std::io::Error| {
            let errno = Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO));
            Failure::new(format!("write the audit log {}", path.display()), errno)
                .remedy("name another one with `audit` in containers.toml")
        };
        let mut options = OpenOptions::new();
        options.append(true).create(true).mode(0o600).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
        let file = options.open(path).map_err(|error| failed(&error))?;
        let kind = file.metadata().map_err(|error| failed(&error))?.file_type();
        if !kind.is_file() && !kind.is_char_device() {
            return Err(failed(&std::io::Error::from_raw_os_error(libc::EINVAL)));
        }
        Ok(Self { file, written: 0 })
    }

    /// A log that is open already.
    pub fn to(file: File) -> Self {
        Self { file, written: 0 }
    }

    /// Writes down what the supervisor of `container` tells, if it is for the log.
    pub fn note(&mut self, container: &Container, message: &ToMonitor) {
        match message {
            ToMonitor::Audited { seconds, nanoseconds, pid, tid, comm, call, what, remedy } => {
                let line = serde_json::to_vec(&Line {
                    #[allow(clippy::cast_precision_loss)] // a double holds microseconds until the year 2255
                    time: *seconds as f64 + f64::from(*nanoseconds / 1000) / 1e6,
                    container: &container.id,
                    name: container.name.as_deref(),
                    pid: *pid,
                    tid: *tid,
                    comm,
                    syscall: call,
                    what,
                    verdict: if remedy.is_some() { "refused" } else { "done" },
                    remedy: remedy.as_deref(),
                });
                self.write(container, line);
            }
            ToMonitor::DenialCount { total, .. } => self.say(container, "calls refused in all", Some(*total)),
            ToMonitor::Failed(failure) => self.say(container, &failure.to_string(), None),
            _ => {}
        }
    }

    /// A line about the supervision itself.
    pub fn say(&mut self, container: &Container, note: &str, count: Option<u64>) {
        let name = container.name.as_deref();
        self.write(container, serde_json::to_vec(&Note { container: &container.id, name, note, count }));
    }

    fn write(&mut self, container: &Container, line: serde_json::Result<Vec<u8>>) {
        let Ok(mut line) = line else { return };
        if self.written >= MOST {
            return;
        }
        line.push(b'\n');
        self.written += line.len() as u64;
        // A full disk loses lines, and does not stop the container.
        let _ = self.file.write_all(&line);
        if self.written >= MOST {
            let note = Note {
                container: &container.id,
                name: container.name.as_deref(),
                note: "the log is full",
                count: None,
            };
            let _ = serde_json::to_vec(&note).map(|line| self.file.write_all(&[&line[..], b"\n"].concat()));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn no_name_forges_a_line_and_two_logs_share_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let container = Container { id: "a\nb".into(), name: Some("n".into()), ..Container::default() };
        let mut logs = [Log::open(&path).unwrap(), Log::open(&path).unwrap()];
        let told = |remedy| ToMonitor::Audited {
            seconds: 7,
            nanoseconds: 5000,
            pid: 1,
            tid: 2,
            comm: "x\u{1b}[2J".into(),
            call: "mount".into(),
            what: "\n{\"verdict\":\"done\"}".into(),
            remedy,
        };
        for log in &mut logs {
            log.note(&container, &told(Some("no".into())));
            log.note(&container, &told(None));
        }
        logs[0].note(&container, &ToMonitor::DenialCount { total: 3, dropped: 0 });
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 5);
        let verdicts: Vec<_> = lines[..4].iter().map(|line| line["verdict"].clone()).collect();
        assert_eq!(verdicts, ["refused", "done", "refused", "done"]);
        assert_eq!((&lines[0]["container"], &lines[4]["count"]), (&"a\nb".into(), &3.into()));
        assert!(!text.contains('\u{1b}'));
    }
}
