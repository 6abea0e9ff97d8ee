//! Limits of version 2. The specification speaks version 1, so some numbers are translated.

use std::path::Path;

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory};
use shim::failure::{Failure, Step};

use super::{or_max, read, write, write_step};

/// Whether anything is to be limited: engines send zeros for what nobody asked for.
pub(super) fn wants_memory(memory: &LinuxMemory) -> bool {
    let number = [memory.limit(), memory.reservation(), memory.swap(), memory.kernel_tcp()];
    number.into_iter().flatten().any(|value| value != 0)
        || memory.swappiness().is_some()
        || memory.disable_oom_killer() == Some(true)
}

/// The same of processors, but for sets of them.
pub(super) fn wants_cpu(cpu: &LinuxCpu) -> bool {
    let unsigned = [cpu.shares(), cpu.period(), cpu.burst(), cpu.realtime_period()];
    let signed = [cpu.quota(), cpu.realtime_runtime(), cpu.idle()];
    unsigned.into_iter().flatten().any(|value| value != 0) || signed.into_iter().flatten().any(|value| value != 0)
}

/// Whether it is to have no more than so much of the processors, rather than a weight against others.
pub(super) fn caps_cpu(cpu: &LinuxCpu) -> bool {
    cpu.quota().is_some_and(|quota| quota > 0) || cpu.realtime_runtime().is_some_and(|time| time != 0)
}

/// The same of disks.
pub(super) fn wants_block(block: &LinuxBlockIo) -> bool {
    let weights = [block.weight(), block.leaf_weight()];
    let throttles = [
        block.throttle_read_bps_device(),
        block.throttle_write_bps_device(),
        block.throttle_read_iops_device(),
        block.throttle_write_iops_device(),
    ];
    weights.into_iter().flatten().any(|weight| weight != 0)
        || block.weight_device().as_ref().is_some_and(|devices| !devices.is_empty())
        || throttles.into_iter().flatten().any(|devices| !devices.is_empty())
}

pub(super) fn memory(group: &Path, memory: &LinuxMemory) -> Result<(), Failure> {
    let limit = memory.limit().filter(|limit| *limit != 0);
    if let (Some(limit), true) = (limit, memory.check_before_update().unwrap_or(false))
        && limit > 0
        && read(&group.join("memory.current"))
            .ok()
            .and_then(|used| used.parse().ok())
            .is_some_and(|used: i64| used > limit)
    {
        return Err(Failure::check(format!("limit memory to {limit}: more is in use already")));
    }
    if let Some(swap) = swap(limit, memory.swap())? {
        let file = group.join("memory.swap.max");
        // A kernel without swap has no such file, and nothing to limit.
        if file.exists() {
            write_step(&file, &or_max(swap))?;
        }
    }
    if let Some(limit) = limit {
        write_step(&group.join("memory.max"), &or_max(limit))?;
    }
    if let Some(reservation) = memory.reservation().filter(|reservation| *reservation != 0) {
        write_step(&group.join("memory.low"), &or_max(reservation))?;
    }
    Ok(())
}

/// Version 1 limits memory and swap together, version 2 swap alone.
fn swap(limit: Option<i64>, both: Option<i64>) -> Result<Option<i64>, Failure> {
    match (limit, both.filter(|both| *both != 0)) {
        (Some(limit), None) if limit < 0 => Ok(Some(-1)),
        (_, None) => Ok(None),
        (_, Some(both)) if both < 0 => Ok(Some(-1)),
        (Some(limit), Some(both)) if limit > 0 && both >= limit => Ok(Some(both - limit)),
        (_, Some(both)) => Err(Failure::check(format!("limit memory with swap to {both}"))
            .remedy("it takes a limit of memory that is not above it")),
    }
}

