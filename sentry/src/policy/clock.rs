//! `--clock`: which time the program sees, written as `VALUE[,frozen][,scale=N][,uptime=DURATION]`.

use std::str::FromStr;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error as _};
use syscalls::clock::{Begin, NORMAL_RATE, SECOND, Setting};

/// Which clock a sandbox has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Clock {
    /// The host's, which it can only read.
    #[default]
    Hosts,
    /// One of its own.
    Own {
        /// How it begins and runs.
        setting: Setting,
        /// How long the machine seems to have been running.
        uptime: Option<Duration>,
    },
}

/// Slower than a thousandth, or faster than a thousandfold, a clock of nanoseconds soon comes to its end.
const SCALES: std::ops::RangeInclusive<f64> = 0.001..=1000.0;

impl FromStr for Clock {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut words = text.split(',');
        let first = words.next().unwrap_or_default();
        let begin = begin(first)?;
        let (mut rate, mut uptime) = (None, None);
        for word in words {
            let again = match word.split_once('=').unwrap_or((word, "")) {
                ("frozen", "") => rate.replace(0).is_some(),
                ("scale", number) => rate.replace(scale(number)?).is_some(),
                ("uptime", span) => uptime.replace(self::span(span)?).is_some(),
                _ => return Err(format!("'{word}' is no property of a clock; use frozen, scale=N or uptime=DURATION")),
            };
            if again {
                return Err(format!("'{text}' says twice how the clock runs; choose one"));
            }
        }
        match begin {
            Some(begin) => Ok(Self::Own { setting: Setting { begin, rate: rate.unwrap_or(NORMAL_RATE) }, uptime }),
            None if text == first => Ok(Self::Hosts),
            None => Err(format!("'{text}': the host's clock cannot be changed; write virtual{}", &text[first.len()..])),
        }
    }
}

fn begin(text: &str) -> Result<Option<Begin>, String> {
    let shift = |rest: &str| {
        let span = i64::try_from(span(rest)?.as_nanos()).ok();
        span.filter(|span| *span < 200 * 366 * 86_400 * SECOND)
            .ok_or_else(|| format!("'{text}' is too far away; stay within 200 years"))
    };
    Ok(Some(match text.as_bytes() {
        b"deny" => return Ok(None),
        b"virtual" => Begin::Shifted(0),
        [b'+', ..] => Begin::Shifted(shift(&text[1..])?),
        [b'-', ..] => Begin::Shifted(-shift(&text[1..])?),
        _ => Begin::At(date(text)?),
    }))
}

fn span(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|error| format!("'{text}' is not a length of time ({error}); write 3d or 1h30m"))
}

#[allow(clippy::cast_possible_truncation)] // within the range that was checked
fn scale(text: &str) -> Result<i64, String> {
    match text.parse::<f64>() {
        Ok(scale) if SCALES.contains(&scale) => Ok((scale * NORMAL_RATE as f64).round() as i64),
        _ => Err(format!("'{text}' cannot be the pace of a clock; write a number from 0.001 to 1000, or frozen")),
    }
}

/// Nanoseconds since 1970. A date alone is its beginning, and a time without a zone is UTC.
fn date(text: &str) -> Result<i64, String> {
    let wrong =
        |why: &str| format!("'{text}' is no time for a clock ({why}); write virtual, +3d, -1h or 2000-01-01T00:00:00Z");
    let given: toml::value::Datetime = text.parse().map_err(|_| wrong("not a date"))?;
    let date = given.date.ok_or_else(|| wrong("a date is missing"))?;
    let time = given.time.map_or((0, 0, 0, 0), |time| {
        let (second, nanosecond) = (time.second.unwrap_or(0), time.nanosecond.unwrap_or(0));
        (i64::from(time.hour), i64::from(time.minute), i64::from(second), i64::from(nanosecond))
    });
    let offset = match given.offset {
        Some(toml::value::Offset::Custom { minutes }) => i64::from(minutes),
        _ => 0,
    };
    let days = days(i64::from(date.year), i64::from(date.month), i64::from(date.day));
    let seconds = days * 86_400 + (time.0 * 60 + time.1 - offset) * 60 + time.2;
    if !(0..syscalls::clock::LATEST).contains(&seconds) {
        return Err(wrong("a clock can show 1970 to 2232"));
    }
    Ok(seconds * SECOND + time.3)
}

/// Days since 1970. Years that begin in March have their leap day at the end.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + (153 * month + 2) / 5 + day
        - 719_469
}

impl<'de> Deserialize<'de> for Clock {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(text: &str) -> (Setting, Option<Duration>) {
        match text.parse() {
            Ok(Clock::Own { setting, uptime }) => (setting, uptime),
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn clocks_as_people_write_them() {
        assert_eq!("deny".parse(), Ok(Clock::Hosts));
        let day = 86_400 * SECOND;
        let begins = [
            ("virtual", Begin::Shifted(0)),
            ("+3d", Begin::Shifted(3 * day)),
            ("-1h", Begin::Shifted(-3_600 * SECOND)),
            ("1970-01-02", Begin::At(day)),
            ("2000-02-29T12:00:00Z", Begin::At(951_825_600 * SECOND)),
            ("2025-12-01T10:00:00.5+02:00", Begin::At((1_764_583_200 - 7_200) * SECOND + SECOND / 2)),
            ("2025-12-01 10:00:00", Begin::At(1_764_583_200 * SECOND)),
        ];
        for (text, begin) in begins {
            assert_eq!(own(text), (Setting { begin, rate: NORMAL_RATE }, None), "{text}");
        }
        assert_eq!(own("virtual,frozen").0.rate, 0);
        assert_eq!(own("+1s,scale=2.5,uptime=3d"), {
            let setting = Setting { begin: Begin::Shifted(SECOND), rate: NORMAL_RATE / 2 * 5 };
            (setting, Some(Duration::from_secs(3 * 86_400)))
        });
    }

    #[test]
    fn what_no_clock_can_do_is_refused_with_a_remedy() {
        let wrong = [
            ("", "2000-01-01"),
            ("tomorrow", "2000-01-01"),
            ("1969-12-31", "1970 to 2232"),
            ("2300-01-01", "1970 to 2232"),
            ("10:00:00", "a date is missing"),
            ("+3", "write 3d"),
            ("+900y", "within 200 years"),
            ("virtual,scale=0", "from 0.001 to 1000"),
            ("virtual,scale=nan", "from 0.001 to 1000"),
            ("virtual,frozen,scale=2", "choose one"),
            ("virtual,slow", "use frozen"),
            ("deny,frozen", "write virtual,frozen"),
        ];
        for (text, expected) in wrong {
            let error = text.parse::<Clock>().unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
