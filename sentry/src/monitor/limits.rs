//! Which mechanism enforces each limit on this host: the strongest that can be had, named in the report.

use std::time::Duration;

use nix::libc;
use serde::Serialize;
use shim::failure::{Failure, Step};
use shim::plan::ResourceLimit;

use super::cgroup::{Cgroup, Host};
use crate::policy::{FakeRoot, Policy, Userns};
use crate::supervise::watch::Watched;

/// A limit's name, as the options spell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Name {
    /// `--memory`
    Memory,
    /// `--pids`
    Pids,
    /// `--cpus`
    Cpus,
    /// `--timeout`
    Timeout,
    /// `--cpu-time`
    CpuTime,
    /// `--disk`
    Disk,
    /// `--max-file`
    MaxFile,
}

/// Who enforces a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mechanism {
    /// The kernel, for all processes together.
    Cgroup,
    /// The kernel, for each process; for processes, for the sandbox.
    Rlimit,
    /// The supervisor or the monitor, who look from time to time.
    Watch,
    /// The kernel, in whole CPUs.
    Affinity,
    /// The size of the file systems in memory.
    Tmpfs,
    /// The monitor's clock.
    Timer,
}

/// One limit of this run, for the report.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Enforced {
    /// Which.
    pub name: Name,
    /// Bytes, seconds or a count.
    pub value: f64,
    /// How; several where one alone would be weaker.
    pub mechanisms: Vec<Mechanism>,
    /// Whether it was reached.
    pub hit: bool,
}

/// Everything about limits that was decided for this run.
#[derive(Debug, Default)]
pub struct Decided {
    /// For the report.
    pub enforced: Vec<Enforced>,
    /// For the guest's process.
    pub resources: Vec<ResourceLimit>,
    /// CPUs the guest is pinned to.
    pub cpus: Option<Vec<usize>>,
    /// For the supervisor.
    pub watched: Watched,
    /// The run's group.
    pub cgroup: Option<Cgroup>,
    /// Bytes that copy-on-write layers on disk may hold, watched by the monitor.
    pub store: Option<u64>,
    /// Wall time.
    pub timeout: Option<Duration>,
    /// Where a mechanism is weaker than a cgroup.
    pub warnings: Vec<String>,
}

/// Room above `--memory` for what a process maps and never touches: stacks of threads, guard areas of allocators.
const UNTOUCHED: u64 = 256 << 20;

impl Decided {
    fn enforce(&mut self, name: Name, value: f64, mechanisms: &[Mechanism]) {
        self.enforced.push(Enforced { name, value, mechanisms: mechanisms.to_vec(), hit: false });
    }

    fn resource(&mut self, resource: libc::__rlimit_resource_t, soft: u64, hard: u64) {
        self.resources.push(ResourceLimit(resource, soft, hard));
    }
}

