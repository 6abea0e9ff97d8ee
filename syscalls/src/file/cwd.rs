//! `chdir(2)`, `getdents64(2)`: where one is, and what is there. The view bounds both.

use super::trace::looked_up;
use crate::args::{DirFd, PathPtr};
use crate::guest::Guest;

crate::syscalls! {
    /// Tells the working directory.
    getcwd(buffer: UserPtr, size: Size) File Judge Allow;
    /// Changes the working directory.
    chdir(path: PathPtr) File Judge Allow {
        TracePaths => Observe(chdir_seen),
    };
    /// Changes the working directory to an open one.
    fchdir(dir: Fd) File Judge Allow;
    /// Reads entries of a directory, in the old format.
    getdents(dir: Fd, entries: UserPtr, size: Uint) File Compat Allow;
    /// Reads entries of a directory.
    getdents64(dir: Fd, entries: UserPtr, size: Uint) File Judge Allow;
}

fn chdir_seen(guest: &dyn Guest, path: PathPtr) {
    looked_up(guest, "chdir", DirFd::CWD, path);
}
