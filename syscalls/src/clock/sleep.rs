//! Sleeping until a moment of the pretended clock.
//!
//! The kernel would sleep by the host's clock, and the moment stands in memory. So the sentry waits, in slices: after each it
//! looks whether the clock was set meanwhile, as the kernel does, and whether a signal waits for the caller, which cannot be
//! delivered to it before it is answered.

use std::time::Duration;

use nix::errno::Errno;

use super::pretended::SECOND;
use super::{host_now, host_tai_seconds, read_words};
use crate::args::{ClockId, Flags, UserPtr};
use crate::guest::Guest;
use crate::reply::{Answer, Reply};
use crate::waits;

/// How late a signal or a new setting may wake a sleeper.
const SLICE: Duration = Duration::from_millis(20);

pub(super) fn clock_nanosleep(guest: &dyn Guest, clock: ClockId, _: Flags, time: UserPtr, _: UserPtr) -> Answer {
    let pretended = guest.clock().ok_or(Errno::EINVAL)?;
    let [seconds, nanoseconds] = read_words(guest, time)?;
    if seconds < 0 || !(0..SECOND).contains(&nanoseconds) {
        return Err(Errno::EINVAL);
    }
    let ahead = if clock.0 == libc::CLOCK_TAI { host_tai_seconds()?.saturating_mul(SECOND) } else { 0 };
    let until = seconds.saturating_mul(SECOND).saturating_add(nanoseconds).saturating_sub(ahead);
    let left = || Ok(pretended.host_time_of(until).saturating_sub(host_now(libc::CLOCK_REALTIME)?));
    if left()? <= 0 {
        return Ok(Reply::Return(0));
    }
    let _place = waits::place(guest).ok_or(Errno::EAGAIN)?;
    loop {
        let left = left()?;
        let Ok(left @ 1..) = u64::try_from(left) else { return Ok(Reply::Return(0)) };
        std::thread::sleep(SLICE.min(Duration::from_nanos(left)));
        guest.confirm()?;
        if guest.is_interrupted()? {
            return Err(Errno::EINTR);
        }
    }
}
