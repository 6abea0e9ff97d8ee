//! What this host is and what it lets us do.
//!
//! Facts are found once and are plain data, so that `sentry doctor` and its tests can look at hosts that this one is
//! not: with Ubuntu's AppArmor rule, without Landlock, inside a container. Where a protection can be tried, it is tried
//! (in [`probe`]); version numbers lie, for distributions backport and administrators forbid.

use std::fs;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::unistd::{Gid, Uid};
use shim::failure::Failure;

use crate::policy::path::reason;
use crate::policy::view::Facts;

pub mod cgroup;
pub mod probe;

pub use cgroup::Cgroups;

/// Where the user is and lives.
pub fn user_facts() -> Result<Facts, Failure> {
    let cwd = std::env::current_dir().map_err(|error| {
        Failure::check_text(format!("the current directory cannot be found: {}", reason(&error)))
            .remedy("go to a directory that exists")
    })?;
    let home = std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
    let home = home.or_else(|| {
        let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
        home_of(Uid::current().as_raw(), &users)
    });
    // `.`, doubled and trailing slashes would make the same directory look like another one.
    let home: PathBuf = home.as_deref().unwrap_or(Path::new("/")).components().collect();
    let real_home = home.canonicalize().unwrap_or_else(|_| home.clone());
    Ok(Facts { cwd, home, real_home })
}

/// The home directory of `uid` in the text of `/etc/passwd`. Read by ourselves: a static binary that asked the name
/// service would load the host's plug-ins.
fn home_of(uid: u32, passwd: &str) -> Option<PathBuf> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':').skip(2);
        (fields.next()?.parse() == Ok(uid)).then_some(())?;
        fields.nth(2).filter(|home| home.starts_with('/')).map(PathBuf::from)
    })
}

/// Facts about the host, as this process sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Host {
    /// The kernel's release, such as `6.12.9-amd64`.
    pub release: String,
    /// Started by root.
    pub root: bool,
    /// Started with rights that the user does not have (set-user-id, file capabilities).
    pub privileged_start: bool,
    /// Whether a user namespace can be made and something be mounted in it.
    pub user_namespaces: Result<(), Errno>,
    /// `user.max_user_namespaces`
    pub max_user_namespaces: Option<u64>,
    /// Debian's `kernel.unprivileged_userns_clone`
    pub unprivileged_userns_clone: Option<u64>,
    /// Ubuntu's `kernel.apparmor_restrict_unprivileged_userns`
    pub apparmor_restricts: Option<u64>,
    /// Whether a new procfs can be mounted.
    pub proc: Result<(), Errno>,
    /// Whether overlayfs can be mounted.
    pub overlay: Result<(), Errno>,
    /// Whether a time namespace can be made.
    pub time_namespace: Result<(), Errno>,
    /// Whether a seccomp listener can be had.
    pub listener: Result<(), Errno>,
    /// Whether it can be had with `WAIT_KILLABLE_RECV`.
    pub wait_killable: Result<(), Errno>,
    /// Landlock's version.
    pub landlock: Result<u32, Errno>,
    /// Seccomp filters that hold this process already.
    pub filtered: bool,
    /// Whether the view has the mark of a sandbox of ours.
    pub marked: bool,
    /// The container that this is, if it looks like one.
    pub container: Option<&'static str>,
    /// Which control groups can be used.
    pub cgroups: Cgroups,
    /// The first of the user's ids for `--fake-root=range`, or what is missing and the remedy. `None` for root.
    pub id_range: Option<Result<u32, (String, String)>>,
    /// This program, for remedies that must name it.
    pub program: PathBuf,
}

