//! Root over a range of ids: user_namespaces(7), newuidmap(1).
//!
//! In both namespaces 0 is the user, as without a range, and 1 to 65535 are the user's ids of `/etc/subuid` and
//! `/etc/subgid`; one more is in the outer one only, for what the guest's root has no power over. The outer map names ids of the host, which only the set-id programs of the host may do: the monitor runs
//! them while the outer sandbox waits. The inner map is the same again, written by the outer sandbox, as long as it may,
//! while init waits.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::libc;
use nix::unistd::{Gid, Pid, Uid, read, write};

use crate::failure::{Failure, Step};
use crate::plan::{Identity, Ranges, ResourceLimit};
use crate::sys;

/// Lets the host's programs map the outer namespace of the child `pid`.
pub fn map_outer_of(pid: Pid, identity: &Identity, ranges: &Ranges) -> Result<(), Failure> {
    map_by(&ranges.newuidmap, pid, identity.host_uid, ranges.users)?;
    map_by(&ranges.newgidmap, pid, identity.host_gid, ranges.groups)
}

fn map_by(program: &Path, pid: Pid, own: u32, first: u32) -> Result<(), Failure> {
    let step = || format!("map ids by {}", program.display());
    let ids = [pid.as_raw().cast_unsigned(), 0, own, 1, 1, first, Ranges::IDS].map(|number| number.to_string());
    let mut command = Command::new(program);
    command.args(ids).env_clear().stdin(Stdio::null()).stdout(Stdio::null());
    let said = command.output().map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)));
    let said = said.step(step)?;
    if said.status.success() {
        return Ok(());
    }
    let why = String::from_utf8_lossy(&said.stderr).trim().replace('\n', ", ");
    Err(Failure::check(format!("{} ({why})", step())).remedy("or choose --fake-root=pretend, which needs no ids"))
}

/// Waits until init is in the namespace to be mapped, and maps it. What init could not do it says itself.
pub fn map_inner_of(init: libc::pid_t, asked: &OwnedFd, proc: &OwnedFd) -> Result<(), Failure> {
    let step = || "map the guest's ids";
    if read(asked, &mut [0]).step(step)? == 0 {
        return Ok(());
    }
    for file in ["uid_map", "gid_map"] {
        let path = std::ffi::CString::new(format!("{init}/{file}")).map_err(|_| Failure::check(step()))?;
        let map = sys::open_at(Some(proc.as_fd()), &path, libc::O_WRONLY | libc::O_CLOEXEC, 0, 0).step(step)?;
        // Each line within one line of the outer map.
        write(&map, format!("0 0 1\n1 1 {}\n", Ranges::NOBODYS - 1).as_bytes()).step(step)?;
    }
    write(asked, b"m").step(step).map(drop)
}

/// Init's side of that.
pub fn have_inner_mapped(maps: &OwnedFd, identity: &Identity) -> Result<(), Failure> {
    let step = || "have the guest's ids mapped";
    write(maps, b"?").step(step)?;
    if read(maps, &mut [0]).step(step)? == 0 {
        return Err(Failure::check(step()));
    }
    if Uid::current().as_raw() != identity.uid || Gid::current().as_raw() != identity.gid {
        return Err(Failure::check("verify the guest's user and group id"));
    }
    Ok(())
}

/// The limit on processes is one for each user. Whoever may become 65,536 of them is held by the limit that the maker of
/// the namespace has, which holds for all of them together; the supervisor's threads count there too.
pub fn limit_all_users(limits: &[ResourceLimit]) -> Result<(), Failure> {
    const SUPERVISOR: u64 = 100;
    let step = || "limit the processes of all users";
    let Some(ResourceLimit(resource, soft, _)) = limits.iter().find(|limit| limit.0 == libc::RLIMIT_NPROC) else {
        return Ok(());
    };
    let (now, hard) = sys::limit(*resource).step(step)?;
    sys::set_limit(*resource, now.min(soft.saturating_add(SUPERVISOR)), hard).step(step)
}
