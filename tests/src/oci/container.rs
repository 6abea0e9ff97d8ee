//! A container that a runtime has created; removed by force when a test is through with it.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use serde_json::Value;

use super::{Bundle, Called};

/// How long a container's program may take.
const DEADLINE: Duration = Duration::from_secs(20);

/// A created container.
#[derive(Debug)]
pub struct Container<'a> {
    bundle: &'a Bundle<'a>,
    /// Its first process, as the host sees it.
    pub pid: i32,
}

impl<'a> Container<'a> {
    pub(super) fn created(bundle: &'a Bundle<'a>) -> Result<Self, String> {
        let text = std::fs::read_to_string(bundle.path.join("pid")).unwrap_or_default();
        let pid = text.trim().parse().map_err(|_| format!("the pid file holds {text:?}"))?;
        Ok(Self { bundle, pid })
    }

    /// Calls a verb on it, with further words behind its id.
    pub fn call(&self, verb: &str, more: &[&str]) -> Called {
        self.bundle.stand.call([verb, &self.bundle.id].iter().chain(more))
    }

    fn must(&self, verb: &str, more: &[&str]) -> Result<(), String> {
        let called = self.call(verb, more);
        if called.ok { Ok(()) } else { Err(format!("{verb} failed: {}", called.err)) }
    }

    /// Starts it.
    pub fn start(&self) -> Result<(), String> {
        self.must("start", &[])
    }

    /// Sends a signal.
    pub fn kill(&self, signal: &str) -> Result<(), String> {
        self.must("kill", &[signal])
    }

    /// Deletes it.
    pub fn delete(&self) -> Result<(), String> {
        self.must("delete", &[])
    }

    /// What the runtime says of it.
    pub fn state(&self) -> Result<Value, String> {
        let called = self.call("state", &[]);
        if !called.ok {
            return Err(format!("state failed: {}", called.err));
        }
        serde_json::from_str(&called.out).map_err(|error| format!("state says {:?}: {error}", called.out))
    }

    /// Its status; empty if there is none.
    pub fn status(&self) -> Result<String, String> {
        Ok(self.state()?["status"].as_str().unwrap_or_default().to_owned())
    }

    /// What its program has written so far.
    pub fn output(&self) -> String {
        let text = std::fs::read(self.bundle.path.join("io.out")).unwrap_or_default();
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Waits until its program has written `text`.
    pub fn says(&self, text: &str) -> Result<(), String> {
        let began = Instant::now();
        while !self.output().contains(text) {
            if began.elapsed() > DEADLINE {
                return Err(format!("the program said {:?} instead of {text:?}", self.output()));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Waits for its end, as its parent: the exit code, or 128+n for a signal.
    pub fn wait(&self) -> Result<i32, String> {
        let began = Instant::now();
        let mut pause = Duration::from_micros(200);
        while began.elapsed() < DEADLINE {
            match waitpid(Pid::from_raw(self.pid), Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(_, code)) => return Ok(code),
                Ok(WaitStatus::Signaled(_, signal, _)) => return Ok(128 + signal as i32),
                Ok(_) => {}
                Err(error) => return Err(format!("pid {} is not ours to wait for: {error}", self.pid)),
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(10));
        }
        Err("the program did not end".to_owned())
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        if self.bundle.stand.directory.join("state").join(&self.bundle.id).exists() {
            let _ = self.bundle.stand.call(["delete", "--force", &self.bundle.id]);
        }
        if waitpid(Pid::from_raw(self.pid), Some(WaitPidFlag::WNOHANG)) == Ok(WaitStatus::StillAlive) {
            let _ = kill(Pid::from_raw(self.pid), Signal::SIGKILL);
            let _ = waitpid(Pid::from_raw(self.pid), None);
        }
    }
}
