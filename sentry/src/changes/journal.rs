//! What a commit has done already, so that one that was killed can go on.
//!
//! One append-only file beside a copy, out of the guest's reach. A record is a letter, its text and a zero byte; a last
//! record without its zero byte was being written when we died, and does not count. `d` names a path that is done: the
//! scanner passes over it, whatever stands there in the copy. `t` names an inode of the host that loses or gains a name
//! by our doing, so that its new ctime is no conflict.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use hashbrown::HashSet;
use nix::libc;

/// The journal of one copied directory.
#[derive(Debug, Default)]
pub struct Journal {
    place: PathBuf,
    file: Option<File>,
    done: HashSet<PathBuf>,
    touched: HashSet<(u64, u64)>,
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
                    let text = String::from_utf8_lossy(identity);
                    let numbers =
                        text.split_once(':').and_then(|(dev, ino)| Some((dev.parse().ok()?, ino.parse().ok()?)));
                    journal.touched.extend(numbers);
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

    /// Whether we gave or took a name of this inode.
    pub fn is_touched(&self, identity: (u64, u64)) -> bool {
        self.touched.contains(&identity)
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
        if self.touched.insert(identity) {
            self.append(format!("t{}:{}\0", identity.0, identity.1).as_bytes())?;
        }
        Ok(())
    }

    /// What was noted survives a power cut from here on.
    pub fn sync(&self) -> std::io::Result<()> {
        self.file.as_ref().map_or(Ok(()), File::sync_data)
    }
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
        let mut bytes = std::fs::read(place.path().join("journal")).unwrap();
        bytes.extend(b"dhalf a na");
        std::fs::write(place.path().join("journal"), bytes).unwrap();

        let mut journal = Journal::open(place.path()).unwrap();
        assert!(journal.is_done(Path::new("a\nb")) && journal.is_touched((7, 9)) && journal.has_begun());
        assert!(!journal.is_done(Path::new("half a na")));
        journal.done(Path::new("next")).unwrap();
        assert!(Journal::open(place.path()).unwrap().is_done(Path::new("next")));
    }
}
