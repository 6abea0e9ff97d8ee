//! `--nested`: a sandbox within a sandbox, with what can be had there.
//!
//! Inside a sandbox the kernel gives no user namespace, so there is no view, no process and network namespace, and no
//! second listener for a process tree that has one, so there is no supervisor. Landlock, a filter that answers by itself
//! and limits are left: less than `sentry run` promises, and therefore never chosen unasked. What is missing is said.
//!
//! Whether there is a sandbox around us is asked of the kernel. The mark that our own sandboxes carry only lends its name
//! to the message, for anybody can make a file.

mod reap;
mod shrink;

use std::ffi::{CString, OsStr, OsString};
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, raise, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::stat::Mode;
use nix::sys::time::TimeValLike;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpgrp, tcgetpgrp, tcsetpgrp};
use shim::confine::{self, Confinement};
use shim::failure::{Failure, Step};
use shim::message::Usage;
use syscalls::abi::Arch;
use syscalls::filter::compile_alone;
use syscalls::table::{Feature, Routes};

use super::cgroup::Cgroup;
use super::limits::{self, Decided, Mechanism, Name};
use super::{profile, search, strings, system};
use crate::host::probe;
use crate::policy::view::Facts;
use crate::policy::{Net, Policy, environment};
use crate::report::{Cause, Report};

/// The mark in the view of each sandbox of ours.
pub const MARK: &str = "/run/.sentry";

/// What is around us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Around {
    /// Nothing that keeps us from building a sandbox.
    Nothing,
    /// A filter that keeps namespaces or a listener from us.
    Sandbox,
    /// The same, and the view has our mark.
    Ours,
}

impl Around {
    /// Asks the kernel. Without a filter in force, which is one call to find out, there is nothing to ask.
    pub fn look() -> Self {
        Self::looked(false)
    }

    /// The same, for a sandbox without a listener if `traced`.
    fn looked(traced: bool) -> Self {
        const FILTER: i32 = 2;
        // Kept from asking, we are in something.
        if matches!(shim::sys::prctl(libc::PR_GET_SECCOMP, 0, 0), Ok(mode) if mode != FILTER) {
            return Self::Nothing;
        }
        if (traced || probe::listener(false).is_ok()) && probe::user_namespace().is_ok() {
            return Self::Nothing;
        }
        if Path::new(MARK).exists() { Self::Ours } else { Self::Sandbox }
    }

    /// How a message calls it.
    pub fn name(self) -> &'static str {
        if self == Self::Ours { "a sandbox of sentry" } else { "another sandbox" }
    }
}

/// Fails where a whole sandbox cannot be built because there is one around us.
/// `traced`: it has no listener.
pub fn refuse_within(traced: bool) -> Result<(), Failure> {
    match Around::looked(traced) {
        Around::Nothing => Ok(()),
        around if !traced && Around::looked(true) == Around::Nothing => Err(Failure::check_text(format!(
            "this is inside {} already, which has the one listener that a process tree can have",
            around.name()
        ))
        .remedy("do without a listener: --platform ptrace")),
        around => Err(Failure::check_text(format!(
            "this is inside {} already, which gives no namespaces, and of supervisors a process tree can have only one",
            around.name()
        ))
        .remedy("hold the program by what can be had here with --nested, or start sentry outside of it")),
    }
}

/// What `policy` loses here, or why it cannot be held.
pub fn weigh(policy: &Policy, facts: &Facts) -> Result<Vec<String>, Failure> {
    shrink::shrink(policy, facts).map(|shrunk| shrunk.lost)
}

/// Runs `policy` within the sandbox around us.
pub fn run(policy: &Policy, started: Instant, report: &mut Report) -> Result<(), Failure> {
    if Around::look() == Around::Nothing && !policy.allow_degraded {
        return Err(Failure::check_text("--nested: there is no sandbox around this one")
            .remedy("leave it out for a whole sandbox; --allow-degraded takes the small one all the same"));
    }
    super::refuse_privileged_start()?;
    let facts = crate::host::user_facts()?;
    let shrunk = shrink::shrink(policy, &facts)?;
    let mut decided = limits::decide(policy, false)?;
    weaken(&mut decided);
    if !policy.quiet {
        for what in &shrunk.lost {
            let _ = writeln!(std::io::stderr(), "sentry: without {}", crate::report::escape(what));
        }
    }
    let private = Private::new()?;
    let confinement = confinement(policy, &shrunk, &mut decided, &private)?;
    // Whoever outlives its parent comes to us, also what becomes a daemon.
    shim::sys::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0).step(|| "become the guest's reaper")?;
    let mut run = Run { terminal: confinement.foreground, timeout: false };
    let ended = run.until_the_end(&confinement, &decided);
    let left = !reap::end_all();
    if let Some(cgroup) = &decided.cgroup {
        cgroup.remove();
    }
    if run.terminal {
        let _ = tcsetpgrp(std::io::stdin(), getpgrp());
    }
    report.protections.lost = shrunk.lost;
    if left {
        report.protections.lost.push("the end of some processes, which could not be killed".to_owned());
    }
    let status = ended?;
    report.protections.held = vec![
        "no capabilities, no_new_privs".to_owned(),
        "seccomp filter without supervisor".to_owned(),
        "Landlock rules about paths, and scopes".to_owned(),
    ];
    conclude(status, run.timeout, decided, started, report);
    Ok(())
}

