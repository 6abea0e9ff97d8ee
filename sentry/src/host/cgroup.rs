//! Which control groups we may use for limits, see cgroups(7).

use std::fs;
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

/// What we would use of control groups.
pub const CONTROLLERS: [&str; 3] = ["memory", "pids", "cpu"];

/// The control groups of this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cgroups {
    /// Version 2.
    Unified {
        /// Those of [`CONTROLLERS`] that our group may give to groups below it.
        controllers: Vec<String>,
        /// Whether the group is ours to divide.
        usable: bool,
    },
    /// Version 1.
    Legacy {
        /// Those of [`CONTROLLERS`] whose group we may divide, as root usually can.
        controllers: Vec<String>,
    },
    /// None is mounted.
    None,
}

impl Cgroups {
    /// Finds them by the texts of `/proc/self/cgroup` and `/proc/self/mountinfo`. A controller is in one version only.
    pub fn look(membership: &str, mounts: &str) -> Self {
        let unified = unified(membership, mounts);
        let offered = unified.as_ref().and_then(|group| fs::read_to_string(group.join("cgroup.controllers")).ok());
        let offered = offered.unwrap_or_default();
        let controllers: Vec<String> = CONTROLLERS
            .iter()
            .filter(|name| offered.split_ascii_whitespace().any(|one| one == **name))
            .map(|name| (*name).to_owned())
            .collect();
        let legacy: Vec<(&str, PathBuf)> = CONTROLLERS
            .iter()
            .filter_map(|name| legacy(name, membership, mounts).map(|group| (*name, group)))
            .collect();
        match unified {
            Some(group) if !controllers.is_empty() || legacy.is_empty() => {
                let usable = may_divide(&group) && may_write(&group.join("cgroup.subtree_control"));
                Self::Unified { controllers, usable }
            }
            _ if legacy.is_empty() => Self::None,
            _ => {
                let usable = legacy.into_iter().filter(|(_, group)| may_divide(group));
                Self::Legacy { controllers: usable.map(|(name, _)| name.to_owned()).collect() }
            }
        }
    }

    /// Those that a limit can rely on.
    pub fn usable(&self) -> &[String] {
        match self {
            Self::Unified { controllers, usable: true } | Self::Legacy { controllers } => controllers,
            _ => &[],
        }
    }
}

fn unified(membership: &str, mounts: &str) -> Option<PathBuf> {
    let path = membership.lines().find_map(|line| line.strip_prefix("0::"))?;
    place(path, mounts, |kind, _| kind == "cgroup2")
}

fn legacy(controller: &str, membership: &str, mounts: &str) -> Option<PathBuf> {
    let named = |names: &str| names.split(',').any(|name| name == controller);
    let path = membership.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        named(fields.next()?).then(|| fields.next()).flatten()
    })?;
    place(path, mounts, |kind, options| kind == "cgroup" && named(options))
}

/// The directory of the group called `path` in the first mount that is `wanted` by file system type and options.
fn place(path: &str, mounts: &str, wanted: impl Fn(&str, &str) -> bool) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let (mount, system) = line.split_once(" - ")?;
        let mut system = system.split(' ');
        let (kind, options) = (system.next()?, system.nth(1)?);
        let mut mount = mount.split(' ').skip(3);
        let (root, point) = (mount.next()?, mount.next()?);
        // Inside a container the mount may show a part of the hierarchy only.
        let below = Path::new(path).strip_prefix(root).ok()?;
        wanted(kind, options).then(|| Path::new(point).join(below))
    })
}

/// Whether a group may be made below `group`, and processes be moved there and back.
fn may_divide(group: &Path) -> bool {
    may_write(group) && may_write(&group.join("cgroup.procs"))
}

fn may_write(path: &Path) -> bool {
    access(path, AccessFlags::W_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_2_is_found_and_may_be_delegated() {
        let host = tempfile::tempdir().unwrap();
        let group = host.path().join("user.slice/app.scope");
        fs::create_dir_all(&group).unwrap();
        fs::write(group.join("cgroup.controllers"), "cpuset cpu memory pids\n").unwrap();
        fs::write(group.join("cgroup.procs"), "").unwrap();
        let mounts = format!("30 23 0:26 / {} rw,nosuid - cgroup2 cgroup2 rw\n", host.path().display());
        let look = || Cgroups::look("0::/user.slice/app.scope\n", &mounts);

        assert!(look().usable().is_empty(), "without cgroup.subtree_control nothing is delegated");
        fs::write(group.join("cgroup.subtree_control"), "").unwrap();
        assert_eq!(look().usable(), ["memory", "pids", "cpu"]);
    }

    #[test]
    fn version_1_is_found_by_controller() {
        let host = tempfile::tempdir().unwrap();
        let mut mounts = "38 31 0:31 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n".to_owned();
        for (number, controllers) in ["memory", "pids", "cpu,cpuacct"].iter().enumerate() {
            let point = host.path().join(controllers);
            fs::create_dir_all(point.join("mine")).unwrap();
            fs::write(point.join("mine/cgroup.procs"), "").unwrap();
            mounts += &format!("{number} 31 0:3{number} / {} rw - cgroup cgroup rw,{controllers}\n", point.display());
        }
        fs::remove_file(host.path().join("pids/mine/cgroup.procs")).unwrap();
        let membership = "9:cpu,cpuacct:/mine\n8:pids:/mine\n4:memory:/mine\n0::/\n";
        assert_eq!(Cgroups::look(membership, &mounts).usable(), ["memory", "cpu"]);
    }

    #[test]
    fn a_host_without_any_has_none() {
        assert_eq!(Cgroups::look("", ""), Cgroups::None);
        assert_eq!(Cgroups::look("0::/x\n", "garbage\n1 2 3 - cgroup2\n"), Cgroups::None);
    }
}
