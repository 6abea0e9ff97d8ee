//! Looking into other processes.
//!
//! Allowed inside the sandbox, so that gdb and strace work there: the pid namespace and the Landlock scope leave only
//! the sandbox's own processes to look into, and the kernel asks for the same identity. A tracer that changes a number or
//! an argument cannot walk around the filter, which is asked after the tracer (since Linux 4.8).

use nix::errno::Errno;

use crate::args::{Long, Pid, UserPtr, Word};
use crate::guest::{Denial, Guest};
use crate::reply::Answer;

crate::syscalls! {
    /// Traces a process of the sandbox.
    /// Limit: with `--platform ptrace` it fails with `EPERM`, for a process has one tracer, and the sentry is it.
    ptrace(request: Long, process: Pid, address: UserPtr, data: Word) Process Default Allow {
        NoTracing => Errno(EPERM),
        Traced => Emulate(refuse_to_trace),
    };
    /// Reads the memory of a process of the sandbox.
    process_vm_readv(process: Pid, here: UserPtr, count: Word, there: UserPtr, there_count: Word, flags: Word)
        Process Default Allow { NoTracing => Errno(EPERM) };
    /// Writes the memory of a process of the sandbox.
    process_vm_writev(process: Pid, here: UserPtr, count: Word, there: UserPtr, there_count: Word, flags: Word)
        Process Compat Allow { NoTracing => Errno(EPERM) };
    /// Compares what two processes of the sandbox have open or share.
    kcmp(one: Pid, other: Pid, kind: Int, index: Word, other_index: Word) Process Compat Allow { NoTracing => Errno(EPERM) };
    /// Makes a descriptor that stands for a process of the sandbox.
    pidfd_open(process: Pid, flags: Flags) Process Default Allow;
    /// Copies a descriptor out of a process of the sandbox.
    pidfd_getfd(process: Fd, fd: Fd, flags: Flags) Process Default Allow { NoTracing => Errno(EPERM) };
    /// Sends a signal to the process that a descriptor stands for.
    pidfd_send_signal(process: Fd, signal: Signal, info: UserPtr, flags: Flags) Signal Default Allow;
}

/// A process has one tracer, which on the ptrace platform is the supervisor.
fn refuse_to_trace(guest: &dyn Guest, _: Long, _: Pid, _: UserPtr, _: Word) -> Answer {
    let what = "trace a program (gdb, strace)".to_owned();
    guest.record(Denial {
        call: "ptrace",
        what,
        remedy: "the sentry traces it itself; run without --platform ptrace".into(),
    });
    Err(Errno::EPERM)
}
