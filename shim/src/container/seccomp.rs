//! The filters of a container's process: ours, whose listener goes to the keeper, and the container's own profile.
//!
//! Of two verdicts the kernel takes the stricter one, in whatever order the filters were loaded. Ours comes first, so that
//! a profile that forbids `sendmsg` or `seccomp` does not keep us from handing the listener over.

use std::os::fd::{BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use syscalls::filter::Instruction;

use crate::failure::{Failure, Step};
use crate::{filter, keeper, sys};

/// What a container's process is held by.
#[derive(Debug)]
pub struct Filters<'a> {
    /// The sentry's.
    pub main: &'a [Instruction],
    /// The container's own profile, if it has one, with its `SECCOMP_FILTER_FLAG_*`.
    pub profile: Option<&'a (Vec<Instruction>, libc::c_ulong)>,
}

/// Loads both; what the first traps is answered once this returns.
pub fn load(filters: &Filters, keeper: BorrowedFd) -> Result<(), Failure> {
    let listener = listen(filters.main)?;
    keeper::hand_over(keeper, listener)?;
    if let Some((program, flags)) = filters.profile {
        sys::load_filter(program, *flags).step(|| "load the container's seccomp profile")?;
    }
    Ok(())
}

fn listen(program: &[Instruction]) -> Result<OwnedFd, Failure> {
    let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER as libc::c_ulong | filter::WAIT_KILLABLE_RECV;
    match sys::load_filter(program, flags) {
        Ok(Some(listener)) => Ok(listener),
        Ok(None) => Err(Failure::check("get the filter's listener")),
        Err(errno) => Err(Failure::new("load the seccomp filter", errno).remedy(match errno {
            Errno::EBUSY => "a supervisor around this runtime listens already; a process tree can have only one",
            Errno::EINVAL => "it needs Linux 5.19 or newer with CONFIG_SECCOMP_FILTER",
            _ => "run sentry doctor to see what this host allows",
        })),
    }
}
