//! What the user wants, before the host is asked whether it can be had.
//!
//! Command line, policy files and built-in profiles all end in one [`Policy`]; nothing later looks at options again.
//! Paths are absolute but unresolved: they are resolved once, at start, by the shim.
//!
//! A policy is made of layers ([`layer::Layer`]): profile, policy file, command line, each laid over the one before.
//! [`view::arrange`] then says what is where in the view, and [`environment::compose`] what the variables are.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use syscalls::table::Surface;

pub mod clock;
pub mod environment;
pub mod file;
pub mod grant;
pub mod kernel;
pub mod layer;
pub mod limits;
pub mod path;
pub mod profile;
pub mod rule;
pub mod units;
pub mod view;

/// How a granted path appears inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Access {
    /// As it is, read-only.
    Read,
    /// As it is, writable: changes reach the host.
    Write,
    /// Copy-on-write: the program may change it, the host does not see it.
    Cow,
}

/// A host path made visible.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Where it is on the host; absolute.
    pub host: PathBuf,
    /// Where it appears in the view; absolute.
    pub inside: PathBuf,
    /// What may be done with it.
    pub access: Access,
    /// Left out without a word when the host does not have it (profiles name places that may not exist).
    pub optional: bool,
}

/// A private, empty directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scratch {
    /// Where it appears; absolute.
    pub inside: PathBuf,
    /// Its size in bytes, if limited apart from the other private places.
    pub size: Option<u64>,
}

/// Which network the guest has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Net {
    /// Its own loopback, nothing else.
    None,
    /// The host's.
    All,
}

/// Which calls that take a path go through the sentry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Interpose {
    /// Those that some rule needs.
    #[default]
    Minimal,
    /// All of them.
    Full,
}

/// Whether the guest is root for itself, and by what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum FakeRoot {
    /// It is not.
    #[default]
    #[value(skip)]
    Off,
    /// Ids, capabilities and ownership are the sentry's to tell.
    Pretend,
    /// They are the kernel's, with ids of the user's own range (`/etc/subuid`).
    Range,
}

impl FakeRoot {
    /// Whether the guest is root for itself.
    pub fn is_on(self) -> bool {
        self != Self::Off
    }
}

impl<'de> serde::Deserialize<'de> for FakeRoot {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(serde::Deserialize)]
        #[serde(untagged)]
        enum Written {
            Whether(bool),
            How(String),
        }
        match Written::deserialize(deserializer)? {
            Written::Whether(false) => Ok(Self::Off),
            Written::Whether(true) => Ok(Self::Pretend),
            Written::How(how) if how == "pretend" => Ok(Self::Pretend),
            Written::How(how) if how == "range" => Ok(Self::Range),
            Written::How(how) => Err(serde::de::Error::custom(format!(
                "fake-root is true, false, \"pretend\" or \"range\", not {how:?}"
            ))),
        }
    }
}

/// How calls that the kernel does not decide reach the sentry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mechanism {
    /// By a seccomp listener.
    #[default]
    Notify,
    /// By ptrace, where no listener can be had.
    Ptrace,
}

/// What becomes of a program's wish for a user namespace of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Userns {
    /// It fails.
    #[default]
    Deny,
    /// It is root for itself, and nothing else changes.
    Emulate,
}

/// Files of `/proc` that tell how large the sandbox is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProcFiles {
    /// As they are at start.
    #[default]
    Static,
    /// As they are when they are opened: every path goes through the sentry for that.
    Live,
}

/// What the sandbox may do that needs somebody with rights to do it for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ability {
    /// To mount within its view.
    Mount,
}

/// Where changed files of copy-on-write directories are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CowStore {
    /// In the state directory, on disk, for later review.
    Disk,
    /// In memory, gone at the end, limited by `--disk`.
    Memory,
}

/// Limits on the whole sandbox; `None` is unlimited.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Limits {
    /// Memory in bytes.
    pub memory: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// CPUs; a fraction needs a cgroup.
    pub cpus: Option<f64>,
    /// Wall time.
    pub timeout: Option<Duration>,
    /// Processor time.
    pub cpu_time: Option<Duration>,
    /// Bytes in private places and in the copy-on-write store.
    pub disk: Option<u64>,
    /// Bytes in one file.
    pub max_file: Option<u64>,
}

/// Which environment variables the guest gets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// Start from the whole environment instead of the allow-list.
    pub inherit_all: bool,
    /// Start from nothing at all.
    pub clear: bool,
    /// Set (`Some`) or passed on from the caller (`None`), in order.
    pub set: Vec<(OsString, Option<OsString>)>,
    /// Removed.
    pub unset: Vec<OsString>,
}

