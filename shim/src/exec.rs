//! The last steps, taken by the guest's own process: limits, descriptors, filter, exec.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{chdir, getpid, read, setpgid, tcsetpgrp};

use crate::failure::{Failure, Step};
use crate::plan::{Plan, Stdio};
use crate::vdso::trace;
use crate::{filter, landlock, limits, sys};

/// What the guest's process needs besides the plan.
pub struct Seat<'a> {
    /// The sandbox's terminal, if it has one.
    pub terminal: Option<&'a OwnedFd>,
    /// Where the listener goes, or whom to ask to be traced.
    pub supervisor: BorrowedFd<'a>,
    /// The mask that the user's shell had.
    pub umask: Mode,
}

/// Puts the standard descriptors in place; everything else closes at exec.
fn descriptors(plan: &Plan, terminal: Option<&OwnedFd>) -> Result<(), Failure> {
    let null = sys::open_at(None, c"/dev/null", libc::O_RDWR | libc::O_CLOEXEC, 0, 0);
    for (number, stdio) in (0..).zip(plan.stdio) {
        let step = || format!("set up descriptor {number}");
        let from: RawFd = match stdio {
            Stdio::Pass => continue,
            Stdio::Relay(fd) => fd,
            Stdio::Terminal => terminal.ok_or_else(|| Failure::check(step()))?.as_raw_fd(),
            Stdio::Null => null.as_ref().map_err(|errno| Failure::new(step(), *errno))?.as_raw_fd(),
        };
        sys::place_descriptor(from, number).step(step)?;
    }
    // Not one descriptor of the host may leak in (CVE-2024-21626).
    sys::close_on_exec_from(3).step(|| "mark descriptors to be closed")
}

/// Sends `file` to the supervisor under a `name` of one byte, and forgets it: a listener must exist in one process only.
pub(crate) fn pass_on(file: OwnedFd, supervisor: BorrowedFd, name: &[u8; 1]) -> Result<(), Errno> {
    let fds = [file.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&fds)];
    let payload = [std::io::IoSlice::new(name)];
    sendmsg::<UnixAddr>(supervisor.as_raw_fd(), &payload, &rights, MsgFlags::MSG_NOSIGNAL, None).map(drop)
}

/// Null-terminated pointers to `strings`, as execve wants them.
fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect()
}

/// Searches the program as a shell would and runs it. Returns why it could not.
pub(crate) fn execute(command: &[CString], environment: &[CString], search: &[CString]) -> Failure {
    let (arguments, environment) = (pointers(command), pointers(environment));
    let name = command[0].as_c_str();
    let fail = |errno: Errno| {
        let mut failure = Failure::new(format!("run {}", name.to_string_lossy()), errno);
        failure.exit = if errno == Errno::ENOENT { 127 } else { 126 };
        failure
    };
    if name.to_bytes().contains(&b'/') {
        return fail(sys::execute(name, &arguments, &environment));
    }
    let mut worst = Errno::ENOENT;
    for directory in search {
        let whole = [directory.to_bytes(), b"/", name.to_bytes(), b"\0"].concat();
        let Ok(path) = CStr::from_bytes_with_nul(&whole) else { continue };
        match sys::execute(path, &arguments, &environment) {
            Errno::ENOENT | Errno::ENOTDIR => {}
            // As execvp(3): remember it, and look further.
            Errno::EACCES => worst = Errno::EACCES,
            errno => return fail(errno),
        }
    }
    fail(worst)
}

/// Becomes the guest. Returns only if that failed.
pub fn become_guest(plan: &Plan, seat: &Seat) -> Failure {
    match prepare(plan, seat) {
        Ok(()) => execute(&plan.command, &plan.environment, &plan.search),
        Err(failure) => failure,
    }
}

fn prepare(plan: &Plan, seat: &Seat) -> Result<(), Failure> {
    // In its own process group, in the foreground; SIGTTOU is still blocked, as everything is.
    let own = getpid();
    setpgid(own, own).step(|| "make a process group")?;
    if let Some(terminal) = seat.terminal {
        tcsetpgrp(terminal, own).step(|| "enter the terminal's foreground")?;
    }
    chdir(plan.workdir.as_c_str())
        .step(|| format!("enter the working directory {}", plan.workdir.to_string_lossy()))
        .map_err(|failure| failure.remedy("grant it, or choose another with --workdir"))?;
    umask(seat.umask);
    limits::apply(&plan.limits, plan.cpus.as_deref())?;
    landlock::enter(plan.allow_degraded)?;
    let supervisor = seat.supervisor;
    let listener = {
        descriptors(plan, seat.terminal)?;
        sys::default_signals();
        if patched(plan) {
            trace::trace_me().step(|| "be traced for the pretended clock").map_err(|failure| {
                failure.remedy("a program outside traces it already, or kernel.yama.ptrace_scope is 3; run without that, or without --clock")
            })?;
        }
        if plan.traced {
            be_traced(supervisor)?;
        }
        filter::load(plan)?
    };
    if let Some(listener) = listener {
        pass_on(listener, supervisor.as_fd(), b"L").step(|| "hand the listener to the supervisor")?;
    }
    let mut blocked = SigSet::empty();
    if patched(plan) {
        // A signal would stop us for init, which sleeps until we have run the program; it will unblock them.
        blocked = SigSet::all();
        blocked.remove(Signal::SIGTRAP);
    }
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&blocked), None).step(|| "unblock signals")
}

/// Asks the supervisor to trace this process, and waits until it does: from here on every event of ours, and of all that we
/// start, is told to it. The answer is an errno, or 0.
fn be_traced(supervisor: BorrowedFd) -> Result<(), Failure> {
    let step = || "be traced by the supervisor";
    // The supervisor knows us by another number: a descriptor means the same to both.
    let own = sys::open_process(getpid().as_raw()).step(step)?;
    pass_on(own, supervisor, TRACE_ME).step(step)?;
    let mut errno = [0; 4];
    match read(supervisor, &mut errno).step(step)? {
        4 => match i32::from_ne_bytes(errno) {
            0 => Ok(()),
            errno => Err(Failure::new(step(), Errno::from_raw(errno)).remedy(
                "a program outside traces it already, or a security module forbids it; run without that, or without --platform ptrace",
            )),
        },
        _ => Err(Failure::check(step())),
    }
}

/// What the guest's process says when it wants to be traced.
pub const TRACE_ME: &[u8; 1] = b"T";
/// What init says when it can no longer be looked into.
pub const OUT_OF_REACH: &[u8; 1] = b"D";

/// Whether init stops the first program to patch its vDSO: its memory is still init's now, which nobody else may trace.
pub(crate) fn patched(plan: &Plan) -> bool {
    !plan.traced && plan.clock.as_ref().is_some_and(|clock| clock.patch.is_some())
}
