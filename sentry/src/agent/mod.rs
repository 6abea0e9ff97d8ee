//! Supervision of containers: who takes over their listeners, and which policy answers their calls.
//!
//! `sentry oci` keeps one keeper for each container that it made; `sentry agent` is one for containers that runc or crun
//! made. Both start a supervisor for each container, which lives in the container's namespaces, and write its audit log.

pub mod audit;
pub mod keeper;
pub mod log;
pub mod policy;
pub mod profile;
mod protocol;
pub mod serve;
pub mod supervisor;

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use shim::failure::{Failure, Step};

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
    /// Whether the names of host and domain are its own: it has a uts namespace.
    pub own_name: bool,
    /// Whether its user namespace is the initial one, so that its root is the host's.
    pub real_root: bool,
    /// Whether its processes have `CAP_MKNOD`: where its root is the host's, the kernel makes harmless devices then.
    pub makes_devices: bool,
    /// Whether another runtime made it: then it does not end with its supervisor.
    pub made_elsewhere: bool,
}

/// Two ends of a channel that keeps messages apart.
fn channel() -> Result<(OwnedFd, OwnedFd), Failure> {
    socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).step(|| "make a channel")
}

/// Whether this process is in the initial user namespace.
pub fn is_in_initial_namespace() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    shim::identity::is_initial_map(&map)
}
