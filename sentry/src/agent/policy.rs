//! Which calls of a container are answered how: built-in policies, the owner's file, and the container's annotations.
//!
//! Annotations may come from an image that nobody here wrote. They choose among the policies that the owner of the host
//! allows in a file of the host's, and among those built-in ones that give nothing more than `default` does; they never
//! name a file, and they never widen what the chosen policy allows. A pretended clock gives nothing of the host: only the
//! container's own programs read it.

mod file;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use shim::failure::Failure;
use syscalls::abi::Arch;
use syscalls::filter::{Instruction, compile};
use syscalls::rules::{Contained, Rules};
use syscalls::table::{Feature, Routes, Surface};

use super::Container;
use crate::policy::clock::Clock;
pub use file::Owner;

/// Annotations that begin so are for the sentry.
const PREFIX: &str = "dev.sentry.";
/// What may follow.
const KEYS: [&str; 4] = ["policy", "profile", "clock", "audit"];

/// What a container may have mounted for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MountKind {
    /// File systems in memory.
    Tmpfs,
    /// A part of its own tree once more, or a mount of its own elsewhere.
    Bind,
    /// Its own `/proc` once more.
    Proc,
    /// Its own `/sys` once more, read-only.
    Sysfs,
    /// New pseudo-terminals.
    Devpts,
    /// Its own message queues once more.
    Mqueue,
    /// Directories of its own on top of one another.
    Overlay,
    /// Other flags and propagation of what it mounted, and more restrictions of what it was given.
    Remount,
}

impl MountKind {
    /// All of them.
    pub const ALL: [Self; 8] =
        [Self::Tmpfs, Self::Bind, Self::Proc, Self::Sysfs, Self::Devpts, Self::Mqueue, Self::Overlay, Self::Remount];

    /// As policies and the log have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tmpfs => "tmpfs",
            Self::Bind => "bind",
            Self::Proc => "proc",
            Self::Sysfs => "sysfs",
            Self::Devpts => "devpts",
            Self::Mqueue => "mqueue",
            Self::Overlay => "overlay",
            Self::Remount => "remount",
        }
    }
}

/// Which calls go to the audit log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Audited {
    /// Those that were refused.
    #[default]
    Denied,
    /// Those that were done in the kernel's stead as well.
    All,
}

/// How the calls of one container are answered.
#[derive(Clone, Debug, PartialEq)]
pub struct ContainerPolicy {
    /// Its name.
    pub name: String,
    /// Which calls there are at all.
    pub surface: Surface,
    /// What is mounted for the container's root.
    pub mount: Vec<MountKind>,
    /// Whether harmless devices are made for it.
    pub mknod: bool,
    /// Whether `sysinfo` tells of the container's limit on memory instead of the host's memory.
    pub sysinfo: bool,
    /// Whether its root is told that it has real-time classes of scheduling.
    pub scheduler: bool,
    /// Its clock.
    pub clock: Clock,
    /// Where the log goes, if not beside the keeper's socket.
    pub audit: Option<PathBuf>,
    /// What goes there.
    pub audited: Audited,
}

/// The built-in ones: name, and what it is for.
pub const BUILT_IN: [(&str, &str); 4] = [
    ("default", "docker-like programs run; harmless mounts, devices and memory sizes are the container's own"),
    ("plain", "the same calls, and nothing is done in the kernel's stead: mounts and devices are refused and told"),
    ("strict", "as plain, with the calls of an ordinary program only"),
    ("judge", "as plain, with the calls of a batch job only"),
];

impl ContainerPolicy {
    /// The built-in policy called `name`.
    pub fn built_in(name: &str) -> Option<Self> {
        let plain = Self {
            name: name.to_owned(),
            surface: Surface::Compat,
            mount: Vec::new(),
            mknod: false,
            sysinfo: false,
            scheduler: false,
            clock: Clock::Hosts,
            audit: None,
            audited: Audited::Denied,
        };
        Some(match name {
            "default" => Self { mount: MountKind::ALL.to_vec(), mknod: true, sysinfo: true, ..plain },
            "plain" => plain,
            "strict" => Self { surface: Surface::Default, ..plain },
            "judge" => Self { surface: Surface::Judge, ..plain },
            _ => return None,
        })
    }

