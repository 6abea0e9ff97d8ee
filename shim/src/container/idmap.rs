//! Mounts that are made outside: those with mapped ids, and those that the container's own user namespace could not open.
//!
//! Both take rights over the host's file systems, so the runtime calls [`sources`] before it enters the container's user
//! namespace and hands the mounts in as descriptors.

use std::fs;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use nix::libc;
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, pipe};
use oci_spec::runtime::{LinuxIdMapping, LinuxNamespaceType, Mount, Spec};

use super::has_namespace;
use super::mount::open_source;
use super::options::Options;
use crate::failure::{Failure, Step};
use crate::sys::{self, MountAttributes};

/// Whether a group of this number exists in our user namespace.
pub(super) fn group_is_mapped(number: &str) -> bool {
    let Ok(number) = number.parse::<u64>() else { return false };
    fs::read_to_string("/proc/self/gid_map").is_ok_and(|maps| in_map(&maps, number))
}

fn in_map(maps: &str, number: u64) -> bool {
    maps.lines().any(|line| {
        let mut fields = line.split_ascii_whitespace().filter_map(|field| field.parse::<u64>().ok());
        let (Some(first), Some(_), Some(count)) = (fields.next(), fields.next(), fields.next()) else { return false };
        (first..first.saturating_add(count)).contains(&number)
    })
}

/// The mounts of the configuration that must be made outside the container's user namespace, by index.
pub fn sources(spec: &Spec, bundle: &Path) -> Result<Vec<(usize, OwnedFd)>, Failure> {
    let own = has_namespace(spec, LinuxNamespaceType::User);
    let mut made = Vec::new();
    for (index, mount) in spec.mounts().iter().flatten().enumerate() {
        let options = mount.options().as_deref().unwrap_or_default();
        let options = Options::parse(mount.typ().as_deref().unwrap_or("none"), options);
        let Some(recursive) = options.bind.filter(|_| !options.remount && !options.copy_symlink) else { continue };
        let mapped = is_mapped(mount, &options);
        if !mapped && !own {
            continue;
        }
        let path = bundle.join(mount.source().clone().unwrap_or_default());
        let opened = open_source(&path, recursive, options.source_nofollow);
        if !mapped {
            // Inside there may be a right that we do not have: it is tried there again.
            made.extend(opened.ok().map(|tree| (index, tree)));
            continue;
        }
        let named = |failure: Failure| Failure {
            step: format!("map the ids of {}: {}", path.display(), failure.step),
            ..failure
        };
        let tree = opened.map_err(named)?;
        map(&tree, spec, mount, options.idmap == Some(true)).map_err(named)?;
        made.push((index, tree));
    }
    Ok(made)
}

/// Whether a mount asks for mapped ids.
pub(super) fn is_mapped(mount: &Mount, options: &Options) -> bool {
    options.idmap.is_some() || mount.uid_mappings().as_ref().is_some_and(|maps| !maps.is_empty())
}

fn text(maps: &[LinuxIdMapping]) -> String {
    maps.iter().map(|map| format!("{} {} {}\n", map.container_id(), map.host_id(), map.size())).collect()
}

fn map(tree: &OwnedFd, spec: &Spec, mount: &Mount, recursive: bool) -> Result<(), Failure> {
    let linux = spec.linux().as_ref();
    let own = |maps: &Option<Vec<LinuxIdMapping>>| maps.clone().filter(|maps| !maps.is_empty());
    let users = own(mount.uid_mappings()).or_else(|| linux.and_then(|linux| own(linux.uid_mappings())));
    let groups = own(mount.gid_mappings()).or_else(|| linux.and_then(|linux| own(linux.gid_mappings())));
    let (Some(users), Some(groups)) = (users, groups) else {
        return Err(
            Failure::check("find its mappings").remedy("neither the mount nor linux has uidMappings and gidMappings")
        );
    };
    let namespace = namespace(&text(&users), &text(&groups))?;
    let userns = u64::try_from(namespace.as_raw_fd()).map_err(|_| Failure::check("use a user namespace"))?;
    let attributes = MountAttributes { set: sys::ID_MAP, userns, ..Default::default() };
    sys::set_mount_attributes(tree.as_fd(), recursive, &attributes).step(|| "set the mapping").map_err(|failure| {
        failure.remedy("the file system must know id-mapped mounts, and whoever makes one must own it")
    })
}

/// A user namespace with these maps, held by nothing but its descriptor.
fn namespace(users: &str, groups: &str) -> Result<OwnedFd, Failure> {
    let step = || "make a user namespace for the mapping";
    let (read, write) = pipe().step(step)?;
    let Some(pid) = sys::clone(libc::CLONE_NEWUSER).step(step)? else {
        drop(write);
        // Until the maps are written and the namespace is open.
        let _ = fs::File::from(read).read(&mut [0]);
        sys::exit_now(0);
    };
    drop(read);
    let made = (|| {
        let io = |error: std::io::Error| {
            Failure::new(step(), nix::errno::Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))
        };
        fs::write(format!("/proc/{pid}/uid_map"), users).map_err(io)?;
        fs::write(format!("/proc/{pid}/gid_map"), groups).map_err(io)?;
        fs::File::open(format!("/proc/{pid}/ns/user")).map(OwnedFd::from).map_err(io)
    })();
    drop(write);
    let _ = waitpid(Pid::from_raw(pid), None);
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_looked_for_in_maps() {
        let maps = "         0       1000          1\n         1     100000      65536\n";
        assert!(in_map(maps, 0) && in_map(maps, 5) && in_map(maps, 65536));
        assert!(!in_map(maps, 65537) && !in_map("0 1000 1\n", 5) && !in_map("", 0));
    }
}
