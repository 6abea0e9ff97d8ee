//! `pause`, `resume`, `update`, `events`: a container's control groups while it runs.

use std::io::{Read, Write};
use std::time::Duration;

use oci_spec::runtime::LinuxResources;
use serde_json::{Value, json};
use shim::failure::Failure;

use super::cli::{Events, Update};
use super::log::Log;
use super::state::{Record, Status, Store};
use super::told;

fn without_groups() -> Failure {
    Failure::check_text("the container has no control groups of its own")
        .remedy("run as root, or have them delegated to the user (systemd: Delegate=yes)")
}

/// What is known of the container `id`, which must be as `wanted`.
fn in_state(store: &Store, id: &str, wanted: &[Status]) -> Result<Record, Failure> {
    let entry = store.find(id)?;
    let record = entry.read()?;
    let status = entry.status(&record);
    if wanted.contains(&status) {
        return Ok(record);
    }
    // The words that engines know for this.
    let words = if status == Status::Stopped { "container not running: " } else { "" };
    Err(Failure::check_text(format!("{words}container {id:?} is {}, not {}", status.name(), wanted[0].name())))
}

/// `pause`
pub fn pause(store: &Store, id: &str) -> Result<(), Failure> {
    let _lock = store.find(id)?.lock()?;
    let record = in_state(store, id, &[Status::Running, Status::Created])?;
    if record.groups.exist() { record.groups.freeze() } else { Err(without_groups()) }
}

/// `resume`
pub fn resume(store: &Store, id: &str) -> Result<(), Failure> {
    let _lock = store.find(id)?.lock()?;
    in_state(store, id, &[Status::Paused])?.groups.thaw()
}

/// `update`
pub fn update(store: &Store, update: &Update, log: &Log) -> Result<(), Failure> {
    let _lock = store.find(&update.id)?.lock()?;
    let record = in_state(store, &update.id, &[Status::Running, Status::Created, Status::Paused])?;
    let mut warnings = Vec::new();
    record.groups.limit(&resources(update)?, &mut warnings)?;
    warnings.iter().for_each(|warning| log.warn(warning));
    Ok(())
}

/// What the command line asks for: a file, or options.
fn resources(update: &Update) -> Result<LinuxResources, Failure> {
    let wrong = |name: &str, error: serde_json::Error| Failure::check_text(format!("{name}: {error}"));
    if let Some(path) = &update.resources {
        let name = path.display().to_string();
        let mut text = Vec::new();
        let read = if name == "-" {
            std::io::stdin().read_to_end(&mut text)
        } else {
            std::fs::File::open(path).and_then(|mut file| file.read_to_end(&mut text))
        };
        read.map_err(|error| {
            Failure::check_text(format!("cannot read {name}: {}", crate::policy::path::reason(&error)))
        })?;
        return serde_json::from_slice(&text).map_err(|error| wrong(&name, error));
    }
    serde_json::from_value(options(update)).map_err(|error| wrong("update", error))
}

/// Options in the words of config.json; what is not named is left out.
fn options(update: &Update) -> Value {
    let mut value = json!({
        "memory": {
            "limit": update.memory,
            "reservation": update.memory_reservation,
            "swap": update.memory_swap
        },
        "cpu": {
            "shares": update.cpu_share,
            "quota": update.cpu_quota,
            "period": update.cpu_period,
            "burst": update.cpu_burst,
            "realtimePeriod": update.cpu_rt_period,
            "realtimeRuntime": update.cpu_rt_runtime,
            "cpus": update.cpuset_cpus,
            "mems": update.cpuset_mems,
            "idle": update.cpu_idle
        },
        "blockIO": {"weight": update.blkio_weight},
        "pids": update.pids_limit.map(|limit| json!({"limit": limit}))
    });
    if let Some(kinds) = value.as_object_mut() {
        kinds.values_mut().filter_map(Value::as_object_mut).for_each(|kind| kind.retain(|_, value| !value.is_null()));
        kinds.retain(|_, kind| kind.as_object().is_some_and(|kind| !kind.is_empty()));
    }
    value
}

/// `events`: resource use, once or as long as the container runs.
pub fn events(store: &Store, events: &Events, out: &mut dyn Write) -> Result<(), Failure> {
    let interval = humantime::parse_duration(&events.interval)
        .ok()
        .filter(|interval| *interval >= Duration::from_millis(1))
        .ok_or_else(|| Failure::check_text(format!("--interval {:?} is not a time such as 5s", events.interval)))?;
    let known = [Status::Running, Status::Created, Status::Paused];
    let mut record = in_state(store, &events.id, &known)?;
    loop {
        let event = json!({"type": "stats", "id": events.id, "data": record.groups.stats()});
        told(writeln!(out, "{event}").and_then(|()| out.flush()))?;
        if events.stats {
            return Ok(());
        }
        std::thread::sleep(interval);
        match in_state(store, &events.id, &known) {
            Ok(found) => record = found,
            Err(_) => return Ok(()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_named_is_changed() {
        let update = Update { memory: Some(1 << 20), pids_limit: Some(5), ..Update::default() };
        assert_eq!(options(&update), json!({"memory": {"limit": 1 << 20}, "pids": {"limit": 5}}));
        let resources = resources(&update).unwrap();
        assert_eq!(resources.memory().as_ref().unwrap().limit(), Some(1 << 20));
        assert!(resources.cpu().is_none());
    }
}
