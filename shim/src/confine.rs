//! A guest without namespaces of its own: what still holds it where a sandbox is around us already.
//!
//! There the kernel gives neither a user namespace nor a second listener. What can be had without either is a Landlock
//! domain with rules about paths (landlock(7)), a filter that answers by itself, and limits. The domain allows what is
//! listed and nothing else, so a rule that takes away something within a grant cannot be made here: whoever makes a
//! [`Confinement`] must have refused those.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::sys::stat::fstat;
use nix::unistd::{Pid, chdir, getpid, getppid, setpgid, tcsetpgrp};
use syscalls::filter::Instruction;

use crate::failure::{Failure, Step};
use crate::message::{ToMonitor, receive, send};
use crate::plan::ResourceLimit;
use crate::sys::{self, Capabilities};
use crate::{exec, landlock, limits};

/// What may be done with an object and all that is beneath it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    /// Look, read, execute.
    Read,
    /// Whatever its permissions allow, but for making devices.
    Change,
    /// Read, write and control it; make nothing.
    Device,
}

/// Everything about one guest.
#[derive(Debug)]
pub struct Confinement {
    /// What it may use.
    pub objects: Vec<(OwnedFd, Rights)>,
    /// Whether it may use TCP.
    pub network: bool,
    /// Filters, the last of which is the main one.
    pub filters: Vec<Vec<Instruction>>,
    /// Resource limits.
    pub limits: Vec<ResourceLimit>,
    /// CPUs it is pinned to.
    pub cpus: Option<Vec<usize>>,
    /// Program and arguments.
    pub command: Vec<CString>,
    /// `K=V` strings.
    pub environment: Vec<CString>,
    /// Directories to search for the program.
    pub search: Vec<CString>,
    /// Where it begins.
    pub workdir: CString,
    /// Whether standard input is the terminal in whose foreground we are.
    pub foreground: bool,
    /// Do without protections that the kernel lacks.
    pub allow_degraded: bool,
}

/// Starts the guest in a process group of its own. The caller must be single-threaded.
pub fn spawn(confinement: &Confinement) -> Result<Pid, Failure> {
    let (here, there) = crate::start::channel()?;
    let parent = getpid();
    let Some(pid) = sys::clone(0).step(|| "start the guest")? else {
        drop(here);
        let failure = become_guest(confinement, parent);
        let exit = i32::from(failure.exit);
        let _ = send(there.as_fd(), &ToMonitor::Failed(failure), None);
        sys::exit_now(exit)
    };
    drop(there);
    // The channel closes at exec.
    match receive::<ToMonitor>(here.as_fd()) {
        Ok(Some((ToMonitor::Failed(failure), _))) => Err(failure),
        Ok(_) | Err(_) => Ok(Pid::from_raw(pid)),
    }
}

/// Returns only if that failed.
fn become_guest(confinement: &Confinement, parent: Pid) -> Failure {
    match prepare(confinement, parent) {
        Ok(()) => exec::execute(&confinement.command, &confinement.environment, &confinement.search),
        Err(failure) => failure,
    }
}

fn prepare(confinement: &Confinement, parent: Pid) -> Result<(), Failure> {
    sys::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as u64, 0).step(|| "tie the guest to its monitor")?;
    if getppid() != parent {
        return Err(Failure::check("tie the guest to its monitor"));
    }
    // SIGTTOU is blocked here as everything is.
    let own = getpid();
    setpgid(own, own).step(|| "make a process group")?;
    if confinement.foreground {
        tcsetpgrp(std::io::stdin(), own).step(|| "enter the terminal's foreground")?;
    }
    chdir(confinement.workdir.as_c_str())
        .step(|| format!("enter the working directory {}", confinement.workdir.to_string_lossy()))
        .map_err(|failure| failure.remedy("grant it, or choose another with --workdir"))?;
    limits::apply(&confinement.limits, confinement.cpus.as_deref())?;
    sys::close_on_exec_from(3).step(|| "mark descriptors to be closed")?;
    sys::default_signals();
    sys::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0).step(|| "set no_new_privs")?;
    sys::set_capabilities(Capabilities::default()).step(|| "drop capabilities")?;
    enter(confinement)?;
    for filter in &confinement.filters {
        sys::load_filter(filter, 0)
            .step(|| "load the seccomp filter")
            .map_err(|failure| failure.remedy("the sandbox around this one may forbid it (--profile judge does)"))?;
    }
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None).step(|| "unblock signals")
}

const EXECUTE: u64 = 1;
const WRITE_FILE: u64 = 1 << 1;
const READ_FILE: u64 = 1 << 2;
const READ_DIRECTORY: u64 = 1 << 3;
const MAKE_CHARACTER_DEVICE: u64 = 1 << 6;
const MAKE_BLOCK_DEVICE: u64 = 1 << 11;
const TRUNCATE: u64 = 1 << 14;
const CONTROL_DEVICE: u64 = 1 << 15;
/// Up to moving between directories and truncating, which came with version 3.
const UP_TO_TRUNCATE: u64 = (1 << 15) - 1;
/// Those that a rule about a file may speak of.
const OF_FILES: u64 = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | CONTROL_DEVICE;
/// Binding and connecting, which came with version 4.
const TCP: u64 = 0b11;

impl Rights {
    fn bits(self) -> u64 {
        match self {
            Self::Read => EXECUTE | READ_FILE | READ_DIRECTORY,
            Self::Change => UP_TO_TRUNCATE & !(MAKE_CHARACTER_DEVICE | MAKE_BLOCK_DEVICE),
            Self::Device => READ_FILE | WRITE_FILE | READ_DIRECTORY | TRUNCATE | CONTROL_DEVICE,
        }
    }
}

/// Makes the domain and enters it.
fn enter(confinement: &Confinement) -> Result<(), Failure> {
    let step = || "enter a Landlock domain with rules about paths";
    let version = sys::landlock_version();
    let least = if confinement.allow_degraded { 3 } else { 6 };
    let version = match version {
        Ok(version) if version >= least => version,
        other => {
            let remedy = "it needs Linux 6.12 with Landlock among the active security modules, or 6.2 with \
                          --allow-degraded, and a surface that has Landlock (--profile judge has not)";
            return Err(Failure::new(step(), other.err().unwrap_or(Errno::EOPNOTSUPP)).remedy(remedy));
        }
    };
    let files = UP_TO_TRUNCATE | if version >= 5 { CONTROL_DEVICE } else { 0 };
    let network = if version >= 4 && !confinement.network { TCP } else { 0 };
    let scopes = if version >= 6 { landlock::SCOPES } else { 0 };
    let ruleset = sys::landlock_ruleset(files, network, scopes).step(step)?;
    for (object, rights) in &confinement.objects {
        let directory = fstat(object).step(step)?.st_mode & libc::S_IFMT == libc::S_IFDIR;
        let rights = rights.bits() & files & if directory { u64::MAX } else { OF_FILES };
        sys::landlock_allow(ruleset.as_fd(), rights, object.as_fd()).step(step)?;
    }
    sys::landlock_enter(ruleset.as_fd()).step(step)
}
