//! Running a subject to its end, or to the end of our patience.
//!
//! Subjects are other people's programs: one may hang, fill a pipe, or leave processes behind that keep the pipe open.
//! So nothing here waits for end of file alone, and what is left of a subject is swept away before the next one starts.

use std::ffi::OsString;
use std::io::{ErrorKind, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

use crate::questions::memory;
use crate::sys::pidfd;

/// Everything a subject may write; more is not kept.
const KEPT_BYTES: usize = 64 * 1024;

/// What a subject left.
#[derive(Debug)]
pub struct Ended {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Ended {
    /// One line for a report about why this did not work.
    pub fn complaint(&self) -> String {
        let said = self.stderr.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("it said nothing");
        match (self.status.code(), self.status.signal()) {
            (Some(code), _) => format!("exit code {code}: {said}"),
            (None, Some(signal)) => format!("signal {signal}: {said}"),
            (None, None) => said.to_owned(),
        }
    }
}

/// Adopts orphans of this process's descendants from now on, so that no part of a sandbox gets out of sight.
pub fn adopt_orphans() -> Result<()> {
    nix::sys::prctl::set_child_subreaper(true).context("cannot adopt orphans: the kernel refuses a subreaper")
}

/// Runs `command` in `directory` until it ends; a run longer than `patience` is an error.
pub fn run(command: &[OsString], directory: &Path, patience: Duration) -> Result<Ended> {
    let mut running = Running::start(command, directory)?;
    let result = running.until(patience, |_| false);
    let stopped = running.sweep();
    match result? {
        Some(status) => {
            stopped?;
            Ok(Ended { status, stdout: text(&running.stdout), stderr: text(&running.stderr) })
        }
        None => bail!("no end after {} s", patience.as_secs()),
    }
}

/// Runs `command` until it has written `word`, looks at it while it still runs, and ends it.
pub fn look<T>(
    command: &[OsString],
    directory: &Path,
    patience: Duration,
    word: &str,
    look: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let mut running = Running::start(command, directory)?;
    let outcome = match running.until(patience, |stdout| text(stdout).contains(word)) {
        Ok(None) if text(&running.stdout).contains(word) => look(),
        Ok(None) => Err(anyhow::anyhow!("not ready after {} s", patience.as_secs())),
        Ok(Some(status)) => {
            let ended = Ended { status, stdout: text(&running.stdout), stderr: text(&running.stderr) };
            Err(anyhow::anyhow!("{}", ended.complaint()))
        }
        Err(error) => Err(error),
    };
    running.sweep()?;
    outcome
}

struct Running {
    child: Child,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Running {
    fn start(command: &[OsString], directory: &Path) -> Result<Self> {
        let (program, arguments) = command.split_first().context("an empty command: name a program")?;
        let child = Command::new(program)
            .args(arguments)
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {}: is it installed?", program.display()))?;
        for pipe in [child.stdout.as_ref().map(AsFd::as_fd), child.stderr.as_ref().map(AsFd::as_fd)] {
            fcntl(pipe.context("no pipe to the subject")?, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        }
        Ok(Self { child, stdout: Vec::new(), stderr: Vec::new() })
    }

    /// Collects output until the subject ends (its status), or it has been `enough` or too long (none).
    fn until(&mut self, patience: Duration, enough: impl Fn(&[u8]) -> bool) -> Result<Option<ExitStatus>> {
        let end = pidfd(self.child.id()).context("cannot watch the subject: the kernel lacks pidfd_open")?;
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            let ended = wait(end.as_fd(), &self.child, left)?;
            let more_out = drain(self.child.stdout.as_mut(), &mut self.stdout)?;
            let more_err = drain(self.child.stderr.as_mut(), &mut self.stderr)?;
            if !more_out {
                self.child.stdout = None;
            }
            if !more_err {
                self.child.stderr = None;
            }
            if ended {
                return Ok(Some(self.child.wait()?));
            }
            if enough(&self.stdout) {
                return Ok(None);
            }
        }
    }

    /// Kills and reaps whatever is left of the subject; the subject itself is reaped by its handle.
    ///
    /// Everything below this process was started for the subject, for only one runs at a time.
    fn sweep(&mut self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let left = memory::descendants(std::process::id())?;
            if left.is_empty() {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("{} processes of the subject cannot be ended: look for them with ps", left.len());
            }
            for &process in &left {
                // One that has just ended is gone already, which is what was wanted.
                let _ = i32::try_from(process).map(|process| kill(Pid::from_raw(process), Signal::SIGKILL));
            }
            self.child.try_wait()?;
            reap_orphans(self.child.id());
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Reaps adopted children, not `own`, whose status its handle wants.
fn reap_orphans(own: u32) {
    let Ok(all) = memory::descendants(std::process::id()) else { return };
    for process in all.into_iter().filter(|&process| process != own) {
        let Ok(process) = i32::try_from(process) else { continue };
        // ECHILD for those deeper down: they become ours when their parent has ended.
        let _: nix::Result<WaitStatus> =
            waitid(Id::Pid(Pid::from_raw(process)), WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG);
    }
}

/// Waits until there is something to read or the subject has ended (true).
fn wait(end: BorrowedFd, child: &Child, left: Duration) -> Result<bool> {
    let mut watched = vec![PollFd::new(end, PollFlags::POLLIN)];
    let pipes = [child.stdout.as_ref().map(AsFd::as_fd), child.stderr.as_ref().map(AsFd::as_fd)];
    watched.extend(pipes.into_iter().flatten().map(|pipe| PollFd::new(pipe, PollFlags::POLLIN)));
    let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
    match poll(&mut watched, timeout) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(watched[0].any().unwrap_or(false)),
        Err(error) => Err(error).context("cannot wait for the subject"),
    }
}

/// Takes what is in the pipe; false at its end.
fn drain(pipe: Option<&mut impl Read>, kept: &mut Vec<u8>) -> Result<bool> {
    let Some(pipe) = pipe else { return Ok(false) };
    let mut block = [0; 4096];
    loop {
        match pipe.read(&mut block) {
            Ok(0) => return Ok(false),
            Ok(length) => kept.extend_from_slice(&block[..length.min(KEPT_BYTES.saturating_sub(kept.len()))]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error).context("cannot read what the subject writes"),
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
