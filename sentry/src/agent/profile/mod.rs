//! A policy as an OCI seccomp profile: what runc and crun load, and podman passes on to them.
//!
//! What the policy refuses or allows by itself is refused or allowed by the kernel there too; what the sentry answers is
//! `SCMP_ACT_NOTIFY`, and the listener is sent to the agent's socket. Whatever is not named fails with `ENOSYS`.
//!
//! The runtime loads the profile before it runs the program, and needs some calls until then. One that waits for an agent which
//! has not been given the listener yet would wait forever, so such a profile is not written.

mod cases;

use std::collections::BTreeMap;
use std::path::PathBuf;

use nix::errno::Errno;
use serde::Serialize;
use shim::failure::Failure;
use syscalls::abi::Arch;
use syscalls::dispatch::Handler;
use syscalls::table::{self, Feature, Route, Routes, Syscall, Verdict};

use super::Container;
use super::policy::ContainerPolicy;
use cases::Case;

/// What runc and crun call between loading the profile and handing the listener over, their threads included. Learned by
/// watching both.
const BEFORE_HANDING_OVER: &[&str] = &[
    "brk",
    "close",
    "epoll_ctl",
    "epoll_pwait",
    "exit",
    "exit_group",
    "fcntl",
    "futex",
    "getpid",
    "gettid",
    "kill",
    "madvise",
    "mmap",
    "mprotect",
    "munmap",
    "nanosleep",
    "read",
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "sched_yield",
    "sendmsg",
    "sigaltstack",
    "tgkill",
    "wait4",
    "write",
];

/// What they call after that, until the program runs: the sentry may answer it, but it may not be refused.
const BEFORE_THE_PROGRAM: &[&str] = &[
    "capget",
    "capset",
    "chdir",
    "close_range",
    "dup3",
    "execve",
    "faccessat2",
    "fchown",
    "fstat",
    "fstatfs",
    "getcwd",
    "getdents64",
    "getppid",
    "ioctl",
    "newfstatat",
    "openat",
    "prctl",
    "setgid",
    "setgroups",
    "setresgid",
    "setresuid",
    "setuid",
    "umask",
];

/// What podman's default profile allows to containers with some capability only.
const FOR_CAPABLE: &[&str] = &["kcmp", "process_madvise"];

/// Where the listener goes.
#[derive(Clone, Debug)]
pub struct Destination {
    /// The agent's socket.
    pub socket: PathBuf,
    /// The policy that the agent is asked to answer by.
    pub metadata: String,
    /// Whether calls that the sentry is working on wait for the answer whatever signals come. crun knows how to ask for that; runc
    /// takes no profile that does.
    pub wait_killable: bool,
}

/// `linux.seccomp` of the OCI runtime specification.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    default_action: &'static str,
    default_errno_ret: i32,
    architectures: Vec<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    flags: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    listener_path: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    listener_metadata: Option<String>,
    syscalls: Vec<Rule>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    names: Vec<&'static str>,
    action: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    errno_ret: Option<i32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    args: Vec<Argument>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Argument {
    index: usize,
    value: u64,
    value_two: u64,
    op: &'static str,
}

/// Writes the profile of a policy.
pub fn write(policy: &ContainerPolicy, destination: &Destination) -> Result<String, Failure> {
    // Whatever the container's memory is, the sentry answers what it is told of it.
    let container = Container { memory: Some(u64::MAX), ..Container::default() };
    of_routes(&policy.routes(&container), &policy.name, destination)
}

