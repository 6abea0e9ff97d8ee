//! The pretended clock itself: what was set, and what follows from it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::page;

/// Nanoseconds in a second.
pub const SECOND: i64 = 1_000_000_000;
/// The latest time a clock can be set to, as in the kernel (`TIME_SETTOD_SEC_MAX`): year 2232.
pub const LATEST: i64 = i64::MAX / SECOND - 30 * 365 * 24 * 3600;
/// A clock that runs as the host's does.
pub const NORMAL_RATE: i64 = 1 << 32;

/// Which time a pretended clock begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// The host's, so many nanoseconds later.
    Shifted(i64),
    /// This one, in nanoseconds since 1970.
    At(i64),
}

/// What the user asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The time at the start.
    pub begin: Begin,
    /// How fast it runs: 32 binary digits behind the point, 0 for a clock that stands still.
    pub rate: i64,
}

/// How to get from the host's time to the pretended one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Course {
    host: i64,
    base: i64,
    rate: i64,
    tai_seconds: i64,
}

impl Course {
    fn pretended(&self, host: i64) -> i64 {
        if self.rate == NORMAL_RATE {
            return host.saturating_sub(self.host).saturating_add(self.base);
        }
        let since = i128::from(host.saturating_sub(self.host).max(0));
        clamped(((since * i128::from(self.rate)) >> 32) + i128::from(self.base))
    }

    /// When on the host's clock it will be `pretended`; the end of time if never.
    fn host(&self, pretended: i64) -> i64 {
        let until = i128::from(pretended) - i128::from(self.base);
        match self.rate {
            NORMAL_RATE => clamped(i128::from(self.host) + until),
            _ if until <= 0 => self.host,
            0 => i64::MAX,
            // Rounded up: never early.
            rate => clamped(i128::from(self.host) + ((until << 32) + i128::from(rate) - 1) / i128::from(rate)),
        }
    }

    fn words(&self) -> [i64; page::WORDS] {
        let ahead = i128::from(self.base) - i128::from(self.host);
        let second = i128::from(SECOND);
        let mut words = [0; page::WORDS];
        // The mark alone: whoever publishes the words counts.
        words[page::SEQUENCE] = if self.rate == NORMAL_RATE { 0 } else { page::SCALED };
        words[page::SECONDS] = clamped(ahead.div_euclid(second));
        words[page::NANOSECONDS] = clamped(ahead.rem_euclid(second));
        words[page::HOST_BASE] = self.host;
        words[page::BASE] = self.base;
        words[page::RATE] = self.rate;
        words[page::TAI_SECONDS] = self.tai_seconds;
        words[page::SET_SECONDS] = self.base.div_euclid(SECOND);
        words[page::SET_NANOSECONDS] = self.base.rem_euclid(SECOND);
        words
    }
}

fn clamped(wide: i128) -> i64 {
    i64::try_from(wide).unwrap_or(if wide < 0 { i64::MIN } else { i64::MAX })
}

/// What can be said to the clock discipline and is told again, though it moves nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Discipline {
    /// `freq`
    pub frequency: i64,
    /// `maxerror`
    pub max_error: i64,
    /// `esterror`
    pub estimated_error: i64,
    /// `status`
    pub status: i32,
    /// `constant`
    pub constant: i64,
    /// `tick`
    pub tick: i64,
    /// `tai`
    pub tai: i32,
}

/// Makes a new course known to all programs at once.
pub type Publish = Box<dyn Fn([i64; page::WORDS]) + Send + Sync>;

/// The pretended clock of one sandbox.
pub struct Pretended {
    state: Mutex<State>,
    publish: Publish,
}

struct State {
    course: Course,
    discipline: Option<Discipline>,
}

impl std::fmt::Debug for Pretended {
    fn fmt(&self, out: &mut std::fmt::Formatter) -> std::fmt::Result {
        out.debug_struct("Pretended").field("course", &self.state().course).finish_non_exhaustive()
    }
}

