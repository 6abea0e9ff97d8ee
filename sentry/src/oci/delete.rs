//! `delete`: what is left of a container goes, and its `poststop` hooks run.

use std::os::fd::{AsFd, OwnedFd};

use nix::libc;
use nix::poll::{PollFd, PollFlags, poll};
use oci_spec::runtime::Spec;
use shim::container::hooks;
use shim::failure::Failure;

use super::cgroup::Groups;
use super::log::Log;
use super::state::{self, Entry, Record, Status, Store};

/// How long a killed process may take to be gone, in milliseconds.
const DYING: u16 = 10_000;

/// Removes the container `id`; one that runs, and one that does not exist, only with `force`.
pub fn delete(store: &Store, id: &str, force: bool, log: &Log) -> Result<(), Failure> {
    let entry = match store.find(id) {
        // Engines clean up twice.
        Err(failure) if force && is_missing(&failure) => return Ok(()),
        other => other?,
    };
    let lock = match entry.lock() {
        Err(failure) if force && is_missing(&failure) => return Ok(()),
        other => other?,
    };
    let record = match entry.read() {
        Err(failure) if force => {
            log.warn(&failure.to_string());
            Record { id: id.to_owned(), ..Record::default() }
        }
        other => other?,
    };
    let status = entry.status(&record);
    // One that is "creating" while we hold the lock was left by a command that died.
    if !force && !matches!(status, Status::Stopped | Status::Creating) {
        return Err(Failure::check_text(format!(
            "cannot delete container {id:?}: it is {}, not stopped; kill it first, or use --force",
            status.name()
        )));
    }
    remove(&entry, &record, log)?;
    drop(lock);
    Ok(())
}

fn is_missing(failure: &Failure) -> bool {
    failure.step.ends_with("does not exist")
}

/// Ends what still runs, and removes all there is.
pub fn remove(entry: &Entry, record: &Record, log: &Log) -> Result<(), Failure> {
    if let Some(process) = record.process() {
        kill(&process)?;
    }
    remove_groups(&record.groups, log);
    let spec = super::start::saved(entry).ok().map(|config| config.spec);
    entry.remove()?;
    if let Some(spec) = spec {
        run_poststop(&spec, record, log);
    }
    Ok(())
}

/// Ends all that is left in the groups, and removes them.
pub fn remove_groups(groups: &Groups, log: &Log) {
    if !groups.exist() {
        return;
    }
    for done in [groups.signal_all(libc::SIGKILL), groups.remove()] {
        if let Err(failure) = done {
            log.warn(&failure.to_string());
        }
    }
}

/// Kills a container's first process, and with it all others of its pid namespace, and waits until it is gone.
fn kill(process: &OwnedFd) -> Result<(), Failure> {
    let _ = state::signal(process, libc::SIGKILL);
    match poll(&mut [PollFd::new(process.as_fd(), PollFlags::POLLIN)], DYING) {
        Ok(0) => Err(Failure::check_text("the container's first process does not die; the kernel holds it in a call")),
        _ => Ok(()),
    }
}

/// Runs the `poststop` hooks; one that fails changes nothing.
pub fn run_poststop(spec: &Spec, record: &Record, log: &Log) {
    let hooks = spec.hooks().as_ref().and_then(|hooks| hooks.poststop().as_ref());
    let state = record.state("stopped", 0).to_string();
    for failure in hooks::run_all(hooks, "poststop", state.as_bytes()) {
        log.warn(&failure.to_string());
    }
}