/// Where the machine-readable report goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sink {
    /// A file, made or replaced.
    File(PathBuf),
    /// An inherited descriptor.
    Descriptor(i32),
}

/// Everything about one run.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// The program and its arguments; not empty.
    pub command: Vec<OsString>,
    /// The profile it began with: `default`, `dev`, `judge`.
    pub profile: String,
    /// How many syscalls are reachable.
    pub surface: Surface,
    /// The host tree that takes the place of the system directories (`--root`).
    pub root: Option<PathBuf>,
    /// Whether the default system view (`/usr`, harmless `/etc`) is there.
    pub system: bool,
    /// Paths made visible, in order of appearance.
    pub grants: Vec<Grant>,
    /// How the current directory is treated when no grant covers it; `None`: not at all.
    pub cwd: Option<Access>,
    /// Private, empty directories besides `/tmp`, `/var/tmp` and the home directory.
    pub scratch: Vec<Scratch>,
    /// Exact names in the view that must not be seen or made.
    pub hide: Vec<PathBuf>,
    /// Exact names in the view that may be seen and not used.
    pub deny: Vec<PathBuf>,
    /// Names in each directory that may be changed, which stay as they are unless they are granted themselves.
    pub protect: Vec<PathBuf>,
    /// Files whose contents the policy gives.
    pub made: Vec<rule::MadeFile>,
    /// Rules about whatever a pattern matches, and names whose uses are logged.
    pub patterns: Vec<rule::PatternRule>,
    /// Working directory inside; the current one if it is visible, otherwise the home directory.
    pub workdir: Option<PathBuf>,
    /// Environment.
    pub environment: Environment,
    /// Network.
    pub net: Net,
    /// Host name inside.
    pub hostname: String,
    /// The kernel that programs are told of, if not the host's.
    pub kernel: Option<syscalls::rules::KernelName>,
    /// Clock.
    pub clock: clock::Clock,
    /// Limits.
    pub limits: Limits,
    /// Where copies of changed files live.
    pub cow_store: CowStore,
    /// The kept run whose copies this one goes on with.
    pub resume: Option<String>,
    /// `/proc` with processes only (`subset=pid`).
    pub bare_proc: bool,
    /// When the files of `/proc` that tell of limits are written.
    pub proc: ProcFiles,
    /// Whether processes of the sandbox may trace one another.
    pub tracing_inside: bool,
    /// An OCI seccomp profile to be applied on top.
    pub seccomp: Option<PathBuf>,
    /// Which calls that take a path go through the sentry.
    pub interpose: Interpose,
    /// How calls reach the sentry.
    pub platform: Mechanism,
    /// Whether the guest is root for itself.
    pub fake_root: FakeRoot,
    /// What becomes of a program's wish for a user namespace.
    pub userns: Userns,
    /// What is done for the sandbox.
    pub allow: Vec<Ability>,
    /// Where every decision about a path is logged.
    pub audit: Option<PathBuf>,
    /// Within another sandbox: hold the program by what can be had there.
    pub nested: bool,
    /// Go on when the host cannot give a protection, after saying what is lost.
    pub allow_degraded: bool,
    /// Show paths that the program looked for and did not find, and other denials, as they happen (`--trace denied`).
    pub trace_denied: bool,
    /// No summary on standard error.
    pub quiet: bool,
    /// The JSON report.
    pub json: Option<Sink>,
    /// The report in isolate's `key:value` format.
    pub meta: Option<PathBuf>,
}

/// What is wrong with a policy, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}; {remedy}")]
pub struct Error {
    message: String,
    remedy: String,
}

impl Error {
    /// What is wrong, in lower case and with the name of the path or option; and the remedy.
    pub fn new(message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { message: message.into(), remedy: remedy.into() }
    }
}

