//! ptrace(2) and wait(2), as far as guests are traced for good. The only unsafe code of this platform.

use std::mem::MaybeUninit;

use nix::errno::Errno;
use nix::libc;

use super::registers::Registers;

type Request = libc::c_uint;

/// What a traced thread has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It is gone.
    Ended,
    /// Its filter asks about a call (`PTRACE_EVENT_SECCOMP`).
    Call,
    /// It is at the beginning or the end of a call, because it was resumed to there.
    Edge,
    /// It has made a thread or process, which is traced as well; or it is that, and about to begin.
    Born,
    /// It has begun another program.
    Exec,
    /// All of its process is stopped by this signal, and stays so.
    Group(i32),
    /// It is about to be given this signal.
    Signal(i32),
}

/// A guest does not outlive who traces it without `EXITKILL` either: the supervisor is pid 1 of the namespace around. With it init
/// would have the time to tell the monitor of a guest that was killed, instead of being gone first.
const OPTIONS: libc::c_int = libc::PTRACE_O_TRACESECCOMP
    | libc::PTRACE_O_TRACEFORK
    | libc::PTRACE_O_TRACEVFORK
    | libc::PTRACE_O_TRACECLONE
    | libc::PTRACE_O_TRACEEXEC
    | libc::PTRACE_O_TRACESYSGOOD;

fn trace(request: Request, tid: i32, address: usize, data: usize) -> Result<(), Errno> {
    // SAFETY: every request used with this function takes integers, or a pointer to what its caller owns.
    Errno::result(unsafe { libc::syscall(libc::SYS_ptrace, request as libc::c_ulong, tid, address, data) }).map(drop)
}

fn number(signal: i32) -> usize {
    usize::try_from(signal).unwrap_or(0)
}

/// Begins to trace a thread, and whatever it starts.
pub fn seize(tid: i32) -> Result<(), Errno> {
    trace(libc::PTRACE_SEIZE, tid, 0, OPTIONS as usize)
}

/// Lets a stopped thread run, with a signal for it or 0.
pub fn resume(tid: i32, signal: i32) -> Result<(), Errno> {
    trace(libc::PTRACE_CONT, tid, 0, number(signal))
}

/// The same, until its call begins or ends.
pub fn resume_to_edge(tid: i32, signal: i32) -> Result<(), Errno> {
    trace(libc::PTRACE_SYSCALL, tid, 0, number(signal))
}

/// The same, for one instruction, at whose end it is given `SIGTRAP`.
pub fn step(tid: i32, signal: i32) -> Result<(), Errno> {
    trace(libc::PTRACE_SINGLESTEP, tid, 0, number(signal))
}

/// Leaves a thread stopped with its process until that goes on.
pub fn stay_stopped(tid: i32) -> Result<(), Errno> {
    trace(libc::PTRACE_LISTEN, tid, 0, 0)
}

/// Makes a thread stop as soon as it can: with its process, if that is stopped.
pub fn interrupt(tid: i32) -> Result<(), Errno> {
    trace(libc::PTRACE_INTERRUPT, tid, 0, 0)
}

/// What the kernel has to say about an event: at an exec, the thread's id before.
pub fn message(tid: i32) -> Result<i32, Errno> {
    let mut message: libc::c_ulong = 0;
    trace(libc::PTRACE_GETEVENTMSG, tid, 0, &raw mut message as usize)?;
    i32::try_from(message).map_err(|_| Errno::EOVERFLOW)
}

/// Whether the signal that a thread is about to be given was sent by a program, and is not its own fault.
pub fn is_sent(tid: i32) -> Result<bool, Errno> {
    // SAFETY: all zero bytes are a valid siginfo_t, which the kernel fills.
    let mut info: libc::siginfo_t = unsafe { MaybeUninit::zeroed().assume_init() };
    trace(libc::PTRACE_GETSIGINFO, tid, 0, &raw mut info as usize)?;
    Ok(info.si_code <= 0)
}

/// The signals that a stopped thread blocks, a bit each.
pub fn blocked(tid: i32) -> Result<u64, Errno> {
    const GET_SIGNAL_MASK: Request = 0x420A;
    let mut mask = 0_u64;
    trace(GET_SIGNAL_MASK, tid, size_of::<u64>(), &raw mut mask as usize).map(|()| mask)
}

