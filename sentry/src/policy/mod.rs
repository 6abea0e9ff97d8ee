//! What the user wants, before the host is asked whether it can be had.
//!
//! Command line, policy files and built-in profiles all end in one [`Policy`]; nothing later looks at options again.
//! Paths are absolute but unresolved: they are resolved once, at start, by the shim.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use syscalls::table::Surface;

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Net {
    /// Its own loopback, nothing else.
    None,
    /// The host's.
    All,
}

/// Where changed files of copy-on-write directories are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CowStore {
    /// In the state directory, on disk, for later review.
    Disk,
    /// In memory, gone at the end, limited by `--disk`.
    Memory,
}

/// Limits on the whole sandbox; `None` is unlimited.
#[derive(Clone, Debug, PartialEq)]
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
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// Working directory inside; the current one if it is visible, otherwise the home directory.
    pub workdir: Option<PathBuf>,
    /// Environment.
    pub environment: Environment,
    /// Network.
    pub net: Net,
    /// Host name inside.
    pub hostname: String,
    /// Limits.
    pub limits: Limits,
    /// Where copies of changed files live.
    pub cow_store: CowStore,
    /// `/proc` with processes only (`subset=pid`).
    pub bare_proc: bool,
    /// Whether processes of the sandbox may trace one another.
    pub tracing_inside: bool,
    /// An OCI seccomp profile to be applied on top.
    pub seccomp: Option<PathBuf>,
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
