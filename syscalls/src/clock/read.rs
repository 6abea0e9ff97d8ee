//! Reading the pretended clock by system call. Programs that were not patched, or that do without the vDSO, come here.

use nix::errno::Errno;
use nix::time::{ClockId as Host, clock_gettime as host_gettime};

use super::pretended::SECOND;
use super::{Pretended, page, write_words};
use crate::args::{ClockId, UserPtr};
use crate::guest::Guest;
use crate::reply::{Answer, Reply};

/// What a clock of the host says, in nanoseconds.
pub fn host_now(clock: libc::clockid_t) -> Result<i64, Errno> {
    let time = host_gettime(Host::from_raw(clock))?;
    Ok(time.tv_sec().saturating_mul(SECOND).saturating_add(time.tv_nsec()))
}

/// What one of the pretended clocks says.
fn now(guest: &dyn Guest, clock: libc::clockid_t) -> Result<i64, Errno> {
    let pretended: &Pretended = guest.clock().ok_or(Errno::EINVAL)?;
    let host = host_now(clock)?;
    if guest.adjusts_itself() {
        return Ok(host);
    }
    Ok(match clock {
        libc::CLOCK_REALTIME => pretended.at(host),
        libc::CLOCK_REALTIME_COARSE => pretended.coarse_at(host),
        _ => {
            let ahead = super::host_tai_seconds()?.saturating_mul(SECOND);
            pretended.at(host.saturating_sub(ahead)).saturating_add(ahead)
        }
    })
}

pub(super) fn clock_gettime(guest: &dyn Guest, clock: ClockId, time: UserPtr) -> Answer {
    match clock.0 {
        page::ASK_PAGE => return Ok(Reply::Inject { file: guest.clock_page()?, cloexec: true }),
        page::ASK_PLAIN => return guest.make_clock_calls_plain().map(|()| Reply::Return(0)),
        _ => {}
    }
    let now = now(guest, clock.0)?;
    write_words(guest, time, [now.div_euclid(SECOND), now.rem_euclid(SECOND)])?;
    Ok(Reply::Return(0))
}

pub(super) fn gettimeofday(guest: &dyn Guest, time: UserPtr, zone: UserPtr) -> Answer {
    if !time.is_null() {
        let now = now(guest, libc::CLOCK_REALTIME)?;
        write_words(guest, time, [now.div_euclid(SECOND), now.rem_euclid(SECOND) / 1000])?;
    }
    if !zone.is_null() {
        // Linux keeps no zone worth telling.
        guest.write(zone, &[0; 8])?;
    }
    Ok(Reply::Return(0))
}

pub(super) fn time(guest: &dyn Guest, time: UserPtr) -> Answer {
    let seconds = now(guest, libc::CLOCK_REALTIME_COARSE)?.div_euclid(SECOND);
    if !time.is_null() {
        guest.write(time, &seconds.to_ne_bytes())?;
    }
    Ok(Reply::Return(seconds))
}
