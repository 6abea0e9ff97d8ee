use super::set::{clock_settime, settimeofday};
use super::steer::{adjtimex, clock_adjtime};
use super::*;
use crate::args::ClockId;
use crate::fake::FakeGuest;
use crate::reply::{Answer, Reply};
use crate::sys::TIMEX_WORDS;

fn words(words: [i64; 2]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn errno(answer: Answer) -> Errno {
    answer.expect_err("the call is refused")
}

const NOON: i64 = 1_764_583_200;

#[test]
fn dates_are_those_of_the_calendar() {
    let known = [
        (0, "1970-01-01T00:00:00Z"),
        (951_782_400, "2000-02-29T00:00:00Z"),
        (NOON, "2025-12-01T10:00:00Z"),
        (4_107_542_399, "2100-02-28T23:59:59Z"),
        (4_107_542_400, "2100-03-01T00:00:00Z"),
        (9_223_372_036, "2262-04-11T23:47:16Z"),
    ];
    for (seconds, expected) in known {
        assert_eq!(date(seconds), expected);
    }
    assert!(date(i64::MAX).ends_with('Z'));
}

#[test]
fn setting_the_clock_is_refused_and_named() {
    let guest = FakeGuest::default();
    let time = guest.put(&words([NOON, 0]));
    assert_eq!(errno(clock_settime(&guest, ClockId(0), time)), Errno::EPERM);
    assert_eq!(errno(settimeofday(&guest, time, UserPtr(0))), Errno::EPERM);
    assert_eq!(errno(settimeofday(&guest, UserPtr(0), time)), Errno::EPERM);

    let denials = guest.denials();
    assert_eq!(
        denials.iter().map(|denial| denial.call).collect::<Vec<_>>(),
        ["clock_settime", "settimeofday", "settimeofday"]
    );
    assert_eq!(denials[0].what, "to 2025-12-01T10:00:00Z");
    assert_eq!(denials[1].what, denials[0].what);
    assert_eq!(denials[2].what, "the kernel's time zone");
}

#[test]
fn nonsense_fails_as_in_the_kernel_and_is_not_reported() {
    let guest = FakeGuest::default();
    let wild = UserPtr(8);
    assert_eq!(errno(clock_settime(&guest, ClockId(0), wild)), Errno::EFAULT);
    assert_eq!(errno(settimeofday(&guest, wild, UserPtr(0))), Errno::EFAULT);
    assert_eq!(errno(adjtimex(&guest, wild)), Errno::EFAULT);

    let monotonic = ClockId(libc::CLOCK_MONOTONIC);
    let time = guest.put(&words([NOON, 0]));
    assert_eq!(errno(clock_settime(&guest, monotonic, time)), Errno::EINVAL);
    assert_eq!(errno(clock_adjtime(&guest, monotonic, time)), Errno::EOPNOTSUPP);
    assert_eq!(errno(clock_adjtime(&guest, ClockId(-1), time)), Errno::EINVAL, "a descriptor of the sentry");

    let never = guest.put(&words([NOON, 1_000_000_000]));
    assert_eq!(errno(clock_settime(&guest, ClockId(0), never)), Errno::EINVAL);
    assert!(guest.denials().is_empty());
}

#[test]
fn the_clock_discipline_can_be_read_but_not_steered() {
    let guest = FakeGuest::default();
    let timex = guest.put(&[0; TIMEX_WORDS * 8]);
    for answer in [adjtimex(&guest, timex), clock_adjtime(&guest, ClockId(0), timex)] {
        let Ok(Reply::Return(state)) = answer else { panic!("{answer:?}") };
        assert!((0..=5).contains(&state), "a state of the clock, TIME_OK to TIME_ERROR");
    }
    // `tick`, the length of a tick in microseconds, is never zero.
    assert_ne!(guest.peek(timex.offset(88), 8), [0; 8]);

    let mut steering = [0; TIMEX_WORDS * 8];
    steering[0] = 1;
    let steering = guest.put(&steering);
    assert_eq!(errno(adjtimex(&guest, steering)), Errno::EPERM);
    assert_eq!(guest.denials()[0].what, "the clock discipline, modes 0x1");
}

#[test]
fn an_answer_that_cannot_be_written_is_a_fault() {
    let guest = FakeGuest::default();
    let timex = guest.put_read_only(&[0; TIMEX_WORDS * 8]);
    assert_eq!(errno(adjtimex(&guest, timex)), Errno::EFAULT);
    let short = guest.put_at_end(&[0; TIMEX_WORDS * 8 - 1]);
    assert_eq!(errno(adjtimex(&guest, short)), Errno::EFAULT);
}
