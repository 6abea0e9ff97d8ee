//! Users, groups, capabilities, and confining oneself further.
//!
//! The guest has no capability and its user namespace maps its own ids only, so the kernel already refuses every change
//! that would mean something. A guest may confine itself further with seccomp and Landlock.
//!
//! Under `--fake-root` all of it is pretended: changes follow the kernel's rules and reach [`Credentials`] of ours, which
//! every process has from its parent. Such credentials grant nothing: the kernel's answer for the one real user always
//! comes on top.

mod capabilities;
mod change;
mod ids;
pub(crate) mod limit;
pub(crate) mod namespace;

use std::sync::{Mutex, PoisonError};

use nix::errno::Errno;
use nix::libc;

use crate::credentials::Credentials;
use crate::guest::Guest;
use crate::reply::{Answer, Reply};
use crate::table::{Check, Op, Test, Verdict};
use capabilities::{capget, capset, prctl};
use ids::{
    getegid, geteuid, getgid, getgroups, getresgid, getresuid, getuid, setfsgid, setfsuid, setgid, setgroups, setregid,
    setresgid, setresuid, setreuid, setuid,
};

const fn option(option: i32) -> Test {
    Test { arg: 0, op: Op::Equal(option.cast_unsigned() as u64) }
}

/// `PR_SET_MM` rewrites what `/proc/pid` says of a process's own memory and executable.
const SET_MM: Check = Check { all: &[option(libc::PR_SET_MM)], then: Verdict::Fail(Errno::EPERM) };
const PRCTL: &[Check] = &[SET_MM];
/// What is about capabilities is the sentry's to tell under `--fake-root`.
const PRCTL_PRETENDED: &[Check] = &[
    SET_MM,
    Check { all: &[option(libc::PR_GET_KEEPCAPS)], then: Verdict::Notify },
    Check { all: &[option(libc::PR_SET_KEEPCAPS)], then: Verdict::Notify },
    Check { all: &[option(libc::PR_CAPBSET_READ)], then: Verdict::Notify },
    Check { all: &[option(libc::PR_CAPBSET_DROP)], then: Verdict::Notify },
    Check { all: &[option(libc::PR_GET_SECUREBITS)], then: Verdict::Notify },
    Check { all: &[option(libc::PR_SET_SECUREBITS)], then: Verdict::Notify },
    Check { all: &[option(libc::PR_CAP_AMBIENT)], then: Verdict::Notify },
];

/// A listener would be asked before a tracer is (`SECCOMP_FILTER_FLAG_NEW_LISTENER`), so there must be none. The errno is the
/// one for a second listener.
const NO_LISTENER: &[Check] =
    &[Check { all: &[Test { arg: 1, op: Op::AnyOf(1 << 3) }], then: Verdict::Fail(Errno::EBUSY) }];

const fn not(persona: u64) -> Test {
    Test { arg: 0, op: Op::NotEqual(persona) }
}

/// `PER_LINUX`, `PER_LINUX32` and `UNAME26` of either, each with or without `ADDR_NO_RANDOMIZE` (debuggers), and asking.
/// The rest (`READ_IMPLIES_EXEC`, `MMAP_PAGE_ZERO` ...) takes protections away.
const PERSONALITY: &[Check] = &[Check {
    all: &[
        not(0xFFFF_FFFF),
        not(0),
        not(0x0004_0000),
        not(8),
        not(0x0004_0008),
        not(0x0002_0000),
        not(0x0006_0000),
        not(0x0002_0008),
        not(0x0006_0008),
    ],
    then: Verdict::Fail(Errno::EPERM),
}];

