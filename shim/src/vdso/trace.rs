//! ptrace(2), as far as a program must be stopped between its exec and its first instruction.
//!
//! A trace lasts from just before an exec until just after it. It is always this thread's: only the thread that traces
//! can wait, write and let go.

use std::ops::Range;

use nix::errno::Errno;
use nix::libc;

use super::{Patch, Place};

/// The bytes in a range of our own memory that the kernel has mapped for good, such as the vDSO.
pub(super) fn own_memory(range: Range<usize>) -> Option<Vec<u8>> {
    if range.is_empty() || range.len() > 1 << 20 {
        return None;
    }
    // SAFETY: the caller has just found the range in our own map as the vDSO, which nobody unmaps.
    Some(unsafe { std::slice::from_raw_parts(range.start as *const u8, range.len()) }.to_vec())
}

type Request = libc::c_uint;

fn trace(request: Request, tid: i32, address: usize, data: usize) -> Result<(), Errno> {
    // SAFETY: every request used with this function takes integers, or reads what its caller owns.
    Errno::result(unsafe { libc::syscall(libc::SYS_ptrace, request as libc::c_ulong, tid, address, data) }).map(drop)
}

/// Begins to trace a thread, which goes on running; its exec will be told.
pub fn seize(tid: i32) -> Result<(), Errno> {
    trace(libc::PTRACE_SEIZE, tid, 0, libc::PTRACE_O_TRACEEXEC as usize)
}

/// Makes a seized thread stop as soon as it would return to its program.
pub fn interrupt(tid: i32) -> Result<(), Errno> {
    trace(libc::PTRACE_INTERRUPT, tid, 0, 0)
}

/// Lets a stopped thread go, with a signal for it or 0.
pub fn release(tid: i32, signal: i32) -> Result<(), Errno> {
    trace(libc::PTRACE_DETACH, tid, 0, usize::try_from(signal).unwrap_or(0))
}

/// Asks the parent to trace this process: it will stop with `SIGTRAP` when it has run a program.
pub fn trace_me() -> Result<(), Errno> {
    trace(libc::PTRACE_TRACEME, 0, 0, 0)
}

/// What happened to a traced thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// It runs another program now; this was its thread id before.
    Exec(i32),
    /// It stopped with a signal, or with none (0).
    Stopped(i32),
    /// It is gone.
    Ended,
}

/// The next event of the threads that this thread traces. `None`: nothing yet. `ECHILD`: it traces none.
pub fn next_event() -> Result<Option<(i32, Event)>, Errno> {
    let mut status = 0;
    let flags = libc::WNOHANG | libc::__WALL | libc::__WNOTHREAD;
    // SAFETY: the kernel fills in an int.
    let tid = Errno::result(unsafe { libc::waitpid(-1, &raw mut status, flags) })?;
    if tid == 0 {
        return Ok(None);
    }
    if !libc::WIFSTOPPED(status) {
        return Ok(Some((tid, Event::Ended)));
    }
    let event = match status >> 16 {
        libc::PTRACE_EVENT_EXEC => {
            let mut former: libc::c_ulong = 0;
            trace(libc::PTRACE_GETEVENTMSG, tid, 0, &raw mut former as usize)?;
            Event::Exec(i32::try_from(former).unwrap_or(tid))
        }
        0 => Event::Stopped(libc::WSTOPSIG(status)),
        // The stop that was asked for, or one of job control, which goes on by itself.
        _ => Event::Stopped(0),
    };
    Ok(Some((tid, event)))
}

const WORD: usize = size_of::<usize>();

/// Writes to the memory of a stopped thread, read-only parts included: those become its own copies.
pub fn write(tid: i32, at: usize, bytes: &[u8]) -> Result<(), Errno> {
    for (index, chunk) in bytes.chunks(WORD).enumerate() {
        let at = at.wrapping_add(index * WORD);
        let mut word = [0; WORD];
        if chunk.len() < WORD {
            let mut there: usize = 0;
            trace(libc::PTRACE_PEEKDATA, tid, at, &raw mut there as usize)?;
            word = there.to_ne_bytes();
        }
        word[..chunk.len()].copy_from_slice(chunk);
        trace(libc::PTRACE_POKEDATA, tid, at, usize::from_ne_bytes(word))?;
    }
    Ok(())
}

