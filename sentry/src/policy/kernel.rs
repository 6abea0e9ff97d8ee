//! `--uname RELEASE[:VERSION]`: which kernel programs are told of.

use syscalls::rules::KernelName;

use super::Error;

/// The longest that uname(2) has room for.
const LONGEST: usize = 64;

/// Reads `RELEASE[:VERSION]`. A version may have colons in it, a release has none.
pub fn parse(text: &str) -> Result<KernelName, Error> {
    let (release, version) = match text.split_once(':') {
        Some((release, version)) => (release, Some(version)),
        None => (text, None),
    };
    let fits = |part: &str| !part.is_empty() && part.len() <= LONGEST && !part.contains(char::is_control);
    // The C library and many programs read two numbers, and give up on what has none.
    let numbers = release.splitn(3, '.').take(2).filter(|part| part.starts_with(|first: char| first.is_ascii_digit()));
    if numbers.count() < 2 || !fits(release) || !version.is_none_or(fits) || release.contains(char::is_whitespace) {
        let remedy = "write RELEASE or RELEASE:VERSION, as in 6.1.0-13-amd64:#1 SMP, at most 64 characters each";
        return Err(Error::new(format!("{text:?} cannot be a kernel's name"), remedy));
    }
    Ok(KernelName { release: release.to_owned(), version: version.map(str::to_owned) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_and_versions_are_told_apart() {
        let name = |release: &str, version: Option<&str>| {
            Ok(KernelName { release: release.into(), version: version.map(Into::into) })
        };
        assert_eq!(parse("6.1.0-13-amd64"), name("6.1.0-13-amd64", None));
        assert_eq!(parse("4.4:#1 SMP Mon 10:00:00"), name("4.4", Some("#1 SMP Mon 10:00:00")));
        let long = format!("6.1.{}", "x".repeat(61));
        for bad in ["", "linux", "6", "6.x", "6.1:", "6.1:\n", "6.1 beta", &long] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }
}
