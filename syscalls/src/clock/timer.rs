//! Timers that are set to a moment of the pretended clock.
//!
//! The kernel's timers know the host's clock only, so the moment is translated. A timer behind a descriptor is set by the
//! sentry, on a duplicate. One of the process can be set by its own threads only: the caller's memory is changed while the
//! call runs, and changed back before the caller goes on.

use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use super::Pretended;
use super::pretended::SECOND;
use crate::args::{Fd, Flags, Int, UserPtr};
use crate::guest::{Around, Guest};
use crate::reply::{Answer, Reply};
use crate::sys::set_timer;

/// Interval and first expiration, each in seconds and nanoseconds: `struct itimerspec`.
pub(crate) type TimerWords = [i64; 4];
const LENGTH: usize = size_of::<TimerWords>();

fn read_timer(guest: &dyn Guest, at: UserPtr) -> Result<TimerWords, Errno> {
    let mut bytes = [0; LENGTH];
    guest.read(at, &mut bytes)?;
    let (words, _) = bytes.as_chunks::<8>();
    Ok([0, 1, 2, 3].map(|index| i64::from_ne_bytes(words[index])))
}

fn to_bytes(words: TimerWords) -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    bytes.as_chunks_mut::<8>().0.iter_mut().zip(words).for_each(|(bytes, word)| *bytes = word.to_ne_bytes());
    bytes
}

/// Whether timers of this clock go by the real time.
fn is_real(clock: i32) -> bool {
    matches!(clock, libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_ALARM)
}

/// The same on the host's clock. What the kernel would refuse stays as it is, and so does what switches the timer off.
fn translate(clock: &Pretended, words: TimerWords) -> TimerWords {
    let [interval, interval_ns, seconds, nanoseconds] = words;
    let valid = |seconds: i64, nanoseconds: i64| seconds >= 0 && (0..SECOND).contains(&nanoseconds);
    if !valid(interval, interval_ns) || !valid(seconds, nanoseconds) || (seconds, nanoseconds) == (0, 0) {
        return words;
    }
    let whole = |seconds: i64, nanoseconds: i64| seconds.saturating_mul(SECOND).saturating_add(nanoseconds);
    // A moment of 1970 is long ago; 0 would switch the timer off.
    let at = clock.host_time_of(whole(seconds, nanoseconds)).max(1);
    let every = match whole(interval, interval_ns) {
        0 => 0,
        span => clock.host_span_of(span).max(1),
    };
    [every / SECOND, every % SECOND, at / SECOND, at % SECOND]
}

pub(super) fn timerfd_settime(guest: &dyn Guest, timer: Fd, flags: Flags, value: UserPtr, old: UserPtr) -> Answer {
    let words = read_timer(guest, value)?;
    let file = guest.duplicate(timer)?;
    let words = match (guest.clock(), clock_behind(guest, &file)?) {
        (Some(clock), Some(kind)) if is_real(kind) => translate(clock, words),
        (_, Some(_)) => words,
        (_, None) => return Err(Errno::EINVAL),
    };
    guest.confirm()?;
    let was = set_timer(file.as_fd(), flags.0, &words)?;
    if !old.is_null() {
        guest.write(old, &to_bytes(was))?;
    }
    Ok(Reply::Return(0))
}

/// The clock of a timer behind one of the supervisor's descriptors, see proc_pid_fdinfo(5). `None`: it is no timer.
fn clock_behind(guest: &dyn Guest, file: &OwnedFd) -> Result<Option<i32>, Errno> {
    let entry = format!("../fdinfo/{}", file.as_raw_fd());
    let entry = openat(guest.descriptors()?, entry.as_str(), OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    let mut text = String::new();
    std::fs::File::from(entry).read_to_string(&mut text).map_err(|_| Errno::EINVAL)?;
    let line = text.lines().find_map(|line| line.strip_prefix("clockid:"));
    Ok(line.and_then(|clock| clock.trim().parse().ok()))
}

pub(super) fn timer_settime(guest: &dyn Guest, timer: Int, _flags: Flags, value: UserPtr, _old: UserPtr) {
    let Some(clock) = guest.clock() else { return };
    // Whatever is wrong, the kernel says it: the call runs there.
    let Ok(words) = read_timer(guest, value) else { return };
    if !guest.timer_clock(timer.0).is_ok_and(is_real) {
        return;
    }
    let translated = translate(clock, words);
    if translated != words {
        guest.around(Around::Change { at: value, from: to_bytes(words).to_vec(), to: to_bytes(translated).to_vec() });
    }
}
