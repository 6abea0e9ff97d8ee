//! Processes, threads, scheduling and limits.
//!
//! New namespaces are refused: each hands out capabilities over some part of the kernel, which is where most of its
//! privilege bugs are (CVE-2022-0185, CVE-2024-1086). `clone3` hides its flags behind a pointer that the guest can change
//! after a look, so it does not exist here; the C library falls back to `clone`.

use nix::errno::Errno;

use crate::args::{Int, Word};
use crate::guest::Guest;
use crate::table::{Check, Op, Test, Verdict};

/// Every `CLONE_NEW*` that `clone` takes. `CLONE_NEWTIME` is not among them: its bit is part of the exit signal there.
const NAMESPACES: u64 = 0x7E02_0000;
/// `CLONE_NEWTIME`.
const TIME: u64 = 0x80;

const CLONE: &[Check] =
    &[Check { all: &[Test { arg: 0, op: Op::AnyOf(NAMESPACES) }], then: Verdict::Fail(Errno::EPERM) }];
const UNSHARE: &[Check] =
    &[Check { all: &[Test { arg: 0, op: Op::AnyOf(NAMESPACES | TIME) }], then: Verdict::Fail(Errno::EPERM) }];

/// `ARCH_SET_FS`: what the C library of a program does first of all.
const LOCAL_STORAGE: &[Check] = &[Check { all: &[Test { arg: 0, op: Op::Equal(0x1002) }], then: Verdict::Notify }];

crate::syscalls! {
    /// Makes a process or thread.
    /// New namespaces (`CLONE_NEW*`) fail with `EPERM`, for they would give capabilities over parts of the host kernel.
    clone(flags: Flags, stack: UserPtr, parent_tid: UserPtr, a: UserPtr, b: UserPtr) Process Judge Filter(CLONE);
    /// Makes a process or thread, with its flags in memory where no filter can judge them.
    /// Fails with `ENOSYS`, and the C library falls back to `clone`.
    clone3(arguments: UserPtr, size: Size) Process Judge Errno(ENOSYS);
    /// Makes a process.
    fork() Process Judge Allow;
    /// Makes a process that borrows its parent's memory until it runs a program.
    vfork() Process Judge Allow;
    /// Stops sharing something with other threads.
    /// New namespaces (`CLONE_NEW*`) fail with `EPERM`, for they would give capabilities over parts of the host kernel.
    unshare(flags: Flags) Process Default Filter(UNSHARE);
    /// Enters a namespace; fails with `EPERM`, for the sandbox's own are the only ones it may be in.
    setns(namespace: Fd, kind: Int) Process Default Errno(EPERM);
    /// Ends the calling thread.
    exit(status: Int) Process Judge Allow;
    /// Ends the calling process.
    exit_group(status: Int) Process Judge Allow;
    /// Waits for a child.
    wait4(process: Pid, status: UserPtr, options: Int, usage: UserPtr) Process Judge Allow;
    /// Waits for a child, by several criteria.
    waitid(kind: Int, id: Pid, info: UserPtr, options: Int, usage: UserPtr) Process Judge Allow;

    /// Returns the process id.
    getpid() Process Judge Allow;
    /// Returns the parent's process id.
    getppid() Process Judge Allow;
    /// Returns the thread id.
    gettid() Process Judge Allow;
    /// Returns the process group of the caller.
    getpgrp() Process Judge Allow;
    /// Returns the process group of a process.
    getpgid(process: Pid) Process Default Allow;
    /// Puts a process into a group.
    setpgid(process: Pid, group: Pid) Process Judge Allow;
    /// Returns the session of a process.
    getsid(process: Pid) Process Default Allow;
    /// Begins a session.
    setsid() Process Judge Allow;
    /// Sets the address that is cleared when the thread ends.
    set_tid_address(address: UserPtr) Process Judge Allow;
    /// Registers a restartable sequence.
    rseq(area: UserPtr, length: Uint, flags: Flags, signature: Uint) Process Judge Allow;
    /// Sets and reads registers and features of an x86 thread, such as the base of its local storage.
    arch_prctl(option: Int, argument: Word) Process Judge Allow
        { VirtualClock => Observe(arch_prctl) when LOCAL_STORAGE };
    /// Sets a segment of thread-local storage; 32-bit only, fails with `ENOSYS`.
    set_thread_area(descriptor: UserPtr) Process Compat Errno(ENOSYS);
    /// Reads a segment of thread-local storage; 32-bit only, fails with `ENOSYS`.
    get_thread_area(descriptor: UserPtr) Process Compat Errno(ENOSYS);
    /// Returns the processor the caller runs on.
    getcpu(processor: UserPtr, node: UserPtr, unused: UserPtr) Process Compat Allow;

    /// Lets another thread run.
    sched_yield() Process Judge Allow;
    /// Sets the processors that a thread may run on.
    /// Where `--cpus` is enforced by pinning, it fails with `EPERM`.
    sched_setaffinity(thread: Pid, size: Uint, mask: UserPtr) Process Default Allow { PinnedCpus => Errno(EPERM) };
    /// Returns the processors that a thread may run on.
    sched_getaffinity(thread: Pid, size: Uint, mask: UserPtr) Process Judge Allow;
    /// Sets a thread's scheduling priority.
    sched_setparam(thread: Pid, parameters: UserPtr) Process Compat Allow;
    /// Returns a thread's scheduling priority.
    sched_getparam(thread: Pid, parameters: UserPtr) Process Compat Allow;
    /// Sets a thread's scheduling policy.
    sched_setscheduler(thread: Pid, policy: Int, parameters: UserPtr) Process Compat Allow;
    /// Returns a thread's scheduling policy.
    sched_getscheduler(thread: Pid) Process Compat Allow;
    /// Returns the highest priority of a policy.
    sched_get_priority_max(policy: Int) Process Default Allow;
    /// Returns the lowest priority of a policy.
    sched_get_priority_min(policy: Int) Process Default Allow;
    /// Returns the time slice of a thread.
    sched_rr_get_interval(thread: Pid, interval: UserPtr) Process Compat Allow;
    /// Sets a thread's scheduling policy and parameters.
    sched_setattr(thread: Pid, attributes: UserPtr, flags: Flags) Process Compat Allow;
    /// Returns a thread's scheduling policy and parameters.
    sched_getattr(thread: Pid, attributes: UserPtr, size: Uint, flags: Flags) Process Compat Allow;
    /// Returns the nice value.
    getpriority(which: Int, who: Int) Process Default Allow;
    /// Sets the nice value.
    setpriority(which: Int, who: Int, value: Int) Process Default Allow;
    /// Returns the priority of input and output.
    ioprio_get(which: Int, who: Int) Process Compat Allow;
    /// Sets the priority of input and output.
    ioprio_set(which: Int, who: Int, priority: Int) Process Compat Allow;

    /// Reads and sets resource limits; none can be raised above the sandbox's.
    prlimit64(process: Pid, resource: Uint, new: UserPtr, old: UserPtr) Process Judge Allow;
    /// Reads a resource limit.
    getrlimit(resource: Uint, limit: UserPtr) Process Judge Allow;
    /// Sets a resource limit; none can be raised above the sandbox's.
    setrlimit(resource: Uint, limit: UserPtr) Process Judge Allow;
    /// Returns what was used of processor and memory.
    getrusage(who: Int, usage: UserPtr) Process Judge Allow;
    /// Returns what was used of processor time.
    times(buffer: UserPtr) Process Default Allow;
}

