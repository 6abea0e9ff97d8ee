//! Processes, threads, scheduling and limits.
//!
//! New namespaces are refused: each hands out capabilities over some part of the kernel, which is where most of its
//! privilege bugs are (CVE-2022-0185, CVE-2024-1086). The sentry refuses them, and not the filter, so that the user reads
//! who asked; were it to let one through, the kernel would refuse it: user namespaces are limited to the guest's own, and
//! all others want a capability. `clone3` hides its flags behind a pointer that the guest can change
//! after a look, so it does not exist here; the C library falls back to `clone`.

use nix::errno::Errno;

use crate::args::{Argument, Fd, Flags, Int, Pid, UserPtr, Word};
use crate::dispatch::Emulator;
use crate::guest::{Denial, Guest};
use crate::identity::limit::{FIRST, SECOND, getrlimit, prlimit64, setrlimit};
use crate::identity::namespace;
use crate::reply::{Answer, Reply};
use crate::table::{Check, Op, Test, Verdict};

/// Every `CLONE_NEW*` that `clone` takes. `CLONE_NEWTIME` is not among them: its bit is part of the exit signal there.
const NAMESPACES: u64 = 0x7E02_0000;
/// `CLONE_NEWTIME`.
const TIME: u64 = 0x80;

const CLONE: &[Check] = &[Check { all: &[Test { arg: 0, op: Op::AnyOf(NAMESPACES) }], then: Verdict::Notify }];
/// The child would not be ours to answer: each of its calls that come to us would fail.
const UNTRACED: u64 = libc::CLONE_UNTRACED as u64;
const CLONE_TRACED: &[Check] =
    &[Check { all: &[Test { arg: 0, op: Op::AnyOf(NAMESPACES | UNTRACED) }], then: Verdict::Notify }];
const UNSHARE: &[Check] = &[Check { all: &[Test { arg: 0, op: Op::AnyOf(NAMESPACES | TIME) }], then: Verdict::Notify }];

/// Those of others, by whatever id: also the own one's.
const OWN_LIMITS: &[Check] =
    &[Check { all: &[Test { arg: 0, op: Op::NotEqual(0) }], then: Verdict::Fail(Errno::EPERM) }];

/// `SCHED_FIFO` and `SCHED_RR`, with or without `SCHED_RESET_ON_FORK`.
const REAL_TIME: &[Check] = &[
    Check { all: &[Test { arg: 1, op: Op::Masked { mask: 0xBFFF_FFFF, value: 1 } }], then: Verdict::Notify },
    Check { all: &[Test { arg: 1, op: Op::Masked { mask: 0xBFFF_FFFF, value: 2 } }], then: Verdict::Notify },
];

/// `ARCH_SET_FS`: what the C library of a program does first of all.
const LOCAL_STORAGE: &[Check] = &[Check { all: &[Test { arg: 0, op: Op::Equal(0x1002) }], then: Verdict::Notify }];

crate::syscalls! {
    /// Makes a process or thread.
    /// New namespaces (`CLONE_NEW*`) fail with `EPERM` and are reported, for they would give capabilities over parts of the
    /// host kernel.
    /// With `--platform ptrace` a child is made that is traced, whatever it asks for (`CLONE_UNTRACED`).
    clone(flags: Flags, stack: UserPtr, parent_tid: UserPtr, a: UserPtr, b: UserPtr)
        Process Judge Emulate(clone) when CLONE { Traced => Rewrite(clone_traced) when CLONE_TRACED };
    /// Makes a process or thread, with its flags in memory where no filter can judge them.
    /// Fails with `ENOSYS`, and the C library falls back to `clone`.
    clone3(arguments: UserPtr, size: Size) Process Judge Errno(ENOSYS);
    /// Makes a process.
    fork() Process Judge Allow;
    /// Makes a process that borrows its parent's memory until it runs a program.
    vfork() Process Judge Allow;
    /// Stops sharing something with other threads.
    /// New namespaces (`CLONE_NEW*`) fail with `EPERM` and are reported, for they would give capabilities over parts of the
    /// host kernel.
    /// Limit: with `--userns emulate` a user namespace alone is pretended: the caller is whom its id maps make of it, and nothing else changes; what `/proc/self/uid_map` shows is the kernel's, and threads are not counted.
    unshare(flags: Flags) Process Default Emulate(unshare) when UNSHARE;
    /// Enters a namespace; fails with `EPERM`, for the sandbox's own are the only ones it may be in.
    setns(namespace: Fd, kind: Int) Process Default Errno(EPERM) { Container => Emulate(setns) };
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
    /// Limit: where a container's policy pretends real-time classes, its root is told that it has them; the thread is not looked for, goes on in its old class, and is told of that one when it asks.
    sched_setscheduler(thread: Pid, policy: Int, parameters: UserPtr) Process Compat Allow
        { PretendedClasses => Emulate(sched_setscheduler) when REAL_TIME };
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
    /// Limit: under `--fake-root` `RLIMIT_RTTIME` is unlimited, and what is set is forgotten; the file `limits` in `/proc` shows a mark of the sentry.
    /// With `--nested` a process may set only its own, for it could end processes outside by theirs.
    prlimit64(process: Pid, resource: Uint, new: UserPtr, old: UserPtr) Process Judge Allow {
        PretendedIds => Emulate(prlimit64) when SECOND,
        NoPidNamespace => Filter(OWN_LIMITS),
    };
    /// Reads a resource limit.
    getrlimit(resource: Uint, limit: UserPtr) Process Judge Allow { PretendedIds => Emulate(getrlimit) when FIRST };
    /// Sets a resource limit; none can be raised above the sandbox's.
    setrlimit(resource: Uint, limit: UserPtr) Process Judge Allow { PretendedIds => Emulate(setrlimit) when FIRST };
    /// Returns what was used of processor and memory.
    getrusage(who: Int, usage: UserPtr) Process Judge Allow;
    /// Returns what was used of processor time.
    times(buffer: UserPtr) Process Default Allow;
}

