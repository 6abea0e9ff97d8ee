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

/// The fake guest with a clock that began at `NOON`, and the words that were published.
fn virtually() -> FakeGuest {
    let setting = Setting { begin: Begin::At(NOON * SECOND), rate: NORMAL_RATE };
    let host = host_now(libc::CLOCK_REALTIME).expect("the host has a clock");
    let mut guest = FakeGuest::default();
    guest.clock = Some(Pretended::new(setting, host, 0, Box::new(|_| ())));
    guest
}

/// What the guest reads by `clock_gettime`, in seconds.
fn told(guest: &FakeGuest, clock: libc::clockid_t) -> i64 {
    let at = guest.put(&[0; 16]);
    assert!(matches!(read::clock_gettime(guest, ClockId(clock), at), Ok(Reply::Return(0))));
    word(&guest.peek(at, 8))
}

fn word(bytes: &[u8]) -> i64 {
    i64::from_ne_bytes(bytes.try_into().expect("eight bytes"))
}

fn near(is: i64, should: i64) -> bool {
    (should..should + 60).contains(&is)
}

#[test]
fn a_clock_of_its_own_is_set_and_read() {
    let guest = virtually();
    assert!(near(told(&guest, libc::CLOCK_REALTIME), NOON));
    let time = guest.put(&words([1_000_000_000, 5]));
    assert!(matches!(clock_settime(&guest, ClockId(0), time), Ok(Reply::Return(0))));
    for clock in [libc::CLOCK_REALTIME, libc::CLOCK_REALTIME_COARSE] {
        assert!(near(told(&guest, clock), 1_000_000_000), "{clock}");
    }
    let ahead = host_tai_seconds().expect("the host says");
    assert!(near(told(&guest, libc::CLOCK_TAI), 1_000_000_000 + ahead));

    assert!(matches!(settimeofday(&guest, guest.put(&words([NOON, 999_999])), UserPtr(0)), Ok(Reply::Return(0))));
    let (at, zone) = (guest.put(&[1; 16]), guest.put(&[1; 8]));
    assert!(matches!(read::gettimeofday(&guest, at, zone), Ok(Reply::Return(0))));
    assert!(near(word(&guest.peek(at, 8)), NOON) && (0..1_000_000).contains(&word(&guest.peek(at.offset(8), 8))));
    assert_eq!(guest.peek(zone, 8), [0; 8]);
    let Ok(Reply::Return(seconds)) = read::time(&guest, at) else { panic!("time fails") };
    assert!(near(seconds, NOON) && word(&guest.peek(at, 8)) == seconds);
    assert!(guest.denials().is_empty());
}

#[test]
fn what_linux_refuses_root_is_refused_of_a_pretended_clock() {
    let guest = virtually();
    let set = |clock: i32, time: [i64; 2]| clock_settime(&guest, ClockId(clock), guest.put(&words(time)));
    for (clock, time) in [(0, [-1, 0]), (0, [1, SECOND]), (0, [i64::MAX / SECOND, 0]), (1, [NOON, 0]), (-1, [NOON, 0])]
    {
        assert_eq!(errno(set(clock, time)), Errno::EINVAL, "{clock} {time:?}");
    }
    assert_eq!(errno(clock_settime(&guest, ClockId(0), UserPtr(8))), Errno::EFAULT);
    assert_eq!(errno(settimeofday(&guest, guest.put(&words([1, 1_000_000])), UserPtr(0))), Errno::EINVAL);
    let zones = [(15 * 60, true), (15 * 60 + 1, false), (-15 * 60 - 1, false)];
    for (west, accepted) in zones {
        let mut zone = [0; 8];
        zone[..4].copy_from_slice(&i32::to_ne_bytes(west));
        assert_eq!(settimeofday(&guest, UserPtr(0), guest.put(&zone)).is_ok(), accepted, "{west}");
    }
    assert!(near(told(&guest, 0), NOON), "nothing was set");
    // What is gone cannot set it any more.
    let mut gone = virtually();
    gone.gone = true;
    assert!(clock_settime(&gone, ClockId(0), gone.put(&words([1, 0]))).is_err());
}

/// `struct timex` with these words set.
fn timex(guest: &FakeGuest, modes: u32, members: &[(usize, i64)]) -> UserPtr {
    let mut bytes = vec![0; TIMEX_WORDS * 8];
    bytes[..4].copy_from_slice(&modes.to_ne_bytes());
    for (member, value) in members {
        bytes[member * 8..member * 8 + 8].copy_from_slice(&value.to_ne_bytes());
    }
    guest.put(&bytes)
}