impl Policy {
    /// The policy that grants nothing but the system directories, on which every layer is laid.
    pub fn bare(command: Vec<OsString>) -> Self {
        Self {
            command,
            profile: profile::DEFAULT.to_owned(),
            surface: Surface::Default,
            root: None,
            system: true,
            grants: Vec::new(),
            cwd: None,
            scratch: Vec::new(),
            hide: Vec::new(),
            deny: Vec::new(),
            protect: Vec::new(),
            made: Vec::new(),
            patterns: Vec::new(),
            workdir: None,
            environment: Environment::default(),
            net: Net::None,
            hostname: "sandbox".to_owned(),
            kernel: None,
            clock: clock::Clock::Hosts,
            limits: Limits::default(),
            cow_store: CowStore::Disk,
            resume: None,
            bare_proc: false,
            proc: ProcFiles::Static,
            tracing_inside: true,
            seccomp: None,
            interpose: Interpose::Minimal,
            platform: Mechanism::Notify,
            fake_root: FakeRoot::Off,
            userns: Userns::Deny,
            allow: Vec::new(),
            audit: None,
            nested: false,
            allow_degraded: false,
            trace_denied: false,
            quiet: false,
            json: None,
            meta: None,
        }
    }

    /// Where the guest lives.
    pub fn home<'a>(&self, facts: &'a view::Facts) -> &'a Path {
        if self.fake_root.is_on() { Path::new("/root") } else { facts.guest_home() }
    }

    /// Whether `--write /` was said of a root tree of its own (`--root`): then all of that tree may be changed.
    pub fn root_writable(&self) -> bool {
        let root = Path::new("/");
        let is_own = self.root.as_deref().is_some_and(|own| own != root);
        is_own && self.grants.iter().any(|grant| grant.is_whole_root())
    }

    /// Whether the policy makes sense by itself, before the host is asked for anything.
    pub fn validate(&self) -> Result<(), Error> {
        if self.command.is_empty() {
            return Err(Error::new("there is nothing to run", "write sentry run -- COMMAND [ARG]..."));
        }
        self.check_hostname()?;
        for name in self.environment.set.iter().map(|(name, _)| name).chain(&self.environment.unset) {
            environment::check_name(name)?;
        }
        let made = self.made.iter().map(|made| &made.inside);
        let private = self.scratch.iter().map(|scratch| &scratch.inside);
        for path in self.hide.iter().chain(&self.deny).chain(&self.workdir).chain(private).chain(made) {
            path::check_inside(path)?;
        }
        if self.allow.contains(&Ability::Mount) && self.surface == Surface::Judge {
            let message = "--allow mount: the surface judge has no system call that mounts";
            return Err(Error::new(message, "choose the surface default, or leave the option out"));
        }
        if let (Some(rule), None) = (self.patterns.iter().find(|rule| rule.log), &self.audit) {
            return Err(Error::new(format!("{} has nowhere to log to", rule.text), "add --audit FILE"));
        }
        if let (Some(run), CowStore::Memory) = (&self.resume, self.cow_store) {
            let remedy = "leave out --cow-store memory";
            return Err(Error::new(format!("the copies of run {run} are on disk, not in memory"), remedy));
        }
        for grant in &self.grants {
            path::check_inside(&grant.inside)?;
            path::check_bytes(grant.host.as_os_str())?;
        }
        match self.limits.memory {
            // Less does not hold a program's stack and its loader, and would end in a riddle instead of a message.
            Some(bytes) if bytes < 1 << 20 => Err(Error::new(
                format!("{bytes} bytes of memory are not enough to start a program"),
                "allow 1M or more",
            )),
            _ => Ok(()),
        }
    }

    fn check_hostname(&self) -> Result<(), Error> {
        let name = &self.hostname;
        let ok = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        if name.is_empty() || name.len() > 64 || !name.bytes().all(ok) {
            let remedy = "use 1 to 64 letters, digits, '-', '.' and '_'";
            return Err(Error::new(format!("{name:?} cannot be a host name"), remedy));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_that_makes_no_sense_is_refused() {
        let good = Policy::bare(vec!["true".into()]);
        assert_eq!(good.validate(), Ok(()));

        type Break = fn(&mut Policy);
        let broken: [(&str, Break); 8] = [
            ("nothing to run", |policy| policy.command.clear()),
            ("host name", |policy| policy.hostname = "a b".into()),
            ("host name", |policy| policy.hostname = "x".repeat(65)),
            ("variable", |policy| policy.environment.set.push(("A=B".into(), None))),
            ("not absolute", |policy| policy.hide.push("x".into())),
            ("zero byte", |policy| policy.workdir = Some("/a\0b".into())),
            ("memory", |policy| policy.limits.memory = Some(4096)),
            ("no system call that mounts", |policy| {
                policy.allow.push(Ability::Mount);
                policy.surface = Surface::Judge;
            }),
        ];
        for (expected, break_it) in broken {
            let mut policy = good.clone();
            break_it(&mut policy);
            let error = policy.validate().unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