/// Writes the profile of the policy called `policy` with these `routes`.
fn of_routes(routes: &Routes, policy: &str, destination: &Destination) -> Result<String, Failure> {
    can_be_started(policy, |name| verdicts(routes, name))?;
    let mut plain: BTreeMap<(&'static str, Option<i32>), Vec<&'static str>> = BTreeMap::new();
    let mut conditional = Vec::new();
    let mut notifies = false;
    for row in table::all() {
        let Some(number) = row.number(routes.arch()) else { continue };
        let Some(route) = routes.get(number) else { continue };
        for (case, verdict) in cases::of(route, routes.parameters(number)) {
            let verdict = answered(verdict, row, route);
            // What is not named gets this anyway.
            if verdict == Verdict::Fail(Errno::ENOSYS) {
                continue;
            }
            notifies |= verdict == Verdict::Notify;
            let (action, errno) = action(verdict);
            match arguments(&case) {
                args if args.is_empty() => plain.entry((action, errno)).or_default().push(row.name),
                args => conditional.push(Rule { names: vec![row.name], action, errno_ret: errno, args }),
            }
        }
    }
    let plain =
        plain.into_iter().map(|((action, errno_ret), names)| Rule { names, action, errno_ret, args: Vec::new() });
    let profile = Profile {
        default_action: "SCMP_ACT_ERRNO",
        default_errno_ret: Errno::ENOSYS as i32,
        architectures: vec![match routes.arch() {
            Arch::X86_64 => "SCMP_ARCH_X86_64",
            Arch::Aarch64 => "SCMP_ARCH_AARCH64",
        }],
        flags: if destination.wait_killable && notifies {
            vec!["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]
        } else {
            Vec::new()
        },
        listener_path: notifies.then(|| destination.socket.clone()),
        listener_metadata: notifies.then(|| destination.metadata.clone()),
        syscalls: plain.chain(conditional).collect(),
    };
    serde_json::to_string_pretty(&profile)
        .map_err(|error| Failure::check_text(format!("cannot write the profile: {error}")))
}

/// What is only looked at need not come to the sentry of a container, but for programs that are given a clock: nothing is told of
/// it there. What podman allows with a capability only is not allowed here either, for the profile does not know the container's.
fn answered(verdict: Verdict, row: &Syscall, route: &Route) -> Verdict {
    let clocked = row.special.iter().any(|(feature, _)| *feature == Feature::VirtualClock);
    match (verdict, route.handler) {
        (Verdict::Allow, _) if FOR_CAPABLE.contains(&row.name) => Verdict::Fail(Errno::EPERM),
        (Verdict::Notify, Some(Handler::Observe(_))) if !clocked => Verdict::Allow,
        (Verdict::Notify, None) => Verdict::Fail(Errno::ENOSYS),
        _ => verdict,
    }
}

fn action(verdict: Verdict) -> (&'static str, Option<i32>) {
    match verdict {
        Verdict::Allow => ("SCMP_ACT_ALLOW", None),
        Verdict::Fail(errno) => ("SCMP_ACT_ERRNO", Some(errno as i32)),
        Verdict::Notify => ("SCMP_ACT_NOTIFY", None),
        Verdict::Kill => ("SCMP_ACT_KILL_PROCESS", None),
    }
}

fn arguments(case: &Case) -> Vec<Argument> {
    let fixed = case.arguments.iter().enumerate().filter(|(_, bits)| bits.mask != 0);
    let argument = |(index, bits): (usize, &cases::Bits)| match bits.mask {
        u64::MAX => Argument { index, value: bits.value, value_two: 0, op: "SCMP_CMP_EQ" },
        mask => Argument { index, value: mask, value_two: bits.value, op: "SCMP_CMP_MASKED_EQ" },
    };
    fixed.map(argument).collect()
}

/// Whether a runtime that loads a profile in which calls have these verdicts can still run a program.
fn can_be_started(policy: &str, verdicts: impl Fn(&str) -> Vec<Verdict>) -> Result<(), Failure> {
    let refused = |what: &str, name: &str, why: &str| {
        Err(Failure::check_text(format!(
            "the policy {policy} cannot be a profile: it {what} {name}, which runc and crun {why}"
        ))
        .remedy("choose another, or run the container with sentry oci"))
    };
    if let Some(name) = BEFORE_HANDING_OVER.iter().find(|name| verdicts(name).contains(&Verdict::Notify)) {
        return refused("answers", name, "call before anybody can answer");
    }
    // To be refused a part of what a call can do is no hindrance.
    let fails = |name: &str| {
        let verdicts = verdicts(name);
        !verdicts.is_empty() && verdicts.iter().all(|verdict| matches!(verdict, Verdict::Fail(_) | Verdict::Kill))
    };
    match BEFORE_HANDING_OVER.iter().chain(BEFORE_THE_PROGRAM).find(|name| fails(name)) {
        Some(name) => refused("refuses", name, "need before they run the program"),
        None => Ok(()),
    }
}

/// What a profile of these routes says of a call; nothing of one that this architecture does not have.
fn verdicts(routes: &Routes, name: &str) -> Vec<Verdict> {
    let row = table::find(name).and_then(|row| Some((row, routes.get(row.number(routes.arch())?)?)));
    let Some((row, route)) = row else { return Vec::new() };
    cases::of(route, row.parameters).into_iter().map(|(_, verdict)| answered(verdict, row, route)).collect()
}

#[cfg(test)]
mod tests;
