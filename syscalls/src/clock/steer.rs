//! The clock discipline, adjtimex(2).
//!
//! Of a pretended clock, offsets move it at once; whatever else is steered is remembered, so that who reads it back finds
//! what was written.

use nix::errno::Errno;

use super::host_now;
use super::pretended::{Discipline, Pretended, SECOND};
use super::set::deny;
use crate::args::{ClockId, UserPtr};
use crate::guest::Guest;
use crate::reply::{Answer, Reply};
use crate::sys::{TIMEX_WORDS, read_clock_discipline};

pub(super) fn adjtimex(guest: &dyn Guest, timex: UserPtr) -> Answer {
    discipline(guest, "adjtimex", timex)
}

pub(super) fn clock_adjtime(guest: &dyn Guest, clock: ClockId, timex: UserPtr) -> Answer {
    // A negative id names a descriptor, and in our own call it would name one of the sentry's.
    match clock.0 {
        libc::CLOCK_REALTIME => discipline(guest, "clock_adjtime", timex),
        1..=libc::CLOCK_TAI => Err(Errno::EOPNOTSUPP),
        _ => Err(Errno::EINVAL),
    }
}

/// `ADJ_OFFSET_SS_READ`: what `adjtime(3)` asks for when it is only to say what is left of an earlier adjustment.
const ONLY_READ_OFFSET: u32 = 0xA001;
/// `ADJ_ADJTIME`: as adjtime(3) does.
const AS_ADJTIME: u32 = 0x8000;

/// Where the members of `struct timex` are, in words.
mod member {
    pub const OFFSET: usize = 1;
    pub const FREQUENCY: usize = 2;
    pub const MAX_ERROR: usize = 3;
    pub const ESTIMATED_ERROR: usize = 4;
    pub const STATUS: usize = 5;
    pub const CONSTANT: usize = 6;
    pub const SECONDS: usize = 9;
    pub const FRACTION: usize = 10;
    pub const TICK: usize = 11;
    pub const TAI: usize = 20;
}

type Timex = [u64; TIMEX_WORDS];

/// The low half of a word, which is where an `int` is.
#[allow(clippy::cast_possible_truncation)]
fn int(word: u64) -> i32 {
    (word as u32).cast_signed()
}

/// How many seconds the host's TAI is ahead.
pub fn host_tai_seconds() -> Result<i64, Errno> {
    let (_, timex) = read_clock_discipline(0)?;
    Ok(i64::from(int(timex[member::TAI])))
}

fn discipline(guest: &dyn Guest, call: &'static str, at: UserPtr) -> Answer {
    let mut asked = [0; TIMEX_WORDS * 8];
    guest.read(at, &mut asked)?;
    let (words, _) = asked.as_chunks::<8>();
    let mut timex: Timex = [0; TIMEX_WORDS];
    for (word, bytes) in timex.iter_mut().zip(words) {
        *word = u64::from_ne_bytes(*bytes);
    }
    let modes = int(timex[0]).cast_unsigned();
    let (state, answer) = match guest.clock() {
        Some(clock) => steer(guest, clock, &timex)?,
        None if modes == 0 || modes == ONLY_READ_OFFSET => read_clock_discipline(modes)?,
        None => return deny(guest, call, format!("the clock discipline, modes {modes:#x}")),
    };
    let answer: Vec<u8> = answer.iter().flat_map(|word| word.to_ne_bytes()).collect();
    guest.write(at, &answer)?;
    Ok(Reply::Return(state))
}

