//! Setting the clock: the pretended one if there is one, otherwise refused.

use nix::errno::Errno;

use super::pretended::{LATEST, SECOND};
use super::{date, host_now, read_words};
use crate::args::{ClockId, UserPtr};
use crate::guest::{Denial, Guest};
use crate::reply::{Answer, Reply};

const REMEDY: &str = "give the sandbox a clock of its own with --clock virtual";

const OF_CONTAINERS: &str = "give the container a clock of its own with the annotation dev.sentry.clock=virtual";

pub(super) fn deny(guest: &dyn Guest, call: &'static str, what: String) -> Answer {
    let remedy = if guest.rules().container.is_some() { OF_CONTAINERS } else { REMEDY };
    guest.record(Denial { call, what, remedy: remedy.into() });
    Err(Errno::EPERM)
}

pub(super) fn clock_settime(guest: &dyn Guest, clock: ClockId, time: UserPtr) -> Answer {
    let [seconds, nanoseconds] = read_words(guest, time)?;
    if clock.0 != libc::CLOCK_REALTIME || seconds < 0 || !(0..SECOND).contains(&nanoseconds) {
        return Err(Errno::EINVAL);
    }
    set(guest, "clock_settime", seconds, nanoseconds)
}

pub(super) fn settimeofday(guest: &dyn Guest, time: UserPtr, zone: UserPtr) -> Answer {
    if zone.is_null() && time.is_null() {
        return Err(Errno::EPERM);
    }
    let time = if time.is_null() { None } else { Some(read_words(guest, time)?) };
    if time.is_some_and(|[seconds, microseconds]| seconds < 0 || !(0..=1_000_000).contains(&microseconds)) {
        return Err(Errno::EINVAL);
    }
    if guest.clock().is_some() && !zone.is_null() {
        let mut west = [0; 4];
        guest.read(zone, &mut west)?;
        if i32::from_ne_bytes(west).unsigned_abs() > 15 * 60 {
            return Err(Errno::EINVAL);
        }
    }
    match time {
        Some([_, 1_000_000]) if guest.clock().is_some() => Err(Errno::EINVAL),
        Some([seconds, microseconds]) => set(guest, "settimeofday", seconds, microseconds * 1000),
        None if guest.clock().is_some() => Ok(Reply::Return(0)),
        None => deny(guest, "settimeofday", "the kernel's time zone".to_owned()),
    }
}

fn set(guest: &dyn Guest, call: &'static str, seconds: i64, nanoseconds: i64) -> Answer {
    let Some(clock) = guest.clock() else { return deny(guest, call, format!("to {}", date(seconds))) };
    if seconds >= LATEST {
        return Err(Errno::EINVAL);
    }
    guest.confirm()?;
    clock.set(seconds * SECOND + nanoseconds, host_now(libc::CLOCK_REALTIME)?);
    if guest.rules().container.is_some() {
        guest.did(call, format!("to {}", date(seconds)));
    }
    Ok(Reply::Return(0))
}
