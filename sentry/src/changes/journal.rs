//! What a commit has done already, so that one that was killed can go on.
//!
//! One append-only file beside a copy, out of the guest's reach. A record is a letter, its text and a zero byte; a last
//! record without its zero byte was being written when we died, and does not count. `d` names a path that is done: the
//! scanner passes over it, whatever stands there in the copy. `t` names an inode of the host that loses or gains a name
//! by our doing, and `c` its ctime when that was done, so that this is no conflict. `k` names a directory of the host, by
//! inode and path, that was found to be the one that the guest saw, or that we made.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use hashbrown::{HashMap, HashSet};
use nix::libc;

use super::Moment;

/// The journal of one copied directory.
#[derive(Debug, Default)]
pub struct Journal {
    place: PathBuf,
    file: Option<File>,
    done: HashSet<PathBuf>,
    touched: HashMap<(u64, u64), Option<Moment>>,
    known: HashMap<PathBuf, (u64, u64)>,
}

impl Journal {
    /// Reads the journal in `layer`; there need not be one.
    pub fn open(layer: &Path) -> std::io::Result<Self> {
        let place = layer.join("journal");
        let bytes = match std::fs::read(&place) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            other => other?,
        };
        let mut journal = Self { place, ..Self::default() };
        let whole = bytes.iter().rposition(|byte| *byte == 0).map_or(0, |last| last + 1);
        for record in bytes[..whole].split(|byte| *byte == 0) {
            match record {
                [b'd', path @ ..] => {
                    journal.done.insert(PathBuf::from(OsStr::from_bytes(path)));
                }
                [b't', identity @ ..] => {
                    if let Some([device, inode]) = numbers(identity) {
                        journal.touched.insert((device, inode), None);
                    }
                }
                [b'c', text @ ..] => {
                    if let Some([device, inode, seconds, nanoseconds]) = numbers(text) {
                        let changed = (seconds.cast_signed(), nanoseconds.cast_signed());
                        journal.touched.insert((device, inode), Some(changed));
                    }
                }
                [b'k', text @ ..] => {
                    let slash = text.iter().position(|byte| *byte == b'/').unwrap_or(text.len());
                    let (identity, path) = text.split_at(slash);
                    if let (Some([device, inode]), [_, path @ ..]) = (numbers(identity), path) {
                        journal.known.insert(PathBuf::from(OsStr::from_bytes(path)), (device, inode));
                    }
                }
                _ => {}
            }
        }
        if whole < bytes.len() {
            // The half record must not become the beginning of the next one.
            OpenOptions::new().write(true).open(&journal.place)?.set_len(whole as u64)?;
        }
        Ok(journal)
    }

    /// Whether `path` itself is done; what lies beneath it need not be, unless it was deleted.
    pub fn is_done(&self, path: &Path) -> bool {
        self.done.contains(path)
    }

    /// Whether we gave or took a name of this inode, and its ctime after that; without one we died in between.
    pub fn touched(&self, identity: (u64, u64)) -> Option<Option<Moment>> {
        self.touched.get(&identity).copied()
    }

    /// Which directory of the host a commit found good at `path`.
    pub fn known(&self, path: &Path) -> Option<(u64, u64)> {
        self.known.get(path).copied()
    }

    /// Whether a commit has begun.
    pub fn has_begun(&self) -> bool {
        self.place.exists()
    }

    fn append(&mut self, record: &[u8]) -> std::io::Result<()> {
        if self.file.is_none() {
            let mut options = OpenOptions::new();
            self.file =
                Some(options.create(true).append(true).mode(0o600).custom_flags(libc::O_NOFOLLOW).open(&self.place)?);
        }
        match &mut self.file {
            Some(file) => file.write_all(record),
            None => Ok(()),
        }
    }

    /// Notes that a commit is about to begin.
    pub fn begin(&mut self) -> std::io::Result<()> {
        self.append(b"")
    }

    /// Notes that `path` is done.
    pub fn done(&mut self, path: &Path) -> std::io::Result<()> {
        self.append(&[b"d", path.as_os_str().as_bytes(), b"\0"].concat())?;
        self.done.insert(path.to_owned());
        Ok(())
    }

    /// Notes, before it happens, that an inode of the host gets another number of names.
    pub fn touch(&mut self, identity: (u64, u64)) -> std::io::Result<()> {
        self.append(format!("t{}:{}\0", identity.0, identity.1).as_bytes())?;
        self.touched.insert(identity, None);
        Ok(())
    }

    /// Notes, when that has happened, the inode's ctime: a later one is somebody else's doing.
    pub fn settle(&mut self, identity: (u64, u64), changed: Moment) -> std::io::Result<()> {
        let (seconds, nanoseconds) = (changed.0.cast_unsigned(), changed.1.cast_unsigned());
        self.append(format!("c{}:{}:{seconds}:{nanoseconds}\0", identity.0, identity.1).as_bytes())?;
        self.touched.insert(identity, Some(changed));
        Ok(())
    }

    /// Notes, before anything in it changes, that the host's directory at `path` is the right one.
    pub fn know(&mut self, path: &Path, identity: (u64, u64)) -> std::io::Result<()> {
        let mut record = format!("k{}:{}/", identity.0, identity.1).into_bytes();
        record.extend_from_slice(path.as_os_str().as_bytes());
        record.push(0);
        self.append(&record)?;
        self.known.insert(path.to_owned(), identity);
        Ok(())
    }

    /// What was noted survives a power cut from here on.
    pub fn sync(&self) -> std::io::Result<()> {
        self.file.as_ref().map_or(Ok(()), File::sync_data)
    }
}

/// Numbers with colons between them.
fn numbers<const N: usize>(text: &[u8]) -> Option<[u64; N]> {
    let text = std::str::from_utf8(text).ok()?;
    let numbers: Result<Vec<u64>, _> = text.split(':').map(str::parse).collect();
    numbers.ok()?.try_into().ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_was_cut_off_does_not_count() {
        let place = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(place.path()).unwrap();
        assert!(!journal.has_begun());
        journal.done(Path::new("a\nb")).unwrap();
        journal.touch((7, 9)).unwrap();
        journal.touch((7, 8)).unwrap();
        journal.settle((7, 8), (-1, 5)).unwrap();
        journal.know(Path::new("d/e"), (3, 4)).unwrap();
        let mut bytes = std::fs::read(place.path().join("journal")).unwrap();
        bytes.extend(b"dhalf a na");
        std::fs::write(place.path().join("journal"), bytes).unwrap();

        let mut journal = Journal::open(place.path()).unwrap();
        assert!(journal.is_done(Path::new("a\nb")) && journal.has_begun());
        assert_eq!((journal.touched((7, 9)), journal.touched((7, 8))), (Some(None), Some(Some((-1, 5)))));
        assert_eq!((journal.known(Path::new("d/e")), journal.known(Path::new("d"))), (Some((3, 4)), None));
        assert!(!journal.is_done(Path::new("half a na")));
        journal.done(Path::new("next")).unwrap();
        assert!(Journal::open(place.path()).unwrap().is_done(Path::new("next")));
    }
}
