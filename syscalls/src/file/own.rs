//! `/proc/self`, `/dev/fd` and `/dev/stdout` mean whoever asks: translated, so that they mean the guest.
//!
//! A walk by the supervisor would end at nothing (it is not in the guest's pid namespace) or, worse, at the supervisor's
//! own descriptors. So these paths are recognised by their spelling and answered with the calling task's descriptors.
//! Other entries of `/proc` are left alone: the walk does not find them.

use std::os::fd::OwnedFd;

use nix::errno::Errno;

use crate::args::{DirFd, Fd};
use crate::guest::Guest;

/// What a path through the caller's own entries leads to.
#[derive(Debug)]
pub(crate) enum Own {
    /// The object behind one of its descriptors.
    Object(OwnedFd),
    /// A path that starts at one of its directories.
    Below(OwnedFd, Vec<u8>),
}

/// The entry that a path begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entry {
    Descriptor(i32),
    WorkingDirectory,
}

/// What `path` means to the calling task, if it goes through entries of its own.
pub(crate) fn translate(guest: &dyn Guest, path: &[u8]) -> Result<Option<Own>, Errno> {
    // Almost every path ends here, without a question to the kernel.
    if !is_special(path) {
        return Ok(None);
    }
    let Some((entry, rest)) = recognise(path, guest.own_ids()?) else { return Ok(None) };
    match entry {
        Entry::WorkingDirectory => Ok(Some(Own::Below(guest.directory(DirFd::CWD)?, rest))),
        // In /proc a descriptor that is not open is a name that does not exist.
        Entry::Descriptor(number) if rest.is_empty() => {
            Ok(Some(Own::Object(guest.duplicate(Fd(number)).map_err(missing)?)))
        }
        Entry::Descriptor(number) => Ok(Some(Own::Below(guest.directory(DirFd(number)).map_err(missing)?, rest))),
    }
}

/// True if `path` is spelled so that it may lead through `/proc` or `/dev/fd`.
pub(crate) fn is_special(path: &[u8]) -> bool {
    let mut components = components(path).map(|(component, _)| component);
    path.starts_with(b"/")
        && match components.next() {
            Some(b"proc") => true,
            Some(b"dev") => matches!(components.next(), Some(b"fd" | b"stdin" | b"stdout" | b"stderr")),
            _ => false,
        }
}

fn missing(errno: Errno) -> Errno {
    if errno == Errno::EBADF { Errno::ENOENT } else { errno }
}

/// The entry that `path` begins with and the relative path behind it, for a task that knows itself by these ids.
fn recognise(path: &[u8], (process, thread): (i32, i32)) -> Option<(Entry, Vec<u8>)> {
    let mut parts = components(path);
    let entry = match parts.next()?.0 {
        b"dev" => match parts.next()?.0 {
            b"stdin" => return Some((Entry::Descriptor(0), rest(parts.next(), path))),
            b"stdout" => return Some((Entry::Descriptor(1), rest(parts.next(), path))),
            b"stderr" => return Some((Entry::Descriptor(2), rest(parts.next(), path))),
            b"fd" => b"fd".as_slice(),
            _ => return None,
        },
        b"proc" => {
            let who = parts.next()?.0;
            if who != b"self" && who != b"thread-self" && number(who) != Some(process) {
                return None;
            }
            match parts.next()?.0 {
                b"task" if number(parts.next()?.0) == Some(thread) => parts.next()?.0,
                b"task" => return None,
                entry => entry,
            }
        }
        _ => return None,
    };
    let entry = match entry {
        b"fd" => Entry::Descriptor(number(parts.next()?.0)?),
        b"cwd" => Entry::WorkingDirectory,
        _ => return None,
    };
    let rest = rest(parts.next(), path);
    // "/proc/self/cwd" alone is the directory itself.
    Some((entry, if rest.is_empty() && entry == Entry::WorkingDirectory { b".".to_vec() } else { rest }))
}

/// Everything from the next component on; a slash at the end stands for the directory itself.
fn rest(next: Option<(&[u8], usize)>, path: &[u8]) -> Vec<u8> {
    match next {
        Some((_, start)) => path[start..].to_vec(),
        None if path.ends_with(b"/") => b".".to_vec(),
        None => Vec::new(),
    }
}

/// A number as procfs spells it: no sign, no leading zero.
fn number(digits: &[u8]) -> Option<i32> {
    let plain = digits.iter().all(u8::is_ascii_digit) && (digits == b"0" || !digits.starts_with(b"0"));
    std::str::from_utf8(digits).ok().filter(|_| plain)?.parse().ok()
}

/// The components of `path` that name something, each with where it starts.
fn components(path: &[u8]) -> impl Iterator<Item = (&[u8], usize)> {
    let mut at = 0;
    let parts = path.split(|byte| *byte == b'/').map(move |part| {
        let start = at;
        at += part.len() + 1;
        (part, start)
    });
    parts.filter(|(part, _)| !part.is_empty() && *part != b".")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn seen(path: &str) -> Option<(Entry, String)> {
        let (entry, rest) = recognise(path.as_bytes(), (7, 8))?;
        Some((entry, String::from_utf8(rest).unwrap()))
    }

    #[test]
    fn only_the_callers_own_entries_are_recognised() {
        for path in ["/proc/self/fd/3", "/proc/thread-self/fd/3", "/proc/7/fd/3", "//proc/./self/fd/3", "/dev/fd/3"] {
            assert_eq!(seen(path), Some((Entry::Descriptor(3), String::new())), "{path}");
            assert!(is_special(path.as_bytes()));
        }
        assert_eq!(seen("/proc/self/task/8/fd/3"), Some((Entry::Descriptor(3), String::new())));
        assert_eq!(seen("/dev/stderr"), Some((Entry::Descriptor(2), String::new())));
        assert_eq!(seen("/proc/self/cwd/a//b/"), Some((Entry::WorkingDirectory, "a//b/".into())));
        assert_eq!(seen("/proc/self/cwd"), Some((Entry::WorkingDirectory, ".".into())));
        assert_eq!(seen("/proc/self/fd/3/"), Some((Entry::Descriptor(3), ".".into())));
        assert_eq!(seen("/dev/fd/3/x"), Some((Entry::Descriptor(3), "x".into())));
    }

    #[test]
    fn other_entries_are_not() {
        for path in [
            "/proc/8/fd/3",
            "/proc/self/task/9/fd/3",
            "/proc/self/fd",
            "/proc/self/fd/03",
            "/proc/self/fd/+3",
            "/proc/self/fd/-1",
            "/proc/self/fd/99999999999",
            "/proc/self/../self/fd/3",
            "/proc/self/root/etc",
            "/dev/null",
        ] {
            assert_eq!(seen(path), None, "{path}");
        }
        assert!(!is_special(b"proc/self/fd/3"), "a relative path starts elsewhere");
        assert!(!is_special(b"/dev/null"));
        assert!(!is_special(b"/home/proc"));
    }
}