/// Nobody watches over sums here.
fn weaken(decided: &mut Decided) {
    decided.warnings.clear();
    for limit in &mut decided.enforced {
        limit.mechanisms.retain(|mechanism| !matches!(mechanism, Mechanism::Watch | Mechanism::Tmpfs));
    }
    decided.enforced.retain(|limit| !limit.mechanisms.is_empty());
}

fn confinement(
    policy: &Policy,
    shrunk: &shrink::Shrunk,
    decided: &mut Decided,
    private: &Private,
) -> Result<Confinement, Failure> {
    let mut features = vec![Feature::NoPidNamespace];
    match policy.net {
        Net::None => features.push(Feature::NoNetwork),
        Net::All => features.push(Feature::HostNetwork),
    }
    if decided.cpus.is_some() {
        features.push(Feature::PinnedCpus);
    }
    if !policy.tracing_inside {
        features.push(Feature::NoTracing);
    }
    let mut filters: Vec<_> = policy.seccomp.iter().map(|path| profile::load(path)).collect::<Result<_, Failure>>()?;
    filters.push(compile_alone(&Routes::new(Arch::native(), policy.surface, &features)));

    let mut objects = vec![(open(&private.0, "the private directory")?, confine::Rights::Change)];
    for allowed in &shrunk.allowed {
        match open(&allowed.path, &allowed.option) {
            Err(failure) if allowed.optional && failure.errno != 0 => {}
            object => objects.push((object?, allowed.rights)),
        }
    }
    // Not all of /dev/pts: the terminals of others are there as well.
    for number in 0..3 {
        let opened = std::fs::read_link(format!("/proc/self/fd/{number}")).ok();
        if let Some(terminal) = opened.filter(|name| name.starts_with("/dev/pts")) {
            objects.push((open(&terminal, "the terminal")?, confine::Rights::Device));
        }
    }
    let variables = variables(policy, &private.0)?;
    let workdir = shrunk.workdir.as_deref().unwrap_or(&private.0);
    Ok(Confinement {
        objects,
        network: policy.net == Net::All,
        filters,
        limits: std::mem::take(&mut decided.resources),
        cpus: decided.cpus.take(),
        command: strings(policy.command.iter().map(OsString::as_os_str))?,
        search: search(&variables)?,
        environment: variables,
        workdir: whole(workdir.as_os_str().as_bytes())?,
        foreground: tcgetpgrp(std::io::stdin()) == Ok(getpgrp()),
        allow_degraded: policy.allow_degraded,
    })
}

fn whole(bytes: &[u8]) -> Result<CString, Failure> {
    CString::new(bytes).map_err(|_| Failure::check("use a name with a NUL byte"))
}

fn open(path: &Path, option: &str) -> Result<OwnedFd, Failure> {
    // Not by openat2(2), which the sandbox around us may not have.
    let opened = nix::fcntl::open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty());
    opened.step(|| format!("open {} ({option})", path.display()))
}

/// The guest's variables; its home and its place for temporary files are the one directory that it has for itself.
fn variables(policy: &Policy, private: &Path) -> Result<Vec<CString>, Failure> {
    let user = system::guest_name(&super::identity(policy));
    let mut variables = environment::compose(&policy.environment, std::env::vars_os(), OsStr::new(&user), private);
    if !variables.iter().any(|(name, _)| name == "TMPDIR") {
        variables.push(("TMPDIR".into(), private.into()));
    }
    variables.iter().map(|(name, value)| whole(&[name.as_bytes(), b"=", value.as_bytes()].concat())).collect()
}

/// A directory for one run, removed with all that is in it.
struct Private(PathBuf);

impl Private {
    fn new() -> Result<Self, Failure> {
        let name = format!("sentry-nested-{}", crate::changes::record::fresh_id());
        let path = std::env::temp_dir().join(name);
        let made = std::fs::DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))
            .step(|| format!("make the private directory {}", path.display()))
            .map_err(|failure| failure.remedy("name a directory that can be written with TMPDIR"))?;
        Ok(Self(path))
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Starts the guest, within a control group where one can be had, as in some containers.
fn spawn(confinement: &Confinement, cgroup: Option<&Cgroup>) -> Result<Pid, Failure> {
    let io = |error: std::io::Error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO));
    let Some(cgroup) = cgroup else { return confine::spawn(confinement) };
    cgroup.join().map_err(io).step(|| "join the guest's control group")?;
    let guest = confine::spawn(confinement);
    cgroup.leave().map_err(io).step(|| "leave the guest's control group")?;
    guest
}