impl Host {
    /// Looks at this host. Forks; call it while there is one thread.
    pub fn look() -> Self {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let number = |path: &str| text(path).trim().parse().ok();
        let status = text("/proc/self/status");
        Self {
            release: text("/proc/sys/kernel/osrelease").trim().to_owned(),
            root: Uid::effective().is_root(),
            privileged_start: Uid::current() != Uid::effective()
                || Gid::current() != Gid::effective()
                || probe::secure_start(),
            user_namespaces: probe::user_namespace(),
            max_user_namespaces: number("/proc/sys/user/max_user_namespaces"),
            unprivileged_userns_clone: number("/proc/sys/kernel/unprivileged_userns_clone"),
            apparmor_restricts: number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns"),
            proc: probe::proc(),
            overlay: probe::overlay(),
            time_namespace: probe::time_namespace(),
            listener: probe::listener(false),
            wait_killable: probe::listener(true),
            landlock: probe::landlock(),
            filtered: status.lines().any(|line| line.strip_prefix("Seccomp:").is_some_and(|mode| mode.trim() == "2")),
            marked: Path::new(crate::monitor::nested::MARK).exists(),
            container: container(),
            cgroups: Cgroups::look(&text("/proc/self/cgroup"), &text("/proc/self/mountinfo")),
            id_range: (!Uid::current().is_root()).then(|| {
                let ranges = crate::monitor::root::ranges(Uid::current().as_raw());
                ranges.map(|ranges| ranges.users).map_err(|failure| (failure.step, failure.remedy))
            }),
            program: std::env::current_exe().unwrap_or_else(|_| "/usr/bin/sentry".into()),
        }
    }

    /// What is around this process, if it is in a sandbox that has its one supervisor already.
    pub fn sandbox(&self) -> Option<&'static str> {
        let name = if self.marked { "a sandbox of sentry" } else { "another sandbox" };
        (self.filtered && self.listener == Err(Errno::EBUSY)).then_some(name)
    }

    /// The kernel's version, as far as the release says it.
    pub fn kernel(&self) -> Option<(u32, u32)> {
        let mut numbers = self.release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().ok());
        Some((numbers.next()??, numbers.next()??))
    }
}

fn container() -> Option<&'static str> {
    if Path::new("/.dockerenv").exists() {
        Some("docker")
    } else if Path::new("/run/.containerenv").exists() {
        Some("podman")
    } else {
        None
    }
}

#[cfg(test)]
impl Host {
    /// A host that has everything.
    pub fn fine() -> Self {
        Self {
            release: "6.12.9-amd64".to_owned(),
            root: false,
            privileged_start: false,
            user_namespaces: Ok(()),
            max_user_namespaces: Some(60_000),
            unprivileged_userns_clone: None,
            apparmor_restricts: None,
            proc: Ok(()),
            overlay: Ok(()),
            time_namespace: Ok(()),
            listener: Ok(()),
            wait_killable: Ok(()),
            landlock: Ok(6),
            filtered: false,
            marked: false,
            container: None,
            cgroups: Cgroups::Unified { controllers: ["memory", "pids", "cpu"].map(Into::into).to_vec(), usable: true },
            id_range: Some(Ok(100_000)),
            program: "/usr/local/bin/sentry".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_of_distributions_are_understood() {
        let kernel = |release: &str| Host { release: release.to_owned(), ..Host::fine() }.kernel();
        assert_eq!(kernel("6.18.44-fc-v782"), Some((6, 18)));
        assert_eq!(kernel("5.15.0-1-amd64"), Some((5, 15)));
        assert_eq!(kernel("6.8-rc1"), Some((6, 8)));
        assert_eq!(kernel("unknown"), None);
    }

    #[test]
    fn the_home_directory_is_found_without_a_name_service() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\n+nis\nme:x:1000:1000::/home/me:/bin/sh\nodd:x:7:7:::\n";
        assert_eq!(home_of(1000, passwd), Some("/home/me".into()));
        assert_eq!((home_of(7, passwd), home_of(8, passwd)), (None, None));
    }

    #[test]
    fn looking_at_this_host_changes_nothing() {
        let before = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let host = Host::look();
        assert!(host.kernel().is_some(), "{}", host.release);
        assert_eq!(fs::read_to_string("/proc/self/mountinfo").unwrap(), before);
        assert_eq!(host, Host::look());
    }
}