fn clone(guest: &dyn Guest, flags: Flags, _: UserPtr, _: UserPtr, _: UserPtr, _: UserPtr) -> Answer {
    refuse(guest, "clone", u64::from(flags.0) & !TIME)
}

/// Takes `CLONE_UNTRACED` away. The flags are a register, so there is nothing that could change after the look.
fn clone_traced(registers: [u64; 6]) -> Result<[u64; 6], Emulator> {
    let [flags, rest @ ..] = registers;
    if flags & NAMESPACES != 0 {
        return Err(|guest, [flags, ..]| {
            clone(guest, Flags::from_register(flags), UserPtr(0), UserPtr(0), UserPtr(0), UserPtr(0))
        });
    }
    let [a, b, c, d, e] = rest;
    Ok([flags & !UNTRACED, a, b, c, d, e])
}

fn unshare(guest: &dyn Guest, flags: Flags) -> Answer {
    if guest.rules().pretend_namespaces && namespace::is_user_only(flags) {
        return namespace::unshare(guest);
    }
    refuse(guest, "unshare", flags.0.into())
}

/// Classes that could starve the host are said to be given, and are not.
fn sched_setscheduler(guest: &dyn Guest, _: Pid, _: Int, parameters: UserPtr) -> Answer {
    const SYS_NICE: u32 = 23;
    let mut priority = [0; 4];
    guest.read(parameters, &mut priority)?;
    if !(1..=99).contains(&i32::from_ne_bytes(priority)) {
        return Err(Errno::EINVAL);
    }
    if !guest.may(SYS_NICE)? {
        return Err(Errno::EPERM);
    }
    guest.did("sched_setscheduler", "a real-time class, pretended".to_owned());
    Ok(Reply::Return(0))
}

fn setns(guest: &dyn Guest, _: Fd, _: Int) -> Answer {
    let what = "another namespace".to_owned();
    guest.record(Denial { call: "setns", what, remedy: "a container stays in its own namespaces".into() });
    Err(Errno::EPERM)
}

/// Only calls that ask for namespaces come here.
fn refuse(guest: &dyn Guest, call: &'static str, flags: u64) -> Answer {
    let names = NAMES.iter().filter(|(flag, _)| flags & flag != 0).map(|(_, name)| *name);
    let what = format!("new namespaces: {}", names.collect::<Vec<_>>().join(", "));
    let user_only = flags & (NAMESPACES | TIME) == libc::CLONE_NEWUSER as u64;
    let remedy = match () {
        () if guest.rules().container.is_some() => CONTAINED,
        () if call == "unshare" && user_only => PRETEND,
        () => REMEDY,
    };
    guest.record(Denial { call, what, remedy: remedy.into() });
    Err(Errno::EPERM)
}

const REMEDY: &str = "no sandbox within this one; switch the program's own off (sentry run has --nested for that)";

const CONTAINED: &str = "no container within a container of the sentry; switch the program's own sandbox off";

const PRETEND: &str = "let it believe that it is root in one with --userns emulate";

const NAMES: [(u64, &str); 8] = [
    (libc::CLONE_NEWUSER as u64, "user"),
    (libc::CLONE_NEWNS as u64, "mount"),
    (libc::CLONE_NEWPID as u64, "pid"),
    (libc::CLONE_NEWNET as u64, "network"),
    (libc::CLONE_NEWIPC as u64, "ipc"),
    (libc::CLONE_NEWUTS as u64, "uts"),
    (libc::CLONE_NEWCGROUP as u64, "cgroup"),
    (TIME, "time"),
];

