//! The filters of a container's process: ours, whose listener goes to the keeper, and the container's own profile.
//!
//! Of two verdicts the kernel takes the stricter one, in whatever order the filters were loaded. Ours comes first, so that
//! a profile that forbids `sendmsg` or `seccomp` does not keep us from handing the listener over; but not if ours is so
//! narrow that no other could be loaded after it.

use std::os::fd::{BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use syscalls::abi::Arch;
use syscalls::filter::{Instruction, SeccompData, ret, simulate};

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
    let profile = || match filters.profile {
        Some((program, flags)) => {
            sys::load_filter(program, *flags).step(|| "load the container's seccomp profile").map(drop)
        }
        None => Ok(()),
    };
    let narrow = is_narrow(filters.main);
    if narrow {
        profile()?;
    }
    keeper::hand_over(keeper, listen(filters.main)?)?;
    if narrow { Ok(()) } else { profile() }
}

/// Whether a program has calls for its work only: none to change its rights or load a filter. It must have its rights, and
/// keep them (`no_new_privs`), before its filter holds.
pub fn is_narrow(main: &[Instruction]) -> bool {
    let arch = Arch::native();
    let call = SeccompData {
        nr: u32::try_from(libc::SYS_seccomp).unwrap_or_default(),
        arch: arch.audit(),
        instruction_pointer: 0,
        args: [libc::SECCOMP_SET_MODE_FILTER.into(), 0, 0, 0, 0, 0],
    };
    simulate(main, &call) != ret::ALLOW
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
