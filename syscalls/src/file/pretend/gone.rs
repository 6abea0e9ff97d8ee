//! What is remembered of an object goes with its last name.

use nix::fcntl::AtFlags;
use nix::sys::stat::{FileStat, SFlag, fstatat};

use super::store::forget;
use crate::file::object::kind;
use crate::file::walk::Parent;
use crate::guest::Guest;

/// Looks at what has this name, which is about to lose it; `None` if nothing would have to be forgotten.
pub(crate) fn before(guest: &dyn Guest, name: &Parent) -> Option<FileStat> {
    if guest.remembered().is_empty() {
        return None;
    }
    let stat = fstatat(&name.dir, name.name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW).ok()?;
    (stat.st_nlink == 1 || kind(&stat) == SFlag::S_IFDIR).then_some(stat)
}

/// It has lost it.
pub(crate) fn after(guest: &dyn Guest, last: Option<FileStat>) {
    if let Some(stat) = last {
        forget(guest, &stat);
    }
}

/// The name stands for something else now. Two names of one file are left as they are by a rename.
pub(crate) fn after_rename(guest: &dyn Guest, replaced: Option<FileStat>, name: &Parent) {
    let Some(stat) = replaced else { return };
    let now = fstatat(&name.dir, name.name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW);
    if now.is_ok_and(|now| (now.st_dev, now.st_ino) != (stat.st_dev, stat.st_ino)) {
        forget(guest, &stat);
    }
}
