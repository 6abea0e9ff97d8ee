//! User and group ids: user_namespaces(7).
//!
//! Two namespaces, one inside the other. In the outer one the sandbox's single host id appears as 0, which devpts wants
//! of whoever mounts it; in the inner one it appears as the guest's id. No other id exists in either, so nothing inside
//! can own or act as anything else, and set-id programs have no effect.

use std::fs::OpenOptions;
use std::io::Write;

use nix::errno::Errno;
use nix::unistd::{Gid, Pid, Uid, setgroups, setresgid, setresuid};

use crate::failure::{Failure, Step};
use crate::plan::Identity;

fn write(path: &str, text: &str) -> Result<(), Errno> {
    let open = OpenOptions::new().write(true).open(path);
    open.and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(nix::libc::EIO)))
}

/// Writes the single-id maps of the process `who` (`self` or a pid): `inside` appears where `outside` is.
/// `deny_setgroups` is needed where the writer has no privilege over the outer ids, see user_namespaces(7).
fn write_maps(who: &str, inside: (u32, u32), outside: (u32, u32), deny_setgroups: bool) -> Result<(), Failure> {
    let remedy = "run sentry doctor to see what this host allows";
    if deny_setgroups {
        write(&format!("/proc/{who}/setgroups"), "deny").step(|| "give up setgroups").map_err(|f| f.remedy(remedy))?;
    }
    let map = |file: &str, inside: u32, outside: u32| {
        write(&format!("/proc/{who}/{file}"), &format!("{inside} {outside} 1\n"))
            .step(|| format!("write {file} ({inside} is {outside} outside)"))
            .map_err(|failure| failure.remedy(remedy))
    };
    map("uid_map", inside.0, outside.0)?;
    map("gid_map", inside.1, outside.1)
}

/// Maps the outer namespace of this process, for an ordinary user.
pub fn map_own_outer(identity: &Identity) -> Result<(), Failure> {
    write_maps("self", (0, 0), (identity.host_uid, identity.host_gid), true)
}

/// Maps the outer namespace of the child `pid`; only root can do this for an id that is not its own.
pub fn map_outer_of(pid: Pid, identity: &Identity) -> Result<(), Failure> {
    write_maps(&pid.to_string(), (0, 0), (identity.host_uid, identity.host_gid), false)
}

/// Started by root: becomes the unprivileged id that the monitor mapped, for good.
pub fn become_mapped() -> Result<(), Failure> {
    setgroups(&[]).step(|| "drop supplementary groups")?;
    let (uid, gid) = (Uid::from_raw(0), Gid::from_raw(0));
    setresgid(gid, gid, gid).step(|| "change to the sandbox's group id")?;
    setresuid(uid, uid, uid).step(|| "change to the sandbox's user id")
}

/// Maps the inner namespace of this process. `setgroups` must be given up here when the outer map did not do it.
pub fn map_own_inner(identity: &Identity) -> Result<(), Failure> {
    write_maps("self", (identity.uid, identity.gid), (0, 0), identity.by_root)?;
    if Uid::current().as_raw() != identity.uid || Gid::current().as_raw() != identity.gid {
        return Err(Failure::check("verify the guest's user and group id"));
    }
    Ok(())
}

/// Whether this is the map of ids of the initial user namespace: user_namespaces(7).
pub fn is_initial_map(map: &str) -> bool {
    map.split_ascii_whitespace().eq(["0", "0", "4294967295"])
}
