//! What is to be built, decided in full before the first clone.
//!
//! The monitor makes the plan from the policy while it still has the user's eyes and rights; the processes that carry it
//! out only follow it. Everything is owned data and descriptors, so that nothing needs to be looked up after the fork.

use std::ffi::{CStr, CString};
use std::os::fd::{OwnedFd, RawFd};
use std::path::PathBuf;
use std::time::Duration;

use nix::libc;
use syscalls::filter::Instruction;

use crate::vdso::Patch;

/// Where the content of a place comes from.
#[derive(Debug)]
pub enum Source {
    /// A host path, free of symlinks. `identity` is the (device, inode) that the monitor saw when it resolved the grant:
    /// if another object stands there now, somebody is swapping names during start, and the start fails.
    Host {
        /// The host path.
        path: CString,
        /// The device and inode that it must have.
        identity: Option<(u64, u64)>,
    },
    /// A mount that the monitor prepared (id-mapped, as only real root can).
    Detached(OwnedFd),
    /// Copy-on-write: `lower` is not changed, `upper` takes the changes, `work` is overlayfs' own.
    Overlay {
        /// What shows through.
        lower: Box<Source>,
        /// Where changes go.
        store: Store,
    },
    /// A directory of the sandbox's own memory, with these permission bits.
    Private {
        /// Permission bits.
        mode: u32,
    },
    /// A file system of its own in memory, at most `size` bytes.
    Tmpfs {
        /// Bytes.
        size: u64,
    },
    /// A read-only file of the sandbox's own memory, with this in it.
    Text(Vec<u8>),
    /// An empty object without any permission that covers what is there.
    Cover,
}

impl Source {
    /// The host paths that must be reachable while the view is built.
    pub fn host_paths(&self) -> impl Iterator<Item = &CStr> {
        let (own, store) = match self {
            Self::Host { path, .. } => (Some(path.as_c_str()), None),
            Self::Overlay { lower, store } => {
                let lower = if let Self::Host { path, .. } = &**lower { Some(path.as_c_str()) } else { None };
                (lower, if let Store::Path(path) = store { Some(path.as_c_str()) } else { None })
            }
            _ => (None, None),
        };
        own.into_iter().chain(store)
    }
}

/// Where an overlay keeps its changes.
#[derive(Debug)]
pub enum Store {
    /// A directory with `upper` and `work` in it, by path.
    Path(CString),
    /// The same, as a mount that the monitor prepared.
    Detached(OwnedFd),
    /// A new file system in memory, at most `size` bytes.
    Memory {
        /// Bytes.
        size: u64,
    },
}

/// One thing in the view.
#[derive(Debug)]
pub struct Place {
    /// Where, without the leading slash; free of symlinks and `..`.
    pub inside: CString,
    /// What.
    pub source: Source,
    /// Whether the guest may change it.
    pub writable: bool,
    /// Left out without a word if the host lacks it.
    pub optional: bool,
    /// The option that asked for it, for error messages.
    pub origin: String,
}

/// The file tree that the guest sees.
#[derive(Debug, Default)]
pub struct View {
    /// Private directories and grants, parents before what lies beneath them.
    pub places: Vec<Place>,
    /// Symlinks of the root's own tree: (link without leading slash, target).
    pub links: Vec<(CString, CString)>,
    /// Files of the root's own tree: (path without leading slash, content).
    pub texts: Vec<(CString, Vec<u8>)>,
    /// Files that lie over the kernel's, where the view has those: (path without leading slash, content).
    pub over_kernel: Vec<(CString, Vec<u8>)>,
    /// Device nodes shown in `/dev`, by name, with the numbers they must have.
    pub devices: Vec<(CString, u32, u32)>,
    /// Bytes that private places may hold together.
    pub size: u64,
    /// `/proc` with processes only.
    pub bare_proc: bool,
    /// A pre-built root tree instead of our own skeleton: its `/dev`, `/proc`, `/tmp` are mounted over.
    pub root: Option<Source>,
    /// Whether `root` is writable.
    pub root_writable: bool,
}

/// Who the guest is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// User id on the host; never 0.
    pub host_uid: u32,
    /// Group id on the host; never 0.
    pub host_gid: u32,
    /// User id inside.
    pub uid: u32,
    /// Group id inside.
    pub gid: u32,
    /// True when the monitor is root and gives the sandbox an id that is not its own.
    pub by_root: bool,
}

