//! `unlink(2)`, `rmdir(2)`: names that go. The view decides where they may; removing cannot make a hidden name appear.

use nix::errno::Errno;
use nix::libc;
use nix::unistd::{UnlinkatFlags, unlinkat as kernels_unlinkat};

use super::named::Named;
use super::pretend::{gone, made};
use super::walk::names_stay;
use crate::args::{DirFd, Flags, PathPtr};
use crate::guest::Guest;
use crate::reply::{Answer, Reply};

crate::syscalls! {
    /// Removes a name, and the file when it was the last.
    unlink(path: PathPtr) File Judge Allow {
        PathCalls => Emulate(unlink),
    };
    /// Removes a name or an empty directory, relative to a directory.
    unlinkat(dir: DirFd, path: PathPtr, flags: Flags) File Judge Allow {
        PathCalls => Emulate(unlink_at),
    };
    /// Removes an empty directory.
    rmdir(path: PathPtr) File Judge Allow {
        PathCalls => Emulate(rmdir),
    };
}

fn unlink(guest: &dyn Guest, path: PathPtr) -> Answer {
    remove(guest, "unlink", DirFd::CWD, path, UnlinkatFlags::NoRemoveDir)
}

fn rmdir(guest: &dyn Guest, path: PathPtr) -> Answer {
    remove(guest, "rmdir", DirFd::CWD, path, UnlinkatFlags::RemoveDir)
}

fn unlink_at(guest: &dyn Guest, dir: DirFd, path: PathPtr, flags: Flags) -> Answer {
    const REMOVE_DIRECTORY: u32 = libc::AT_REMOVEDIR.cast_unsigned();
    let how = match flags.0 {
        0 => UnlinkatFlags::NoRemoveDir,
        REMOVE_DIRECTORY => UnlinkatFlags::RemoveDir,
        _ => return Err(Errno::EINVAL),
    };
    remove(guest, "unlinkat", dir, path, how)
}

fn remove(guest: &dyn Guest, call: &'static str, dir: DirFd, path: PathPtr, how: UnlinkatFlags) -> Answer {
    let named = Named::copy(guest, call, dir, path)?;
    let _names = names_stay();
    let parent = named.parent()?;
    parent.may_be_removed(guest, call)?;
    let name = parent.as_given()?;
    let last = gone::before(guest, &parent);
    made::as_root(guest, &[&parent.dir], || kernels_unlinkat(&parent.dir, name.as_c_str(), how))?;
    gone::after(guest, last);
    Ok(Reply::Return(0))
}
