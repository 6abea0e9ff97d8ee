//! Which calls concern the real time, for the filter; and dates.

use crate::table::{Check, Op, Test, Verdict};

use super::page;

const fn is(arg: usize, value: u64) -> Test {
    Test { arg, op: Op::Equal(value) }
}

/// `TIMER_ABSTIME` and `TFD_TIMER_ABSTIME`.
const ABSOLUTE: Test = Test { arg: 1, op: Op::AnyOf(1) };
const REALTIME: u64 = 0;
const COARSE: u64 = 5;
const TAI: u64 = 11;

/// The clocks that are pretended, and what a program asks for when it begins.
pub(super) const REAL: &[Check] = &[
    Check { all: &[is(0, REALTIME)], then: Verdict::Notify },
    Check { all: &[is(0, COARSE)], then: Verdict::Notify },
    Check { all: &[is(0, TAI)], then: Verdict::Notify },
    Check { all: &[is(0, page::ASK_PAGE as u64)], then: Verdict::Notify },
    Check { all: &[is(0, page::ASK_PLAIN as u64)], then: Verdict::Notify },
];

/// Sleeps until a moment of such a clock.
pub(super) const ABSOLUTE_SLEEP: &[Check] = &[
    Check { all: &[ABSOLUTE, is(0, REALTIME)], then: Verdict::Notify },
    Check { all: &[ABSOLUTE, is(0, TAI)], then: Verdict::Notify },
];

/// Timers that are set to a moment, of whatever clock: that stands in no register.
pub(super) const ABSOLUTE_TIMER: &[Check] = &[Check { all: &[ABSOLUTE], then: Verdict::Notify }];

/// A moment after 1970 as RFC 3339 writes it. The largest `i64` is a date too, if a distant one.
pub fn date(seconds: i64) -> String {
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
