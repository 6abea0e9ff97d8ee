//! What a copied tree looked like when it was made, so that changes in it can be told later.
//!
//! Of each name: the inode and ctime of the copy, which a change cannot leave as they were, and those of the original,
//! which tell whether the host's file is still the one that was copied.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::{Moment, Object, Type};

/// An inode and when it last changed in any way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark(pub u64, pub Moment);

impl Mark {
    /// The mark of `object`.
    pub fn of(object: &Object) -> Self {
        Self(object.identity.1, object.changed)
    }
}

/// One name of a copied tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Whether it is a directory.
    pub directory: bool,
    /// Permission bits of the copy.
    pub mode: u32,
    /// The copy as it was made.
    pub copy: Mark,
    /// The original as it was copied.
    pub host: Mark,
}

impl Entry {
    /// What is to be remembered of a copy and its original.
    pub fn new(copy: &Object, host: &Object) -> Self {
        Self { directory: copy.kind == Type::Directory, mode: copy.mode, copy: Mark::of(copy), host: Mark::of(host) }
    }
}

/// All names of a copied tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Baseline(pub BTreeMap<PathBuf, Entry>);

impl Baseline {
    /// The entry of `path`.
    pub fn get(&self, path: &Path) -> Option<&Entry> {
        self.0.get(path)
    }

    /// How many names lie beneath `path`.
    pub fn within(&self, path: &Path) -> u64 {
        self.0.range(path.to_owned()..).skip(1).take_while(|(name, _)| name.starts_with(path)).count() as u64
    }

    /// As bytes for a file: numbers, then the path, then a zero byte.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.0.len() * 96);
        for (path, entry) in &self.0 {
            let mut numbers = String::new();
            let (copy, host) = (entry.copy, entry.host);
            let _ = write!(
                numbers,
                "{} {:o} {} {} {} {} {} {} ",
                u8::from(entry.directory),
                entry.mode,
                copy.0,
                copy.1.0,
                copy.1.1,
                host.0,
                host.1.0,
                host.1.1
            );
            bytes.extend_from_slice(numbers.as_bytes());
            bytes.extend_from_slice(path.as_os_str().as_bytes());
            bytes.push(0);
        }
        bytes
    }

    /// From those bytes; `None` if they are damaged.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut entries = BTreeMap::new();
        for record in bytes.split(|byte| *byte == 0).filter(|record| !record.is_empty()) {
            let mut fields = record.splitn(9, |byte| *byte == b' ');
            let mut field = || std::str::from_utf8(fields.next()?).ok();
            let directory = field()? == "1";
            let mode = u32::from_str_radix(field()?, 8).ok()?;
            let mut mark = || Some(Mark(field()?.parse().ok()?, (field()?.parse().ok()?, field()?.parse().ok()?)));
            let (copy, host) = (mark()?, mark()?);
            let path = PathBuf::from(OsStr::from_bytes(fields.next()?));
            entries.insert(path, Entry { directory, mode, copy, host });
        }
        Some(Self(entries))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_baseline_survives_being_written_down() {
        let entry = |ino| Entry {
            directory: ino % 2 == 0,
            mode: 0o1640,
            copy: Mark(ino, (-5, 9)),
            host: Mark(ino + 1, (i64::MAX, 999_999_999)),
        };
        let names = ["a", "a/b", "a b", "a\nb \\x", "d/e/f"];
        let baseline = Baseline(names.iter().zip(1..).map(|(name, ino)| (PathBuf::from(name), entry(ino))).collect());
        assert_eq!(Baseline::from_bytes(&baseline.to_bytes()).unwrap(), baseline);
        assert_eq!(baseline.within(Path::new("a")), 1);
        assert_eq!(Baseline::from_bytes(b"1 2 3\0"), None);
    }
}
