//! Resource limits that the kernel enforces per process or, for processes, per user namespace. See setrlimit(2).

use nix::libc;

use crate::failure::{Failure, Step};
use crate::plan::ResourceLimit;
use crate::sys;

/// Sets the guest's limits: never above the hard limits that are already in force.
pub fn apply(limits: &[ResourceLimit], cpus: Option<&[usize]>) -> Result<(), Failure> {
    for &ResourceLimit(resource, soft, hard) in limits {
        let (_, ceiling) = sys::limit(resource).step(|| format!("read resource limit {resource}"))?;
        sys::set_limit(resource, soft.min(ceiling), hard.min(ceiling))
            .step(|| format!("set resource limit {resource}"))?;
    }
    if let Some(cpus) = cpus {
        sys::set_affinity(cpus).step(|| "pin the guest to its CPUs")?;
    }
    Ok(())
}

/// Core dumps: a limit of 1 makes the kernel skip even a `core_pattern` that is a pipe to a program on the host, which a
/// limit of 0 does not (core(5)).
pub const NO_CORE: ResourceLimit = ResourceLimit(libc::RLIMIT_CORE, 1, 1);
