//! What is remembered of each run: `$XDG_STATE_HOME/sentry/runs/ID/run.json` beside its copies, and a lock.
//!
//! The monitor holds flock(2) on a file in there as long as it lives, and a commit while it works; the kernel lets go
//! of it when the holder dies, however that happens. Runs that keep nothing have a small file in `$XDG_RUNTIME_DIR/sentry`.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::libc;
use serde::{Deserialize, Serialize};
use shim::failure::Failure;

use super::Moment;
use super::owned::{OpenError, check_base, open_ours};
pub use super::remove::{remove, remove_tree, sweep};
use crate::policy::Error;

/// How a directory was copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum How {
    /// By overlayfs: the copy holds what changed.
    Overlay,
    /// By copying all of it at the start.
    Copy,
}

impl How {
    /// The name of the copy in its layer.
    pub fn name(self) -> &'static str {
        match self {
            Self::Overlay => "upper",
            Self::Copy => "tree",
        }
    }
}

/// A copy-on-write directory of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Directory {
    /// Its number, which is the name of its layer.
    pub index: usize,
    /// Where it is on the host.
    #[serde(with = "bytes")]
    pub host: PathBuf,
    /// Where it was in the view.
    #[serde(with = "bytes")]
    pub inside: PathBuf,
    /// How it was copied.
    pub how: How,
    /// The directory's device.
    pub device: u64,
    /// The directory's inode.
    pub inode: u64,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    /// The report's cause.
    pub cause: String,
    /// The code that sentry exited with.
    pub exit_code: u8,
    /// When.
    pub time: Moment,
}

/// One run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The format's version.
    pub version: u32,
    /// The run's name.
    pub id: String,
    /// The program and its arguments.
    pub command: Vec<Argument>,
    /// When it began, by the clock that file systems stamp files with.
    pub started: Moment,
    /// Where the program began, in the view.
    #[serde(with = "bytes")]
    pub workdir: PathBuf,
    /// Its copies.
    pub directories: Vec<Directory>,
    /// How it ended; nothing while it runs, or when the monitor was killed.
    pub ending: Option<Ending>,
}

/// An argument of a command, which need not be text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Argument(#[serde(with = "bytes")] pub OsString);

/// The version that this program writes.
pub const VERSION: u32 = 1;

impl Record {
    /// The command as one line for a terminal.
    pub fn command_line(&self) -> String {
        let words = self.command.iter().map(|Argument(word)| {
            let text = word.to_string_lossy();
            let plain = |c: char| c.is_alphanumeric() || "-_./=:,+@%".contains(c);
            let quote = text.is_empty() || !text.chars().all(plain);
            crate::report::escape(&if quote { format!("'{}'", text.replace('\'', "'\\''")) } else { text.into_owned() })
        });
        words.collect::<Vec<_>>().join(" ")
    }

    /// Writes it beside the copies in `run`, whole or not at all.
    pub fn write(&self, run: &Path) -> std::io::Result<()> {
        let text = serde_json::to_vec(self)?;
        let new = run.join("run.json.new");
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(&text)?;
        // Otherwise a host that loses power may have the new name and none of the content.
        file.sync_all()?;
        fs::rename(new, run.join("run.json"))
    }

    /// Reads one that is our own; `None` if there is none that can be understood.
    fn read(path: &Path) -> Result<Option<Self>, Error> {
        let file = match open_ours(path) {
            Ok(file) => file,
            Err(OpenError::Closed(_)) => return Ok(None),
            Err(OpenError::Foreign(error)) => return Err(error),
        };
        let mut text = Vec::new();
        if fs::File::from(file).read_to_end(&mut text).is_err() {
            return Ok(None);
        }
        Ok(serde_json::from_slice(&text).ok().filter(|record: &Self| record.version == VERSION))
    }
}

/// The base of all runs of this user.
pub fn base(home: Option<&Path>) -> Option<PathBuf> {
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    Some(state.or_else(|| home.map(|home| home.join(".local/state")))?.join("sentry/runs"))
}

/// Where runs that keep nothing tell of themselves, if there is such a place.
pub fn running_base() -> Option<PathBuf> {
    let place = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute())?;
    let base = place.join("sentry");
    // Somebody else's tells of runs that are not ours.
    (place.is_dir() && (!base.exists() || check_base(&base).is_ok())).then_some(base)
}

