//! The mount of type `cgroup`: what a container sees of its control groups. See cgroups(7), cgroup_namespaces(7).
//!
//! Of version 2 it is one file system. Of version 1 it is a small tmpfs with a directory for each hierarchy, as programs
//! expect below `/sys/fs/cgroup`. Where the kernel makes none for us, the container's own group of the caller's is bound;
//! where there is no such group, the caller's whole tree is shown, read-only.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::libc;
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::symlinkat;

use super::Hierarchy;
use super::mount::{Mounts, file_system, open_source};
use super::options::{Attributes, Options};
use super::root::{Kind, c_path};
use crate::failure::{Failure, Step};
use crate::sys;

const HOST: &str = "/sys/fs/cgroup";

pub(super) fn mount(mounts: &mut Mounts, place: &Path, options: &Options) -> Result<(), Failure> {
    let target = mounts.root.target(place, Kind::Directory, false)?;
    let groups = mounts.context.groups;
    let plain = Options { data: Vec::new(), flags: Vec::new(), bind: None, ..options.clone() };
    match groups {
        [] => {
            if !super::mount::exists(Path::new(HOST)) {
                mounts.warnings.push(format!("{}: there are no control groups to show", place.display()));
                return Ok(());
            }
            mounts.warnings.push(format!("{}: the caller's control groups are shown, read-only", place.display()));
            let tree = open_source(Path::new(HOST), true, false)?;
            let mut plain = plain;
            plain.recursive = Attributes { set: plain.own.set | sys::READ_ONLY, clear: 0 };
            plain.own = Attributes::default();
            mounts.finish(&tree, &plain, true)?;
            mounts.attach(&tree, &target, place)
        }
        [only] if only.controllers.is_empty() => {
            let tree = one(only, mounts.own_groups)?;
            mounts.finish(&tree, &plain, false)?;
            mounts.attach(&tree, &target, place)
        }
        several => {
            let settings =
                [("mode", "755"), ("size", "1m")].map(|(key, value)| (key.to_owned(), Some(value.to_owned())));
            let area = file_system("tmpfs", &settings)?;
            mounts.attach(&area, &target, place)?;
            for hierarchy in several {
                add(mounts, &area, hierarchy, &plain)?;
            }
            mounts.finish(&area, &plain, false)
        }
    }
}

/// One hierarchy of several.
fn add(mounts: &mut Mounts, area: &OwnedFd, hierarchy: &Hierarchy, options: &Options) -> Result<(), Failure> {
    let Some(name) = hierarchy.mount.file_name() else { return Ok(()) };
    let step = || format!("show the control groups {}", hierarchy.mount.display());
    mkdirat(area, name, Mode::from_bits_truncate(0o755)).step(step)?;
    let path = c_path(name).step(step)?;
    let point = sys::open_at(Some(area.as_fd()), &path, libc::O_PATH | libc::O_CLOEXEC, 0, 0).step(step)?;
    let tree = one(hierarchy, mounts.own_groups)?;
    mounts.finish(&tree, options, false)?;
    sys::attach(tree.as_fd(), point.as_fd()).step(step)?;
    for controller in &hierarchy.controllers {
        let controller = controller.strip_prefix("name=").unwrap_or(controller);
        if name != controller {
            match symlinkat(name, area, controller) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(errno) => return Err(Failure::new(step(), errno)),
            }
        }
    }
    Ok(())
}

/// A hierarchy as the container sees it. With an own cgroup namespace the kernel shows the container's group as the root.
fn one(hierarchy: &Hierarchy, own: bool) -> Result<OwnedFd, Failure> {
    let version_2 = hierarchy.controllers.is_empty();
    if own || version_2 {
        let mut settings = vec![("source".to_owned(), Some("cgroup".to_owned()))];
        if hierarchy.controllers.iter().any(|controller| controller.starts_with("name=")) {
            settings.push(("none".to_owned(), None));
        }
        settings.extend(hierarchy.controllers.iter().map(|controller| match controller.split_once('=') {
            Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
            None => (controller.clone(), None),
        }));
        match file_system(if version_2 { "cgroup2" } else { "cgroup" }, &settings) {
            Err(failure) if [Errno::EPERM, Errno::EBUSY].map(|errno| errno as i32).contains(&failure.errno) => {}
            other => return other,
        }
    }
    open_source(&hierarchy.group, true, false)
}
