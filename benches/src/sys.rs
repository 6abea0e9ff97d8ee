//! The few raw calls that have no safe wrapper.

use std::ffi::{CStr, c_int};
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

/// A descriptor that becomes readable when the process `pid`, a child of ours, ends.
pub fn pidfd(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: pidfd_open takes two integers and touches no memory of ours.
    let descriptor = unsafe { libc::syscall(libc::SYS_pidfd_open, libc::c_long::from(pid), 0) };
    let descriptor = RawFd::try_from(descriptor).map_err(io::Error::other)?;
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// sethostname(2) with a name that is not there.
pub fn name_nothing(length: c_int) -> Result<(), Errno> {
    // SAFETY: with a negative length, as here, the kernel does not look at the name.
    Errno::result(unsafe { libc::syscall(libc::SYS_sethostname, std::ptr::null::<u8>(), length.min(-1)) }).map(drop)
}

/// Forks a child that ends at once, and waits for it.
pub fn fork_and_wait() -> io::Result<()> {
    // SAFETY: `micro` has one thread, and the child only calls `_exit`.
    match unsafe { fork() }? {
        // SAFETY: `_exit` may be called at any time.
        ForkResult::Child => unsafe { libc::_exit(0) },
        ForkResult::Parent { child } => succeeded(waitpid(child, None)?),
    }
}

/// Forks a child that becomes `program`, and waits for it.
pub fn fork_exec_and_wait(program: &CStr, argument: &CStr) -> io::Result<()> {
    let arguments = [program.as_ptr(), argument.as_ptr(), std::ptr::null()];
    // SAFETY: `micro` has one thread, and the child calls nothing but `execv` and `_exit`.
    match unsafe { fork() }? {
        // SAFETY: both strings and the NULL-terminated array of them outlive the call.
        ForkResult::Child => unsafe {
            libc::execv(program.as_ptr(), arguments.as_ptr());
            libc::_exit(127)
        },
        ForkResult::Parent { child } => succeeded(waitpid(child, None)?),
    }
}

fn succeeded(status: WaitStatus) -> io::Result<()> {
    match status {
        WaitStatus::Exited(_, 0) => Ok(()),
        other => Err(io::Error::other(format!("the child ended badly: {other:?}"))),
    }
}