    /// What the owner's file and these annotations make of it.
    pub fn decide(annotations: &BTreeMap<String, String>) -> Result<Self, Failure> {
        Self::decide_with(annotations, &Owner::read()?)
    }

    /// The same with a file that was read.
    pub fn decide_with(annotations: &BTreeMap<String, String>, owner: &Owner) -> Result<Self, Failure> {
        let ours = annotations.iter().filter_map(|(key, value)| Some((key.strip_prefix(PREFIX)?, value.as_str())));
        let ours: BTreeMap<&str, &str> = ours.collect();
        if let Some(unknown) = ours.keys().find(|key| !KEYS.contains(key)) {
            let known = KEYS.map(|key| format!("{PREFIX}{key}")).join(", ");
            return Err(Failure::check_text(format!("there is no annotation {PREFIX}{unknown}"))
                .remedy(format!("the sentry knows {known}")));
        }
        if let Some(refused) = ours.keys().find(|key| !owner.heeds(key)) {
            return Err(Failure::check_text(format!("the annotation {PREFIX}{refused} is not heeded on this host"))
                .remedy(format!("add \"{refused}\" to `annotations` in {}", Owner::places())));
        }
        let mut policy = owner.policy(ours.get("policy").copied())?;
        if let Some(wanted) = ours.get("profile") {
            let surface = surface(wanted)?;
            if surface > policy.surface {
                let name = &policy.name;
                return Err(Failure::check_text(format!("profile {wanted} has more calls than policy {name} allows"))
                    .remedy("choose a wider policy with dev.sentry.policy"));
            }
            policy.surface = surface;
        }
        if let Some(wanted) = ours.get("clock") {
            policy.clock = wanted
                .parse()
                .map_err(|reason: String| Failure::check_text(format!("dev.sentry.clock={wanted}")).remedy(reason))?;
            if let Clock::Own { uptime: Some(_), .. } = policy.clock {
                return Err(Failure::check_text("dev.sentry.clock: a container's uptime is its time namespace's")
                    .remedy("leave uptime= out; linux.timeOffsets of config.json sets it"));
            }
        }
        if let Some(wanted) = ours.get("audit") {
            policy.audited = match *wanted {
                "denied" => policy.audited,
                "all" => Audited::All,
                _ => {
                    return Err(Failure::check_text(format!("there is no dev.sentry.audit={wanted}"))
                        .remedy("write denied or all"));
                }
            };
        }
        Ok(policy)
    }

    /// Which parts of the table it changes for this container.
    pub fn features(&self, container: &Container) -> Vec<Feature> {
        let mut features = vec![Feature::Container];
        let mut add = |wanted: bool, feature| {
            if wanted {
                features.push(feature);
            }
        };
        add(!self.mount.is_empty(), Feature::Mounts);
        add(self.mknod && container.real_root && container.makes_devices, Feature::RealDevices);
        add(container.own_name, Feature::OwnName);
        add(self.scheduler, Feature::PretendedClasses);
        // How much is free is told by the container's own processes.
        add(self.sysinfo && container.memory.is_some() && !container.shares_pids, Feature::MemoryLimit);
        add(self.clock != Clock::Hosts, Feature::VirtualClock);
        features
    }

    /// The routes of its calls.
    pub fn routes(&self, container: &Container) -> Routes {
        Routes::new(Arch::native(), self.surface, &self.features(container))
    }

    /// What handlers may ask.
    pub fn rules(&self, container: &Container) -> Rules {
        let mounts = self.mount.iter().map(|kind| kind.name()).collect();
        let has_limit = self.features(container).contains(&Feature::MemoryLimit);
        Rules {
            real_ids: true,
            memory: container.memory.filter(|_| has_limit),
            container: Some(Contained { mounts, devices: self.mknod }),
            ..Rules::default()
        }
    }

