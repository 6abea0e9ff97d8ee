//! The raw calls of the study. The only unsafe code of it.

use std::io;
use std::os::fd::AsRawFd;

use nix::libc;
use nix::unistd::ForkResult;

/// Forks. The caller has one thread, or the child calls nothing that another thread may hold a lock of.
pub fn fork() -> io::Result<ForkResult> {
    // SAFETY: as the caller promises; `sentry-bench mechanisms` has one thread.
    Ok(unsafe { nix::unistd::fork() }?)
}

/// The kernel kills this process with its parent.
pub fn die_with_parent() {
    // SAFETY: takes integers.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) };
}

/// Writes `answer` and ends at once.
pub fn answer_and_exit(to: &impl AsRawFd, answer: &[u8]) -> ! {
    // SAFETY: the buffer outlives the call; `_exit` does not return.
    unsafe {
        libc::write(to.as_raw_fd(), answer.as_ptr().cast(), answer.len());
        libc::_exit(0)
    }
}
