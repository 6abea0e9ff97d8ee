//! One more process in a running container: `sentry oci exec`.
//!
//! It comes from the host into a place where hostile programs run already. So it is not dumpable before it enters, has
//! dropped the host's descriptors, and believes nothing that a path in the container says about itself.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::libc;
use nix::unistd::{chroot, fchdir};
use oci_spec::runtime::Process;

use super::Proc;
use super::console::Console;
use super::launch::{ToContainer, ToRuntime, await_runtime};
use super::process::{self, Entry};
use super::root::Root;
use super::seccomp::Filters;
use crate::failure::{Failure, Step};
use crate::message::send;
use crate::sys;

/// What such a process needs.
pub struct Exec<'a> {
    /// What it is to be.
    pub process: &'a Process,
    /// The host's procfs.
    pub proc: &'a Proc,
    /// The container's root directory.
    pub root: BorrowedFd<'a>,
    /// To the keeper.
    pub keeper: BorrowedFd<'a>,
    /// What makes a program of it.
    pub entry: Entry,
    /// Whether the container's own seccomp profile will come.
    pub profile: bool,
    /// The container's cgroup namespace, to be entered when the process is in its cgroup.
    pub cgroup: Option<BorrowedFd<'a>>,
}

/// Runs the process; its exit code if it does not become the program.
pub fn exec(exec: &Exec, channel: OwnedFd) -> i32 {
    let failure = match enter(exec, channel.as_fd()) {
        Ok(program) => program.run(),
        Err(failure) => failure,
    };
    let code = failure.exit;
    let _ = send(channel.as_fd(), &ToRuntime::Failed(failure), None);
    i32::from(code)
}

fn enter(exec: &Exec, channel: BorrowedFd) -> Result<super::program::Program, Failure> {
    // Becoming the container's root has undone it where `fs.suid_dumpable` is 1.
    process::hide()?;
    await_runtime(channel, |message, _| matches!(message, ToContainer::Go(_)).then_some(()))?;
    if let Some(cgroup) = exec.cgroup {
        sys::join(cgroup).step(|| "enter the container's cgroup namespace")?;
    }
    // Where the runtime could not use pivot_root(2), the container's root is not its mount namespace's.
    let step = || "enter the container's root";
    fchdir(exec.root).step(step)?;
    chroot(c".").step(step)?;
    process::begin_session()?;
    if exec.process.terminal() == Some(true) {
        process::take_terminal(exec.process, terminal()?, channel)?;
    }
    let profile = if exec.profile { Some(process::receive_profile(channel)?) } else { None };
    let program = super::program::Program::new(exec.process, &[])?;
    nix::unistd::chdir(c"/").step(|| "leave the host's directory")?;
    program.check()?;
    let filters = Filters { main: &exec.entry.filter, profile: profile.as_ref() };
    let (program, warnings) = process::enter(exec.process, &exec.entry, &filters, exec.proc, exec.keeper)?;
    // A profile may kill who sends.
    if profile.is_none() {
        process::warn(channel, warnings)?;
    }
    Ok(program)
}

/// One more terminal of the container's devpts.
fn terminal() -> Result<Console, Failure> {
    let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
    Console::open(&Root::new(sys::open_at(None, c"/", flags, 0, 0).step(|| "open the container's root")?))
}