/// Steers the pretended clock as the kernel would for root, and says how it stands.
fn steer(guest: &dyn Guest, clock: &Pretended, asked: &Timex) -> Result<(i64, Timex), Errno> {
    let modes = int(asked[0]).cast_unsigned();
    let value = |member: usize| asked[member].cast_signed();
    let adjtime = modes & AS_ADJTIME != 0;
    let changes = |mode: u32| !adjtime && modes & mode != 0;
    if adjtime && modes & libc::ADJ_OFFSET == 0 {
        return Err(Errno::EINVAL);
    }
    if changes(libc::ADJ_TICK) && !(9_000..=11_000).contains(&value(member::TICK)) {
        return Err(Errno::EINVAL);
    }

    let (state, mut answer) = read_clock_discipline(0)?;
    let host = Discipline {
        frequency: answer[member::FREQUENCY].cast_signed(),
        max_error: answer[member::MAX_ERROR].cast_signed(),
        estimated_error: answer[member::ESTIMATED_ERROR].cast_signed(),
        status: int(answer[member::STATUS]),
        constant: answer[member::CONSTANT].cast_signed(),
        tick: answer[member::TICK].cast_signed(),
        tai: int(answer[member::TAI]),
    };
    guest.confirm()?;
    let told = clock.discipline(host, |now| {
        if changes(libc::ADJ_STATUS) {
            // What the hardware says cannot be written (`STA_RONLY`), but for the unit, which has modes of its own.
            const READ_ONLY: i32 = 0xFF00;
            now.status = now.status & READ_ONLY | int(asked[member::STATUS]) & !READ_ONLY;
        }
        if changes(libc::ADJ_NANO) {
            now.status |= libc::STA_NANO;
        }
        if changes(libc::ADJ_MICRO) {
            now.status &= !libc::STA_NANO;
        }
        let keep = |mode: u32, place: &mut i64, member: usize| {
            if changes(mode) {
                *place = value(member);
            }
        };
        keep(libc::ADJ_FREQUENCY, &mut now.frequency, member::FREQUENCY);
        // 500 parts in a million, with 16 binary digits.
        now.frequency = now.frequency.clamp(-500 << 16, 500 << 16);
        keep(libc::ADJ_MAXERROR, &mut now.max_error, member::MAX_ERROR);
        keep(libc::ADJ_ESTERROR, &mut now.estimated_error, member::ESTIMATED_ERROR);
        keep(libc::ADJ_TIMECONST, &mut now.constant, member::CONSTANT);
        keep(libc::ADJ_TICK, &mut now.tick, member::TICK);
        if changes(libc::ADJ_TAI) {
            now.tai = int(asked[member::CONSTANT]);
        }
    });
    let nano = told.status & libc::STA_NANO != 0;
    if let Some(by) = offset(asked, modes, nano, told.status)?
        && by != 0
        && !clock.shift(by, host_now(libc::CLOCK_REALTIME)?)
    {
        return Err(Errno::EINVAL);
    }

    let now = clock.at(host_now(libc::CLOCK_REALTIME)?);
    answer[0] = asked[0];
    answer[member::OFFSET] = 0;
    answer[member::FREQUENCY] = told.frequency.cast_unsigned();
    answer[member::MAX_ERROR] = told.max_error.cast_unsigned();
    answer[member::ESTIMATED_ERROR] = told.estimated_error.cast_unsigned();
    answer[member::STATUS] = u64::from(told.status.cast_unsigned());
    answer[member::CONSTANT] = told.constant.cast_unsigned();
    answer[member::TICK] = told.tick.cast_unsigned();
    answer[member::TAI] = u64::from(told.tai.cast_unsigned());
    answer[member::SECONDS] = now.div_euclid(SECOND).cast_unsigned();
    let fraction = now.rem_euclid(SECOND);
    answer[member::FRACTION] = (if nano { fraction } else { fraction / 1000 }).cast_unsigned();
    const ERROR: i64 = 5;
    const OK: i64 = 0;
    let wrong = told.status & (libc::STA_UNSYNC | libc::STA_CLOCKERR) != 0;
    Ok((
        if wrong {
            ERROR
        } else if state == ERROR {
            OK
        } else {
            state
        },
        answer,
    ))
}

/// By how many nanoseconds the clock is to move.
fn offset(asked: &Timex, modes: u32, nano: bool, status: i32) -> Result<Option<i64>, Errno> {
    const SET_OFFSET: u32 = libc::ADJ_SETOFFSET;
    let offset = asked[member::OFFSET].cast_signed();
    if modes & AS_ADJTIME != 0 {
        return Ok((modes != ONLY_READ_OFFSET).then_some(offset.saturating_mul(1000)));
    }
    if modes & SET_OFFSET != 0 {
        let (seconds, fraction) = (asked[member::SECONDS].cast_signed(), asked[member::FRACTION].cast_signed());
        let unit = if modes & libc::ADJ_NANO != 0 { 1 } else { 1000 };
        if !(0..SECOND / unit).contains(&fraction) {
            return Err(Errno::EINVAL);
        }
        let by = seconds.checked_mul(SECOND).and_then(|by| by.checked_add(fraction * unit));
        return by.map(Some).ok_or(Errno::EINVAL);
    }
    if modes & libc::ADJ_OFFSET != 0 && status & libc::STA_PLL != 0 {
        // The loop takes no more than half a second at once.
        let by = if nano { offset } else { offset.saturating_mul(1000) };
        return Ok(Some(by.clamp(-SECOND / 2, SECOND / 2)));
    }
    Ok(None)
}
