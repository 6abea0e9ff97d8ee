//! Limits of version 1.

use std::path::Path;

use nix::errno::Errno;
use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxNetwork};
use shim::failure::Failure;

use super::{Groups, read, write, write_step};

/// A new group of `cpuset` has no processors and no memory, and takes nobody until it has.
pub(super) fn inherit_cpuset(group: &Path) -> Result<(), Errno> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let own = group.join(file);
        if read(&own)?.is_empty()
            && let Some(parent) = group.parent()
        {
            write(&own, &read(&parent.join(file))?)?;
        }
    }
    Ok(())
}

fn number(file: &Path) -> Option<i64> {
    read(file).ok()?.parse().ok()
}

/// Memory, and memory with swap, which may never be less: whichever is to rise is written first.
pub(super) fn memory(group: &Path, memory: &LinuxMemory) -> Result<(), Failure> {
    let limit = memory.limit().filter(|limit| *limit != 0);
    // Without a word about swap an unlimited memory means unlimited swap.
    let swap = memory.swap().filter(|swap| *swap != 0).or(limit.filter(|limit| *limit < 0));
    let (limit_file, swap_file) = (group.join("memory.limit_in_bytes"), group.join("memory.memsw.limit_in_bytes"));
    if let (Some(limit), true) = (limit, memory.check_before_update().unwrap_or(false))
        && limit > 0
        && number(&group.join("memory.usage_in_bytes")).is_some_and(|used| used > limit)
    {
        return Err(Failure::check(format!("limit memory to {limit}: more is in use already")));
    }
    let swap_is_counted = swap_file.exists();
    let write_swap = |swap: i64| {
        // A kernel that does not account for swap cannot limit it; it is then as limited as memory is.
        if swap_is_counted { write_step(&swap_file, &swap.to_string()) } else { Ok(()) }
    };
    match (limit, swap) {
        (Some(limit), Some(swap)) => {
            let now = number(&swap_file).unwrap_or(i64::MAX);
            if limit < 0 || limit > now {
                write_swap(swap)?;
                write_step(&limit_file, &limit.to_string())?;
            } else {
                write_step(&limit_file, &limit.to_string())?;
                write_swap(swap)?;
            }
        }
        (Some(limit), None) => write_step(&limit_file, &limit.to_string())?,
        (None, Some(swap)) => write_swap(swap)?,
        (None, None) => {}
    }
    let set = |file: &str, value: Option<i64>| match value.filter(|value| *value != 0) {
        Some(value) => write_step(&group.join(file), &value.to_string()),
        None => Ok(()),
    };
    set("memory.soft_limit_in_bytes", memory.reservation())?;
    set("memory.kmem.tcp.limit_in_bytes", memory.kernel_tcp())?;
    if let Some(swappiness) = memory.swappiness() {
        if swappiness > 100 {
            return Err(Failure::check(format!("set swappiness to {swappiness}")).remedy("it is 0 to 100"));
        }
        write_step(&group.join("memory.swappiness"), &swappiness.to_string())?;
    }
    if memory.disable_oom_killer() == Some(true) {
        write_step(&group.join("memory.oom_control"), "1")?;
    }
    Ok(())
}

pub(super) fn cpu(group: &Path, cpu: &LinuxCpu) -> Result<(), Failure> {
    let set = |file: &str, value: Option<i128>| match value.filter(|value| *value != 0) {
        Some(value) => write_step(&group.join(file), &value.to_string()),
        None => Ok(()),
    };
    set("cpu.shares", cpu.shares().map(i128::from))?;
    let (period, quota) = (cpu.period().map(i128::from), cpu.quota().map(i128::from));
    let period_file = "cpu.cfs_period_us";
    // Of period and quota the kernel takes no pair that is more than the parent has, not even for a moment.
    if set(period_file, period).is_err() {
        set("cpu.cfs_quota_us", quota)?;
        set(period_file, period)?;
    } else {
        set("cpu.cfs_quota_us", quota)?;
    }
    set("cpu.cfs_burst_us", cpu.burst().map(i128::from))?;
    set("cpu.rt_period_us", cpu.realtime_period().map(i128::from))?;
    set("cpu.rt_runtime_us", cpu.realtime_runtime().map(i128::from))?;
    set("cpu.idle", cpu.idle().map(i128::from))
}

pub(super) fn block(group: &Path, block: &LinuxBlockIo) -> Result<(), Failure> {
    // The scheduler that has weights decides how their files are called.
    let weight_file = |name: &str| {
        let plain = group.join(format!("blkio.{name}"));
        if plain.exists() { plain } else { group.join(format!("blkio.bfq.{name}")) }
    };
    if let Some(weight) = block.weight().filter(|weight| *weight != 0) {
        write_step(&weight_file("weight"), &weight.to_string())?;
    }
    if let Some(weight) = block.leaf_weight().filter(|weight| *weight != 0) {
        write_step(&group.join("blkio.leaf_weight"), &weight.to_string())?;
    }
    for device in block.weight_device().iter().flatten() {
        let name = format!("{}:{}", device.major(), device.minor());
        if let Some(weight) = device.weight() {
            write_step(&weight_file("weight_device"), &format!("{name} {weight}"))?;
        }
        if let Some(weight) = device.leaf_weight() {
            write_step(&group.join("blkio.leaf_weight_device"), &format!("{name} {weight}"))?;
        }
    }
    let throttles = [
        ("read_bps", block.throttle_read_bps_device()),
        ("write_bps", block.throttle_write_bps_device()),
        ("read_iops", block.throttle_read_iops_device()),
        ("write_iops", block.throttle_write_iops_device()),
    ];
    for (what, devices) in throttles {
        for device in devices.iter().flatten() {
            let line = format!("{}:{} {}", device.major(), device.minor(), device.rate());
            write_step(&group.join(format!("blkio.throttle.{what}_device")), &line)?;
        }
    }
    Ok(())
}

pub(super) fn network(groups: &Groups, network: &LinuxNetwork) -> Result<(), Failure> {
    if let Some(class) = network.class_id().filter(|class| *class != 0) {
        write_step(&groups.of("net_cls")?.0.join("net_cls.classid"), &class.to_string())?;
    }
    for priority in network.priorities().iter().flatten() {
        let line = format!("{} {}", priority.name(), priority.priority());
        write_step(&groups.of("net_prio")?.0.join("net_prio.ifpriomap"), &line)?;
    }
    Ok(())
}