/// A program that could not be stopped at its exec has hardly begun.
fn arch_prctl(guest: &dyn Guest, _option: Int, _argument: Word) {
    guest.patch_clock_late();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::find;

    fn verdict(name: &str, flags: u64) -> Verdict {
        let row = find(name).expect("there is a row");
        row.route.verdict(row.parameters, &[flags, 0, 0, 0, 0, 0])
    }

    #[test]
    fn no_new_namespace_by_any_bit() {
        let refused = Verdict::Fail(Errno::EPERM);
        let all = [
            libc::CLONE_NEWNS,
            libc::CLONE_NEWCGROUP,
            libc::CLONE_NEWUTS,
            libc::CLONE_NEWIPC,
            libc::CLONE_NEWUSER,
            libc::CLONE_NEWPID,
            libc::CLONE_NEWNET,
        ];
        for flag in all.map(|flag| u64::from(flag.cast_unsigned())) {
            for upper in [0, 1 << 32, 1 << 63] {
                assert_eq!(verdict("clone", upper | flag | 17), refused, "{flag:#x}");
                assert_eq!(verdict("unshare", upper | flag), refused, "{flag:#x}");
            }
        }
        assert_eq!(verdict("unshare", 0x80), refused);
    }

    #[test]
    fn threads_and_children_are_made_as_ever() {
        assert_eq!(verdict("clone", 0x003D_0F00), Verdict::Allow, "pthread_create");
        assert_eq!(verdict("clone", 0x0120_0011), Verdict::Allow, "fork");
        assert_eq!(verdict("clone", 0x4111), Verdict::Allow, "posix_spawn");
        assert_eq!(verdict("unshare", u64::from(libc::CLONE_FS.cast_unsigned())), Verdict::Allow);
    }
}
