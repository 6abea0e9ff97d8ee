//! The raw calls of the study. The only unsafe code of it.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

use nix::errno::Errno;
use nix::libc;
use nix::unistd::{ForkResult, Pid};

/// What an emulated `getppid` answers: no process has this number, for `pid_max` is lower.
pub const TOKEN: i64 = 0x0ace_0f5e;

/// Forks. The caller has one thread, or the child calls nothing that another thread may hold a lock of.
pub fn fork() -> io::Result<ForkResult> {
    // SAFETY: as the caller promises; `sentry-bench mechanisms` has one thread.
    Ok(unsafe { nix::unistd::fork() }?)
}

/// Makes a process in namespaces that `flags` name, which ends at once. clone(2) has no bit left for a namespace of time,
/// clone3(2) has.
pub fn clone_that_ends(flags: libc::c_int) -> io::Result<Pid> {
    // SAFETY: all zero bytes are a valid `clone_args`, and ask for nothing.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = u64::from(flags.cast_unsigned());
    arguments.exit_signal = u64::from(libc::SIGCHLD.cast_unsigned());
    let size = size_of::<libc::clone_args>();
    // SAFETY: without a stack and without CLONE_VM the child goes on as after fork(2), and calls nothing but `_exit`.
    let pid = Errno::result(unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size) })?;
    if pid == 0 {
        // SAFETY: does not return.
        unsafe { libc::_exit(0) };
    }
    Ok(Pid::from_raw(i32::try_from(pid).map_err(|_| Errno::ERANGE)?))
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

/// Ends at once, running nothing.
pub fn exit_now() -> ! {
    // SAFETY: does not return.
    unsafe { libc::_exit(1) }
}

/// `getppid`, the call that the mechanisms answer: always a call, never from a cache.
pub fn null_call() -> i64 {
    // SAFETY: no arguments, no memory.
    unsafe { libc::syscall(libc::SYS_getppid) }
}

/// `no_new_privs`, without which an ordinary user may load no filter.
pub fn no_new_privileges() -> io::Result<()> {
    // SAFETY: takes integers.
    Errno::result(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }).map(drop)?;
    Ok(())
}

/// Loads a filter, see seccomp(2). Returns the listener if `flags` ask for one.
pub fn load(program: &[libc::sock_filter], flags: libc::c_ulong) -> io::Result<Option<OwnedFd>> {
    let len = u16::try_from(program.len()).map_err(|_| Errno::E2BIG)?;
    let program = libc::sock_fprog { len, filter: program.as_ptr().cast_mut() };
    // SAFETY: the kernel only reads the program, which outlives the call.
    let result = Errno::result(unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, std::ptr::from_ref(&program))
    })?;
    if flags & libc::SECCOMP_FILTER_FLAG_NEW_LISTENER as libc::c_ulong == 0 {
        return Ok(None);
    }
    let number = i32::try_from(result).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel has made this descriptor for us.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(number) }))
}

/// Takes over a descriptor that has just come with a message.
pub fn own_received(number: i32) -> OwnedFd {
    // SAFETY: the kernel has put this descriptor into our table for us.
    unsafe { OwnedFd::from_raw_fd(number) }
}

#[cfg(target_arch = "x86_64")]
fn set_result(context: *mut libc::c_void, value: i64) {
    let context = context.cast::<libc::ucontext_t>();
    // SAFETY: the kernel gives a handler with SA_SIGINFO a `ucontext_t`.
    unsafe { (*context).uc_mcontext.gregs[libc::REG_RAX as usize] = value };
}

#[cfg(target_arch = "aarch64")]
fn set_result(context: *mut libc::c_void, value: i64) {
    let context = context.cast::<libc::ucontext_t>();
    // SAFETY: the kernel gives a handler with SA_SIGINFO a `ucontext_t`.
    unsafe { (*context).uc_mcontext.regs[0] = value.cast_unsigned() };
}

/// What syscall user dispatch looks at before each call: 0 lets it pass, 1 makes a signal of it.
pub static SELECTOR: AtomicU8 = AtomicU8::new(0);

extern "C" fn on_sigsys(_: libc::c_int, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // The return from this handler is a call as well.
    SELECTOR.store(0, Ordering::Relaxed);
    set_result(context, TOKEN);
}

/// Answers calls that become a `SIGSYS` with [`TOKEN`].
pub fn answer_sigsys() -> io::Result<()> {
    // SAFETY: all zero bytes are a valid `sigaction`.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = on_sigsys as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO;
    // SAFETY: the handler touches nothing but an atomic and its own context.
    Errno::result(unsafe { libc::sigaction(libc::SIGSYS, &raw const action, std::ptr::null_mut()) })?;
    Ok(())
}

