//! A control group for one run, where the host lets us have one: cgroups(7).
//!
//! As root with version 1, or wherever version 2 is delegated. The monitor joins the group just before it clones the
//! sandbox and leaves it again, so that no process of the sandbox ever ran outside of it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::limits::{Mechanism, Name};
use crate::policy::Limits;

/// One run's group: a directory for each hierarchy that it uses.
#[derive(Debug)]
pub struct Cgroup {
    hierarchies: Vec<Hierarchy>,
}

#[derive(Debug)]
struct Hierarchy {
    /// The run's own directory.
    own: PathBuf,
    /// The directory that the monitor came from.
    parent: PathBuf,
    controller: Name,
    unified: bool,
}

/// What the kernel counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// The highest use of memory, in bytes.
    pub peak_memory: Option<u64>,
    /// Whether a process was killed because memory ran out.
    pub out_of_memory: bool,
}

/// Where the files of the kernel are; another root in tests.
#[derive(Debug)]
pub struct Host {
    /// `/proc/self/cgroup`
    pub membership: String,
    /// `/proc/self/mountinfo`
    pub mounts: String,
}

impl Host {
    /// This process's.
    pub fn here() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        Self { membership: read("/proc/self/cgroup"), mounts: read("/proc/self/mountinfo") }
    }

    /// This process's directory in the hierarchy with `controller`, and whether it is version 2.
    fn directory(&self, controller: &str) -> Option<(PathBuf, bool)> {
        let legacy = self.membership.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let (names, path) = (fields.next()?, fields.next()?);
            names.split(',').any(|name| name == controller).then_some(path)
        });
        let (kind, path) = match legacy {
            Some(path) => ("cgroup", path),
            None => ("cgroup2", self.membership.lines().find_map(|line| line.strip_prefix("0::"))?),
        };
        let point = self.mounts.lines().find_map(|line| {
            let (before, after) = line.split_once(" - ")?;
            let mut after = after.split(' ');
            let matches = after.next()? == kind
                && (kind == "cgroup2" || after.nth(1)?.split(',').any(|option| option == controller));
            matches.then(|| before.split(' ').nth(4)).flatten()
        })?;
        Some((Path::new(point).join(path.trim_start_matches('/')), kind == "cgroup2"))
    }
}

impl Cgroup {
    /// Makes a group for the limits that can be had; the rest is left to weaker mechanisms.
    pub fn new(host: &Host, limits: &Limits) -> Option<Self> {
        let mut hierarchies = Vec::new();
        if let Some(memory) = limits.memory {
            let set = |own: &Path, unified: bool| {
                if unified {
                    fs::write(own.join("memory.max"), memory.to_string())?;
                    let _ = fs::write(own.join("memory.swap.max"), "0");
                    let _ = fs::write(own.join("memory.oom.group"), "1");
                } else {
                    fs::write(own.join("memory.limit_in_bytes"), memory.to_string())?;
                    let _ = fs::write(own.join("memory.memsw.limit_in_bytes"), memory.to_string());
                }
                Ok(())
            };
            hierarchies.extend(make(host, "memory", Name::Memory, set));
        }
        if let Some(cpus) = limits.cpus {
            const PERIOD: u32 = 100_000;
            let quota = format!("{:.0}", (cpus * f64::from(PERIOD)).max(1000.0));
            let set = |own: &Path, unified: bool| {
                if unified {
                    return fs::write(own.join("cpu.max"), format!("{quota} {PERIOD}"));
                }
                fs::write(own.join("cpu.cfs_period_us"), PERIOD.to_string())?;
                fs::write(own.join("cpu.cfs_quota_us"), &quota)
            };
            hierarchies.extend(make(host, "cpu", Name::Cpus, set));
        }
        (!hierarchies.is_empty()).then_some(Self { hierarchies })
    }

    /// Whether it enforces this limit.
    pub fn has(&self, name: Name) -> bool {
        self.hierarchies.iter().any(|hierarchy| hierarchy.controller == name)
    }

    /// The word for the report.
    pub fn mechanism() -> Mechanism {
        Mechanism::Cgroup
    }

    /// Moves the monitor in.
    pub fn join(&self) -> io::Result<()> {
        self.hierarchies.iter().try_for_each(|hierarchy| fs::write(hierarchy.own.join("cgroup.procs"), "0"))
    }

    /// Moves the monitor back to where it came from.
    pub fn leave(&self) -> io::Result<()> {
        self.hierarchies.iter().try_for_each(|hierarchy| fs::write(hierarchy.parent.join("cgroup.procs"), "0"))
    }