#[test]
fn offsets_move_a_pretended_clock_and_the_rest_is_remembered() {
    let guest = virtually();
    let steer = |modes, members: &[(usize, i64)]| {
        let at = timex(&guest, modes, members);
        adjtimex(&guest, at).map(|_| guest.peek(at, TIMEX_WORDS * 8))
    };
    // ADJ_SETOFFSET by seconds and microseconds, then as nanoseconds.
    steer(0x0100, &[(9, 1000), (10, 999_999)]).expect("accepted");
    assert!(near(told(&guest, 0), NOON + 1000));
    steer(0x2100, &[(9, -2001), (10, 999_999_999)]).expect("accepted");
    assert!(near(told(&guest, 0), NOON - 1000));
    assert_eq!(steer(0x0100, &[(9, 1), (10, 1_000_000)]), Err(Errno::EINVAL));
    assert_eq!(steer(0x0100, &[(9, -NOON)]), Err(Errno::EINVAL), "before 1970");
    // adjtime(3).
    steer(0x8001, &[(1, 5_000_000)]).expect("accepted");
    assert!(near(told(&guest, 0), NOON - 995));
    assert_eq!(steer(0x8000, &[]), Err(Errno::EINVAL));
    steer(0xA001, &[(1, 5_000_000)]).expect("only asked");
    assert!(near(told(&guest, 0), NOON - 995));

    assert_eq!(steer(0x4000, &[(11, 8_999)]), Err(Errno::EINVAL), "a tick far too short");
    steer(0x4002, &[(2, 77), (11, 10_500)]).expect("accepted");
    let read = steer(0, &[]).expect("read");
    assert_eq!((word(&read[16..24]), word(&read[88..96])), (77, 10_500));
    assert!(near(word(&read[72..80]), NOON - 995), "the time that is told");
    assert!(guest.denials().is_empty());
}

fn timer_words(words: [i64; 4]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

#[test]
fn a_timer_of_the_process_is_translated_around_its_call() {
    let mut guest = virtually();
    guest.timers = [(0, libc::CLOCK_REALTIME), (1, libc::CLOCK_MONOTONIC)].into();
    let value = guest.put(&timer_words([0, 0, NOON + 100, 5]));
    let set = |timer| timer_settime(&guest, crate::args::Int(timer), crate::args::Flags(1), value, UserPtr(0));
    for other in [1, 2] {
        set(other);
    }
    assert!(guest.wishes.borrow().is_empty(), "other clocks are left alone, and what is no timer");
    set(0);
    let wishes = guest.wishes.borrow();
    let [crate::guest::Around::Change { at, from, to }] = wishes.as_slice() else { panic!("{wishes:?}") };
    assert_eq!((*at, from.as_slice()), (value, timer_words([0, 0, NOON + 100, 5]).as_slice()));
    let host = host_now(libc::CLOCK_REALTIME).expect("the host has a clock") / SECOND;
    assert!((host + 40..=host + 100).contains(&word(&to[16..24])), "{to:?}");
}

#[test]
fn sleeps_end_when_it_is_time_or_a_signal_waits() {
    let guest = virtually();
    let sleep = |seconds, nanoseconds| {
        let until = guest.put(&words([seconds, nanoseconds]));
        clock_nanosleep(&guest, ClockId(0), crate::args::Flags(1), until, UserPtr(0))
    };
    assert!(sleep(NOON - 1, 0).is_ok(), "long ago");
    let began = std::time::Instant::now();
    let until = guest.clock.as_ref().expect("it has one").at(host_now(0).expect("the host has a clock")) + SECOND / 10;
    assert!(sleep(until / SECOND, until % SECOND).is_ok());
    assert!(began.elapsed() >= std::time::Duration::from_millis(95));
    assert_eq!(errno(sleep(NOON, SECOND)), Errno::EINVAL);
    guest.interrupted.set(true);
    assert_eq!(errno(sleep(NOON + 100_000, 0)), Errno::EINTR);
}

#[test]
fn a_timer_behind_a_descriptor_is_set_to_the_hosts_time() {
    use nix::sys::timerfd::{ClockId, TimerFd, TimerFlags};
    let mut guest = virtually();
    let timer = TimerFd::new(ClockId::CLOCK_REALTIME, TimerFlags::TFD_CLOEXEC).expect("made");
    guest.files.insert(5, std::os::fd::AsFd::as_fd(&timer).try_clone_to_owned().expect("duplicated"));
    guest.files.insert(6, std::fs::File::open("/dev/null").expect("opened").into());
    let value = guest.put(&timer_words([0, 0, NOON + 1000, 0]));
    let old = guest.put(&[9; 32]);
    let flags = crate::args::Flags(1);
    let set = |fd| timerfd_settime(&guest, crate::args::Fd(fd), flags, value, old);
    assert!(matches!(set(5), Ok(Reply::Return(0))), "{:?}", set(5));
    assert_eq!(guest.peek(old, 16), [0; 16]);
    let left = timer.get().expect("it can be asked");
    let Some(nix::sys::timerfd::Expiration::OneShot(left)) = left else { panic!("{left:?}") };
    assert!((900..=1000).contains(&left.tv_sec()), "{left:?}");
    assert_eq!(errno(set(6)), Errno::EINVAL);
    assert_eq!(errno(set(7)), Errno::EBADF);
}
