//! Landlock scopes: no signals and no abstract sockets across the sandbox's border. See landlock(7).
//!
//! The pid and network namespaces say the same for most policies; scopes hold with `--net all` too, and when a namespace
//! has a bug. Domains nest: the supervisor enters its own before the guest is forked, for a sibling domain could not
//! read the guest's memory.

use nix::errno::Errno;

use crate::failure::Failure;
use crate::sys;

const ABSTRACT_UNIX_SOCKET: u64 = 1;
const SIGNAL: u64 = 2;
/// Both.
pub(crate) const SCOPES: u64 = ABSTRACT_UNIX_SOCKET | SIGNAL;

/// Enters a domain of its own. `Ok(false)`: the kernel has no scopes and the user allowed to do without.
pub fn enter(allow_degraded: bool) -> Result<bool, Failure> {
    match sys::enter_scopes(SCOPES) {
        Ok(()) => Ok(true),
        Err(Errno::ENOSYS | Errno::EOPNOTSUPP | Errno::EINVAL | Errno::E2BIG) if allow_degraded => Ok(false),
        Err(errno) => Err(Failure::new("enter a Landlock domain", errno).remedy(
            "it needs Linux 6.12 with Landlock among the active security modules; --allow-degraded does without",
        )),
    }
}
