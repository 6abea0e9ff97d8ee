//! What a thread can do to itself: filters that allow, look or refuse, signals, and syscall user dispatch. No other process
//! takes part.

use std::io;
use std::sync::atomic::Ordering;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::libc;
use nix::sys::stat::Mode;
use nix::sys::uio::pread;

use super::pair::Seats;
use super::sys::{self, SELECTOR, TOKEN};
use super::{Family, filter, lacking};
use crate::stopwatch::per_operation;

/// A call that does next to nothing.
pub const NULL: &str = "null call";
/// A call that is let through.
pub const PASS: &str = "pass";
/// A call that is answered with a descriptor.
pub const OPEN: &str = "open";
/// The heading.
pub const GROUP: &str = "one call";

/// Operations in a sample where one takes well below a microsecond.
pub const MANY: u64 = 200_000;
/// And where it takes some.
pub const SOME: u64 = 20_000;

/// A file that is there everywhere and may be read.
const FILE: &str = "/etc/passwd";

/// An error that says what was answered instead of the mechanism's own answer.
pub fn wrong(found: i64) -> io::Error {
    io::Error::other(format!("the call was answered with {found}: not by the mechanism"))
}

/// Times `getppid`, each of which must be answered with `answer`; without one, by the kernel.
pub fn time_null(times: u64, answer: Option<i64>) -> io::Result<f64> {
    per_operation(times, || match (sys::null_call(), answer) {
        (found, Some(wanted)) if found != wanted => Err(wrong(found)),
        (TOKEN, None) => Err(wrong(TOKEN)),
        // A server that is gone is `ENOSYS`, and fast.
        (found, None) if found < 0 => Err(io::Error::other("the call failed: nobody let it run")),
        _ => Ok(()),
    })
}

/// Times reads of 4 KiB at the beginning of this program.
pub fn time_pass(times: u64) -> io::Result<f64> {
    let file = open("/proc/self/exe", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    let mut buffer = [0; 4096];
    per_operation(times, || match pread(&file, &mut buffer, 0)? {
        4096 => Ok(()),
        other => Err(wrong(i64::try_from(other).unwrap_or_default())),
    })
}

/// Times opening a file for reading, and closing it.
pub fn time_open(times: u64) -> io::Result<f64> {
    per_operation(times, || {
        drop(open(FILE, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?);
        Ok(())
    })
}

/// A timed loop.
pub type Timed = fn(u64) -> io::Result<f64>;

fn native_null(times: u64) -> io::Result<f64> {
    time_null(times, None)
}

/// The three questions with their loops, as the kernel answers them.
pub const QUESTIONS: [(&str, u64, Timed); 3] =
    [(NULL, MANY, native_null), (PASS, MANY, time_pass), (OPEN, SOME, time_open)];

/// Loads a filter and times `loop_` on one CPU.
fn under(program: &[libc::sock_filter], times: u64, loop_: Timed) -> io::Result<f64> {
    Seats::One.guest()?;
    sys::no_new_privileges()?;
    sys::load(program, 0)?;
    loop_(times)
}

fn refused(times: u64) -> io::Result<f64> {
    per_operation(times, || match (sys::null_call(), Errno::last()) {
        (-1, Errno::ECANCELED) => Ok(()),
        (found, _) => Err(wrong(found)),
    })
}

fn dispatched(times: u64) -> io::Result<f64> {
    per_operation(times, || {
        SELECTOR.store(1, Ordering::Relaxed);
        match sys::null_call() {
            TOKEN => Ok(()),
            found => Err(wrong(found)),
        }
    })
}

/// The family.
pub fn family() -> Family {
    let mut family = Family::default();
    family.question(GROUP, NULL, "a call that does nothing (`getppid`), answered");
    family.question(GROUP, PASS, "a call that is let through (`pread` of 4 KiB)");
    family.question(GROUP, OPEN, "`open` and `close`, answered with a descriptor");
    for (question, times, timed) in QUESTIONS {
        family.native(question, times, move |times| Seats::One.guest().and_then(|()| timed(times)));
    }
    let no_filter = lacking("seccomp filters", || {
        sys::no_new_privileges()?;
        sys::load(&filter::allow(), 0).map(drop)
    });

    let name = "seccomp, allow";
    family.subject(
        name,
        "a filter that looks at the number only: the kernel remembers what it allows",
        no_filter.clone(),
    );
    for (question, times, timed) in QUESTIONS {
        family.cell(question, name, times, move |times| under(&filter::allow(), times, timed));
    }
    let name = "seccomp, argument";
    family.subject(name, "a filter that looks at an argument of every call: it runs each time", no_filter.clone());
    for (question, times, timed) in QUESTIONS {
        family.cell(question, name, times, move |times| under(&filter::look_at_argument(), times, timed));
    }
    let name = "seccomp, errno";
    family.subject(name, "the filter refuses the call", no_filter.clone());
    family.cell(NULL, name, MANY, |times| {
        let errno = Errno::ECANCELED as i32;
        under(&filter::on(libc::SYS_getppid, filter::ERRNO | errno.cast_unsigned()), times, refused)
    });

    let name = "seccomp, trap";
    family.subject(name, "the filter makes a SIGSYS of the call, whose handler answers", no_filter);
    family.cell(NULL, name, SOME, |times| {
        sys::answer_sigsys()?;
        under(&filter::on(libc::SYS_getppid, filter::TRAP), times, |times| time_null(times, Some(TOKEN)))
    });

    let name = "user dispatch";
    let missing = lacking("syscall user dispatch", sys::dispatch_to_user);
    family.subject(name, "the kernel makes a SIGSYS of calls while a byte in memory says so", missing);
    family.cell(NULL, name, SOME, |times| {
        Seats::One.guest()?;
        sys::answer_sigsys()?;
        sys::dispatch_to_user()?;
        dispatched(times)
    });
    family.cell(PASS, name, MANY, |times| {
        Seats::One.guest()?;
        sys::answer_sigsys()?;
        sys::dispatch_to_user()?;
        time_pass(times)
    });
    family
}
