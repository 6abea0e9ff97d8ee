//! Loading the guest's filters: seccomp(2), seccomp_unotify(2).

use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::libc;

use crate::failure::{Failure, Step};
use crate::plan::Plan;
use crate::sys;

/// `SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV`: once we have received a notification only a fatal signal may interrupt the
/// guest; without it a timer made 5,000 emulated calls run 1,386,652 times.
pub(crate) const WAIT_KILLABLE_RECV: libc::c_ulong = 1 << 5;

/// The built-in programs, compiled from the table when this crate was built.
pub mod built_in {
    use syscalls::filter::Instruction;
    include!(concat!(env!("OUT_DIR"), "/filters.rs"));
}

/// Loads the user's profiles, then the main filter; returns the listener, unless a tracer is asked.
pub fn load(plan: &Plan) -> Result<Option<OwnedFd>, Failure> {
    for profile in &plan.profiles {
        sys::load_filter(profile, 0).step(|| "load the seccomp profile")?;
    }
    if plan.traced {
        sys::load_filter(&plan.filter, 0).step(|| "load the seccomp filter")?;
        return Ok(None);
    }
    let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER as libc::c_ulong | WAIT_KILLABLE_RECV;
    match sys::load_filter(&plan.filter, flags) {
        Ok(Some(listener)) => Ok(Some(listener)),
        Ok(None) => Err(Failure::check("get the filter's listener")),
        Err(errno) => Err(Failure::new("load the seccomp filter", errno).remedy(match errno {
            Errno::EBUSY => {
                "another supervisor already listens to this process tree (a sandbox within a sandbox?); --platform ptrace does without a listener"
            }
            Errno::EINVAL => {
                "it needs Linux 5.19 or newer with CONFIG_SECCOMP_FILTER; --platform ptrace does without a listener"
            }
            _ => "run sentry doctor to see what this host allows",
        })),
    }
}
