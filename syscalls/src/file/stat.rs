//! `stat(2)`, `access(2)`, `readlink(2)`: what is known about a file. The view decides which files there are.

use super::trace::looked_up;
use crate::args::{DirFd, Flags, Mode, PathPtr, Uint, UserPtr};
use crate::guest::Guest;

crate::syscalls! {
    /// Tells about a file.
    stat(path: PathPtr, buffer: UserPtr) File Judge Allow {
        TracePaths => Observe(stat_seen),
    };
    /// Tells about a file or link.
    lstat(path: PathPtr, buffer: UserPtr) File Judge Allow {
        TracePaths => Observe(lstat_seen),
    };
    /// Tells about an open file.
    fstat(file: Fd, buffer: UserPtr) File Judge Allow;
    /// Tells about a file, relative to a directory.
    newfstatat(dir: DirFd, path: PathPtr, buffer: UserPtr, flags: Flags) File Judge Allow {
        TracePaths => Observe(newfstatat_seen),
    };
    /// Tells about a file, with its time of birth and its mount.
    statx(dir: DirFd, path: PathPtr, flags: Flags, mask: Uint, buffer: UserPtr) File Judge Allow {
        TracePaths => Observe(statx_seen),
    };
    /// Tells whether a file may be read, written or executed.
    access(path: PathPtr, mode: Mode) File Judge Allow {
        TracePaths => Observe(access_seen),
    };
    /// Tells whether a file may be read, written or executed, relative to a directory.
    faccessat(dir: DirFd, path: PathPtr, mode: Mode) File Judge Allow {
        TracePaths => Observe(faccessat_seen),
    };
    /// Tells whether a file may be read, written or executed, relative to a directory, with flags.
    faccessat2(dir: DirFd, path: PathPtr, mode: Mode, flags: Flags) File Judge Allow {
        TracePaths => Observe(faccessat2_seen),
    };
    /// Reads where a symbolic link leads.
    readlink(path: PathPtr, buffer: UserPtr, size: Int) File Judge Allow;
    /// Reads where a symbolic link leads, relative to a directory.
    readlinkat(dir: DirFd, path: PathPtr, buffer: UserPtr, size: Int) File Judge Allow;
    /// Tells about a file system.
    statfs(path: PathPtr, buffer: UserPtr) File Judge Allow;
    /// Tells about the file system of an open file.
    fstatfs(file: Fd, buffer: UserPtr) File Judge Allow;
    /// Would name a file by its place in the file system instead of its path. Fails with `EOPNOTSUPP`.
    name_to_handle_at(dir: DirFd, path: PathPtr, handle: UserPtr, mount: UserPtr, flags: Flags) File Default Errno(EOPNOTSUPP);
    /// Would open a file by its place in the file system, around the view. Fails with `EPERM`.
    open_by_handle_at(mount: Fd, handle: UserPtr, flags: Flags) File Default Errno(EPERM);
    /// Would read the flags of a file (immutable, append-only). Fails with `ENOSYS`.
    file_getattr(dir: DirFd, path: PathPtr, attributes: UserPtr, size: Size, flags: Flags) File Compat Errno(ENOSYS);
    /// Would set the flags of a file. Fails with `ENOSYS`.
    file_setattr(dir: DirFd, path: PathPtr, attributes: UserPtr, size: Size, flags: Flags) File Compat Errno(ENOSYS);
}

fn stat_seen(guest: &dyn Guest, path: PathPtr, _: UserPtr) {
    looked_up(guest, "stat", DirFd::CWD, path);
}

fn lstat_seen(guest: &dyn Guest, path: PathPtr, _: UserPtr) {
    looked_up(guest, "lstat", DirFd::CWD, path);
}

fn newfstatat_seen(guest: &dyn Guest, dir: DirFd, path: PathPtr, _: UserPtr, _: Flags) {
    looked_up(guest, "newfstatat", dir, path);
}

fn statx_seen(guest: &dyn Guest, dir: DirFd, path: PathPtr, _: Flags, _: Uint, _: UserPtr) {
    looked_up(guest, "statx", dir, path);
}

fn access_seen(guest: &dyn Guest, path: PathPtr, _: Mode) {
    looked_up(guest, "access", DirFd::CWD, path);
}

fn faccessat_seen(guest: &dyn Guest, dir: DirFd, path: PathPtr, _: Mode) {
    looked_up(guest, "faccessat", dir, path);
}

fn faccessat2_seen(guest: &dyn Guest, dir: DirFd, path: PathPtr, _: Mode, _: Flags) {
    looked_up(guest, "faccessat2", dir, path);
}