/// Whether `text` is a run's whole name.
pub fn is_id(text: &str) -> bool {
    text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// A name that no other run has: eight hexadecimal digits.
pub fn fresh_id() -> String {
    use std::hash::{BuildHasher, Hasher};
    let mut hasher = std::hash::RandomState::new().build_hasher();
    hasher.write_u32(std::process::id());
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    hasher.write_u128(since.as_nanos());
    format!("{:08x}", hasher.finish() >> 32)
}

/// The file in a run's directory that is locked. It is empty: whoever got hold of its descriptor would have nothing.
pub const LOCK: &str = "lock";

/// A lock that ends with its holder.
#[derive(Debug)]
pub struct Lock(#[allow(dead_code)] Flock<OwnedFd>);

/// Who may have a lock at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// Nobody else: the monitor, and who commits or discards.
    Alone,
    /// All who only look.
    Readers,
}

/// How long to wait for somebody else.
const PATIENCE: Duration = Duration::from_secs(3);

impl Lock {
    /// Takes the lock of a file; `None` if somebody has it.
    pub fn take(path: &Path, sharing: Sharing) -> Result<Option<Self>, Errno> {
        let flags = nix::fcntl::OFlag::O_RDONLY | nix::fcntl::OFlag::O_CLOEXEC | nix::fcntl::OFlag::O_NOFOLLOW;
        let open = nix::fcntl::open(path, flags, nix::sys::stat::Mode::empty())?;
        let operation = match sharing {
            Sharing::Alone => FlockArg::LockExclusiveNonblock,
            Sharing::Readers => FlockArg::LockSharedNonblock,
        };
        match Flock::lock(open, operation) {
            Ok(lock) => Ok(Some(Self(lock))),
            Err((_, Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, errno)) => Err(errno),
        }
    }

    /// Takes it as soon as it is free; `None` if it is not for a while.
    pub fn wait(path: &Path, sharing: Sharing) -> Result<Option<Self>, Errno> {
        let end = Instant::now() + PATIENCE;
        loop {
            match Self::take(path, sharing)? {
                None if Instant::now() < end => std::thread::sleep(Duration::from_millis(20)),
                other => return Ok(other),
            }
        }
    }
}

/// A run that keeps nothing, told of while it lives.
#[derive(Debug)]
pub struct Presence {
    place: PathBuf,
    _lock: Option<Lock>,
}

impl Presence {
    /// Tells of `record`. That it cannot be told is no reason not to run.
    pub fn tell(record: &Record) -> Option<Self> {
        let base = running_base()?;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&base).ok()?;
        let place = base.join(format!("{}.json", record.id));
        let new = base.join(format!(".{}.new", record.id));
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new).ok()?;
        let lock = Lock::take(&new, Sharing::Alone).ok().flatten();
        let told = file.write_all(&serde_json::to_vec(record).ok()?).and_then(|()| fs::rename(&new, &place));
        told.ok().map(|()| Self { place, _lock: lock })
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.place);
    }
}

/// Whether a run goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Its monitor lives.
    Running,
    /// It ended; its changes are kept.
    Ended,
    /// Its monitor was killed; its changes are kept.
    Orphaned,
    /// What is remembered of it cannot be understood.
    Damaged,
}

/// A run that was found.
#[derive(Debug)]
pub struct Kept {
    /// What is remembered of it.
    pub record: Record,
    /// Where its copies are; `None` for a run without any.
    pub place: Option<PathBuf>,
    /// Whether it goes on.
    pub state: State,
}

/// What was found where runs are kept.
#[derive(Debug, Default)]
pub struct Found {
    /// The runs of this user, newest first.
    pub runs: Vec<Kept>,
    /// Directories with a run's name that lack a record or a lock, or have one that cannot be understood.
    pub damaged: Vec<PathBuf>,
}

/// Looks for all runs of this user; what no run made is passed over.
pub fn all(base: Option<&Path>) -> Result<Found, Error> {
    let mut found = Found::default();
    if let Some(base) = base {
        check_base(base)?;
    }
    let entries = |base: Option<&Path>| base.and_then(|base| fs::read_dir(base).ok()).into_iter().flatten().flatten();
    for entry in entries(base) {
        let place = entry.path();
        let named = entry.file_name().to_str().is_some_and(is_id);
        if !named || !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        for part in [place.clone(), place.join(LOCK)] {
            if let Err(OpenError::Foreign(error)) = open_ours(&part) {
                return Err(error);
            }
        }
        let lock = Lock::take(&place.join(LOCK), Sharing::Readers);
        match (Record::read(&place.join("run.json"))?, &lock) {
            (Some(record), Ok(lock)) if entry.file_name() == *record.id => {
                let state = match (&record.ending, lock) {
                    (Some(_), _) => State::Ended,
                    (None, Some(_)) => State::Orphaned,
                    (None, None) => State::Running,
                };
                found.runs.push(Kept { record, place: Some(place), state });
            }
            // One that is just beginning has no record yet, and one that is being removed is gone by now.
            (_, Ok(None)) => {}
            _ if is_young(&place) || !place.exists() => {}
            _ => found.damaged.push(place),
        }
    }
    for entry in entries(running_base().as_deref()) {
        let place = entry.path();
        if place.extension() != Some(OsStr::new("json")) {
            continue;
        }
        if matches!(Lock::take(&place, Sharing::Alone), Ok(Some(_))) {
            // Its monitor was killed, and there is nothing else to it.
            let _ = fs::remove_file(&place);
        } else if let Ok(Some(record)) = Record::read(&place) {
            found.runs.push(Kept { record, place: None, state: State::Running });
        }
    }
    found
        .runs
        .sort_by(|one, other| (other.record.started, &other.record.id).cmp(&(one.record.started, &one.record.id)));
    Ok(found)
}

