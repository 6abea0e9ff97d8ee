//! The resource limit that says who a process pretends to be.
//!
//! Under `--fake-root` the soft limit of `RLIMIT_RTTIME` holds the number of the process's pretended credentials: the
//! kernel copies it at fork and keeps it across exec, exactly as it does with credentials, and a limit on the time of
//! real-time tasks means nothing where nobody can become one. To the guest it is unlimited, whatever it sets.

use nix::errno::Errno;
use nix::libc;

use super::success;
use crate::args::{Pid, Uint, UserPtr};
use crate::guest::Guest;
use crate::reply::Answer;
use crate::table::{Check, Op, Test, Verdict};

pub(crate) const SECOND: &[Check] =
    &[Check { all: &[Test { arg: 1, op: Op::Equal(libc::RLIMIT_RTTIME as u64) }], then: Verdict::Notify }];
pub(crate) const FIRST: &[Check] =
    &[Check { all: &[Test { arg: 0, op: Op::Equal(libc::RLIMIT_RTTIME as u64) }], then: Verdict::Notify }];

pub(crate) fn prlimit64(guest: &dyn Guest, _process: Pid, _resource: Uint, new: UserPtr, old: UserPtr) -> Answer {
    if !new.is_null() {
        accept(guest, new)?;
    }
    success(if old.is_null() { Ok(()) } else { tell(guest, old) })
}

pub(crate) fn getrlimit(guest: &dyn Guest, _resource: Uint, limit: UserPtr) -> Answer {
    success(tell(guest, limit))
}

pub(crate) fn setrlimit(guest: &dyn Guest, _resource: Uint, limit: UserPtr) -> Answer {
    success(accept(guest, limit))
}

fn tell(guest: &dyn Guest, at: UserPtr) -> Result<(), Errno> {
    guest.write(at, &[0xff; size_of::<libc::rlimit64>()])
}

fn accept(guest: &dyn Guest, at: UserPtr) -> Result<(), Errno> {
    let mut limit = [[0; 8]; 2];
    guest.read(at, limit.as_flattened_mut())?;
    let [soft, hard] = limit.map(u64::from_ne_bytes);
    if soft > hard { Err(Errno::EINVAL) } else { Ok(()) }
}
