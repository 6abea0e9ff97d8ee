//! Clocks and timers.
//!
//! The clock belongs to the host and to everyone on it, so nothing here sets it. Setting is refused by the sentry rather
//! than by the filter, so that the user reads at the end who tried and to what.

use nix::errno::Errno;

use crate::args::{ClockId, UserPtr};
use crate::guest::{Denial, Guest};
use crate::reply::{Answer, Reply};
use crate::sys::{TIMEX_WORDS, read_clock_discipline};

crate::syscalls! {
    /// Reads a clock; programs rarely call it, for the vDSO does it without a syscall.
    clock_gettime(clock: ClockId, time: UserPtr) Clock Judge Allow;
    /// Reads the resolution of a clock.
    clock_getres(clock: ClockId, resolution: UserPtr) Clock Judge Allow;
    /// Sleeps by a clock.
    clock_nanosleep(clock: ClockId, flags: Flags, time: UserPtr, rest: UserPtr) Clock Judge Allow;
    /// Sets a clock: refused with `EPERM` and reported, for the clock is the host's.
    /// Limit: a clock that cannot be set anywhere fails with `EINVAL`, also where it is a device of the host.
    clock_settime(clock: ClockId, time: UserPtr) Clock Default Emulate(clock_settime);
    /// Reads the time of day; programs rarely call it, for the vDSO does it without a syscall.
    gettimeofday(time: UserPtr, zone: UserPtr) Clock Judge Allow;
    /// Sets the time of day: refused with `EPERM` and reported, for the clock is the host's.
    /// Limit: asking for nothing (two null pointers) fails too, as it does for any user without privileges.
    settimeofday(time: UserPtr, zone: UserPtr) Clock Default Emulate(settimeofday);
    /// Reads the time in seconds.
    time(time: UserPtr) Clock Judge Allow;
    /// Reads or steers the clock discipline: reading works, steering is refused with `EPERM` and reported.
    /// Limit: what is read is the state of the host's clock.
    adjtimex(timex: UserPtr) Clock Default Emulate(adjtimex);
    /// Reads or steers the discipline of one clock: reading works, steering is refused with `EPERM` and reported.
    /// Limit: only `CLOCK_REALTIME` can be read; clocks that are devices of the host fail with `EINVAL`.
    clock_adjtime(clock: ClockId, timex: UserPtr) Clock Compat Emulate(clock_adjtime);
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
    timer_settime(timer: Int, flags: Flags, value: UserPtr, old: UserPtr) Clock Default Allow;
    /// Reads a timer of the process.
    timer_gettime(timer: Int, value: UserPtr) Clock Compat Allow;
    /// Counts missed expirations of a timer of the process.
    timer_getoverrun(timer: Int) Clock Compat Allow;
    /// Removes a timer of the process.
    timer_delete(timer: Int) Clock Default Allow;
    /// Makes a timer that is waited on through a descriptor.
    timerfd_create(clock: ClockId, flags: Flags) Clock Default Allow;
    /// Sets a timer behind a descriptor.
    timerfd_settime(timer: Fd, flags: Flags, value: UserPtr, old: UserPtr) Clock Default Allow;
    /// Reads a timer behind a descriptor.
    timerfd_gettime(timer: Fd, value: UserPtr) Clock Compat Allow;
}

const REMEDY: &str = "the sandbox has no clock of its own to set";

fn deny(guest: &dyn Guest, call: &'static str, what: String) -> Answer {
    guest.record(Denial { call, what, remedy: REMEDY.into() });
    Err(Errno::EPERM)
}

fn clock_settime(guest: &dyn Guest, clock: ClockId, time: UserPtr) -> Answer {
    let [seconds, nanoseconds] = read_words(guest, time)?;
    if clock.0 != libc::CLOCK_REALTIME || seconds < 0 || !(0..1_000_000_000).contains(&nanoseconds) {
        return Err(Errno::EINVAL);
    }
    deny(guest, "clock_settime", format!("to {}", date(seconds)))
}

fn settimeofday(guest: &dyn Guest, time: UserPtr, zone: UserPtr) -> Answer {
    let what = if !time.is_null() {
        let [seconds, microseconds] = read_words(guest, time)?;
        if seconds < 0 || !(0..=1_000_000).contains(&microseconds) {
            return Err(Errno::EINVAL);
        }
        format!("to {}", date(seconds))
    } else if !zone.is_null() {
        "the kernel's time zone".to_owned()
    } else {
        return Err(Errno::EPERM);
    };
    deny(guest, "settimeofday", what)
}

fn adjtimex(guest: &dyn Guest, timex: UserPtr) -> Answer {
    discipline(guest, "adjtimex", timex)
}

fn clock_adjtime(guest: &dyn Guest, clock: ClockId, timex: UserPtr) -> Answer {
    // A negative id names a descriptor, and in our own call it would name one of the sentry's.
    match clock.0 {
        libc::CLOCK_REALTIME => discipline(guest, "clock_adjtime", timex),
        1..=libc::CLOCK_TAI => Err(Errno::EOPNOTSUPP),
        _ => Err(Errno::EINVAL),
    }
}

/// `ADJ_OFFSET_SS_READ`: what `adjtime(3)` asks for when it is only to say what is left of an earlier adjustment.
const ONLY_READ_OFFSET: u32 = 0xA001;

fn discipline(guest: &dyn Guest, call: &'static str, at: UserPtr) -> Answer {
    let mut asked = [0; TIMEX_WORDS * 8];
    guest.read(at, &mut asked)?;
    let [a, b, c, d, ..] = asked;
    let modes = u32::from_ne_bytes([a, b, c, d]);
    if modes != 0 && modes != ONLY_READ_OFFSET {
        return deny(guest, call, format!("the clock discipline, modes {modes:#x}"));
    }

    let (state, answer) = read_clock_discipline(modes)?;
    let answer: Vec<u8> = answer.iter().flat_map(|word| word.to_ne_bytes()).collect();
    guest.write(at, &answer)?;
    Ok(Reply::Return(state))
}

/// The two words of a `struct timespec` or `struct timeval`.
fn read_words(guest: &dyn Guest, at: UserPtr) -> Result<[i64; 2], Errno> {
    let mut words = [[0; 8]; 2];
    guest.read(at, words.as_flattened_mut())?;
    Ok(words.map(i64::from_ne_bytes))
}

/// A moment after 1970 as RFC 3339 writes it. The largest `i64` is a date too, if a distant one.
fn date(seconds: i64) -> String {
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));

    // Years that begin in March have their leap day at the end, and 400 of them always have the same length.
    const ERA: i64 = 146_097;
    let since_march_0 = days + 719_468;
    let (era, day) = (since_march_0.div_euclid(ERA), since_march_0.rem_euclid(ERA));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = era * 400 + year + next;

    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests;