/// Passed on to the program.
const PASSED_ON: [Signal; 6] =
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGUSR1, Signal::SIGUSR2];

struct Run {
    terminal: bool,
    timeout: bool,
}

impl Run {
    /// Until the program ended, or its time is up.
    fn until_the_end(&mut self, confinement: &Confinement, decided: &Decided) -> Result<WaitStatus, Failure> {
        // All of them: the guest unblocks them for itself once it is in its own group.
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), None).step(|| "block signals")?;
        let signals = SignalFd::with_flags(&SigSet::all(), SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK);
        let small = "the sandbox around this one has too few system calls; start that one without --profile judge";
        let signals = signals.step(|| "watch for signals").map_err(|failure| failure.remedy(small))?;
        let guest = spawn(confinement, decided.cgroup.as_ref())?;
        let deadline = decided.timeout.map(|timeout| Instant::now() + timeout);
        loop {
            if let Some(status) = self.reap(guest) {
                return Ok(status);
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) && !self.timeout {
                self.timeout = true;
                let _ = shim::sys::kill(guest.as_raw(), libc::SIGKILL);
            }
            let left = left.filter(|_| !self.timeout).map(|left| left + Duration::from_millis(1));
            let patience =
                left.map_or(PollTimeout::NONE, |left| PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX));
            match poll(&mut [PollFd::new(signals.as_fd(), PollFlags::POLLIN)], patience) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(Failure::new("wait for the guest", errno)),
            }
            while let Ok(Some(signal)) = signals.read_signal() {
                let number = i32::try_from(signal.ssi_signo).unwrap_or(0);
                if PASSED_ON.iter().any(|passed| *passed as i32 == number) {
                    let _ = shim::sys::kill(guest.as_raw(), number);
                }
            }
        }
    }

    /// Collects whoever ended; the guest's status if it was the guest.
    fn reap(&mut self, guest: Pid) -> Option<WaitStatus> {
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG | WaitPidFlag::WUNTRACED)) {
                Ok(WaitStatus::StillAlive) | Err(_) => return None,
                Ok(WaitStatus::Stopped(pid, _)) if pid == guest => self.stop_with_the_guest(guest),
                Ok(status @ (WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..))) if pid == guest => {
                    return Some(status);
                }
                Ok(_) => {}
            }
        }
    }

    /// The guest stopped: so do we, that the shell may go on; `fg` brings both back.
    fn stop_with_the_guest(&self, guest: Pid) {
        if self.terminal {
            let _ = tcsetpgrp(std::io::stdin(), getpgrp());
        }
        let _ = raise(Signal::SIGSTOP);
        // Here we were continued.
        if self.terminal {
            let _ = tcsetpgrp(std::io::stdin(), guest);
        }
        let _ = shim::sys::kill(-guest.as_raw(), libc::SIGCONT);
    }
}

/// Writes down how it ended.
fn conclude(status: WaitStatus, timeout: bool, decided: Decided, started: Instant, report: &mut Report) {
    let (code, signal) = match status {
        WaitStatus::Exited(_, code) => (Some(code), None),
        WaitStatus::Signaled(_, signal, _) => (None, Some(signal as i32)),
        _ => (None, Some(libc::SIGKILL)),
    };
    let byte = |code: i32| u8::try_from(code & 0xff).unwrap_or(255);
    (report.exit_code, report.cause) = match (code, signal) {
        _ if timeout => (124, Cause::Timeout),
        (_, Some(libc::SIGXCPU)) => (124, Cause::Timeout),
        (_, Some(signal)) => (byte(128 + signal), Cause::Signal),
        (code, None) => (byte(code.unwrap_or(255)), Cause::Exited),
    };
    report.program_exit_code = code.filter(|_| !timeout);
    report.signal = signal;
    report.limits = decided.enforced;
    for limit in &mut report.limits {
        limit.hit = report.cause == Cause::Timeout && limit.name == if timeout { Name::Timeout } else { Name::CpuTime };
    }
    report.used(started.elapsed(), usage(), None);
}

fn usage() -> Usage {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_CHILDREN) else { return Usage::default() };
    let microseconds = |time: nix::sys::time::TimeVal| u64::try_from(time.num_microseconds()).unwrap_or(0);
    Usage {
        user_us: microseconds(usage.user_time()),
        system_us: microseconds(usage.system_time()),
        peak_process: u64::try_from(usage.max_rss()).unwrap_or(0) * 1024,
    }
}