/// Lets it block these instead.
pub fn block(tid: i32, mask: u64) -> Result<(), Errno> {
    const SET_SIGNAL_MASK: Request = 0x420B;
    trace(SET_SIGNAL_MASK, tid, size_of::<u64>(), &raw const mask as usize)
}

const GENERAL: usize = 1; // NT_PRSTATUS

/// The registers of a stopped thread.
pub fn registers(tid: i32) -> Result<Registers, Errno> {
    // SAFETY: registers are plain integers.
    let mut registers: Registers = unsafe { MaybeUninit::zeroed().assume_init() };
    let mut place = libc::iovec { iov_base: (&raw mut registers).cast(), iov_len: size_of::<Registers>() };
    trace(libc::PTRACE_GETREGSET as Request, tid, GENERAL, &raw mut place as usize)?;
    if place.iov_len == size_of::<Registers>() { Ok(registers) } else { Err(Errno::ENOEXEC) }
}

/// Changes them.
pub fn set_registers(tid: i32, registers: &Registers) -> Result<(), Errno> {
    let base = std::ptr::from_ref(registers).cast_mut().cast();
    let place = libc::iovec { iov_base: base, iov_len: size_of::<Registers>() };
    trace(libc::PTRACE_SETREGSET as Request, tid, GENERAL, &raw const place as usize)
}

/// Changes the number of the call that a thread is about to make, where no register has it; -1: none.
#[cfg(target_arch = "aarch64")]
pub fn set_number(tid: i32, number: i32) -> Result<(), Errno> {
    const SYSTEM_CALL: usize = 0x404; // NT_ARM_SYSTEM_CALL
    let place = libc::iovec { iov_base: (&raw const number).cast_mut().cast(), iov_len: size_of::<i32>() };
    trace(libc::PTRACE_SETREGSET as Request, tid, SYSTEM_CALL, &raw const place as usize)
}

/// Changes the number of the call that a thread is about to make, where no register has it.
#[cfg(target_arch = "x86_64")]
#[allow(clippy::unnecessary_wraps)] // as on the other architecture
pub fn set_number(_tid: i32, _number: i32) -> Result<(), Errno> {
    Ok(())
}

/// The next stop of a thread that this thread traces. `None`: there is none yet, if `wait` is false. `ECHILD`: it traces none.
pub fn next_stop(wait: bool) -> Result<Option<(i32, Stop)>, Errno> {
    let mut status = 0;
    let flags = libc::__WALL | libc::__WNOTHREAD | if wait { 0 } else { libc::WNOHANG };
    // SAFETY: the kernel fills in an int.
    let tid = Errno::result(unsafe { libc::waitpid(-1, &raw mut status, flags) })?;
    Ok((tid != 0).then(|| (tid, decode(status))))
}

fn decode(status: i32) -> Stop {
    if !libc::WIFSTOPPED(status) {
        return Stop::Ended;
    }
    let signal = libc::WSTOPSIG(status);
    match status >> 16 {
        0 if signal == libc::SIGTRAP | 0x80 => Stop::Edge,
        0 => Stop::Signal(signal),
        libc::PTRACE_EVENT_SECCOMP => Stop::Call,
        libc::PTRACE_EVENT_EXEC => Stop::Exec,
        libc::PTRACE_EVENT_STOP if signal != libc::SIGTRAP => Stop::Group(signal),
        _ => Stop::Born,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stops_are_told_apart() {
        let stopped = |event: i32, signal: i32| decode(event << 16 | signal << 8 | 0x7f);
        assert_eq!(decode(0), Stop::Ended);
        assert_eq!(decode(9), Stop::Ended);
        assert_eq!(stopped(0, libc::SIGTRAP | 0x80), Stop::Edge);
        assert_eq!(stopped(0, libc::SIGTRAP), Stop::Signal(libc::SIGTRAP), "a breakpoint of the program's own");
        assert_eq!(stopped(libc::PTRACE_EVENT_SECCOMP, libc::SIGTRAP), Stop::Call);
        assert_eq!(stopped(libc::PTRACE_EVENT_STOP, libc::SIGTRAP), Stop::Born);
        assert_eq!(stopped(libc::PTRACE_EVENT_STOP, libc::SIGTSTP), Stop::Group(libc::SIGTSTP));
        assert_eq!(stopped(libc::PTRACE_EVENT_VFORK, libc::SIGTRAP), Stop::Born);
    }
}
