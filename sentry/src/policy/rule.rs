//! Rules about paths as they are written: exact names and patterns, and files whose contents the policy gives.
//!
//! An exact name becomes a mount wherever that is possible. A pattern cannot be a mount, for it is also about names that
//! do not exist yet: the sentry judges every call by it. As in `.gitignore`, a pattern without a slash, or one that begins
//! with `**/`, holds in every directory; any other begins where the rule was written.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use syscalls::pattern::{Pattern, is_pattern};
use syscalls::rules::Effect;

use super::Error;
use super::path::{absolute, check_bytes, inside, shown};

/// A rule about whatever a pattern matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatternRule {
    /// Which paths of the view.
    pub pattern: Pattern,
    /// What may be done there; `None`: uses are only logged.
    pub effect: Option<Effect>,
    /// Whether uses are logged.
    pub log: bool,
    /// Whether it begins at a directory that was named, and so reaches the system's own directories.
    pub anchored: bool,
    /// The option that asks for it.
    pub text: String,
}

/// What a rule is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// One name in the view.
    Exact(PathBuf),
    /// Whatever matches; and whether it begins at a named directory.
    Matching(Pattern, bool),
}

/// What a rule says of the paths that it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// They are visible, read-only.
    Read,
    /// They are visible and may be changed.
    Write,
    /// They may be changed in a copy.
    Cow,
    /// They can be seen and not used.
    Deny,
    /// They do not exist.
    Hide,
    /// What is done with them is logged.
    Log,
}

impl Kind {
    /// The option's name.
    pub fn option(self) -> &'static str {
        match self {
            Self::Read => "--read",
            Self::Write => "--write",
            Self::Cow => "--cow",
            Self::Deny => "--deny",
            Self::Hide => "--hide",
            Self::Log => "--log",
        }
    }

    /// What the sentry does about paths that match a pattern; `None`: it tells of them.
    fn effect(self) -> Option<Effect> {
        match self {
            Self::Read => Some(Effect::Read),
            Self::Write | Self::Cow => Some(Effect::Write),
            Self::Deny => Some(Effect::Deny),
            Self::Hide => Some(Effect::Hide),
            Self::Log => None,
        }
    }
}

/// Where the contents of a made-up file come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contents {
    /// From the policy itself.
    Text(Vec<u8>),
    /// Copied from this file of the host at start.
    Copy(PathBuf),
    /// This file or directory of the host shows through, read-only.
    Host(PathBuf),
}

/// A file of the view whose contents the policy gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MadeFile {
    /// Its name in the view; absolute.
    pub inside: PathBuf,
    /// What is in it.
    pub contents: Contents,
}

impl PatternRule {
    /// The rule of this `kind` that was written as `given`.
    pub fn new(kind: Kind, given: &Path, pattern: Pattern, anchored: bool) -> Self {
        let text = format!("{} {}", kind.option(), shown(given));
        Self { pattern, effect: kind.effect(), log: kind == Kind::Log, anchored, text }
    }
}

/// Makes sense of the path or pattern `given`, which was written in the directory `base`.
pub fn subject(base: &Path, home: &Path, given: &Path) -> Result<Subject, Error> {
    check_bytes(given.as_os_str())?;
    let text = given.as_os_str();
    let at_home = given.strip_prefix("~").ok();
    if !is_pattern(text) {
        let whole = at_home.map(|rest| home.join(rest));
        return inside(base, whole.as_deref().unwrap_or(given)).map(Subject::Exact);
    }
    let everywhere = given.starts_with("**") || !text.as_bytes().contains(&b'/');
    let whole = match at_home {
        Some(rest) => escaped(home).join(rest),
        None if everywhere => Path::new("/**").join(given),
        // What is before the first wildcard is taken as it is: the base must not become a pattern by its own name.
        None => absolute(&escaped(base), given),
    };
    let wrong = |why: &str| Error::new(format!("the pattern {} cannot be used: {why}", shown(given)), REMEDY);
    let pattern = Pattern::new(&whole).map_err(wrong)?;
    if everywhere && pattern.matches_everything() {
        return Err(wrong("it matches everything"));
    }
    Ok(Subject::Matching(pattern, !everywhere))
}

const REMEDY: &str = "write, for example, '**/*.pem', './secrets/*' or '~/.ssh/id_*'";

/// A plain path as a pattern that matches exactly that path.
pub fn escaped(path: &Path) -> PathBuf {
    let mut bytes = Vec::with_capacity(path.as_os_str().len());
    for byte in path.as_os_str().as_bytes() {
        if b"*?[\\".contains(byte) {
            bytes.push(b'\\');
        }
        bytes.push(*byte);
    }
    PathBuf::from(OsStr::from_bytes(&bytes))
}

