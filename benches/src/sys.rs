//! The few raw calls that have no safe wrapper.

use std::ffi::{CStr, c_int};
use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, raise, sigaction};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, pipe2};

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

/// Maps `pages` of memory, touches each, and unmaps them.
pub fn map_and_touch(pages: NonZeroUsize) -> io::Result<()> {
    const PAGE: usize = 4096;
    let length = pages.saturating_mul(NonZeroUsize::new(PAGE).unwrap_or(NonZeroUsize::MIN));
    let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_ANONYMOUS;
    // SAFETY: the kernel chooses where, so no memory of ours is replaced.
    let memory = unsafe { mmap_anonymous(None, length, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, flags) }?;
    for page in 0..pages.get() {
        // SAFETY: within the mapping, which is writable and nobody else's; a volatile write is not left out.
        unsafe { memory.cast::<u8>().add(page * PAGE).write_volatile(1) };
    }
    // SAFETY: the whole mapping that was just made, and no reference to it is left.
    Ok(unsafe { munmap(memory, length.get()) }?)
}

/// A child that has to be waited for.
pub struct Child(Pid);

impl Child {
    /// Waits for its end; it must be a success.
    pub fn end(self) -> io::Result<()> {
        succeeded(waitpid(self.0, None)?)
    }
}

/// Forks a child that sends back each byte it gets, until there are no more: where to write, where to read, the child.
pub fn fork_echo() -> io::Result<(File, File, Child)> {
    let (there, to) = pipe2(OFlag::O_CLOEXEC)?;
    let (from, back) = pipe2(OFlag::O_CLOEXEC)?;
    // SAFETY: the guest has one thread here, and the child calls nothing but `close`, `read`, `write` and `_exit`.
    match unsafe { fork() }? {
        ForkResult::Child => {
            drop((to, from));
            echo(there.as_raw_fd(), back.as_raw_fd())
        }
        ForkResult::Parent { child } => Ok((to.into(), from.into(), Child(child))),
    }
}

fn echo(there: RawFd, back: RawFd) -> ! {
    let mut byte = 0_u8;
    loop {
        // SAFETY: one byte is read into one byte of ours, and written from it; the child of a fork may call both.
        let carried = unsafe {
            match libc::read(there, (&raw mut byte).cast(), 1) {
                1 => libc::write(back, (&raw const byte).cast(), 1),
                0 => libc::_exit(0),
                error => error,
            }
        };
        if carried != 1 {
            // SAFETY: `_exit` may be called at any time.
            unsafe { libc::_exit(1) }
        }
    }
}

static SEEN: AtomicU64 = AtomicU64::new(0);

extern "C" fn count(_: c_int) {
    SEEN.fetch_add(1, Ordering::Relaxed);
}

/// Counts SIGUSR1 as long as it lives.
pub struct Handler(SigAction);

impl Handler {
    /// Takes the signal over.
    pub fn install() -> io::Result<Self> {
        let action = SigAction::new(SigHandler::Handler(count), SaFlags::empty(), SigSet::empty());
        // SAFETY: the handler only adds to an atomic number.
        Ok(Self(unsafe { sigaction(Signal::SIGUSR1, &action) }?))
    }

    /// How many came so far.
    pub fn seen(&self) -> u64 {
        SEEN.load(Ordering::Relaxed)
    }

    /// Sends one to this thread.
    pub fn signal_myself(&self) -> io::Result<()> {
        Ok(raise(Signal::SIGUSR1)?)
    }
}

impl Drop for Handler {
    fn drop(&mut self) {
        // SAFETY: what is put back is what was there before.
        let _ = unsafe { sigaction(Signal::SIGUSR1, &self.0) };
    }
}

fn succeeded(status: WaitStatus) -> io::Result<()> {
    match status {
        WaitStatus::Exited(_, 0) => Ok(()),
        other => Err(io::Error::other(format!("the child ended badly: {other:?}"))),
    }
}