    /// The filter that a container's first process loads, with a listener; and each that enters it later.
    pub fn filter(&self, container: &Container) -> Vec<Instruction> {
        compile(&self.routes(container))
    }
}

fn surface(name: &str) -> Result<Surface, Failure> {
    match name {
        "judge" => Ok(Surface::Judge),
        "default" => Ok(Surface::Default),
        "compat" => Ok(Surface::Compat),
        _ => {
            Err(Failure::check_text(format!("there is no profile {name:?}")).remedy("choose judge, default or compat"))
        }
    }
}

/// The log of a container whose keeper listens at `socket`.
pub fn log_beside(socket: &Path) -> PathBuf {
    socket.with_file_name("audit.jsonl")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn decide(pairs: &[(&str, &str)], file: &str) -> Result<ContainerPolicy, String> {
        let annotations = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let owner = Owner::parse(file, Path::new("containers.toml")).map_err(|failure| failure.to_string())?;
        ContainerPolicy::decide_with(&annotations, &owner).map_err(|failure| failure.to_string())
    }

    #[test]
    fn without_a_word_it_is_the_default() {
        let policy = decide(&[("org.example", "x")], "").unwrap();
        assert_eq!(Some(policy), ContainerPolicy::built_in("default"));
    }

    #[test]
    fn annotations_choose_among_what_is_built_in() {
        for (name, _) in BUILT_IN {
            assert_eq!(decide(&[("dev.sentry.policy", name)], "").unwrap().name, name);
        }
        let error = decide(&[("dev.sentry.policy", "mine")], "").unwrap_err();
        assert!(error.contains("there is no policy \"mine\"; choose one of default, judge, plain, strict"), "{error}");
        let error = decide(&[("dev.sentry.polcy", "default")], "").unwrap_err();
        assert!(error.contains("there is no annotation dev.sentry.polcy; the sentry knows"), "{error}");
    }

    #[test]
    fn the_owners_policies_are_chosen_only_when_allowed() {
        let file = "[policy.mine]\nextends = \"plain\"\nmount = [\"tmpfs\"]\n";
        let error = decide(&[("dev.sentry.policy", "mine")], file).unwrap_err();
        assert!(error.contains("add \"mine\" to `allow`"), "{error}");
        let allowed = format!("allow = [\"mine\"]\n{file}");
        let policy = decide(&[("dev.sentry.policy", "mine")], &allowed).unwrap();
        assert_eq!((policy.mount, policy.mknod), (vec![MountKind::Tmpfs], false));
        let chosen = decide(&[], &format!("default = \"mine\"\n{file}")).unwrap();
        assert_eq!(chosen.name, "mine");
        let error = decide(&[("dev.sentry.policy", "default")], &format!("default = \"mine\"\n{file}")).unwrap_err();
        assert!(error.contains("add \"default\" to `allow`"), "{error}");
    }

    #[test]
    fn annotations_only_narrow_the_surface() {
        let narrow = decide(&[("dev.sentry.profile", "judge")], "").unwrap();
        assert_eq!(narrow.surface, Surface::Judge);
        let wide = [("dev.sentry.policy", "strict"), ("dev.sentry.profile", "compat")];
        assert!(decide(&wide, "").unwrap_err().contains("more calls than policy strict allows"));
    }

    #[test]
    fn a_clock_can_be_asked_for_and_forbidden() {
        let wish = [("dev.sentry.clock", "+3d")];
        assert!(matches!(decide(&wish, "").unwrap().clock, Clock::Own { .. }));
        let error = decide(&wish, "annotations = [\"policy\"]").unwrap_err();
        assert!(error.contains("dev.sentry.clock is not heeded on this host"), "{error}");
        assert!(decide(&[("dev.sentry.clock", "soon")], "").is_err());
    }
}