impl Pretended {
    /// A clock that begins by `setting` when the host's says `host`, and whose TAI is so many seconds ahead.
    pub fn new(setting: Setting, host: i64, tai_seconds: i64, publish: Publish) -> Self {
        let base = match setting.begin {
            Begin::Shifted(by) => host.saturating_add(by),
            Begin::At(time) => time,
        };
        let course = Course { host, base: base.max(0), rate: setting.rate, tai_seconds };
        publish(course.words());
        Self { state: Mutex::new(State { course, discipline: None }), publish }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The pretended time when the host's is `host`.
    pub fn at(&self, host: i64) -> i64 {
        self.state().course.pretended(host)
    }

    /// The same of a clock that only moves in ticks, and so may lag behind what was just set.
    pub fn coarse_at(&self, host: i64) -> i64 {
        let course = self.state().course;
        course.pretended(host).max(course.base)
    }

    /// When on the host's clock it will be `pretended`, as far as is known now; the end of time if never.
    pub fn host_time_of(&self, pretended: i64) -> i64 {
        self.state().course.host(pretended)
    }

    /// How long a span of pretended time takes.
    pub fn host_span_of(&self, pretended: i64) -> i64 {
        match self.state().course.rate {
            NORMAL_RATE => pretended,
            0 => i64::MAX,
            rate => clamped(((i128::from(pretended) << 32) + i128::from(rate) - 1) / i128::from(rate)),
        }
    }

    /// Sets it: the programs see it before this returns.
    pub fn set(&self, pretended: i64, host: i64) {
        let mut state = self.state();
        self.change(&mut state, pretended, host);
    }

    /// Moves it by so many nanoseconds. False if it would leave what a clock can show.
    pub fn shift(&self, by: i64, host: i64) -> bool {
        let mut state = self.state();
        let time = state.course.pretended(host).checked_add(by).filter(|time| (0..LATEST * SECOND).contains(time));
        if let Some(time) = time {
            self.change(&mut state, time, host);
        }
        time.is_some()
    }

    /// Under the lock, so that settings become known in their order.
    fn change(&self, state: &mut State, pretended: i64, host: i64) {
        state.course = Course { host, base: pretended, ..state.course };
        (self.publish)(state.course.words());
    }

    /// Changes what is remembered of the discipline, which begins as `host` says, and returns it.
    pub(crate) fn discipline(&self, host: Discipline, change: impl FnOnce(&mut Discipline)) -> Discipline {
        let mut state = self.state();
        let discipline = state.discipline.get_or_insert(host);
        change(discipline);
        *discipline
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn course(host: i64, base: i64, rate: i64) -> Course {
        Course { host, base, rate, tai_seconds: 37 }
    }

    #[test]
    fn a_shifted_clock_runs_as_the_hosts_does() {
        let course = course(1_000, 5_000, NORMAL_RATE);
        assert_eq!(course.pretended(1_500), 5_500);
        assert_eq!(course.pretended(500), 4_500, "the host's may be set back");
        assert_eq!(course.host(5_500), 1_500);
        let words = course.words();
        assert_eq!((words[page::SEQUENCE], words[page::SECONDS], words[page::NANOSECONDS]), (0, 0, 4_000));
        let back = Course { host: 5_000, base: 1_000, ..course }.words();
        assert_eq!((back[page::SECONDS], back[page::NANOSECONDS]), (-1, SECOND - 4_000));
    }

    #[test]
    fn a_scaled_clock_is_never_early() {
        let fast = course(0, 100, NORMAL_RATE * 3);
        assert_eq!(fast.pretended(10), 130);
        for time in [100, 101, 102, 103, 130, 999] {
            let host = fast.host(time);
            assert!(fast.pretended(host) >= time, "{time}");
            assert!(host == 0 || fast.pretended(host - 1) < time, "{time} would have come sooner");
        }
        let frozen = course(0, 100, 0);
        assert_eq!((frozen.pretended(1 << 40), frozen.host(100), frozen.host(101)), (100, 0, i64::MAX));
    }

    #[test]
    fn what_is_set_is_published_in_order() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let publish = {
            let told = Arc::clone(&told);
            Box::new(move |words: [i64; page::WORDS]| told.lock().unwrap().push(words[page::BASE]))
        };
        let clock = Pretended::new(Setting { begin: Begin::Shifted(7), rate: NORMAL_RATE }, 100, 0, publish);
        clock.set(1_000, 200);
        assert!(clock.shift(-300, 210));
        assert!(!clock.shift(-10_000, 210), "no clock shows a time before 1970");
        assert_eq!(*told.lock().unwrap(), [107, 1_000, 710]);
        assert_eq!((clock.at(210), clock.coarse_at(200)), (710, 710));
    }
}
