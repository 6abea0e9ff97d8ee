//! `kill`, and who belongs to a container.

use std::os::unix::fs::MetadataExt;

use nix::errno::Errno;
use nix::libc;
use shim::failure::{Failure, Step};
use shim::sys;

use super::state::{self, Record, Status, Store};

/// Sends `text` to the container's first process, or to all of its processes.
pub fn kill(store: &Store, id: &str, text: &str, all: bool) -> Result<(), Failure> {
    let signal = super::signal::parse(text).ok_or_else(|| Failure::check_text(format!("{text:?} is not a signal")))?;
    let entry = store.find(id)?;
    let record = entry.read()?;
    let status = entry.status(&record);
    if all {
        signal_all(&record, signal)?;
    }
    let not_running = || Failure::check_text(format!("container not running: {id:?} is {}", status.name()));
    if matches!(status, Status::Stopped | Status::Creating) {
        // All of them were asked for, and there is none.
        return if all { Ok(()) } else { Err(not_running()) };
    }
    if !all {
        let process = record.process().ok_or_else(not_running)?;
        match state::signal(&process, signal) {
            Err(Errno::ESRCH) => return Err(not_running()),
            other => other.step(|| format!("send signal {text} to container {id:?}"))?,
        }
    }
    if signal == libc::SIGKILL && status == Status::Paused {
        // Frozen by the old cgroups, a process does not even die.
        let _ = record.groups.thaw();
    }
    Ok(())
}

fn signal_all(record: &Record, signal: i32) -> Result<(), Failure> {
    if record.groups.exist() {
        return record.groups.signal_all(signal);
    }
    for pid in members(record) {
        match sys::kill(pid, signal) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(errno) => return Err(Failure::new(format!("send signal {signal} to process {pid}"), errno)),
        }
    }
    Ok(())
}

/// The pids of a container's processes: those of its cgroup, or of its pid namespace where it has no cgroup of its own.
pub fn members(record: &Record) -> Vec<i32> {
    if record.groups.exist() {
        return record.groups.processes().into_iter().map(nix::unistd::Pid::as_raw).collect();
    }
    if record.process().is_none() {
        return Vec::new();
    }
    let namespace =
        |pid: &str| std::fs::metadata(format!("/proc/{pid}/ns/pid")).ok().map(|stat| (stat.dev(), stat.ino()));
    let Some(theirs) = namespace(&record.pid.to_string()).filter(|theirs| Some(*theirs) != namespace("self")) else {
        return vec![record.pid];
    };
    let Ok(entries) = std::fs::read_dir("/proc") else { return vec![record.pid] };
    let mut pids: Vec<i32> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid: &i32| namespace(&pid.to_string()) == Some(theirs))
        .collect();
    pids.sort_unstable();
    pids
}
