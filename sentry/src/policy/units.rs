//! Sizes, times and counts as people write them: `512M`, `1.5s`, `64`, `none`.
//!
//! Units are binary, as docker's are: `512M` is 512 MiB. One parser serves the command line and policy files, so that
//! the two cannot disagree about how much is allowed.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Visitor};

/// A limit that was asked for; one that was not is `Option::None` around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit<T> {
    /// `none`: takes an earlier limit away.
    Unlimited,
    /// At most this.
    At(T),
}

/// Bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

/// A length of time; never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

/// A number of things; never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count(pub u64);

/// Processors, perhaps a fraction; never zero.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cpus(pub f64);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("'{text}' is not a size; write 512M, 1.5G or a number of bytes");
        let (number, unit) = split_number(text);
        let number: f64 = number.parse().map_err(|_| wrong())?;
        let unit = unit.to_ascii_lowercase();
        let unit = unit.strip_suffix("ib").or(unit.strip_suffix('b')).unwrap_or(&unit);
        let power = match unit {
            "" => 0,
            "k" => 1,
            "m" => 2,
            "g" => 3,
            "t" => 4,
            _ => return Err(wrong()),
        };
        let bytes = number * 1024_f64.powi(power);
        if bytes < 1.0 {
            return Err(format!("'{text}' is less than one byte; leave the option out, or write none for no limit"));
        }
        if bytes > i64::MAX as f64 {
            return Err(format!("'{text}' is more than any file system holds; write none for no limit"));
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within 1 and i64::MAX, see above")]
        Ok(Self(bytes as u64))
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("'{text}' is not a time; write 10s, 1.5s, 500ms or 1m30s");
        let mut rest = text;
        let mut seconds = 0.0;
        while !rest.is_empty() {
            let (number, tail) = split_number(rest);
            let unit_end = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
            let scale = match &tail[..unit_end] {
                "ms" => 0.001,
                // A bare number is a number of seconds, but only as the whole.
                "" if rest.len() == text.len() && tail.is_empty() => 1.0,
                "s" => 1.0,
                "m" | "min" => 60.0,
                "h" => 3600.0,
                "d" => 86400.0,
                _ => return Err(wrong()),
            };
            seconds += number.parse::<f64>().map_err(|_| wrong())? * scale;
            rest = &tail[unit_end..];
        }
        match Duration::try_from_secs_f64(seconds) {
            Ok(time) if time.is_zero() && text.is_empty() => Err(wrong()),
            Ok(time) if time < Duration::from_millis(1) => {
                Err(format!("'{text}' is no time at all; leave the option out, or write none for no limit"))
            }
            Ok(time) => Ok(Self(time)),
            Err(_) => Err(wrong()),
        }
    }
}

impl FromStr for Count {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(0) => Err("0 would not let the program start; write 1 or more, or none for no limit".to_owned()),
            Ok(count) => Ok(Self(count)),
            Err(_) => Err(format!("'{text}' is not a whole number; write 1 or more, or none for no limit")),
        }
    }
}

impl FromStr for Cpus {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse::<f64>() {
            Ok(cpus) if cpus.is_finite() && cpus >= 0.01 => Ok(Self(cpus)),
            _ => Err(format!("'{text}' is not a number of processors; write 1, 1.5 or 0.25")),
        }
    }
}

impl<T: FromStr<Err = String>> FromStr for Limit<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" { Ok(Self::Unlimited) } else { text.parse().map(Self::At) }
    }
}

impl<'de, T: FromStr<Err = String>> Deserialize<'de> for Limit<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Written<T>(PhantomData<T>);

        impl<T: FromStr<Err = String>> Visitor<'_> for Written<T> {
            type Value = Limit<T>;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a limit such as \"512M\", \"10s\", 64 or \"none\"")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Self::Value, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<Self::Value, E> {
                self.visit_str(&number.to_string())
            }
        }

        deserializer.deserialize_any(Written(PhantomData))
    }
}

/// The digits and points at the beginning, and the rest.
fn split_number(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_binary() {
        let size = |text: &str| text.parse::<Size>().map(|size| size.0);
        assert_eq!(size("512M"), Ok(512 << 20));
        assert_eq!(size("512mb"), Ok(512 << 20));
        assert_eq!(size("1GiB"), Ok(1 << 30));
        assert_eq!(size("1.5k"), Ok(1536));
        assert_eq!(size("4096"), Ok(4096));
        for wrong in ["", "M", "12Q", "-1M", "1e9", "0", "1.2.3M", "99999999T", "inf", "NaN"] {
            assert!(size(wrong).is_err(), "{wrong} was taken for a size");
        }
    }

    #[test]
    fn times_may_be_fractions_and_sums() {
        let span = |text: &str| text.parse::<Span>().map(|span| span.0);
        assert_eq!(span("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(span("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(span("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(span("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(span("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(span("7"), Ok(Duration::from_secs(7)));
        for wrong in ["", "s", "1m30", "10 s", "-1s", "0", "0s", "1y", "1s1", "99999999999999999999d"] {
            assert!(span(wrong).is_err(), "{wrong} was taken for a time");
        }
    }

    #[test]
    fn none_takes_a_limit_away_and_zero_is_refused() {
        assert_eq!("none".parse::<Limit<Count>>(), Ok(Limit::Unlimited));
        assert_eq!("64".parse::<Limit<Count>>(), Ok(Limit::At(Count(64))));
        assert!("0".parse::<Limit<Count>>().is_err());
        for wrong in ["0", "-1", "nan", "inf", "x"] {
            assert!(wrong.parse::<Cpus>().is_err(), "{wrong} was taken for processors");
        }
    }
}