/// Where the instruction pointer is in the structure that `PTRACE_PEEKUSER` reads from.
#[cfg(target_arch = "x86_64")]
const INSTRUCTION_POINTER: usize = std::mem::offset_of!(libc::user_regs_struct, rip);

#[cfg(target_arch = "x86_64")]
fn begins_at(tid: i32) -> Result<usize, Errno> {
    let mut address: usize = 0;
    trace(libc::PTRACE_PEEKUSER, tid, INSTRUCTION_POINTER, &raw mut address as usize)?;
    Ok(address)
}

#[cfg(target_arch = "x86_64")]
fn begin_at(tid: i32, address: usize) -> Result<(), Errno> {
    trace(libc::PTRACE_POKEUSER, tid, INSTRUCTION_POINTER, address)
}

#[cfg(not(target_arch = "x86_64"))]
fn begins_at(_: i32) -> Result<usize, Errno> {
    Err(Errno::ENOSYS)
}

#[cfg(not(target_arch = "x86_64"))]
fn begin_at(_: i32, _: usize) -> Result<(), Errno> {
    Err(Errno::ENOSYS)
}

/// Patches a program that was stopped before its first instruction. `maps` are its mappings, proc_pid_maps(5); `write` puts
/// bytes into its memory, as [`write()`] does.
pub fn patch(
    tid: i32,
    patch: &Patch,
    maps: &str,
    write: impl Fn(usize, &[u8]) -> Result<(), Errno>,
) -> Result<(), Errno> {
    let place = Place::find(maps).ok_or(Errno::ENXIO)?;
    if place.vdso.len() != patch.length {
        return Err(Errno::ENOEXEC);
    }
    let apply =
        |edits: &[super::Edit]| edits.iter().try_for_each(|(offset, bytes)| write(place.vdso.start + offset, bytes));
    if !patch.adjusts() {
        return apply(&patch.plain);
    }
    let (edits, begin) = patch.for_program(place.page, begins_at(tid)?);
    apply(&edits)?;
    begin_at(tid, place.vdso.start + begin)
}

/// The parent's part of [`trace_me`]: waits until the child, whose signals but `SIGTRAP` are blocked, runs its program,
/// calls `stopped`, and lets it go with no signal blocked. A child that ends first is left to be waited for.
pub fn follow_child(child: i32, stopped: impl FnOnce() -> Result<(), Errno>) -> Result<(), Errno> {
    let id = libc::id_t::try_from(child).map_err(|_| Errno::ESRCH)?;
    loop {
        // SAFETY: all zero bytes are a valid siginfo_t, which the kernel fills.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        let flags = libc::WEXITED | libc::WSTOPPED | libc::WNOWAIT;
        // SAFETY: the structure is ours.
        match Errno::result(unsafe { libc::waitid(libc::P_PID, id, &raw mut info, flags) }) {
            Err(Errno::EINTR) => continue,
            other => other.map(drop)?,
        }
        if info.si_code != libc::CLD_TRAPPED && info.si_code != libc::CLD_STOPPED {
            return Ok(());
        }
        // SAFETY: the kernel has filled in the part for SIGCHLD.
        let signal = unsafe { info.si_status() };
        if signal != libc::SIGTRAP {
            trace(libc::PTRACE_CONT, child, 0, usize::try_from(signal).unwrap_or(0))?;
            continue;
        }
        let result = stopped();
        let none: u64 = 0;
        const PTRACE_SETSIGMASK: Request = 0x420B;
        trace(PTRACE_SETSIGMASK, child, size_of::<u64>(), &raw const none as usize)?;
        release(child, 0)?;
        return result;
    }
}
