//! Supervision of containers: who takes over their listeners, and which policy answers their calls.
//!
//! `sentry oci` keeps one keeper for each container that it made; `sentry agent` is one for containers that runc or crun
//! made. Both start a supervisor for each container, which lives in the container's namespaces, and write its audit log.

pub mod keeper;
pub mod policy;

use std::collections::BTreeMap;
use std::path::PathBuf;

/// What is known of a container by those who supervise it.
#[derive(Clone, Debug, Default)]
pub struct Container {
    /// Its id.
    pub id: String,
    /// Its name, if the engine told one.
    pub name: Option<String>,
    /// The directory of its configuration.
    pub bundle: PathBuf,
    /// What its configuration says of it.
    pub annotations: BTreeMap<String, String>,
    /// Its root as the host names it.
    pub rootfs: PathBuf,
    /// Whether it has no pid namespace of its own, so that its processes may outlive its init.
    pub shares_pids: bool,
    /// The most memory that it may use, in bytes, if that is limited.
    pub memory: Option<u64>,
}
