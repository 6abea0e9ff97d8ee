//! The hierarchies of this host and the caller's place in each.

use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::statfs::{CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, statfs};

use super::{read, write};

/// One hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// None for version 2.
    pub controllers: Vec<String>,
    pub mount: PathBuf,
    /// The caller's own group.
    pub own: PathBuf,
}

/// Those of this process.
pub(super) fn of_caller() -> Vec<Place> {
    let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
    find(&text("/proc/self/cgroup"), &text("/proc/self/mountinfo"), &is_seen)
}

/// Whether control groups are really seen at a mount point: the table names those too that another mount covers.
fn is_seen(point: &Path, version_2: bool) -> bool {
    let wanted = if version_2 { CGROUP2_SUPER_MAGIC } else { CGROUP_SUPER_MAGIC };
    statfs(point).is_ok_and(|found| found.filesystem_type() == wanted)
}

/// By the texts of `/proc/self/cgroup` and `/proc/self/mountinfo`, of the mounts that are `seen` only.
fn find(membership: &str, mounts: &str, seen: &dyn Fn(&Path, bool) -> bool) -> Vec<Place> {
    membership
        .lines()
        .filter_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let (names, path) = (fields.next()?, fields.next()?);
            let controllers: Vec<String> =
                names.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
            let mut named = mounts.lines().filter_map(|line| mounted(line, &controllers));
            let (root, mount) = named.find(|(_, mount)| seen(mount, controllers.is_empty()))?;
            // Inside a container the mount may show a part of the hierarchy only.
            let below = Path::new(path).strip_prefix(root).or_else(|_| Path::new(path).strip_prefix("/")).ok()?;
            let own = if below.as_os_str().is_empty() { mount.clone() } else { mount.join(below) };
            let own = if own.is_dir() { own } else { mount.clone() };
            Some(Place { controllers, mount, own })
        })
        .collect()
}

/// Root and mount point, if the line is the mount of the hierarchy with these controllers.
fn mounted<'a>(line: &'a str, controllers: &[String]) -> Option<(&'a str, PathBuf)> {
    let (mount, system) = line.split_once(" - ")?;
    let mut system = system.split(' ');
    let (kind, options) = (system.next()?, system.nth(1)?);
    let wanted = if controllers.is_empty() {
        kind == "cgroup2"
    } else {
        kind == "cgroup" && controllers.iter().all(|name| options.split(',').any(|option| option == name))
    };
    let mut mount = mount.split(' ').skip(3);
    let (root, point) = (mount.next()?, mount.next()?);
    wanted.then(|| (root, PathBuf::from(point.replace("\\040", " "))))
}

fn listed(file: &Path) -> Vec<String> {
    read(file).unwrap_or_default().split_ascii_whitespace().map(str::to_owned).collect()
}

/// Whether a group of version 2 has this controller.
pub(super) fn offers(group: &Path, controller: &str) -> bool {
    listed(&group.join("cgroup.controllers")).iter().any(|name| name == controller)
}

/// Lets the groups below `group` have all controllers that it has itself. One at a time: a controller that cannot be given
/// must not keep back the others.
pub(super) fn hand_down(group: &Path) {
    let control = group.join("cgroup.subtree_control");
    let given = listed(&control);
    for controller in listed(&group.join("cgroup.controllers")) {
        if !given.contains(&controller) {
            let _ = write(&control, &format!("+{controller}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
36 31 0:33 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
";

    #[test]
    fn a_hybrid_host_has_several_hierarchies() {
        let found =
            find("9:name=systemd:/\n8:cpu,cpuacct:/\n4:memory:/nowhere\n3:freezer:/\n0::/\n", HYBRID, &|_, _| true);
        let mounts: Vec<_> = found.iter().map(|place| place.mount.to_str().unwrap()).collect();
        let base = "/sys/fs/cgroup";
        assert_eq!(mounts, ["systemd", "cpu,cpuacct", "memory", "unified"].map(|name| format!("{base}/{name}")));
        assert_eq!(found[0].controllers, ["name=systemd"]);
        assert!(found[3].controllers.is_empty());
    }

    #[test]
    fn a_part_of_a_hierarchy_is_found_too() {
        let host = tempfile::tempdir().unwrap();
        fs::create_dir(host.path().join("inner")).unwrap();
        let mounts = format!("41 31 0:38 /docker/x {} rw - cgroup2 cgroup2 rw\n", host.path().display());
        assert_eq!(find("0::/docker/x/inner\n", &mounts, &|_, _| true)[0].own, host.path().join("inner"));
        assert_eq!(find("0::/docker/x\n", &mounts, &|_, _| true)[0].own, host.path());
        assert_eq!(find("0::/\n", "", &|_, _| true), []);
    }

    #[test]
    fn a_hierarchy_that_another_mount_covers_is_not_there() {
        let mounts = HYBRID.to_owned() + "50 31 0:38 / /sys/fs/cgroup rw - cgroup2 none rw\n";
        let seen = |mount: &Path, _| mount == Path::new("/sys/fs/cgroup");
        let found = find("9:name=systemd:/\n4:memory:/\n0::/\n", &mounts, &seen);
        let mounts: Vec<_> = found.iter().map(|place| place.mount.to_str().unwrap()).collect();
        assert_eq!(mounts, ["/sys/fs/cgroup"]);
    }
}
