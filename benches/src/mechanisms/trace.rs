//! ptrace(2): another process stops the thread at its calls and answers in its registers.
//!
//! Three ways: it is stopped before and after every call (`PTRACE_SYSCALL`), before every call, none of which is made
//! (`PTRACE_SYSEMU`), or where a filter asks for it (`SECCOMP_RET_TRACE`).

use std::io;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, read, write};

use super::calls::{MANY, NULL, PASS, SOME, time_null, time_pass};
use super::pair::{Seats, serve};
use super::sys::{self, TOKEN};
use super::{Family, filter, lacking};

/// When the tracer is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Before and after every call.
    Syscall,
    /// Before every call, which is not made.
    Emulate,
    /// Where a filter says so.
    Filter,
}

const ERROR: &str = "the tracer lost its guest";

fn wait(guest: Pid) -> io::Result<WaitStatus> {
    Ok(waitpid(guest, Some(WaitPidFlag::__WALL))?)
}

/// Answers the call at which `guest` is stopped.
#[cfg(target_arch = "x86_64")]
fn answer(guest: Pid, skip: bool) -> io::Result<()> {
    let mut registers = ptrace::getregs(guest)?;
    if skip {
        registers.orig_rax = u64::MAX;
    }
    registers.rax = TOKEN.cast_unsigned();
    Ok(ptrace::setregs(guest, registers)?)
}

#[cfg(target_arch = "x86_64")]
fn number(guest: Pid) -> io::Result<libc::c_long> {
    Ok(ptrace::getregs(guest)?.orig_rax.cast_signed())
}

/// A call that is not ours to answer, and was not made: it is made now.
#[cfg(target_arch = "x86_64")]
fn make_it(guest: Pid) -> io::Result<()> {
    let mut registers = ptrace::getregs(guest)?;
    registers.rip -= 2;
    registers.rax = registers.orig_rax;
    ptrace::setregs(guest, registers)?;
    for _ in 0..2 {
        ptrace::syscall(guest, None)?;
        wait(guest)?;
    }
    Ok(())
}

/// Traces `guest` for ever, when it has been told by `ready` that it may go on.
#[cfg(target_arch = "x86_64")]
fn trace(guest: Pid, ready: &OwnedFd, way: Way) -> io::Result<()> {
    // Who lost its tracer would go on natively, and fast.
    let options = Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_TRACESECCOMP | Options::PTRACE_O_EXITKILL;
    ptrace::seize(guest, options)?;
    ptrace::interrupt(guest)?;
    wait(guest)?;
    let go = |guest, signal: Option<Signal>| match way {
        Way::Syscall => ptrace::syscall(guest, signal),
        Way::Emulate => ptrace::sysemu(guest, signal),
        Way::Filter => ptrace::cont(guest, signal),
    };
    write(ready, b"r")?;
    go(guest, None)?;
    let mut within = false;
    let mut answered = false;
    loop {
        let mut signal = None;
        match wait(guest)? {
            WaitStatus::PtraceSyscall(_) if way == Way::Syscall => {
                within = !within;
                if within {
                    answered = number(guest)? == libc::SYS_getppid;
                }
                // Before the call it is skipped, and after it, it gets its answer.
                if answered {
                    answer(guest, within)?;
                }
            }
            WaitStatus::PtraceSyscall(_) if number(guest)? == libc::SYS_getppid => answer(guest, false)?,
            WaitStatus::PtraceSyscall(_) => make_it(guest)?,
            WaitStatus::PtraceEvent(_, _, libc::PTRACE_EVENT_SECCOMP) => answer(guest, true)?,
            WaitStatus::PtraceEvent(..) => {}
            WaitStatus::Stopped(_, other) => signal = Some(other),
            _ => return Err(io::Error::other(ERROR)),
        }
        go(guest, signal)?;
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn trace(_: Pid, _: &OwnedFd, _: Way) -> io::Result<()> {
    Err(io::Error::other(ERROR))
}

fn traced(way: Way, seats: Seats, times: u64, timed: impl FnOnce(u64) -> io::Result<f64>) -> io::Result<f64> {
    let channel = serve(move |guest, channel| {
        seats.server()?;
        trace(guest, &channel, way)
    })?;
    seats.guest()?;
    loop {
        match read(&channel, &mut [0]) {
            Ok(1) => break,
            Err(Errno::EINTR) => {}
            _ => return Err(io::Error::other("nobody may trace here (kernel.yama.ptrace_scope?)")),
        }
    }
    if way == Way::Filter {
        sys::no_new_privileges()?;
        sys::load(&filter::on(libc::SYS_getppid, filter::TRACE), 0)?;
    }
    timed(times)
}

/// The family.
pub fn family() -> Family {
    let mut family = Family::default();
    let ways: &[(Way, &str, &str)] = &[
        (Way::Syscall, "syscall", "stopped before and after every call"),
        (Way::Emulate, "sysemu", "stopped before every call, none of which is made"),
        (Way::Filter, "seccomp", "stopped where a filter asks for it"),
    ];
    let foreign = (!cfg!(target_arch = "x86_64")).then(|| "written for x86_64 only".to_owned());
    for (way, name, how) in ways {
        let way = *way;
        let no_tracer = foreign.clone().or_else(|| {
            lacking("tracing", || traced(way, Seats::Free, 1, |times| time_null(times, Some(TOKEN))).map(drop))
        });
        for seats in Seats::ALL {
            let missing = no_tracer.clone().or(seats.missing());
            let name = format!("ptrace, {name}, {}", seats.words());
            family.subject(&name, &format!("a tracer answers; {how}; {}", seats.words()), missing);
            family.cell(NULL, &name, seats.times(SOME), move |times| {
                traced(way, seats, times, |times| time_null(times, Some(TOKEN)))
            });
            let times = if way == Way::Filter { MANY } else { seats.times(SOME) };
            family.cell(PASS, &name, times, move |times| traced(way, seats, times, time_pass));
        }
    }
    family
}
