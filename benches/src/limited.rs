//! Commands that may not take forever.
//!
//! A subject that hangs would hang the whole run. Each command gets a process group of its own and a time limit, and is
//! killed with all of its group when that is over. What holds a pipe open longer than that is not waited for.

use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use crate::sys::pidfd;

/// How long output may stay away when the command has ended.
const PATIENCE: Duration = Duration::from_secs(2);

/// A command that runs.
pub struct Running {
    child: Child,
    deadline: Instant,
    limit: Duration,
    output: Receiver<String>,
    errors: Receiver<String>,
}

/// How a command ended, and what it said.
pub struct Ended {
    /// Its status; none if its time was up and it was killed.
    pub status: Option<ExitStatus>,
    limit: Duration,
    /// Its whole output.
    pub output: String,
    /// The last line that it complained with.
    pub complaint: String,
}

impl Ended {
    /// Whether it ended by itself and successfully.
    pub fn well(&self) -> bool {
        self.status.is_some_and(|status| status.success())
    }

    /// Why it failed: the time, the signal that ended it, or its last complaint.
    pub fn why(&self) -> String {
        let complaint = match self.complaint.trim() {
            "" => String::new(),
            complaint => format!(": {complaint}"),
        };
        let Some(status) = self.status else {
            return format!("took longer than {} s{complaint}", self.limit.as_secs_f64());
        };
        match status.signal() {
            Some(signal) => {
                let name = Signal::try_from(signal).map_or_else(|_| signal.to_string(), |signal| signal.to_string());
                format!("killed by {name}{complaint}")
            }
            None if status.success() => format!("ended with success{complaint}"),
            None => format!("failed with {status}{complaint}"),
        }
    }
}

impl Running {
    /// Starts `command`, which may take as long as `limit`.
    pub fn start(command: &mut Command, limit: Duration) -> io::Result<Self> {
        command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let (output, errors) = (child.stdout.take().map(lines), child.stderr.take().map(lines));
        let (Some(output), Some(errors)) = (output, errors) else { return Err(io::Error::other("no pipes")) };
        Ok(Self { child, deadline: Instant::now() + limit, limit, output, errors })
    }

    /// The command's process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line of output.
    pub fn line(&self) -> io::Result<String> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        self.output.recv_timeout(left).map_err(|_| io::Error::other(complaint(&self.errors.iter().collect::<Vec<_>>())))
    }

    /// Waits for its end, or kills it when its time is up.
    pub fn end(mut self) -> io::Result<Ended> {
        let status = if self.ends_in_time()? {
            Some(self.child.wait()?)
        } else {
            self.kill();
            None
        };
        let all = |lines: &Receiver<String>| {
            let until = Instant::now() + PATIENCE;
            let mut text = Vec::new();
            while let Ok(line) = lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                text.push(line);
            }
            text
        };
        let (output, errors) = (all(&self.output), all(&self.errors));
        Ok(Ended { status, limit: self.limit, output: output.join("\n"), complaint: complaint(&errors) })
    }

    fn ends_in_time(&self) -> io::Result<bool> {
        let ended = pidfd(self.id())?;
        loop {
            let left = self.deadline.saturating_duration_since(Instant::now());
            let mut waiting = [PollFd::new(ended.as_fd(), PollFlags::POLLIN)];
            match poll(&mut waiting, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)) {
                Ok(0) if left.is_zero() => return Ok(false),
                Ok(0) | Err(Errno::EINTR) => {}
                Ok(_) => return Ok(true),
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    fn kill(&mut self) {
        // Nothing to kill when it has ended; its number is not another's, for it has not been waited for before that.
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            // Helpers in sessions of their own are not in the group.
            let helpers = below(self.id());
            let number = |pid: u32| i32::try_from(pid).ok().filter(|pid| *pid > 1).map(Pid::from_raw);
            if let Some(group) = number(self.id()) {
                let _ = killpg(group, Signal::SIGKILL);
            }
            for helper in helpers.into_iter().filter_map(number) {
                let _ = kill(helper, Signal::SIGKILL);
            }
            let _ = self.child.wait();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// All that descend from `pid`.
fn below(pid: u32) -> Vec<u32> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let children = children.split_ascii_whitespace().filter_map(|pid| pid.parse().ok());
    children.flat_map(|child| std::iter::once(child).chain(below(child))).collect()
}

/// The last line that says something.
fn complaint(lines: &[String]) -> String {
    lines.iter().rev().find(|line| !line.trim().is_empty()).cloned().unwrap_or_default()
}

/// Reads lines in a thread of its own, until the other end is closed.
fn lines(from: impl Read + Send + 'static) -> Receiver<String> {
    let (send, receive) = channel();
    thread::spawn(move || {
        for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
            if send.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                return;
            }
        }
    });
    receive
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(script: &str, limit: Duration) -> io::Result<Ended> {
        Running::start(Command::new("sh").args(["-c", script]), limit)?.end()
    }

    #[test]
    fn output_and_complaints_are_told_apart() {
        let ended = run("echo one; echo two; echo no >&2; exit 3", Duration::from_secs(10)).unwrap();
        assert_eq!((ended.output.as_str(), ended.complaint.as_str()), ("one\ntwo", "no"));
        assert_eq!(ended.why(), "failed with exit status: 3: no");
        assert_eq!(run("kill -SEGV $$", Duration::from_secs(10)).unwrap().why(), "killed by SIGSEGV");
    }

    #[test]
    fn what_hangs_is_killed_with_its_children() {
        let start = Instant::now();
        let ended = run("echo here; sleep 60 & setsid sleep 60", Duration::from_millis(500)).unwrap();
        assert!(ended.why().contains("took longer") && !ended.well(), "{}", ended.why());
        assert_eq!(ended.output, "here", "what it said before is kept");
        assert!(start.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn a_line_is_waited_for_and_no_longer_than_the_limit() {
        let mut command = Command::new("sh");
        let running = Running::start(command.args(["-c", "echo here; sleep 60"]), Duration::from_secs(10)).unwrap();
        assert_eq!(running.line().unwrap(), "here");
        let mut silent = Command::new("sh");
        let running = Running::start(silent.args(["-c", "echo why >&2"]), Duration::from_secs(10)).unwrap();
        assert_eq!(running.line().unwrap_err().to_string(), "why");
    }
}