/// Whether the guest is root for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Root {
    /// It is not.
    No,
    /// So it is told; it keeps `CAP_SYS_CHROOT`.
    Pretended,
    /// In its namespaces it is, over these ids.
    Mapped(Ranges),
}

/// Ids of the host that belong to the user (subuid(5), subgid(5)), and who may map them: newuidmap(1), newgidmap(1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ranges {
    /// The host's user id that is 1 inside; as many as [`Ranges::IDS`] follow.
    pub users: u32,
    /// The host's group id that is 1 inside.
    pub groups: u32,
    /// The program that maps user ids.
    pub newuidmap: PathBuf,
    /// The program that maps group ids.
    pub newgidmap: PathBuf,
}

impl Ranges {
    /// How many ids there are besides 0.
    pub const IDS: u32 = 65_536;
    /// The last of them, which the guest has not: what belongs to it is beyond the guest's root too. The others go to the end
    /// of 16 bits, as images and packages use them.
    pub const NOBODYS: u32 = Self::IDS;
}

/// A resource limit: `RLIMIT_*`, soft, hard.
#[derive(Clone, Copy, Debug)]
pub struct ResourceLimit(pub u32, pub u64, pub u64);

/// What becomes of a standard descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stdio {
    /// The inherited object is passed on as it is.
    Pass,
    /// The guest gets this end of a relay pipe.
    Relay(RawFd),
    /// The guest gets the sandbox's own terminal.
    Terminal,
    /// It was closed: the guest gets `/dev/null`.
    Null,
}

/// The sandbox's own terminal, as it begins.
#[derive(Clone, Copy, Debug)]
pub struct TerminalStart {
    /// Its size.
    pub size: libc::winsize,
    /// Whether output is post-processed inside; not if the outer terminal does it again.
    pub post_process: bool,
}

/// What the process that mounts for the guest works with.
#[derive(Debug)]
pub struct Mounting {
    /// The filter that it puts on itself.
    pub filter: Vec<Instruction>,
    /// Bytes that the guest's own file systems in memory may hold together.
    pub bytes: u64,
    /// Mounts that there may be beside those of the view.
    pub count: u64,
}

/// What a pretended clock needs at the start.
#[derive(Debug)]
pub struct Clock {
    /// What is done to the vDSO of each program. `None`: this kernel gives programs no vDSO.
    pub patch: Option<Patch>,
    /// How long the machine seems to have been running.
    pub uptime: Option<Duration>,
}

/// Everything about one sandbox.
#[derive(Debug)]
pub struct Plan {
    /// Who the guest is.
    pub identity: Identity,
    /// What it sees.
    pub view: View,
    /// Whether it is root for itself; then low ports of its own network are its to bind.
    pub root: Root,
    /// An empty network namespace, or the host's.
    pub own_network: bool,
    /// Host name inside.
    pub hostname: String,
    /// The main filter; it is loaded with a listener, or asks a tracer.
    pub filter: Vec<Instruction>,
    /// The supervisor traces every process of the guest instead of listening.
    pub traced: bool,
    /// More filters, loaded before the main one (user profiles); they can only take away.
    pub profiles: Vec<Vec<Instruction>>,
    /// The filter that the supervisor puts on itself.
    pub supervisor_filter: Vec<Instruction>,
    /// `--allow mount`: somebody mounts for the guest.
    pub mounting: Option<Mounting>,
    /// Resource limits of the guest.
    pub limits: Vec<ResourceLimit>,
    /// CPUs the guest is pinned to.
    pub cpus: Option<Vec<usize>>,
    /// Standard descriptors.
    pub stdio: [Stdio; 3],
    /// The terminal, if any of them is one.
    pub terminal: Option<TerminalStart>,
    /// Program and arguments.
    pub command: Vec<CString>,
    /// `K=V` strings.
    pub environment: Vec<CString>,
    /// Directories to search for the program, from the guest's `PATH`.
    pub search: Vec<CString>,
    /// Working directory inside.
    pub workdir: CString,
    /// Do without protections that the host lacks, after reporting them as lost.
    pub allow_degraded: bool,
    /// The sandbox has a clock of its own.
    pub clock: Option<Clock>,
}