/// Syscall user dispatch for this thread, ruled by [`SELECTOR`]. `EINVAL` where the kernel has none.
pub fn dispatch_to_user() -> io::Result<()> {
    const PR_SET_SYSCALL_USER_DISPATCH: libc::c_int = 59;
    const ON: libc::c_ulong = 1;
    // SAFETY: the selector is static.
    Errno::result(unsafe { libc::prctl(PR_SET_SYSCALL_USER_DISPATCH, ON, 0_usize, 0_usize, SELECTOR.as_ptr()) })?;
    Ok(())
}

/// Whoever descends from us may trace us, whatever Yama says.
pub fn let_children_trace() {
    // SAFETY: takes integers. It fails where there is no Yama, which then forbids nothing.
    unsafe { libc::prctl(libc::PR_SET_PTRACER, libc::PR_SET_PTRACER_ANY, 0, 0, 0) };
}

/// `struct seccomp_notif`
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Request {
    /// To be answered with.
    pub id: u64,
    pid: u32,
    flags: u32,
    number: i32,
    architecture: u32,
    instruction_pointer: u64,
    registers: [u64; 6],
}

#[repr(C)]
struct Response {
    id: u64,
    value: i64,
    error: i32,
    flags: u32,
}

#[repr(C)]
struct AddDescriptor {
    id: u64,
    flags: u32,
    source: u32,
    target: u32,
    target_flags: u32,
}

mod calls {
    use super::{AddDescriptor, Request, Response};

    nix::ioctl_readwrite!(receive, b'!', 0, Request);
    nix::ioctl_readwrite!(send, b'!', 1, Response);
    nix::ioctl_write_ptr!(add, b'!', 3, AddDescriptor);
}

/// Waits for a call on a listener, see seccomp_unotify(2).
pub fn receive(listener: &OwnedFd) -> io::Result<u64> {
    // SAFETY: all zero bytes are a valid `Request`, and the kernel insists on them.
    let mut request: Request = unsafe { std::mem::zeroed() };
    // SAFETY: the structure has the kernel's layout.
    unsafe { calls::receive(listener.as_raw_fd(), &raw mut request) }?;
    Ok(request.id)
}

/// Answers with a value, or lets the call run.
pub fn respond(listener: &OwnedFd, id: u64, value: Option<i64>) -> io::Result<()> {
    const CONTINUE: u32 = 1;
    let flags = if value.is_some() { 0 } else { CONTINUE };
    let mut response = Response { id, value: value.unwrap_or(0), error: 0, flags };
    // SAFETY: the structure has the kernel's layout.
    unsafe { calls::send(listener.as_raw_fd(), &raw mut response) }?;
    Ok(())
}

/// Answers with a new descriptor of `file`.
pub fn respond_with(listener: &OwnedFd, id: u64, file: &OwnedFd) -> io::Result<()> {
    const SEND: u32 = 2;
    let source = file.as_raw_fd().cast_unsigned();
    let request = AddDescriptor { id, flags: SEND, source, target: 0, target_flags: libc::O_CLOEXEC.cast_unsigned() };
    // SAFETY: the structure has the kernel's layout.
    unsafe { calls::add(listener.as_raw_fd(), &raw const request) }?;
    Ok(())
}

/// `SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP`, Linux 6.6.
pub fn wake_synchronously(listener: &OwnedFd) -> io::Result<()> {
    const SET_FLAGS: libc::c_ulong = 0x4008_2104;
    const SYNC_WAKE_UP: u64 = 1;
    // SAFETY: this ioctl takes an integer.
    Errno::result(unsafe { libc::ioctl(listener.as_raw_fd(), SET_FLAGS as _, SYNC_WAKE_UP) })?;
    Ok(())
}

/// Words that this process and those it forks share.
pub fn shared_words() -> io::Result<&'static [AtomicU32; 1024]> {
    // SAFETY: a new mapping, at a place of the kernel's choice.
    let at = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            4096,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if at == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: 4096 zero bytes that are never unmapped; atomics may be shared.
    Ok(unsafe { &*at.cast() })
}

/// Sleeps while `word` is `value`.
pub fn futex_wait(word: &AtomicU32, value: u32) {
    // SAFETY: the word is shared memory that stays; a null timeout waits for ever.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, value, std::ptr::null::<u8>()) };
}

/// Wakes one sleeper.
pub fn futex_wake(word: &AtomicU32) {
    // SAFETY: as above.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, 1) };
}
