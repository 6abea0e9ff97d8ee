//! Capabilities: none for the guest, one for the supervisor, and more for both under `--fake-root`. See capabilities(7).

use nix::errno::Errno;
use nix::libc;

use crate::failure::{Failure, Step};
use crate::sys::{self, Capabilities};

const OVERRIDE: u64 = 1 << 1;
const CHROOT: u64 = 1 << 18;
const PTRACE: u64 = 1 << 19;
const ADMIN: u64 = 1 << 21;
/// What root may in a sandbox with a range of ids: `CHOWN`, `DAC_OVERRIDE`, `FOWNER`, `KILL`, `SETGID`, `SETUID`,
/// `SYS_CHROOT`, `SETFCAP`. None of them reaches beyond files and processes of those ids.
const ROOTS: u64 = 1 << 0 | OVERRIDE | OWNER | 1 << 5 | SETGID | SETUID | CHROOT | 1 << 31;
const OWNER: u64 = 1 << 3;
const SETGID: u64 = 1 << 6;
const SETUID: u64 = 1 << 7;
/// What the supervisor does for a task that is root is done with no more of root's capabilities than these.
const ACTING: u64 = OVERRIDE | OWNER;
const MOUNTING: Capabilities = Capabilities { effective: ADMIN, permitted: ADMIN | OVERRIDE, inheritable: 0 };

/// Sets `no_new_privs`, gives up ambient capabilities, of the bounding set all but `bound`, and every capability but `keep`,
/// then looks again.
fn drop_to(keep: u64, bound: u64) -> Result<(), Failure> {
    // No program can gain rights by exec from here on: set-id bits and file capabilities have no effect.
    sys::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0).step(|| "set no_new_privs")?;
    for capability in (0..64).filter(|capability| bound & 1 << capability == 0) {
        // What is gone already cannot be dropped again, for whoever has lost the right to; and beyond the last capability
        // that this kernel knows there is nothing to read.
        match sys::prctl(libc::PR_CAPBSET_READ, capability, 0) {
            Ok(1) => sys::prctl(libc::PR_CAPBSET_DROP, capability, 0).map(drop),
            Err(Errno::EINVAL) => break,
            _ => Ok(()),
        }
        .step(|| format!("drop capability {capability} from the bounding set"))?;
    }
    sys::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as u64, 0).step(|| "clear ambient capabilities")?;
    let wanted = Capabilities { effective: keep, permitted: keep, inheritable: 0 };
    sys::set_capabilities(wanted).step(|| "drop capabilities")?;
    if sys::capabilities().step(|| "read back capabilities")? != wanted
        || sys::prctl(libc::PR_GET_NO_NEW_PRIVS, 0, 0) != Ok(1)
    {
        return Err(Failure::check("verify that capabilities are gone"));
    }
    Ok(())
}

/// For init and the guest: nothing is left.
pub fn drop_all() -> Result<(), Failure> {
    drop_to(0, 0)
}

/// For init and a guest that is root for itself: it may change its own root, within the view. As the bounding set allows
/// no other, user 0 has this one and no other after each exec too.
pub fn keep_chroot() -> Result<(), Failure> {
    drop_to(CHROOT, CHROOT)
}

/// For init and a guest that is root over a range of ids, in its own user namespace alone.
pub fn keep_roots() -> Result<(), Failure> {
    drop_to(ROOTS, ROOTS)
}

/// For the supervisor until it has joined the guest's mount namespace, which asks for rights over its own user namespace
/// (setns(2)); then [`keep_ptrace`].
pub fn keep_for_joining() -> Result<(), Failure> {
    drop_to(PTRACE | ADMIN | CHROOT, 0)
}

/// For the supervisor: `CAP_SYS_PTRACE` over the guest's user namespace is what lets it read guests' memory, also of those
/// that are not dumpable.
pub fn keep_ptrace() -> Result<(), Failure> {
    drop_to(PTRACE, 0)
}

/// The same where the guest may change its own root: to find what it finds, the supervisor's threads then do as it did.
pub fn keep_ptrace_and_chroot() -> Result<(), Failure> {
    drop_to(PTRACE | CHROOT, 0)
}

/// The same where the guest has a range of ids: the supervisor becomes the caller for as long as it acts for it.
pub fn keep_for_joining_and_acting() -> Result<(), Failure> {
    drop_to(PTRACE | ADMIN | CHROOT | SETUID | SETGID | ACTING, 0)
}

/// What is left of that: what [`rest`] has in force, and in reserve what [`act_with`] and [`change_ids`] take.
pub fn keep_for_acting() -> Result<(), Failure> {
    drop_to(RESTING.permitted, 0)?;
    sys::set_capabilities(RESTING).step(|| "lower capabilities")
}

const RESTING: Capabilities =
    Capabilities { effective: PTRACE | CHROOT, permitted: PTRACE | CHROOT | SETUID | SETGID | ACTING, inheritable: 0 };

/// For a thread of the supervisor that has become a task with these effective capabilities.
pub fn act_with(callers: u64) -> Result<(), Errno> {
    sys::set_capabilities(Capabilities { effective: RESTING.effective | callers & ACTING, ..RESTING })
}

/// For one that is about to change its ids.
pub fn change_ids() -> Result<(), Errno> {
    sys::set_capabilities(Capabilities { effective: RESTING.effective | SETUID | SETGID, ..RESTING })
}

/// For one that acts for nobody.
pub fn rest() -> Result<(), Errno> {
    sys::set_capabilities(RESTING)
}

/// For the process that mounts, until it has joined the guest's mount namespace, which asks for more (setns(2)).
pub fn keep_for_joining_to_mount() -> Result<(), Failure> {
    drop_to(ADMIN | CHROOT | OVERRIDE, 0)
}

/// For the process that mounts: rights over mounts in force, and [`with_override`] in reserve.
pub fn keep_for_mounting() -> Result<(), Failure> {
    drop_to(ADMIN | OVERRIDE, 0)?;
    sys::set_capabilities(MOUNTING).step(|| "lower capabilities")
}

/// Runs `act` with `CAP_DAC_OVERRIDE` as well.
pub fn with_override<T>(act: impl FnOnce() -> Result<T, Errno>) -> Result<T, Errno> {
    sys::set_capabilities(Capabilities { effective: ADMIN | OVERRIDE, ..MOUNTING })?;
    let result = act();
    sys::set_capabilities(MOUNTING)?;
    result
}
