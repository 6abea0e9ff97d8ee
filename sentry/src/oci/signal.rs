//! Signals as callers write them: a number, a name, or a name with SIG before it.

use nix::libc;
use nix::sys::signal::Signal;

/// The number of the signal that `text` names.
pub fn parse(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return (0..=64).contains(&number).then_some(number);
    }
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    if let Some(real_time) = name.strip_prefix("RTMIN") {
        return offset(real_time, libc::SIGRTMIN());
    }
    if let Some(real_time) = name.strip_prefix("RTMAX") {
        return offset(real_time, libc::SIGRTMAX());
    }
    let name = match name {
        "CLD" => "CHLD",
        "POLL" => "IO",
        "IOT" => "ABRT",
        other => other,
    };
    format!("SIG{name}").parse::<Signal>().ok().map(|signal| signal as i32)
}

fn offset(text: &str, from: i32) -> Option<i32> {
    let signal = if text.is_empty() { from } else { from + text.parse::<i32>().ok()? };
    (libc::SIGRTMIN()..=libc::SIGRTMAX()).contains(&signal).then_some(signal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_three_forms_mean_the_same() {
        for text in ["15", "TERM", "SIGTERM", "term"] {
            assert_eq!(parse(text), Some(15), "{text}");
        }
        assert_eq!(parse("RTMIN+3"), Some(libc::SIGRTMIN() + 3));
        assert_eq!(parse("SIGRTMAX-1"), Some(libc::SIGRTMAX() - 1));
    }

    #[test]
    fn what_is_no_signal_is_refused() {
        for text in ["65", "-1", "SIGNOTHING", "", "RTMIN+99"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
