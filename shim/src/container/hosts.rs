//! What procfs lets root change of the host, where a container's root is the host's: read-only, whatever the configuration
//! leaves open.
//!
//! An engine's `--privileged` leaves all of it open, and a write to a file of procfs is a call like any other, which no filter
//! tells apart: `core_pattern` would run a program on the host. What belongs to a namespace of the container's own stays as
//! it was. In a user namespace the kernel sees to it.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxNamespaceType, Spec};

use super::has_namespace;
use super::masks::{find, freeze};
use super::proc::{Proc, is_proc};
use super::root::Root;
use super::sysctl::OF_IPC;
use crate::failure::{Failure, Step};
use crate::identity::is_initial_map;
use crate::sys;

const SETTINGS: &str = "/proc/sys";
/// As engines make them read-only for every container but privileged ones.
const HOSTS: [&str; 5] = [SETTINGS, "/proc/sysrq-trigger", "/proc/irq", "/proc/bus", "/proc/fs"];

/// Whether the caller's user ids are the host's.
fn is_hosts(spec: &Spec, proc: &Proc) -> Result<bool, Failure> {
    let map = proc.read("self/uid_map").step(|| "read the map of user ids")?;
    Ok(!has_namespace(spec, LinuxNamespaceType::User) && is_initial_map(&map))
}

/// What below [`SETTINGS`] is the container's own.
fn own(spec: &Spec) -> Vec<PathBuf> {
    let mut names = Vec::new();
    if has_namespace(spec, LinuxNamespaceType::Network) {
        names.push("net".to_owned());
    }
    if has_namespace(spec, LinuxNamespaceType::Ipc) {
        names.push("fs/mqueue".to_owned());
        names.extend(OF_IPC.map(|name| name.replace('.', "/")));
    }
    if has_namespace(spec, LinuxNamespaceType::Uts) {
        names.extend(["kernel/hostname", "kernel/domainname"].map(str::to_owned));
    }
    names.into_iter().map(|name| Path::new(SETTINGS).join(name)).collect()
}

/// Makes the host's part read-only; what the configuration makes read-only by itself is left to it.
pub(super) fn keep(root: &Root, spec: &Spec, proc: &Proc) -> Result<(), Failure> {
    if !is_hosts(spec, proc)? {
        return Ok(());
    }
    let configured = spec.linux().as_ref().and_then(|linux| linux.readonly_paths().as_deref()).unwrap_or_default();
    for path in HOSTS.into_iter().filter(|path| configured.iter().all(|known| known != path)) {
        let step = || format!("keep {path} of the host's as it is");
        let Some(found) = find(root, Path::new(path))? else { continue };
        if !is_proc(&found).step(step)? {
            continue;
        }
        let mut kept = Vec::new();
        if path == SETTINGS {
            for own in own(spec) {
                if let Some(found) = find(root, &own)? {
                    kept.push((sys::clone_tree(Some(found.as_fd()), c"", true).step(step)?, own));
                }
            }
        }
        freeze(root, Path::new(path))?;
        for (tree, own) in kept {
            if let Some(place) = find(root, &own)? {
                sys::attach(tree.as_fd(), place.as_fd()).step(step)?;
            }
        }
    }
    Ok(())
}