pub(super) fn cpu(group: &Path, cpu: &LinuxCpu) -> Result<(), Failure> {
    if cpu.realtime_runtime().is_some_and(|value| value != 0) || cpu.realtime_period().is_some_and(|value| value != 0) {
        return Err(Failure::check("limit realtime processes").remedy("control groups of version 2 cannot"));
    }
    if let Some(idle) = cpu.idle().filter(|idle| *idle != 0) {
        write_step(&group.join("cpu.idle"), &idle.to_string())?;
    }
    if let Some(shares) = cpu.shares().filter(|shares| *shares != 0) {
        write_step(&group.join("cpu.weight"), &weight_of(shares).to_string())?;
    }
    let (quota, period) = (cpu.quota().filter(|quota| *quota != 0), cpu.period().filter(|period| *period != 0));
    if quota.is_some() || period.is_some() {
        let file = group.join("cpu.max");
        let now = read(&file).unwrap_or_default();
        let quota = quota.map_or_else(|| now.split(' ').next().unwrap_or("max").to_owned(), or_max);
        write_step(&file, &period.map_or(quota.clone(), |period| format!("{quota} {period}")))?;
    }
    if let Some(burst) = cpu.burst().filter(|burst| *burst != 0) {
        write_step(&group.join("cpu.max.burst"), &burst.to_string())?;
    }
    Ok(())
}

/// 2 to 262144 shares as a weight of 1 to 10000.
fn weight_of(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}

/// 10 to 1000 as 1 to 10000.
fn io_weight_of(weight: u16) -> u64 {
    1 + (u64::from(weight).clamp(10, 1000) - 10) * 9999 / 990
}

pub(super) fn block(group: &Path, block: &LinuxBlockIo) -> Result<(), Failure> {
    let bfq = group.join("io.bfq.weight");
    if let Some(weight) = block.weight().filter(|weight| *weight != 0) {
        if bfq.exists() {
            write_step(&bfq, &weight.to_string())?;
        } else {
            write_step(&group.join("io.weight"), &io_weight_of(weight).to_string())?;
        }
    }
    for device in block.weight_device().iter().flatten() {
        if let Some(weight) = device.weight() {
            write_step(&bfq, &format!("{}:{} {weight}", device.major(), device.minor()))?;
        }
    }
    let throttles = [
        ("rbps", block.throttle_read_bps_device()),
        ("wbps", block.throttle_write_bps_device()),
        ("riops", block.throttle_read_iops_device()),
        ("wiops", block.throttle_write_iops_device()),
    ];
    for (key, devices) in throttles {
        for device in devices.iter().flatten() {
            let line = format!("{}:{} {key}={}", device.major(), device.minor(), device.rate());
            write_step(&group.join("io.max"), &line)?;
        }
    }
    Ok(())
}

/// `resources.unified`: a file of the group, by its name, and what is written to it.
pub(super) fn raw(group: Option<&Path>, file: &str, value: &str) -> Result<(), Failure> {
    let step = || format!("write {value} to {file} of the control group");
    let refuse = |why: &str| Err(Failure::check(step()).remedy(why));
    if file.contains('/')
        || !file.contains('.')
        || file.starts_with("cgroup.") && file != "cgroup.max.depth" && file != "cgroup.max.descendants"
    {
        return refuse("it is no limit of a controller");
    }
    let Some(group) = group else {
        return refuse("control groups of version 2 are disabled or may not be made here");
    };
    for line in value.lines() {
        write(&group.join(file), line)
            .step(step)
            .map_err(|failure| failure.remedy("the controller may not be there: see cgroup.controllers"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_translated_at_their_ends() {
        assert_eq!((weight_of(2), weight_of(1024), weight_of(262_144), weight_of(1)), (1, 39, 10_000, 1));
        assert_eq!((io_weight_of(10), io_weight_of(1000)), (1, 10_000));
        assert_eq!(swap(Some(100), Some(300)).unwrap(), Some(200));
        assert_eq!(swap(Some(100), Some(-1)).unwrap(), Some(-1));
        assert_eq!(swap(Some(-1), None).unwrap(), Some(-1));
        assert_eq!(swap(Some(100), None).unwrap(), None);
        assert!(swap(Some(100), Some(50)).is_err() && swap(None, Some(50)).is_err());
    }

    #[test]
    fn only_limits_are_written_by_name() {
        let group = tempfile::tempdir().unwrap();
        std::fs::write(group.path().join("memory.high"), "").unwrap();
        assert!(raw(Some(group.path()), "memory.high", "100").is_ok());
        for bad in ["../memory.high", "cgroup.procs", "cgroup.subtree_control", "memory", "memory.none"] {
            assert!(raw(Some(group.path()), bad, "1").is_err(), "{bad}");
        }
    }
}
