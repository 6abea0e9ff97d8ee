//! access(2) for the ids that the caller pretends, and the permissions that the file pretends.

use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::stat::{FileStat, SFlag, fstat};

use super::capability;
use super::store::{Said, look};
use crate::credentials::Credentials;
use crate::file::object::kind;
use crate::file::resolve::is_own;
use crate::guest::Guest;
use crate::sys;

const READ: u32 = 4;
const WRITE: u32 = 2;
const RUN: u32 = 1;

/// Whether the caller may use `object` so: what Linux says of the pretended ids, and then what the kernel says of the real
/// user. The real permissions of the user's own files are in nobody's way.
pub(crate) fn check(guest: &dyn Guest, object: &OwnedFd, wanted: u32, flags: u32) -> Result<(), Errno> {
    const EFFECTIVE: u32 = libc::AT_EACCESS.cast_unsigned();
    let stat = fstat(object)?;
    let said = look(guest, object, &stat);
    if !allowed(&*guest.credentials()?, &said, &stat, wanted, flags & EFFECTIVE != 0) {
        return Err(Errno::EACCES);
    }
    match sys::access(object.as_fd(), wanted, flags) {
        Err(Errno::EACCES) if is_own(&stat) => Ok(()),
        other => other,
    }
}

/// Asks as the user who acts, or as the one who started the program: see access(2).
fn allowed(who: &Credentials, said: &Said, stat: &FileStat, wanted: u32, effective: bool) -> bool {
    let (user, in_group) = if effective {
        (who.user.file, who.is_in(said.group))
    } else {
        (who.user.real, who.group.real == said.group || who.groups.contains(&said.group))
    };
    let has = |number: u32| {
        let capabilities = match (effective, user) {
            (true, _) => who.effective,
            // access(2) asks with the capabilities that this user would have.
            (false, 0) => who.permitted,
            (false, _) => 0,
        };
        capabilities & (1 << number) != 0
    };
    let bits = match () {
        () if user == said.user => said.mode >> 6,
        () if in_group => said.mode >> 3,
        () => said.mode,
    };
    if wanted & !bits & 7 == 0 {
        return true;
    }
    let directory = kind(stat) == SFlag::S_IFDIR;
    let runs = directory || said.mode & 0o111 != 0;
    if has(capability::DAC_OVERRIDE) && (wanted & RUN == 0 || runs) {
        return true;
    }
    let looks = wanted & WRITE == 0 && (directory || wanted & (READ | RUN) == READ);
    has(capability::DAC_READ_SEARCH) && looks
}