    /// What was counted; ask before [`Self::remove`].
    pub fn counted(&self) -> Counted {
        let mut counted = Counted::default();
        for hierarchy in self.hierarchies.iter().filter(|hierarchy| hierarchy.controller == Name::Memory) {
            let read = |file: &str| fs::read_to_string(hierarchy.own.join(file)).unwrap_or_default();
            let (peak, events) = if hierarchy.unified {
                (read("memory.peak"), read("memory.events"))
            } else {
                (read("memory.max_usage_in_bytes"), read("memory.oom_control"))
            };
            counted.peak_memory = peak.trim().parse().ok();
            let killed = events.lines().find_map(|line| line.strip_prefix("oom_kill "));
            counted.out_of_memory = killed.and_then(|count| count.trim().parse::<u64>().ok()).unwrap_or(0) > 0;
        }
        counted
    }

    /// Removes the group once the last process is gone.
    pub fn remove(&self) {
        for hierarchy in &self.hierarchies {
            for _ in 0..100 {
                match fs::remove_dir(&hierarchy.own) {
                    // The last process is still being put away.
                    Err(error) if error.raw_os_error() == Some(nix::libc::EBUSY) => {
                        std::thread::sleep(std::time::Duration::from_millis(5));
                    }
                    _ => break,
                }
            }
        }
    }
}

fn make(host: &Host, controller: &str, name: Name, set: impl Fn(&Path, bool) -> io::Result<()>) -> Option<Hierarchy> {
    let (parent, unified) = host.directory(controller)?;
    if unified {
        let offered = fs::read_to_string(parent.join("cgroup.controllers")).ok()?;
        if !offered.split_ascii_whitespace().any(|one| one == controller) {
            return None;
        }
        // Fails with EBUSY where other processes live in our own group: then nothing is delegated to us in a useful way.
        fs::write(parent.join("cgroup.subtree_control"), format!("+{controller}")).ok()?;
    }
    let own = parent.join(format!("sentry-{}", std::process::id()));
    fs::create_dir(&own).ok()?;
    if set(&own, unified).is_err() {
        let _ = fs::remove_dir(&own);
        return None;
    }
    Some(Hierarchy { own, parent, controller: name, unified })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A host whose "kernel" is a directory: shows which files are written, not that they work. Real delegation of
    /// version 2 is not verified here.
    fn faked(root: &Path, controllers: &str) -> Host {
        let own = root.join("user.slice/app.scope");
        fs::create_dir_all(&own).unwrap();
        fs::write(own.join("cgroup.controllers"), controllers).unwrap();
        fs::write(own.join("cgroup.subtree_control"), "").unwrap();
        Host {
            membership: "0::/user.slice/app.scope\n".to_owned(),
            mounts: format!("30 23 0:26 / {} rw,nosuid - cgroup2 cgroup2 rw\n", root.display()),
        }
    }

    #[test]
    fn a_delegated_group_takes_what_is_offered() {
        let root = tempfile::tempdir().unwrap();
        let host = faked(root.path(), "memory pids");
        let limits = Limits { memory: Some(1 << 20), cpus: Some(0.5), ..Limits::default() };
        let group = Cgroup::new(&host, &limits).unwrap();
        assert!(group.has(Name::Memory));
        assert!(!group.has(Name::Cpus));
        let own = &group.hierarchies[0].own;
        assert_eq!(fs::read_to_string(own.join("memory.max")).unwrap(), "1048576");
        fs::write(own.join("memory.events"), "low 0\noom 2\noom_kill 2\n").unwrap();
        fs::write(own.join("memory.peak"), "1048576\n").unwrap();
        assert_eq!(group.counted(), Counted { peak_memory: Some(1 << 20), out_of_memory: true });
    }

    #[test]
    fn without_delegation_there_is_none() {
        let root = tempfile::tempdir().unwrap();
        let host = faked(root.path(), "");
        let limits = Limits { memory: Some(1 << 20), ..Limits::default() };
        assert!(Cgroup::new(&host, &limits).is_none());
        assert!(Cgroup::new(&host, &Limits::default()).is_none());
    }

    #[test]
    fn version_1_is_found_by_controller() {
        let host = Host {
            membership: "4:memory:/a\n3:cpu,cpuacct:/b\n0::/\n".to_owned(),
            mounts: "31 23 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n\
                     32 23 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
                .to_owned(),
        };
        assert_eq!(host.directory("cpu"), Some(("/sys/fs/cgroup/cpu/b".into(), false)));
        assert_eq!(host.directory("memory"), Some(("/sys/fs/cgroup/memory/a".into(), false)));
        assert_eq!(host.directory("pids"), None);
    }
}
