//! `run`: create, start, and be the container's terminal until it ends.

use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::{Pid, isatty};
use shim::failure::{Failure, Step};
use shim::plan::Stdio;
use shim::sys;

use super::cli::{Global, Run};
use super::log::Log;
use super::state::Store;
use crate::monitor::terminal::Terminal;

/// Runs a container; the exit code of its program.
pub fn run(store: &Store, global: &Global, run: &Run, log: &Log) -> Result<u8, Failure> {
    if !run.no_subreaper && !run.detach {
        sys::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0).step(|| "adopt the container's orphans")?;
    }
    let made = super::create::create(store, global, &run.making, log)?;
    let id = &made.entry.id;
    let remove = || {
        let _lock = made.entry.lock();
        super::delete::remove(&made.entry, &made.record, log)
    };
    if let Err(failure) = super::start::start(store, id, log) {
        if let Err(also) = remove() {
            log.warn(&also.to_string());
        }
        return Err(failure);
    }
    if run.detach {
        return Ok(0);
    }
    let code = attend(Pid::from_raw(made.record.pid), made.terminal)?;
    if !run.keep {
        remove()?;
    }
    Ok(code)
}

/// Passes signals and the terminal on until the process ends, and reaps it; its exit code, or 128 and its signal.
pub fn attend(process: Pid, master: Option<OwnedFd>) -> Result<u8, Failure> {
    let mut passed = SigSet::all();
    for signal in [Signal::SIGTTIN, Signal::SIGTTOU, Signal::SIGTSTP, Signal::SIGPIPE, Signal::SIGURG] {
        passed.remove(signal);
    }
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&passed), None).step(|| "block signals")?;
    let signals = SignalFd::with_flags(&passed, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .step(|| "receive signals by descriptor")?;
    let handle = sys::open_process(process.as_raw()).step(|| "watch the container's process")?;
    let mut terminal = master.and_then(|master| {
        let stdio = [0, 1, 2]
            .map(|number| if isatty(sys::standard(number)).unwrap_or(false) { Stdio::Terminal } else { Stdio::Pass });
        let mut terminal = Terminal::new(stdio)?;
        terminal.attach(master);
        Some(terminal)
    });
    let code = loop {
        let (mut shown, mut keys) = (false, false);
        {
            let mut waiting =
                vec![PollFd::new(handle.as_fd(), PollFlags::POLLIN), PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
            let ends = terminal.as_ref().map(Terminal::waits_for).unwrap_or_default();
            waiting.extend(ends.iter().map(|(end, events)| PollFd::new(*end, *events)));
            match poll(&mut waiting, PollTimeout::NONE) {
                Err(Errno::EINTR) => continue,
                other => other.step(|| "wait for the container")?,
            };
            let ready =
                |at: usize| waiting.get(at).and_then(|end| end.revents()).is_some_and(|events| !events.is_empty());
            shown |= ready(2);
            keys |= ready(3);
        }
        if let Some(terminal) = &mut terminal {
            if shown {
                terminal.show();
                terminal.pass_keys();
            }
            if keys {
                terminal.take_keys();
            }
        }
        while let Ok(Some(signal)) = signals.read_signal() {
            take(signal.ssi_signo.cast_signed(), process, terminal.as_ref());
        }
        if let Some(code) = ended(process) {
            break code;
        }
    };
    if let Some(terminal) = &mut terminal {
        terminal.finish();
    }
    sigprocmask(SigmaskHow::SIG_UNBLOCK, Some(&passed), None).step(|| "unblock signals")?;
    Ok(code)
}

fn take(signal: i32, process: Pid, terminal: Option<&Terminal>) {
    match signal {
        libc::SIGCHLD => reap_others(process),
        libc::SIGWINCH if terminal.is_some() => {
            if let Some(terminal) = terminal {
                terminal.resize();
            }
        }
        signal => {
            let _ = sys::kill(process.as_raw(), signal);
        }
    }
}

/// Orphans that came to us; the container's own first process is left to be waited for.
fn reap_others(process: Pid) {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    while let Ok(status) = waitid(Id::All, flags) {
        match status.pid() {
            Some(pid) if pid != process => {
                let _ = waitpid(pid, Some(WaitPidFlag::WNOHANG));
            }
            _ => return,
        }
    }
}

/// The exit code of a process that has ended, which is reaped.
fn ended(process: Pid) -> Option<u8> {
    match waitpid(process, Some(WaitPidFlag::WNOHANG)) {
        Ok(WaitStatus::Exited(_, code)) => Some(u8::try_from(code & 0xff).unwrap_or(u8::MAX)),
        Ok(WaitStatus::Signaled(_, signal, _)) => Some(128u8.saturating_add(u8::try_from(signal as i32).unwrap_or(0))),
        Err(Errno::ECHILD) => Some(super::super::cli::FAILED),
        _ => None,
    }
}
