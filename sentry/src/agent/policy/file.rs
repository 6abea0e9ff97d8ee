//! The owner's file: `/etc/sentry/containers.toml`, and an ordinary user's `$XDG_CONFIG_HOME/sentry/containers.toml`.
//!
//! The user's file counts instead of the system's: what it allows are containers of that user. It must belong to the user
//! or to root, and nobody else may write to it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::unistd::Uid;
use serde::Deserialize;
use shim::failure::Failure;

use super::{Audited, BUILT_IN, ContainerPolicy, KEYS, MountKind, surface};
use crate::policy::clock::Clock;

const SYSTEM: &str = "/etc/sentry/containers.toml";
/// More than any such file that a person can read.
const LARGEST: u64 = 1 << 20;

/// What the owner of the host allows.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Owner {
    /// The policy of containers that choose none.
    default: Option<String>,
    /// What annotations may choose beside the default.
    allow: Option<Vec<String>>,
    /// Which annotations are heeded.
    annotations: Option<Vec<String>>,
    /// One log for all containers.
    audit: Option<PathBuf>,
    /// Policies of the owner's own.
    policy: BTreeMap<String, Changes>,
    #[serde(skip)]
    place: PathBuf,
}

/// A policy, as what it changes of another.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct Changes {
    extends: Option<String>,
    surface: Option<String>,
    mount: Option<Vec<MountKind>>,
    mknod: Option<bool>,
    sysinfo: Option<bool>,
    scheduler: Option<bool>,
    clock: Option<Clock>,
    audited: Option<Audited>,
}

impl Owner {
    /// Reads the file that counts, if there is one.
    pub fn read() -> Result<Self, Failure> {
        let own = user_file();
        for place in own.into_iter().chain([PathBuf::from(SYSTEM)]) {
            if let Some(text) = text(&place)? {
                return Self::parse(&text, &place);
            }
        }
        Ok(Self::default())
    }

    /// Reads the file at `place`, which must be there.
    pub fn read_at(place: &Path) -> Result<Self, Failure> {
        match text(place)? {
            Some(text) => Self::parse(&text, place),
            None => Err(Failure::new(format!("read {}", place.display()), Errno::ENOENT)),
        }
    }

    /// The names of all policies.
    pub fn names(&self) -> Vec<&str> {
        let own = self.policy.keys().map(String::as_str);
        BUILT_IN.iter().map(|(name, _)| *name).chain(own).collect()
    }

    /// The policy called `name`, or that of containers which choose none, whoever may choose it.
    pub fn any(&self, name: Option<&str>) -> Result<ContainerPolicy, Failure> {
        self.find(name.or(self.default.as_deref()).unwrap_or("default"), 0)
    }

    /// What a file with this text says.
    pub fn parse(text: &str, place: &Path) -> Result<Self, Failure> {
        let told = |reason: String| Failure::check_text(format!("{}: {reason}", place.display()));
        let mut owner: Self = toml::from_str(text).map_err(|error| told(error.to_string().trim_end().to_owned()))?;
        place.clone_into(&mut owner.place);
        if let Some(unknown) = owner.annotations.iter().flatten().find(|key| !KEYS.contains(&key.as_str())) {
            return Err(told(format!("there is no annotation \"{unknown}\""))
                .remedy(format!("choose among {}", KEYS.join(", "))));
        }
        if let Some(taken) = owner.policy.keys().find(|name| BUILT_IN.iter().any(|(known, _)| known == name)) {
            return Err(told(format!("policy {taken} is built in")).remedy("give yours another name, with `extends`"));
        }
        // A policy that cannot be is an error for every container, not only for the one that asks for it.
        let named = owner.policy.keys().chain(owner.allow.iter().flatten()).chain(&owner.default);
        for name in named {
            owner.find(name, 0)?;
        }
        Ok(owner)
    }

    /// Where it is looked for.
    pub(super) fn places() -> String {
        match user_file() {
            Some(own) => format!("{} or {SYSTEM}", own.display()),
            None => SYSTEM.to_owned(),
        }
    }

    pub(super) fn heeds(&self, key: &str) -> bool {
        self.annotations.as_ref().is_none_or(|heeded| heeded.iter().any(|heeded| heeded == key))
    }

