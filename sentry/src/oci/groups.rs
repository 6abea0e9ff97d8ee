//! A container's control groups, as the life cycle uses them.

use std::io::Write;

use nix::unistd::Pid;
use oci_spec::runtime::Spec;
use shim::container::Hierarchy;
use shim::failure::Failure;

use super::cli::{Events, Global, Update};
use super::log::Log;
use super::state::Store;

/// Those of one container.
#[derive(Debug)]
pub struct Groups;

impl Groups {
    /// Makes them.
    pub fn make(_spec: &Spec, _id: &str, _global: &Global, _log: &Log) -> Result<Self, Failure> {
        Ok(Self)
    }

    pub fn find(_record: &serde_json::Value) -> Option<Self> {
        None
    }

    pub fn record(&self) -> serde_json::Value {
        serde_json::Value::Null
    }

    pub fn hierarchies(&self) -> Vec<Hierarchy> {
        Vec::new()
    }

    pub fn enter(&self, _pid: Pid) -> Result<(), Failure> {
        Ok(())
    }

    pub fn enter_beneath(&self, _pid: Pid, _path: Option<&str>) -> Result<(), Failure> {
        Ok(())
    }

    pub fn processes(&self) -> Option<Vec<i32>> {
        None
    }

    pub fn resume(&self) -> Result<(), Failure> {
        Ok(())
    }

    pub fn remove(&self, _log: &Log) {}

    pub fn is_paused(&self) -> bool {
        false
    }
}

fn none() -> Failure {
    Failure::check_text("the container has no cgroup of its own")
}

pub fn pause(_store: &Store, _id: &str) -> Result<(), Failure> {
    Err(none())
}

pub fn resume(_store: &Store, _id: &str) -> Result<(), Failure> {
    Err(none())
}

pub fn update(_store: &Store, _update: &Update, _log: &Log) -> Result<(), Failure> {
    Err(none())
}

pub fn events(_store: &Store, _events: &Events, _out: &mut dyn Write) -> Result<(), Failure> {
    Err(none())
}
