//! What the agent itself writes to the audit log: a line of JSON for each container that comes, goes, or is refused.
//!
//! What containers are refused is written to the same file beside it: every line is appended whole, by one write. Names and
//! ids are somebody else's to choose, so the encoder escapes them, and none can end a line or begin one.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::time::SystemTime;

use nix::errno::Errno;
use nix::libc;
use serde::Serialize;
use shim::failure::Failure;

use super::Container;
use super::log::Log as CallLog;

/// What may happen to a container as a whole.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// A process of it is supervised from now on, by this policy.
    Accepted(&'a str),
    /// A process is not, for this reason.
    Refused(&'a str),
    /// Its supervisor has ended, as it does when nobody is left.
    Ended,
}

/// One line.
#[derive(Debug, Default, Serialize)]
struct Line<'a> {
    /// Seconds since the epoch, to the microsecond.
    time: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    container: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    event: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'a str>,
}

/// An open log.
#[derive(Debug)]
pub struct Log {
    file: File,
}

impl Log {
    /// Opens the log at `path`, to append to it; `-` is the standard output.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let open = || -> std::io::Result<File> {
            if path == Path::new("-") {
                return Ok(File::from(std::io::stdout().as_fd().try_clone_to_owned()?));
            }
            let mut options = OpenOptions::new();
            options.append(true).create(true).mode(0o600).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
            let file = options.open(path)?;
            let kind = file.metadata()?.file_type();
            // Whoever reads a FIFO may stop to, and every container would stop with it.
            if kind.is_file() || kind.is_char_device() {
                Ok(file)
            } else {
                Err(std::io::Error::from_raw_os_error(libc::EINVAL))
            }
        };
        let file = open().map_err(|error| {
            let errno = Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO));
            Failure::new(format!("write the audit log {}", path.display()), errno)
                .remedy("choose another file: a regular one, which never lets a container wait")
        })?;
        Ok(Self { file })
    }

    /// The same log, for what a container is refused.
    pub fn calls(&self) -> Option<CallLog> {
        self.file.try_clone().ok().map(CallLog::to)
    }

    /// Writes down what happened to a container; `None` stands for one that has not told who it is.
    pub fn event(&mut self, container: Option<&Container>, event: Event) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let line = match event {
            Event::Accepted(policy) => Line { event: "accepted", policy: Some(policy), ..Line::default() },
            Event::Refused(why) => Line { event: "refused", why: Some(why), ..Line::default() },
            Event::Ended => Line { event: "ended", ..Line::default() },
        };
        let line = Line {
            #[allow(clippy::cast_precision_loss)] // a double holds microseconds until the year 2255
            time: now.as_micros() as f64 / 1e6,
            container: container.map(|container| container.id.as_str()),
            name: container.and_then(|container| container.name.as_deref()),
            ..line
        };
        // A full disk loses lines, and stops no container.
        if let Ok(mut bytes) = serde_json::to_vec(&line) {
            bytes.push(b'\n');
            let _ = self.file.write_all(&bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_name_the_container_and_no_name_forges_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let container = Container { id: "0123".into(), name: Some("a\n{}\u{1b}".into()), ..Container::default() };
        let mut log = Log::open(&path).unwrap();
        log.event(Some(&container), Event::Accepted("default"));
        Log::open(&path).unwrap().event(Some(&Container { name: None, ..container }), Event::Ended);
        log.event(None, Event::Refused("it is a stranger"));
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 3);
        assert!(!text.contains('\u{1b}'));
        assert_eq!((&lines[0]["event"], &lines[0]["name"]), (&"accepted".into(), &"a\n{}\u{1b}".into()));
        assert_eq!((&lines[1]["event"], &lines[1]["container"]), (&"ended".into(), &"0123".into()));
        assert_eq!((lines[2].get("container"), &lines[2]["why"]), (None, &"it is a stranger".into()));
        let fifo = dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
        let _reader = OpenOptions::new().read(true).write(true).open(&fifo).unwrap();
        assert!(Log::open(&fifo).is_err() && Log::open(dir.path()).is_err());
    }
}