    /// The policy called `wanted`, if containers may choose it, or the one of those that choose none.
    pub fn policy(&self, wanted: Option<&str>) -> Result<ContainerPolicy, Failure> {
        let usual = self.default.as_deref().unwrap_or("default");
        let name = wanted.unwrap_or(usual);
        let policy = self.find(name, 0)?;
        let may = name == usual
            || match &self.allow {
                Some(allowed) => allowed.iter().any(|allowed| allowed == name),
                // Where the owner chose a default of their own, nothing is known to give no more than that.
                None => self.default.is_none() && BUILT_IN.iter().any(|(known, _)| *known == name),
            };
        if may {
            return Ok(policy);
        }
        Err(Failure::check_text(format!("policy {name} is not one that containers may choose"))
            .remedy(format!("add \"{name}\" to `allow` in {}", Self::places())))
    }

    fn find(&self, name: &str, depth: usize) -> Result<ContainerPolicy, Failure> {
        let told = |reason: String| Failure::check_text(reason);
        if let Some(mut policy) = ContainerPolicy::built_in(name) {
            policy.audit.clone_from(&self.audit);
            return Ok(policy);
        }
        let Some(changes) = self.policy.get(name) else {
            let mut names: Vec<&str> = BUILT_IN.iter().map(|(name, _)| *name).collect();
            names.extend(self.policy.keys().map(String::as_str));
            names.sort_unstable();
            return Err(
                told(format!("there is no policy {name:?}")).remedy(format!("choose one of {}", names.join(", ")))
            );
        };
        if depth > self.policy.len() {
            return Err(told(format!("policy {name} extends itself")).remedy("let it extend a built-in one"));
        }
        let base = self.find(changes.extends.as_deref().unwrap_or("default"), depth + 1)?;
        Ok(ContainerPolicy {
            name: name.to_owned(),
            surface: changes.surface.as_deref().map(surface).transpose()?.unwrap_or(base.surface),
            mount: changes.mount.clone().unwrap_or(base.mount),
            mknod: changes.mknod.unwrap_or(base.mknod),
            sysinfo: changes.sysinfo.unwrap_or(base.sysinfo),
            scheduler: changes.scheduler.unwrap_or(base.scheduler),
            clock: changes.clock.unwrap_or(base.clock),
            audited: changes.audited.unwrap_or(base.audited),
            audit: base.audit,
        })
    }
}

/// The user's own file. Only the host's root has none: root of an engine's user namespace is the user.
fn user_file() -> Option<PathBuf> {
    if Uid::effective().is_root() && crate::agent::is_in_initial_namespace() {
        return None;
    }
    let directory = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).filter(|directory| directory.is_absolute());
    let directory = directory.or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".config")))?;
    directory.is_absolute().then(|| directory.join("sentry/containers.toml"))
}

/// The text of a file that only its owner, the user or root, can have written; `None` if there is none.
fn text(place: &Path) -> Result<Option<String>, Failure> {
    let failed = |error: std::io::Error| {
        let errno = Errno::from_raw(error.raw_os_error().unwrap_or(nix::libc::EIO));
        Failure::new(format!("read {}", place.display()), errno)
    };
    let file = match File::open(place) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        // An ordinary user's HOME may be nobody's to look into, as that of services is. A file that is there counts.
        Err(error)
            if error.kind() == ErrorKind::PermissionDenied
                && place != Path::new(SYSTEM)
                && place.symlink_metadata().is_err() =>
        {
            return Ok(None);
        }
        Err(error) => return Err(failed(error)),
    };
    let meta = file.metadata().map_err(failed)?;
    // In the user namespace of an engine the system's own files are nobody's.
    let strangers = meta.uid() != Uid::effective().as_raw() && meta.uid() != 0 && place != Path::new(SYSTEM);
    if strangers || meta.permissions().mode() & 0o022 != 0 || !meta.is_file() {
        return Err(Failure::check_text(format!("{} can be written by others", place.display()))
            .remedy("make it a file of your own, with chmod go-w"));
    }
    let mut text = String::new();
    file.take(LARGEST).read_to_string(&mut text).map_err(failed)?;
    Ok(Some(text))
}
