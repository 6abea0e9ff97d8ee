//! Clocks and timers.
//!
//! The clock belongs to the host and to everyone on it, so nothing here sets it. Setting is refused by the sentry rather
//! than by the filter, so that the user reads at the end who tried and to what. With `--clock` the sandbox has a clock of its
//! own ([`Pretended`]): setting moves that one, and reading it by system call agrees with what the vDSO says
//! (`shim::vdso`).

mod limits;
pub mod page;
mod pretended;
mod read;
mod set;
mod sleep;
mod steer;
mod timer;

use nix::errno::Errno;

use crate::args::UserPtr;
use crate::guest::Guest;

pub use limits::date;
pub use pretended::{Begin, LATEST, NORMAL_RATE, Pretended, Publish, SECOND, Setting};
pub use read::host_now;
pub use steer::host_tai_seconds;

use read::{clock_gettime, gettimeofday, time};
use set::{clock_settime, settimeofday};
use sleep::clock_nanosleep;
use steer::{adjtimex, clock_adjtime};
use timer::{timer_settime, timerfd_settime};

use limits::{ABSOLUTE_SLEEP, ABSOLUTE_TIMER, REAL};

crate::syscalls! {
    /// Reads a clock; programs rarely call it, for the vDSO does it without a syscall.
    clock_gettime(clock: ClockId, time: UserPtr) Clock Judge Allow { VirtualClock => Emulate(clock_gettime) when REAL };
    /// Reads the resolution of a clock.
    clock_getres(clock: ClockId, resolution: UserPtr) Clock Judge Allow;
    /// Sleeps by a clock.
    /// Limit: until a moment of a pretended clock, at most 48 calls wait at once, others fail with `EAGAIN`.
    /// Limit: such a sleep notices a signal or a new setting of the clock up to 20 milliseconds late.
    clock_nanosleep(clock: ClockId, flags: Flags, time: UserPtr, rest: UserPtr) Clock Judge Allow
        { VirtualClock => EmulateSlow(clock_nanosleep) when ABSOLUTE_SLEEP };
    /// Sets a clock: refused with `EPERM` and reported, for the clock is the host's; with `--clock` the pretended one is set.
    /// Limit: a clock that cannot be set anywhere fails with `EINVAL`, also where it is a device of the host.
    clock_settime(clock: ClockId, time: UserPtr) Clock Default Emulate(clock_settime);
    /// Reads the time of day; programs rarely call it, for the vDSO does it without a syscall.
    gettimeofday(time: UserPtr, zone: UserPtr) Clock Judge Allow { VirtualClock => Emulate(gettimeofday) };
    /// Sets the time of day: refused with `EPERM` and reported, for the clock is the host's; with `--clock` the pretended one
    /// is set.
    /// Limit: asking for nothing (two null pointers) fails too, as it does for any user without privileges.
    /// Limit: a time zone is accepted with a pretended clock, and not told to anyone.
    settimeofday(time: UserPtr, zone: UserPtr) Clock Default Emulate(settimeofday);
    /// Reads the time in seconds.
    time(time: UserPtr) Clock Judge Allow { VirtualClock => Emulate(time) };
    /// Reads or steers the clock discipline: reading works, steering is refused with `EPERM` and reported.
    /// Limit: what is read is the state of the host's clock; of a pretended one, what was steered, and otherwise the host's.
    /// Limit: offsets move a pretended clock at once, frequencies and ticks are remembered and do not change its pace.
    adjtimex(timex: UserPtr) Clock Default Emulate(adjtimex);
    /// Reads or steers the discipline of one clock: reading works, steering is refused with `EPERM` and reported.
    /// Limit: only `CLOCK_REALTIME` can be read; clocks that are devices of the host fail with `EINVAL`.
    clock_adjtime(clock: ClockId, timex: UserPtr) Clock Compat Emulate(clock_adjtime)
        { VirtualClock => Emulate(clock_adjtime) };
    /// Sleeps.
    nanosleep(time: UserPtr, rest: UserPtr) Clock Judge Allow;
    /// Asks for `SIGALRM` after some seconds.
    alarm(seconds: Uint) Clock Judge Allow;
    /// Reads an interval timer.
    getitimer(which: Int, value: UserPtr) Clock Compat Allow;
    /// Sets an interval timer.
    setitimer(which: Int, value: UserPtr, old: UserPtr) Clock Default Allow;
    /// Makes a timer of the process.
    timer_create(clock: ClockId, event: UserPtr, timer: UserPtr) Clock Default Allow;
    /// Sets a timer of the process.
    /// Limit: one that was set to a moment of a pretended clock does not move when the clock is set later.
    /// Limit: under a debugger, a moment of a pretended clock is taken for one of the host's.
    timer_settime(timer: Int, flags: Flags, value: UserPtr, old: UserPtr) Clock Default Allow
        { VirtualClock => Observe(timer_settime) when ABSOLUTE_TIMER };
    /// Reads a timer of the process.
    timer_gettime(timer: Int, value: UserPtr) Clock Compat Allow;
    /// Counts missed expirations of a timer of the process.
    timer_getoverrun(timer: Int) Clock Compat Allow;
    /// Removes a timer of the process.
    timer_delete(timer: Int) Clock Default Allow;
    /// Makes a timer that is waited on through a descriptor.
    timerfd_create(clock: ClockId, flags: Flags) Clock Default Allow;
    /// Sets a timer behind a descriptor.
    /// Limit: one that was set to a moment of a pretended clock does not move when the clock is set later, nor is it cancelled.
    timerfd_settime(timer: Fd, flags: Flags, value: UserPtr, old: UserPtr) Clock Default Allow
        { VirtualClock => Emulate(timerfd_settime) when ABSOLUTE_TIMER };
    /// Reads a timer behind a descriptor.
    timerfd_gettime(timer: Fd, value: UserPtr) Clock Compat Allow;
}

/// The two words of a `struct timespec` or `struct timeval`.
fn read_words(guest: &dyn Guest, at: UserPtr) -> Result<[i64; 2], Errno> {
    let mut words = [[0; 8]; 2];
    guest.read(at, words.as_flattened_mut())?;
    Ok(words.map(i64::from_ne_bytes))
}

/// Writes two such words.
fn write_words(guest: &dyn Guest, at: UserPtr, words: [i64; 2]) -> Result<(), Errno> {
    guest.write(at, words.map(i64::to_ne_bytes).as_flattened())
}

#[cfg(test)]
mod tests;
