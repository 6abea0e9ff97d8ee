//! Running programs.
//!
//! `execve` stays with the kernel: its walk through `#!` lines and ELF interpreters cannot be repeated elsewhere, and the
//! view holds nothing that may not be run. Under `--trace denied` the name is noted first, since a missing program is
//! what a user most often looks for.

use crate::args::{DirFd, Flags, PathPtr, UserPtr};
use crate::file::trace::looked_up;
use crate::guest::{Around, Guest};

crate::syscalls! {
    /// Runs a program in place of the calling one.
    execve(path: PathPtr, arguments: UserPtr, environment: UserPtr) Process Judge Allow
        { TracePaths => Observe(execve), PathCalls => Observe(execve), VirtualClock => Observe(execve) };
    /// Runs a program, named relative to a directory or by a descriptor, in place of the calling one.
    execveat(at: DirFd, path: PathPtr, arguments: UserPtr, environment: UserPtr, flags: Flags) Process Judge Allow
        { TracePaths => Observe(execveat), PathCalls => Observe(execveat), VirtualClock => Observe(execveat) };
    /// Loaded a shared library of the a.out kind; gone from the kernel, fails with `ENOSYS`.
    uselib(library: PathPtr) Process Compat Errno(ENOSYS);
}

fn execve(guest: &dyn Guest, path: PathPtr, _arguments: UserPtr, _environment: UserPtr) {
    looked_up(guest, "execve", DirFd::CWD, path);
    patch_clock(guest);
}

fn execveat(guest: &dyn Guest, at: DirFd, path: PathPtr, _: UserPtr, _: UserPtr, flags: Flags) {
    // `fexecve(3)` passes an empty path: the file is open already, so no name can be missing.
    if flags.0 & libc::AT_EMPTY_PATH.cast_unsigned() == 0 {
        looked_up(guest, "execveat", at, path);
    }
    patch_clock(guest);
}

/// The program that will run must see the sandbox's own clock, if there is one.
fn patch_clock(guest: &dyn Guest) {
    if guest.clock().is_some() {
        guest.around(Around::Exec);
    }
}