/// A program that could not be stopped at its exec has hardly begun.
fn arch_prctl(guest: &dyn Guest, _option: Int, _argument: Word) {
    guest.patch_clock_late();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::FakeGuest;
    use crate::table::find;

    fn verdict(name: &str, flags: u64) -> Verdict {
        let row = find(name).expect("there is a row");
        row.route.verdict(row.parameters, &[flags, 0, 0, 0, 0, 0])
    }

    #[test]
    fn no_new_namespace_by_any_bit() {
        let refused = Verdict::Notify;
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
    fn who_asks_for_namespaces_is_told() {
        let guest = FakeGuest::default();
        let flags = |flags: i32| Flags(flags.cast_unsigned());
        let nothing = UserPtr(0);
        let user_and_mounts = flags(libc::CLONE_NEWUSER | libc::CLONE_NEWNS | libc::CLONE_FS);
        assert_eq!(unshare(&guest, user_and_mounts).expect_err("refused"), Errno::EPERM);
        // The lowest byte is the signal that the parent gets.
        let child = flags(libc::CLONE_NEWPID | 0x91);
        assert_eq!(clone(&guest, child, nothing, nothing, nothing, nothing).expect_err("refused"), Errno::EPERM);
        let told: Vec<_> = guest.denials().into_iter().map(|denial| (denial.call, denial.what)).collect();
        let expected = [("unshare", "new namespaces: user, mount"), ("clone", "new namespaces: pid")];
        assert_eq!(told, expected.map(|(call, what)| (call, what.to_owned())));
    }

    #[test]
    fn a_traced_child_cannot_ask_not_to_be() {
        let row = find("clone").expect("there is a row");
        let route = row.route_with(crate::table::Surface::Default, &[crate::table::Feature::Traced]);
        let asked = |flags: u64| route.verdict(row.parameters, &[flags, 0, 0, 0, 0, 0]) == Verdict::Notify;
        assert!(!asked(0x003D_0F00) && !asked(0x0120_0011), "threads and children cost nothing more");
        assert!(asked(UNTRACED | 17) && asked(UNTRACED | 0x003D_0F00));
        assert_eq!(clone_traced([UNTRACED | 17, 1, 2, 3, 4, 5]).ok(), Some([17, 1, 2, 3, 4, 5]));
        // New namespaces are refused all the same.
        let flags = UNTRACED | libc::CLONE_NEWUSER as u64;
        let refuse = clone_traced([flags, 0, 0, 0, 0, 0]).expect_err("somebody answers");
        let guest = FakeGuest::default();
        assert_eq!(refuse(&guest, [flags, 0, 0, 0, 0, 0]).expect_err("refused"), Errno::EPERM);
        assert_eq!(guest.denials().len(), 1);
    }

    #[test]
    fn real_time_classes_are_pretended_by_number() {
        let row = find("sched_setscheduler").expect("there is a row");
        let features = [crate::table::Feature::PretendedClasses];
        let route = row.route_with(crate::table::Surface::Compat, &features);
        for (class, wanted) in [
            (0, Verdict::Allow),
            (1, Verdict::Notify),
            (2, Verdict::Notify),
            (0x4000_0001, Verdict::Notify),
            (0xFFFF_FFFF_4000_0002, Verdict::Notify),
            (3, Verdict::Allow),
            (5, Verdict::Allow),
        ] {
            assert_eq!(route.verdict(row.parameters, &[0, class, 0, 0, 0, 0]), wanted, "{class:#x}");
        }
        let guest = FakeGuest::default();
        let ask = |priority: i32| sched_setscheduler(&guest, Pid(0), Int(1), guest.put(&priority.to_ne_bytes()));
        assert!(ask(1).is_ok() && ask(99).is_ok());
        assert_eq!(ask(0).expect_err("out of range"), Errno::EINVAL);
        assert_eq!(sched_setscheduler(&guest, Pid(0), Int(1), UserPtr(8)).expect_err("nothing there"), Errno::EFAULT);
    }

    #[test]
    fn a_container_stays_in_its_namespaces() {
        let mut guest = FakeGuest::default();
        guest.rules.container = Some(crate::rules::Contained::default());
        assert_eq!(setns(&guest, Fd(3), Int(0)).expect_err("refused"), Errno::EPERM);
        assert_eq!(unshare(&guest, Flags(libc::CLONE_NEWUSER.cast_unsigned())).expect_err("refused"), Errno::EPERM);
        let remedies: Vec<_> = guest.denials().into_iter().map(|denial| denial.remedy).collect();
        assert_eq!(remedies, ["a container stays in its own namespaces", CONTAINED]);
    }

    #[test]
    fn threads_and_children_are_made_as_ever() {
        assert_eq!(verdict("clone", 0x003D_0F00), Verdict::Allow, "pthread_create");
        assert_eq!(verdict("clone", 0x0120_0011), Verdict::Allow, "fork");
        assert_eq!(verdict("clone", 0x4111), Verdict::Allow, "posix_spawn");
        assert_eq!(verdict("unshare", u64::from(libc::CLONE_FS.cast_unsigned())), Verdict::Allow);
    }
}