crate::syscalls! {
    /// Returns the real user id.
    /// Limit: under `--fake-root` ids are those of the process; a thread that set its own with raw calls set them for all.
    getuid() Identity Judge Allow { PretendedIds => Emulate(getuid) };
    /// Returns the effective user id.
    geteuid() Identity Judge Allow { PretendedIds => Emulate(geteuid) };
    /// Returns the real group id.
    getgid() Identity Judge Allow { PretendedIds => Emulate(getgid) };
    /// Returns the effective group id.
    getegid() Identity Judge Allow { PretendedIds => Emulate(getegid) };
    /// Returns the three user ids.
    getresuid(real: UserPtr, effective: UserPtr, saved: UserPtr) Identity Judge Allow { PretendedIds => Emulate(getresuid) };
    /// Returns the three group ids.
    getresgid(real: UserPtr, effective: UserPtr, saved: UserPtr) Identity Judge Allow { PretendedIds => Emulate(getresgid) };
    /// Returns the supplementary groups.
    getgroups(count: Int, groups: UserPtr) Identity Judge Allow { PretendedIds => Emulate(getgroups) };
    /// Sets the user id; the kernel refuses ids that the sandbox does not map.
    setuid(user: Id) Identity Default Allow { PretendedIds => Emulate(setuid) };
    /// Sets the group id; the kernel refuses ids that the sandbox does not map.
    setgid(group: Id) Identity Default Allow { PretendedIds => Emulate(setgid) };
    /// Sets the real and effective user ids; the kernel refuses ids that the sandbox does not map.
    setreuid(real: Id, effective: Id) Identity Default Allow { PretendedIds => Emulate(setreuid) };
    /// Sets the real and effective group ids; the kernel refuses ids that the sandbox does not map.
    setregid(real: Id, effective: Id) Identity Default Allow { PretendedIds => Emulate(setregid) };
    /// Sets the three user ids; the kernel refuses ids that the sandbox does not map.
    setresuid(real: Id, effective: Id, saved: Id) Identity Default Allow { PretendedIds => Emulate(setresuid) };
    /// Sets the three group ids; the kernel refuses ids that the sandbox does not map.
    setresgid(real: Id, effective: Id, saved: Id) Identity Default Allow { PretendedIds => Emulate(setresgid) };
    /// Sets the user id that files are accessed with.
    setfsuid(user: Id) Identity Compat Allow { PretendedIds => Emulate(setfsuid) };
    /// Sets the group id that files are accessed with.
    setfsgid(group: Id) Identity Compat Allow { PretendedIds => Emulate(setfsgid) };
    /// Sets the supplementary groups; the kernel refuses it to a guest without capabilities.
    setgroups(count: Int, groups: UserPtr) Identity Default Allow { PretendedIds => Emulate(setgroups) };
    /// Reads capabilities.
    /// Limit: under `--fake-root` another thread than a process's first is not found by its number (`ESRCH`).
    capget(header: UserPtr, data: UserPtr) Identity Default Allow { PretendedIds => Emulate(capget) };
    /// Sets capabilities; none can be gained.
    capset(header: UserPtr, data: UserPtr) Identity Default Allow { PretendedIds => Emulate(capset) };
    /// Reads and changes properties of the calling process.
    /// `PR_SET_MM` fails with `EPERM`: it falsifies what other processes read of the caller in `/proc`.
    prctl(option: Int, a: Word, b: Word, c: Word, d: Word) Process Judge Filter(PRCTL) {
        PretendedIds => Emulate(prctl) when PRCTL_PRETENDED,
    };
    /// Chooses the execution domain.
    /// Domains that take protections away fail with `EPERM`; disabling address randomisation (debuggers) is allowed.
    personality(persona: Uint) Process Default Filter(PERSONALITY);
    /// Confines the caller further by a filter of its own.
    /// A filter with a listener fails with `EBUSY`: the sentry has the only one.
    seccomp(operation: Uint, flags: Flags, arguments: UserPtr) Identity Default Allow { Traced => Filter(NO_LISTENER) };
    /// Makes a set of Landlock rules.
    landlock_create_ruleset(attributes: UserPtr, size: Size, flags: Flags) Identity Default Allow;
    /// Adds a Landlock rule.
    landlock_add_rule(ruleset: Fd, kind: Uint, rule: UserPtr, flags: Flags) Identity Default Allow;
    /// Confines the caller further by Landlock rules.
    landlock_restrict_self(ruleset: Fd, flags: Flags) Identity Default Allow;
    /// Reads attributes of security modules; newer than the table's last review, fails with `ENOSYS`.
    lsm_get_self_attr(attribute: Uint, context: UserPtr, size: UserPtr, flags: Flags) Identity Compat Errno(ENOSYS);
    /// Sets attributes of security modules; newer than the table's last review, fails with `ENOSYS`.
    lsm_set_self_attr(attribute: Uint, context: UserPtr, size: Uint, flags: Flags) Identity Compat Errno(ENOSYS);
    /// Lists security modules; newer than the table's last review, fails with `ENOSYS`.
    lsm_list_modules(ids: UserPtr, size: UserPtr, flags: Flags) Identity Compat Errno(ENOSYS);
}

/// Held while credentials are read, changed and set again: threads of one process change the same ones.
static CHANGES: Mutex<()> = Mutex::new(());

/// Changes what the caller's process pretends to be, or fails and leaves it.
fn change<T>(guest: &dyn Guest, by: impl FnOnce(&mut Credentials) -> Result<T, Errno>) -> Result<T, Errno> {
    let _alone = CHANGES.lock().unwrap_or_else(PoisonError::into_inner);
    let old = guest.credentials()?;
    let mut new = (*old).clone();
    let result = by(&mut new)?;
    if new != *old {
        guest.pretend(new)?;
    }
    Ok(result)
}

fn success(result: Result<(), Errno>) -> Answer {
    result.map(|()| Reply::Return(0))
}

#[cfg(test)]
mod tests;
