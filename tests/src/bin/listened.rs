//! Runs a program below a seccomp listener, as another sandbox would: `listened PROGRAM [ARGUMENT]...`.
//!
//! Its filter asks about nothing, so nobody needs to answer; but a process tree has one listener, and this is it.

use std::os::fd::IntoRawFd;
use std::process::Command;

use syscalls::filter::Instruction;

fn main() -> anyhow::Result<()> {
    let allow = [Instruction { code: 0x06, jt: 0, jf: 0, k: libc::SECCOMP_RET_ALLOW }];
    shim::sys::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0)?;
    let listener = shim::sys::load_filter(&allow, libc::SECCOMP_FILTER_FLAG_NEW_LISTENER)?;
    // It lives as long as this process, which waits for the other.
    listener.map(IntoRawFd::into_raw_fd);
    let mut arguments = std::env::args_os().skip(1);
    let program = arguments.next().ok_or_else(|| anyhow::anyhow!("usage: listened PROGRAM [ARGUMENT]..."))?;
    let mut command = Command::new(program);
    command.args(arguments);
    let status = command.status()?;
    std::process::exit(status.code().unwrap_or(128));
}