/// Chooses for `policy` on this host. `on_disk`: whether copy-on-write layers live on disk.
pub fn decide(policy: &Policy, on_disk: bool) -> Result<Decided, Failure> {
    let limits = &policy.limits;
    let mut decided = Decided { resources: vec![shim::limits::NO_CORE], ..Decided::default() };
    if policy.fake_root == FakeRoot::Pretend || policy.userns == Userns::Emulate {
        mark_root(&mut decided)?;
    }
    if limits.memory.is_some() || limits.cpus.is_some() {
        decided.cgroup = Cgroup::new(&Host::here(), limits);
    }
    let in_group = |name| decided.cgroup.as_ref().is_some_and(|group| group.has(name));
    let (memory_in_group, cpus_in_group) = (in_group(Name::Memory), in_group(Name::Cpus));

    if let Some(memory) = limits.memory {
        if memory_in_group {
            decided.enforce(Name::Memory, float(memory), &[Mechanism::Cgroup]);
        } else {
            // RLIMIT_AS would be the textbook choice, but it counts address space that is only reserved: node and the JVM
            // do not even start under it. RLIMIT_DATA counts private writable memory, and the watch counts what is used.
            let ceiling = memory.saturating_add(UNTOUCHED);
            decided.resource(libc::RLIMIT_DATA, ceiling, ceiling);
            decided.watched.memory = Some(memory);
            decided.enforce(Name::Memory, float(memory), &[Mechanism::Rlimit, Mechanism::Watch]);
            decided.warnings.push(
                "--memory is enforced by looking 50 times a second, for no cgroup is delegated to you; a fast program can \
                 overshoot it for a moment (sentry doctor tells how to get a cgroup)"
                    .to_owned(),
            );
        }
    }
    if let Some(pids) = limits.pids {
        // Counted by the kernel per user namespace, in which there are only the guest's processes and init.
        decided.resource(libc::RLIMIT_NPROC, pids + 1, pids + 1);
        decided.watched.pids = Some(pids);
        decided.enforce(Name::Pids, float(pids), &[Mechanism::Rlimit]);
    }
    if let Some(cpus) = limits.cpus {
        let whole = cpus.ceil().max(1.0);
        // Also where a cgroup measures out the time: programs count the processors that they may run on.
        decided.cpus = pinned(whole)?;
        if cpus_in_group {
            decided.enforce(Name::Cpus, cpus, &[Mechanism::Cgroup, Mechanism::Affinity]);
        } else {
            decided.enforce(Name::Cpus, whole, &[Mechanism::Affinity]);
            if whole > cpus {
                let warning = format!("--cpus {cpus} is rounded up to {whole}: a part of a CPU needs a cgroup");
                decided.warnings.push(warning);
            }
        }
    }
    if let Some(timeout) = limits.timeout {
        decided.timeout = Some(timeout);
        decided.enforce(Name::Timeout, timeout.as_secs_f64(), &[Mechanism::Timer]);
    }
    if let Some(time) = limits.cpu_time {
        let seconds = time.as_secs() + u64::from(time.subsec_nanos() > 0);
        // SIGXCPU may be caught; the second after it cannot be.
        decided.resource(libc::RLIMIT_CPU, seconds.max(1), seconds.max(1) + 1);
        decided.watched.cpu_time = Some(time);
        decided.enforce(Name::CpuTime, time.as_secs_f64(), &[Mechanism::Rlimit, Mechanism::Watch]);
    }
    if let Some(disk) = limits.disk {
        let mut mechanisms = vec![Mechanism::Tmpfs];
        if on_disk {
            mechanisms.push(Mechanism::Watch);
            decided.store = Some(disk);
        }
        decided.enforce(Name::Disk, float(disk), &mechanisms);
    }
    if let Some(size) = limits.max_file {
        decided.resource(libc::RLIMIT_FSIZE, size, size);
        decided.enforce(Name::MaxFile, float(size), &[Mechanism::Rlimit]);
    }
    Ok(decided)
}

/// Under `--fake-root` and `--userns emulate` this limit says who a process pretends to be ([`pretended`](crate::pretended)); none is root.
fn mark_root(decided: &mut Decided) -> Result<(), Failure> {
    let (_, hard) = shim::sys::limit(libc::RLIMIT_RTTIME).step(|| "read the limit of real-time work")?;
    if hard != libc::RLIM_INFINITY {
        let failure = Failure::check_text(
            "--fake-root and --userns emulate need the resource limit of real-time work (RLIMIT_RTTIME)",
        );
        return Err(failure.remedy("start sentry where 'ulimit -H -R' is unlimited, or without them"));
    }
    decided.resource(libc::RLIMIT_RTTIME, libc::RLIM_INFINITY, libc::RLIM_INFINITY);
    Ok(())
}

/// The first so many of our own CPUs, counted from another one for each run; `None` if that is all of them.
fn pinned(count: f64) -> Result<Option<Vec<usize>>, Failure> {
    let own = shim::sys::affinity().step(|| "look up the CPUs of this process")?;
    let start = usize::try_from(std::process::id()).unwrap_or(0) % own.len().max(1);
    let turned = own.iter().cycle().skip(start).take(own.len());
    let chosen: Vec<usize> =
        turned.copied().zip(1u32..).take_while(|(_, n)| f64::from(*n) <= count).map(|(cpu, _)| cpu).collect();
    Ok((chosen.len() < own.len()).then_some(chosen))
}

#[allow(clippy::cast_precision_loss)] // a report; beyond 2^53 nobody counts bytes
fn float(value: u64) -> f64 {
    value as f64
}
