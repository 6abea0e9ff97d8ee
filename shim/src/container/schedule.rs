//! `process.scheduler` and `process.ioPriority`. See sched_setattr(2) and ioprio_set(2).

use oci_spec::runtime::{IOPriorityClass, LinuxIOPriority, LinuxSchedulerFlag, LinuxSchedulerPolicy, Scheduler};

use super::sys::{Schedule, set_io_priority, set_schedule};
use crate::failure::{Failure, Step};

fn policy(policy: LinuxSchedulerPolicy) -> u32 {
    match policy {
        LinuxSchedulerPolicy::SchedOther => 0,
        LinuxSchedulerPolicy::SchedFifo => 1,
        LinuxSchedulerPolicy::SchedRr => 2,
        LinuxSchedulerPolicy::SchedBatch => 3,
        LinuxSchedulerPolicy::SchedIso => 4,
        LinuxSchedulerPolicy::SchedIdle => 5,
        LinuxSchedulerPolicy::SchedDeadline => 6,
    }
}

fn flag(flag: LinuxSchedulerFlag) -> u64 {
    match flag {
        LinuxSchedulerFlag::SchedResetOnFork => 0x01,
        LinuxSchedulerFlag::SchedFlagReclaim => 0x02,
        LinuxSchedulerFlag::SchedFlagDLOverrun => 0x04,
        LinuxSchedulerFlag::SchedFlagKeepPolicy => 0x08,
        LinuxSchedulerFlag::SchedFlagKeepParams => 0x10,
        LinuxSchedulerFlag::SchedFlagUtilClampMin => 0x20,
        LinuxSchedulerFlag::SchedFlagUtilClampMax => 0x40,
    }
}

fn parse(scheduler: &Scheduler) -> Option<Schedule> {
    Some(Schedule {
        size: u32::try_from(size_of::<Schedule>()).ok()?,
        policy: policy(*scheduler.policy()),
        flags: scheduler.flags().iter().flatten().fold(0, |all, &one| all | flag(one)),
        nice: scheduler.nice().unwrap_or(0),
        priority: u32::try_from(scheduler.priority().unwrap_or(0)).ok()?,
        runtime: scheduler.runtime().unwrap_or(0),
        deadline: scheduler.deadline().unwrap_or(0),
        period: scheduler.period().unwrap_or(0),
        ..Schedule::default()
    })
}

pub(super) fn apply(scheduler: &Scheduler) -> Result<(), Failure> {
    let step = || format!("set the scheduler to {}", scheduler.policy());
    let schedule = parse(scheduler).ok_or_else(|| Failure::check(step()).remedy("its priority is negative"))?;
    set_schedule(&schedule).step(step)
}

pub(super) fn apply_io(priority: &LinuxIOPriority) -> Result<(), Failure> {
    let class = match priority.class() {
        IOPriorityClass::IoprioClassRt => 1,
        IOPriorityClass::IoprioClassBe => 2,
        IOPriorityClass::IoprioClassIdle => 3,
    };
    let level = priority.priority();
    let step = || format!("set ioPriority to {} {level}", priority.class());
    let level = u32::try_from(level).ok().filter(|level| *level < 8);
    let level = level.ok_or_else(|| Failure::check(step()).remedy("the priority is 0 to 7"))?;
    set_io_priority(class, level).step(step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_handed_over() {
        let text = r#"{"policy": "SCHED_DEADLINE", "nice": 0, "priority": 0, "runtime": 1, "deadline": 2, "period": 3,
                       "flags": ["SCHED_FLAG_RECLAIM"]}"#;
        let schedule = parse(&serde_json::from_str(text).unwrap()).unwrap();
        let Schedule { size, policy, flags, runtime, deadline, period, .. } = schedule;
        assert_eq!((size, policy, flags, runtime, deadline, period), (56, 6, 2, 1, 2, 3));
    }
}
