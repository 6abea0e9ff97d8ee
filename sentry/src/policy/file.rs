//! Policy files: strict TOML, each laid over what it extends.
//!
//! A key that is misspelt would silently protect nothing, so unknown keys are errors that point at the place. A file
//! that somebody else can write is not this user's policy, and is refused.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::Uid;
use serde::Deserialize;
use syscalls::table::Surface;

use super::clock::Clock;
use super::layer::Layer;
use super::limits::LimitChanges;
use super::path::{self, shown};
use super::rule::{Contents, Kind, MadeFile};
use super::view::Facts;
use super::{
    Ability, Access, CowStore, Environment, Error, Grant, Interpose, Net, Policy, ProcFiles, Scratch, kernel, profile,
};

/// More than any policy that a person can read.
const LARGEST: u64 = 1 << 20;

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct Document {
    #[serde(rename = "description")]
    _description: Option<String>,
    extends: Option<Vec<String>>,
    files: Files,
    environment: Variables,
    network: Network,
    limits: LimitChanges,
    process: Process,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct Files {
    read: Vec<String>,
    write: Vec<String>,
    cow: Vec<String>,
    read_if_present: Vec<String>,
    write_if_present: Vec<String>,
    volumes: Vec<String>,
    tmpfs: Vec<String>,
    hide: Vec<String>,
    deny: Vec<String>,
    log: Vec<String>,
    /// Names beneath each writable directory that stay read-only.
    protect: Option<Vec<String>>,
    /// Names and the text that is in them.
    content: BTreeMap<String, String>,
    /// Names and what of the host shows through there, read-only.
    redirect: BTreeMap<String, String>,
    root: Option<String>,
    system: Option<bool>,
    current_directory: Option<Here>,
    cow_store: Option<CowStore>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Here {
    Cow,
    Read,
    Write,
    None,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct Variables {
    inherit_all: bool,
    clear: bool,
    pass: Vec<String>,
    set: BTreeMap<String, String>,
    unset: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct Network {
    mode: Option<Net>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct Process {
    hostname: Option<String>,
    uname: Option<String>,
    clock: Option<Clock>,
    workdir: Option<String>,
    surface: Option<Reachable>,
    bare_proc: Option<bool>,
    proc_files: Option<ProcFiles>,
    tracing_inside: Option<bool>,
    seccomp: Option<String>,
    interpose: Option<Interpose>,
    platform: Option<super::Mechanism>,
    fake_root: Option<super::FakeRoot>,
    userns: Option<super::Userns>,
    nested: Option<bool>,
    allow: Vec<Ability>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Reachable {
    Judge,
    Default,
    Compat,
}

/// Reads profiles and policy files, and lays them over a policy.
pub struct Reader<'a> {
    facts: &'a Facts,
    /// The files that were read, as the user named them, absolute.
    pub files: Vec<PathBuf>,
    /// What is being read at the moment, to notice files that extend one another.
    open: Vec<String>,
}

impl<'a> Reader<'a> {
    /// A reader that resolves `~` and the current directory by `facts`.
    pub fn new(facts: &'a Facts) -> Self {
        Self { facts, files: Vec::new(), open: Vec::new() }
    }

    /// Lays the built-in profile called `name` over `policy`.
    pub fn profile(&mut self, name: &str, policy: &mut Policy) -> anyhow::Result<()> {
        let text = profile::text(name)?;
        self.text(&format!("profile {name}"), text, &self.facts.cwd.clone(), None, policy)?;
        policy.profile = name.to_owned();
        Ok(())
    }

    /// Lays the policy file at `path` over `policy`. What it extends comes first; a file that does not say extends
    /// `base`.
    pub fn file(&mut self, path: &Path, base: Option<&str>, policy: &mut Policy) -> anyhow::Result<()> {
        let path = path::absolute(&self.facts.cwd, path);
        let text = read_trusted(&path)?;
        let parent = path.parent().unwrap_or(Path::new("/"));
        let directory = parent.canonicalize().unwrap_or_else(|_| parent.to_owned());
        self.files.push(path.clone());
        self.text(&shown(&path), &text, &directory, base, policy)
    }

    fn text(
        &mut self,
        name: &str,
        text: &str,
        directory: &Path,
        base: Option<&str>,
        policy: &mut Policy,
    ) -> anyhow::Result<()> {
        if self.open.iter().any(|open| open == name) {
            return Err(Error::new(format!("{name} extends itself"), "take it out of one 'extends'").into());
        }
        let document: Document =
            toml::from_str(text).map_err(|error| anyhow::anyhow!("{name}: {}", error.to_string().trim_end()))?;

        self.open.push(name.to_owned());
        match &document.extends {
            Some(bases) => {
                for base in bases {
                    // A path has a slash, a name has none.
                    if base.contains('/') {
                        self.file(&self.place(directory, base)?, None, policy)?;
                    } else {
                        self.profile(base, policy)?;
                    }
                }
            }
            None => {
                if let Some(base) = base {
                    self.profile(base, policy)?;
                }
            }
        }
        self.open.pop();

        let layer = self.layer(document, directory).map_err(|error| anyhow::anyhow!("{name}: {error}"))?;
        layer.lay_over(policy);
        Ok(())
    }

    fn layer(&self, document: Document, directory: &Path) -> Result<Layer, Error> {
        let Document { files, environment, network, limits, process, .. } = document;
        let mut layer = Layer::default();
        let lists = [
            (&files.read, Kind::Read),
            (&files.write, Kind::Write),
            (&files.cow, Kind::Cow),
            (&files.deny, Kind::Deny),
            (&files.hide, Kind::Hide),
            (&files.log, Kind::Log),
        ];
        for (list, kind) in lists {
            for given in list {
                layer.rule(kind, directory, &self.facts.home, &self.with_tilde(given)?)?;
            }
        }
        for (list, access) in [(&files.read_if_present, Access::Read), (&files.write_if_present, Access::Write)] {
            for given in list {
                layer.grants.push(Grant { optional: true, ..Grant::same(self.place(directory, given)?, access)? });
            }
        }
        for (name, text) in &files.content {
            let inside = path::inside(directory, &self.place(directory, name)?)?;
            layer.made.push(MadeFile { inside, contents: Contents::Text(text.as_bytes().to_vec()) });
        }
        for (name, host) in &files.redirect {
            let inside = path::inside(directory, &self.place(directory, name)?)?;
            layer.made.push(MadeFile { inside, contents: Contents::Host(self.place(directory, host)?) });
        }
        for volume in &files.volumes {
            let volume = Grant::volume(volume.as_ref())?;
            let host = self.place(directory, &volume.host.to_string_lossy())?;
            layer.grants.push(Grant { host, ..volume });
        }
        for given in &files.tmpfs {
            let (given, size) = Scratch::split(given.as_ref())?;
            layer.scratch.push(Scratch {
                inside: path::inside(directory, &self.place(directory, &given.to_string_lossy())?)?,
                size,
            });
        }
        let place = |given: &Option<String>| given.as_ref().map(|given| self.place(directory, given)).transpose();
        Ok(Layer {
            surface: process.surface.map(|surface| match surface {
                Reachable::Judge => Surface::Judge,
                Reachable::Default => Surface::Default,
                Reachable::Compat => Surface::Compat,
            }),
            root: place(&files.root)?,
            system: files.system,
            cwd: files.current_directory.map(|here| match here {
                Here::Cow => Some(Access::Cow),
                Here::Read => Some(Access::Read),
                Here::Write => Some(Access::Write),
                Here::None => None,
            }),
            workdir: place(&process.workdir)?,
            environment: environment.into(),
            net: network.mode,
            hostname: process.hostname,
            kernel: process.uname.as_deref().map(kernel::parse).transpose()?,
            clock: process.clock,
            limits,
            cow_store: files.cow_store,
            bare_proc: process.bare_proc,
            proc: process.proc_files,
            tracing_inside: process.tracing_inside,
            seccomp: place(&process.seccomp)?,
            interpose: process.interpose,
            platform: process.platform,
            fake_root: process.fake_root,
            userns: process.userns,
            nested: process.nested,
            allow: process.allow,
            protect: files.protect.map(protected).transpose()?,
            ..layer
        })
    }

    /// A path or pattern of a policy file as rules take it: the user's home is `~`, and there are no other variables.
    fn with_tilde(&self, given: &str) -> Result<PathBuf, Error> {
        // Says what is wrong with it; what it stands for is worked out by the rule, which knows a pattern.
        self.place(Path::new("/"), given)?;
        let tilde = given.strip_prefix("$HOME").map(|rest| format!("~{rest}"));
        Ok(tilde.as_deref().unwrap_or(given).into())
    }

    /// A path of a policy file: `~` and `$HOME` are the user's home, and relative ones begin at the file's directory.
    fn place(&self, directory: &Path, given: &str) -> Result<PathBuf, Error> {
        path::check_bytes(given.as_ref())?;
        let unquoted = given.strip_prefix("$HOME").or(given.strip_prefix('~'));
        match unquoted.map(|rest| rest.strip_prefix('/').or(rest.is_empty().then_some(""))) {
            Some(Some(rest)) => Ok(path::absolute(&self.facts.home, &self.facts.home.join(rest))),
            Some(None) => Err(Error::new(format!("{given:?} names another home"), "write ~/PATH or an absolute path")),
            None if given.starts_with('$') => {
                Err(Error::new(format!("{given:?} names a variable"), "only $HOME is known; write the path itself"))
            }
            None => Ok(path::absolute(directory, Path::new(given))),
        }
    }
}

/// Names to be protected: each relative to whatever directory may be changed.
fn protected(names: Vec<String>) -> Result<Vec<PathBuf>, Error> {
    let plain = |name: &Path| name.components().all(|part| matches!(part, std::path::Component::Normal(_)));
    let names = names.into_iter().map(PathBuf::from);
    names
        .map(|name| match path::check_bytes(name.as_os_str()) {
            Ok(()) if plain(&name) => Ok(name),
            Ok(()) => Err(Error::new(
                format!("{} cannot be protected everywhere", shown(&name)),
                "write a relative name without . and .., such as .git/hooks",
            )),
            Err(error) => Err(error),
        })
        .collect()
}

impl From<Variables> for Environment {
    fn from(variables: Variables) -> Self {
        let passed = variables.pass.into_iter().map(|name| (OsString::from(name), None));
        let set = variables.set.into_iter().map(|(name, value)| (name.into(), Some(value.into())));
        Self {
            inherit_all: variables.inherit_all,
            clear: variables.clear,
            set: passed.chain(set).collect(),
            unset: variables.unset.into_iter().map(Into::into).collect(),
        }
    }
}

/// The text of the policy file at `path`, if nobody but the user and root could have written it. Owner and mode are
/// those of the open file, so that the name cannot be given to another one in between.
fn read_trusted(path: &Path) -> anyhow::Result<String> {
    let name = shown(path);
    let failed = |error: std::io::Error| {
        Error::new(format!("cannot read the policy {name}: {}", path::reason(&error)), "check the path after --policy")
    };
    let mut file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if metadata.is_dir() {
        return Err(Error::new(format!("the policy {name} is a directory"), "name the file in it").into());
    }
    if metadata.uid() != 0 && metadata.uid() != Uid::effective().as_raw() {
        let message = format!("the policy {name} belongs to another user, who could change it");
        return Err(Error::new(message, "copy it, and use the copy").into());
    }
    if metadata.permissions().mode() & 0o022 != 0 {
        let message = format!("the policy {name} can be written by others");
        return Err(Error::new(message, format!("run chmod go-w {name}")).into());
    }
    let mut text = String::new();
    let read = file.by_ref().take(LARGEST + 1).read_to_string(&mut text).map_err(failed)?;
    if read as u64 > LARGEST {
        return Err(Error::new(format!("the policy {name} is larger than 1 MiB"), "is it the right file?").into());
    }
    Ok(text)
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
