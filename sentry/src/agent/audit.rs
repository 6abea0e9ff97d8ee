//! The audit log of containers: a line of JSON for each that comes and goes, and for each call that was refused.
//!
//! One log may serve many containers, and several processes may write to it: a line is appended whole, in one call. Names and
//! paths are the container's to choose, so the encoder escapes them, and none can end a line or begin one. Each writer numbers
//! its lines: a missing one shows.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::SystemTime;

use nix::errno::Errno;
use nix::libc;
use serde::Serialize;
use shim::failure::Failure;
use shim::message::ToMonitor;

use super::Container;

/// One line.
#[derive(Debug, Default, Serialize)]
struct Line<'a> {
    seq: u64,
    /// Seconds since the epoch, to the microsecond.
    time: f64,
    /// What happened: `accepted`, `refused`, `ended`, `denied`, `allowed`, `dropped`, `lost`.
    event: &'a str,
    /// The container's name, or else its id.
    #[serde(skip_serializing_if = "Option::is_none")]
    container: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tid: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    syscall: Option<&'a str>,
    /// What the call was about.
    #[serde(skip_serializing_if = "Option::is_none")]
    what: Option<&'a str>,
    /// The bytes of a path in hexadecimal, when they are not text.
    #[serde(skip_serializing_if = "Option::is_none")]
    path_hex: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    errno: Option<String>,
    /// What would allow it, or why it was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
}

/// An open log.
#[derive(Debug)]
pub struct Log {
    file: File,
    lines: u64,
    failed: Option<std::io::Error>,
}

/// Something that happened to a container as a whole.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// It is supervised from now on, by this policy.
    Accepted(&'a str),
    /// It is not.
    Refused(&'a str),
    /// Nobody is left in it.
    Ended,
    /// Its supervisor has ended before it.
    Lost(&'a str),
}

impl Log {
    /// Opens the log at `path`, to append to it; `-` is the standard output.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let open = || -> std::io::Result<File> {
            if path == Path::new("-") {
                return Ok(File::from(std::io::stdout().as_fd().try_clone_to_owned()?));
            }
            // Whoever reads a FIFO or a terminal may stop to, and the containers would stop with it.
            let mut options = OpenOptions::new();
            options.append(true).create(true).mode(0o600).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC);
            let file = options.open(path)?;
            if !file.metadata()?.is_file() {
                return Err(std::io::Error::from_raw_os_error(libc::EINVAL));
            }
            Ok(file)
        };
        let file = open().map_err(|error| {
            let errno = Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO));
            Failure::new(format!("write the audit log {}", path.display()), errno)
                .remedy("choose another file: a regular one, which never lets a container wait")
        })?;
        Ok(Self { file, lines: 0, failed: None })
    }

    /// The same log for another process.
    pub fn another(&self) -> Result<Self, Failure> {
        let file = self.file.try_clone().map_err(|_| Failure::new("hold the audit log", Errno::last()))?;
        Ok(Self { file, lines: 0, failed: None })
    }

    /// Writes down what happened to a container; `None` stands for one that has not told who it is.
    pub fn event(&mut self, container: Option<&Container>, event: Event) {
        let line = match event {
            Event::Accepted(policy) => Line { event: "accepted", policy: Some(policy), ..Line::default() },
            Event::Refused(why) => Line { event: "refused", why: Some(why), ..Line::default() },
            Event::Ended => Line { event: "ended", ..Line::default() },
            Event::Lost(why) => Line { event: "lost", why: Some(why), ..Line::default() },
        };
        self.write(container, line);
    }

    /// Writes down what a container's supervisor tells, if it is a decision.
    pub fn note(&mut self, container: &Container, message: &ToMonitor) {
        let errno;
        let text;
        let line = match message {
            ToMonitor::Denied { call, what, remedy } => Line {
                event: "denied",
                syscall: Some(call),
                what: Some(what),
                remedy: Some(remedy).filter(|remedy| !remedy.is_empty()).map(String::as_str),
                ..Line::default()
            },
            ToMonitor::DenialCount { dropped, .. } if *dropped > 0 => {
                Line { event: "dropped", count: Some(*dropped), ..Line::default() }
            }
            ToMonitor::DecisionsDropped(dropped) => Line { event: "dropped", count: Some(*dropped), ..Line::default() },
            ToMonitor::Decided { seconds, nanoseconds, pid, tid, call, path, rule, errno: number } => {
                text = String::from_utf8_lossy(path);
                let is_text = std::str::from_utf8(path).is_ok();
                errno = number.map(|number| format!("{:?}", Errno::from_raw(number)));
                Line {
                    #[allow(clippy::cast_precision_loss)] // a double holds microseconds until the year 2255
                    time: *seconds as f64 + f64::from(*nanoseconds / 1000) / 1e6,
                    event: if errno.is_some() { "denied" } else { "allowed" },
                    pid: Some(*pid),
                    tid: Some(*tid),
                    syscall: Some(call),
                    what: Some(&text),
                    path_hex: (!is_text).then(|| path.iter().map(|byte| format!("{byte:02x}")).collect()),
                    rule: rule.as_deref(),
                    errno,
                    ..Line::default()
                }
            }
            ToMonitor::Failed(failure) => {
                text = failure.to_string().into();
                Line { event: "lost", why: Some(&text), ..Line::default() }
            }
            ToMonitor::Lost(what) => Line { event: "lost", why: Some(what), ..Line::default() },
            _ => return,
        };
        self.write(Some(container), line);
    }

    fn write(&mut self, container: Option<&Container>, line: Line) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let line = Line {
            seq: self.lines,
            #[allow(clippy::cast_precision_loss)] // as above
            time: if line.time == 0.0 { now.as_micros() as f64 / 1e6 } else { line.time },
            container: container.map(|container| container.name.as_ref().unwrap_or(&container.id).as_str()),
            id: container.map(|container| container.id.as_str()),
            ..line
        };
        self.lines += 1;
        let written = serde_json::to_vec(&line).map_err(std::io::Error::from).and_then(|mut bytes| {
            bytes.push(b'\n');
            self.file.write_all(&bytes)
        });
        if let Err(error) = written {
            self.failed.get_or_insert(error);
        }
    }

    /// Why the log is not whole, if it is not.
    pub fn trouble(&mut self) -> Option<std::io::Error> {
        self.failed.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_name_the_container_and_no_name_forges_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = Log::open(&path).unwrap();
        let container =
            Container { id: "0123".into(), name: Some("a\n{\"seq\":7}\u{1b}".into()), ..Container::default() };
        let nameless = Container { id: "4567".into(), ..Container::default() };
        log.event(Some(&container), Event::Accepted("default"));
        log.note(
            &container,
            &ToMonitor::Denied { call: "mount".into(), what: "ext4 on /mnt".into(), remedy: "none".into() },
        );
        log.another().unwrap().event(Some(&nameless), Event::Ended);
        log.event(None, Event::Refused("it is a stranger"));
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 4);
        assert!(!text.contains('\u{1b}'));
        assert_eq!((&lines[1]["event"], &lines[1]["syscall"]), (&"denied".into(), &"mount".into()));
        assert_eq!((&lines[1]["container"], &lines[1]["id"]), (&"a\n{\"seq\":7}\u{1b}".into(), &"0123".into()));
        assert_eq!((&lines[2]["container"], &lines[2]["event"]), (&"4567".into(), &"ended".into()));
        assert!(lines[3].get("container").is_none());
        assert!(log.trouble().is_none());
        assert!(Log::open(dir.path()).is_err());
    }
}