fn is_young(place: &Path) -> bool {
    let modified = fs::metadata(place).and_then(|metadata| metadata.modified());
    modified.is_ok_and(|modified| modified.elapsed().is_ok_and(|age| age.as_secs() < 5))
}

/// A new, private directory for one run: its name, its place, the time stamp that files get at this moment, its lock.
pub fn make(base: &Path) -> Result<(String, PathBuf, Moment, Lock), Failure> {
    let io = |step: &str, path: &Path, errno: Errno| {
        Failure::new(format!("{step} {}", path.display()), errno).remedy(
            "copy-on-write keeps its changes there; set XDG_STATE_HOME to a place with room, or use --write or --read",
        )
    };
    let number = |error: &std::io::Error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO));
    if !base.is_dir() {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(base);
        made.map_err(|error| io("make the directory", base, number(&error)))?;
    }
    let base = fs::canonicalize(base).map_err(|error| io("open the directory", base, number(&error)))?;
    check_base(&base).map_err(|error| Failure::check_text(error.to_string()))?;
    for _ in 0..100 {
        let id = fresh_id();
        let directory = base.join(&id);
        match fs::DirBuilder::new().mode(0o700).create(&directory) {
            Ok(()) => {
                let path = directory.join(LOCK);
                let made = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
                let made = made.and_then(|file| file.metadata()).map_err(|error| io("make", &path, number(&error)))?;
                // Files that are changed from now on have a later one, or the same within one tick of the kernel's clock,
                // which is over before the program begins.
                let started = (made.ctime(), made.ctime_nsec());
                // Whoever lists runs looks at it, for a moment.
                let lock = Lock::wait(&path, Sharing::Alone).map_err(|errno| io("lock", &path, errno))?;
                let lock = lock.ok_or_else(|| io("lock", &path, Errno::EWOULDBLOCK))?;
                return Ok((id, directory, started, lock));
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(io("make the directory", &directory, number(&error))),
        }
    }
    Err(Failure::check(format!("find a free name in {}", base.display())))
}

/// Paths and arguments in JSON: text if they are text, otherwise a list of bytes.
mod bytes {
    use super::{OsStrExt, OsString, OsStringExt};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Text(String),
        Bytes(Vec<u8>),
    }

    pub fn serialize<S: Serializer>(value: &impl AsRef<std::ffi::OsStr>, serializer: S) -> Result<S::Ok, S::Error> {
        let value = value.as_ref();
        match value.to_str() {
            Some(text) => serializer.serialize_str(text),
            None => value.as_bytes().serialize(serializer),
        }
    }

    pub fn deserialize<'de, T: From<OsString>, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
        Ok(match Either::deserialize(deserializer)? {
            Either::Text(text) => OsString::from(text).into(),
            Either::Bytes(bytes) => OsString::from_vec(bytes).into(),
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn odd_names_survive_json() {
        let odd = OsString::from_vec(b"a\xff\n".to_vec());
        let record = Record {
            version: VERSION,
            id: "0a1b2c3d".into(),
            command: vec![Argument("sh".into()), Argument(odd.clone()), Argument("it's\x1b[2J".into())],
            started: (5, 6),
            workdir: PathBuf::from("/w"),
            directories: vec![Directory {
                index: 0,
                host: PathBuf::from(odd),
                inside: "/w".into(),
                how: How::Copy,
                device: 1,
                inode: 2,
            }],
            ending: None,
        };
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), record);
        assert_eq!(record.command_line(), "sh 'a\u{fffd}\\n' 'it'\\''s\\u{1b}[2J'");
    }

    #[test]
    fn a_run_is_locked_as_long_as_it_lives() {
        let place = tempfile::tempdir().unwrap();
        let (id, directory, started, lock) = make(place.path()).unwrap();
        assert!(id.len() == 8 && Lock::take(&directory.join(LOCK), Sharing::Readers).unwrap().is_none());
        assert!(started.0 > 1_700_000_000);
        let found = all(Some(place.path())).unwrap();
        assert!(found.runs.is_empty() && found.damaged.is_empty());
        drop(lock);
        assert!(Lock::take(&directory.join(LOCK), Sharing::Readers).unwrap().is_some());
    }
}
