//! From the container's root to the process of the configuration: limits, priorities, groups, user, capabilities.
//!
//! The order is the kernel's: what needs rights comes first; the bounding set before the user changes, capabilities after;
//! filters while there is still a right to load them, or, with `no_new_privs`, as late as possible, so that the container's
//! profile need not allow what happens here.

use nix::errno::Errno;
use nix::libc;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Uid, fchdir, setgroups, setresgid, setresuid};
use oci_spec::runtime::Process;

use super::proc::Proc;
use super::root::c_path;
use super::{capability, limits, schedule};
use crate::failure::{Failure, Step};
use crate::sys;

/// What a new file's mode lacks where the configuration does not say.
const UMASK: u32 = 0o022;

/// What the configuration does not say.
#[derive(Clone, Copy, Debug)]
pub struct ProcessContext<'a> {
    /// A procfs that is not the container's.
    pub proc: &'a Proc,
    /// `--no-new-keyring`
    pub no_new_keyring: bool,
}

/// Turns this process into the one that is described, all but its program. `load` loads the filters and is called once.
/// Returns what could not be had and was done without.
pub fn become_process(
    process: &Process,
    context: ProcessContext,
    load: &mut dyn FnMut() -> Result<(), Failure>,
) -> Result<Vec<String>, Failure> {
    let mut warnings = Vec::new();
    if !context.no_new_keyring {
        match super::sys::new_session_keyring() {
            // Without keyrings, or where a sandbox around this one has no such call, nothing is inherited either.
            Ok(()) | Err(Errno::ENOSYS) => {}
            Err(errno) => warnings.push(format!("the session keyring is the caller's: {}", errno.desc())),
        }
    }
    limits::apply(process.rlimits().as_deref().unwrap_or_default(), &mut warnings)?;
    if let Some(score) = process.oom_score_adj() {
        badness(context.proc, score, &mut warnings)?;
    }
    if let Some(scheduler) = process.scheduler() {
        schedule::apply(scheduler)?;
    }
    if let Some(priority) = process.io_priority() {
        schedule::apply_io(priority)?;
    }

    let user = process.user();
    umask(Mode::from_bits_truncate(user.umask().unwrap_or(UMASK)));
    let cwd = process.cwd();
    let early = enter_directory(cwd);
    if let Err(errno) = early
        && !matches!(errno, Errno::EACCES | Errno::EPERM)
    {
        return Err(Failure::new(format!("enter the working directory {}", cwd.display()), errno));
    }
    let no_new_privileges = process.no_new_privileges().unwrap_or(false);
    if !no_new_privileges {
        load()?;
    }

    let sets = capability::Sets::parse(process.capabilities().as_ref());
    capability::bound(&sets)?;
    sys::prctl(libc::PR_SET_KEEPCAPS, 1, 0).step(|| "keep capabilities while the user changes")?;
    groups(context.proc, user.additional_gids().as_deref().unwrap_or_default(), &mut warnings)?;
    let (uid, gid) = (Uid::from_raw(user.uid()), Gid::from_raw(user.gid()));
    setresgid(gid, gid, gid).step(|| format!("become group {gid}")).map_err(unmapped)?;
    setresuid(uid, uid, uid).step(|| format!("become user {uid}")).map_err(unmapped)?;
    sys::prctl(libc::PR_SET_KEEPCAPS, 0, 0).step(|| "end keeping capabilities")?;
    // A change of ids makes it what `fs.suid_dumpable` says, which may let the container look in.
    super::process::hide()?;
    if early.is_err() {
        enter_directory(cwd).step(|| format!("enter the working directory {}", cwd.display()))?;
    }
    inside(cwd)?;
    capability::apply(&sets, &mut warnings)?;
    if no_new_privileges {
        sys::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0).step(|| "set no_new_privs")?;
        load()?;
    }
    Ok(warnings)
}

fn unmapped(failure: Failure) -> Failure {
    if failure.errno == Errno::EINVAL as i32 {
        failure.remedy("the container's user namespace does not have it; map it")
    } else {
        failure
    }
}

/// Enters a directory, never through a magic link: `/proc/self/fd` still leads to the host (CVE-2024-21626).
fn enter_directory(path: &std::path::Path) -> Result<(), Errno> {
    let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
    fchdir(sys::open_at(None, &c_path(path)?, flags, 0, libc::RESOLVE_NO_MAGICLINKS)?)
}

/// A working directory that the kernel cannot name lies outside the root (CVE-2024-21626).
fn inside(cwd: &std::path::Path) -> Result<(), Failure> {
    let step = || format!("verify that {} is inside the container", cwd.display());
    nix::unistd::getcwd().step(step).map(drop)
}

/// `oomScoreAdj`. Lowering it takes a right over the whole machine.
fn badness(proc: &Proc, score: i32, warnings: &mut Vec<String>) -> Result<(), Failure> {
    match proc.write("self/oom_score_adj", &score.to_string()) {
        Err(errno @ (Errno::EACCES | Errno::EPERM)) => {
            warnings.push(format!("oomScoreAdj {score} is not set: {}", errno.desc()));
            Ok(())
        }
        other => other.step(|| format!("set oomScoreAdj to {score}")),
    }
}

/// Supplementary groups. Where a user namespace of an ordinary user has denied setgroups(2) for good, what is there stays:
/// the groups are then no names of the container's, and could not be given up without losing what they forbid.
fn groups(proc: &Proc, wanted: &[u32], warnings: &mut Vec<String>) -> Result<(), Failure> {
    let denied = proc.read("self/setgroups").is_ok_and(|text| text.trim() == "deny");
    if denied {
        if !wanted.is_empty() {
            warnings.push("additionalGids are not set: the user namespace does not allow setgroups".to_owned());
        }
        return Ok(());
    }
    let wanted: Vec<Gid> = wanted.iter().copied().map(Gid::from_raw).collect();
    setgroups(&wanted).step(|| "set additionalGids").map_err(unmapped)
}