impl MadeFile {
    /// `PATH=HOSTFILE` or `PATH=text`: what looks like a path is one, and `text:` before it makes it a text.
    pub fn parse(text: &OsStr, base: &Path, home: &Path) -> Result<Self, Error> {
        let (path, value) = halves("--file", text)?;
        let contents = match value.as_bytes() {
            [b't', b'e', b'x', b't', b':', text @ ..] => Contents::Text(text.to_vec()),
            bytes if [&b"/"[..], b"./", b"../", b"~/"].iter().any(|start| bytes.starts_with(start)) => {
                Contents::Copy(host_path(base, home, Path::new(value)))
            }
            text => Contents::Text(text.to_vec()),
        };
        Ok(Self { inside: inside(base, path)?, contents })
    }

    /// `PATH=HOST` of `--redirect`.
    pub fn redirect(text: &OsStr, base: &Path, home: &Path) -> Result<Self, Error> {
        let (path, host) = halves("--redirect", text)?;
        let host = host_path(base, home, Path::new(host));
        Ok(Self { inside: inside(base, path)?, contents: Contents::Host(host) })
    }

    /// The option that asks for it.
    pub fn option(&self) -> String {
        let inside = shown(&self.inside);
        match &self.contents {
            Contents::Text(text) => format!("--file {inside}={}", shown(Path::new(OsStr::from_bytes(text)))),
            Contents::Copy(host) => format!("--file {inside}={}", shown(host)),
            Contents::Host(host) => format!("--redirect {inside}={}", shown(host)),
        }
    }
}

fn host_path(base: &Path, home: &Path, given: &Path) -> PathBuf {
    given.strip_prefix("~").map_or_else(|_| absolute(base, given), |rest| home.join(rest))
}

/// What is before the first `=` and what is behind it.
fn halves<'a>(option: &str, text: &'a OsStr) -> Result<(&'a Path, &'a OsStr), Error> {
    let bytes = text.as_bytes();
    let wrong = |what: &str| {
        let message = format!("{option} {}: {what}", shown(Path::new(text)));
        Error::new(message, format!("write {option} PATH={}", if option == "--file" { "TEXT" } else { "HOST" }))
    };
    let equals = bytes.iter().position(|byte| *byte == b'=').ok_or_else(|| wrong("there is no '=' in it"))?;
    let (path, value) = (OsStr::from_bytes(&bytes[..equals]), OsStr::from_bytes(&bytes[equals + 1..]));
    if path.is_empty() {
        return Err(wrong("there is no path before the '='"));
    }
    if is_pattern(path) {
        return Err(wrong("contents are given to one name, not to a pattern"));
    }
    Ok((Path::new(path), value))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read(given: &str) -> Result<Subject, Error> {
        subject(Path::new("/w/a[1]"), Path::new("/home/me"), Path::new(given))
    }

    fn matches(given: &str, path: &str) -> bool {
        let Ok(Subject::Matching(pattern, _)) = read(given) else { panic!("{given} is no pattern") };
        pattern.find(Path::new(path)).near.is_some()
    }

    #[test]
    fn names_are_exact_and_patterns_begin_where_they_were_written() {
        assert_eq!(read(".env"), Ok(Subject::Exact("/w/a[1]/.env".into())));
        assert_eq!(read("~/.ssh"), Ok(Subject::Exact("/home/me/.ssh".into())));
        assert!(matches("*.pem", "/anywhere/x.pem") && matches("**/*.pem", "/x.pem"));
        assert!(matches("./*.pem", "/w/a[1]/x.pem") && !matches("./*.pem", "/w/a1/x.pem"));
        assert!(!matches("./*.pem", "/w/a[1]/b/x.pem"));
        assert!(matches("~/.ssh/id_*", "/home/me/.ssh/id_rsa"));
        assert!(matches("keys/**", "/w/a[1]/keys/b/c"));
        for wrong in ["*", "**", "**/*", "**/**/*", "a/../b*", "[x", ""] {
            let error = read(wrong).unwrap_err().to_string();
            assert!(error.contains("; "), "{wrong}: {error}");
        }
        assert!(matches!(read("./**"), Ok(Subject::Matching(_, true))));
    }

    #[test]
    fn contents_are_texts_or_files() {
        let made = |text: &str| MadeFile::parse(text.as_ref(), Path::new("/w"), Path::new("/home/me"));
        let contents = |text: &str| made(text).unwrap().contents;
        assert_eq!(made("/etc/motd=hello=you").unwrap().inside, Path::new("/etc/motd"));
        assert_eq!(contents("/etc/motd=hello=you"), Contents::Text(b"hello=you".to_vec()));
        assert_eq!(contents("m=text:/not/a/path"), Contents::Text(b"/not/a/path".to_vec()));
        assert_eq!(contents("m=./x"), Contents::Copy("/w/x".into()));
        assert_eq!(contents("m=~/x"), Contents::Copy("/home/me/x".into()));
        assert_eq!(contents("m="), Contents::Text(Vec::new()));
        assert_eq!(made("m=./x").unwrap().option(), "--file /w/m=/w/x");
        for wrong in ["m", "=x", "*.m=x"] {
            assert!(made(wrong).unwrap_err().to_string().contains("--file"), "{wrong}");
        }
        let redirect = MadeFile::redirect("/a=b".as_ref(), Path::new("/w"), Path::new("/home/me")).unwrap();
        assert_eq!(redirect.contents, Contents::Host("/w/b".into()));
    }
}
