//! One call of a runtime's command line, with a deadline.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::Stand;

/// How long a runtime may take for one command.
const DEADLINE: Duration = Duration::from_secs(20);

/// What came of a command.
#[derive(Clone, Debug)]
pub struct Called {
    /// Whether it ended with 0.
    pub ok: bool,
    /// What it wrote to its standard output.
    pub out: String,
    /// What it wrote to its standard error and log.
    pub err: String,
}

impl Stand {
    /// The runtime with the options that every call has, without a verb.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.runtime[0]);
        command.args(&self.runtime[1..]).arg("--root").arg(self.directory.join("state"));
        // Not the null device: crun gives what it finds there to the container's user, and that one is the host's.
        command.stdin(std::io::pipe().map_or_else(|_| Stdio::null(), |(empty, _)| empty.into()));
        command.current_dir(&self.directory);
        command
    }

    /// The first line of what it says about its version.
    pub fn version(&self) -> String {
        let mut command = Command::new(&self.runtime[0]);
        command.args(&self.runtime[1..]).arg("--version").stdin(Stdio::null()).stderr(Stdio::null());
        let said = command.output().map(|output| output.stdout).unwrap_or_default();
        String::from_utf8_lossy(&said).lines().next().unwrap_or_default().to_owned()
    }

    /// Calls the runtime, and waits until the runtime itself has ended, whatever it leaves behind.
    pub fn call<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Called {
        let mut command = self.command();
        command.args(arguments);
        self.finish(command, &self.directory.join("call"))
    }

    /// Runs a prepared command with its output in files that begin with `prefix`.
    pub(super) fn finish(&self, mut command: Command, prefix: &Path) -> Called {
        let (out, err) = (named(prefix, "out"), named(prefix, "err"));
        let failed = |why: String| Called { ok: false, out: String::new(), err: why };
        let (Ok(stdout), Ok(stderr)) = (File::create(&out), File::create(&err)) else {
            return failed(format!("cannot write {}", out.display()));
        };
        // A group of its own: what is killed at the deadline is all of it.
        command.stdout(stdout).stderr(stderr).process_group(0);
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => return failed(format!("{}: {error}", self.runtime[0])),
        };
        let began = Instant::now();
        let mut pause = Duration::from_micros(500);
        let status = loop {
            match child.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) if began.elapsed() < DEADLINE => std::thread::sleep(pause),
                _ => {
                    let group = nix::unistd::Pid::from_raw(-child.id().cast_signed());
                    let _ = nix::sys::signal::kill(group, nix::sys::signal::Signal::SIGKILL);
                    let _ = child.wait();
                    return failed(format!("did not end within {} s", DEADLINE.as_secs()));
                }
            }
            pause = (pause * 2).min(Duration::from_millis(10));
        };
        let text = |path: &Path| String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned();
        Called { ok: status.success(), out: text(&out), err: text(&err).trim().to_owned() }
    }
}

fn named(prefix: &Path, what: &str) -> PathBuf {
    let mut name = prefix.as_os_str().to_owned();
    name.push(format!(".{what}"));
    PathBuf::from(name)
}
