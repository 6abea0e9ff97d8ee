//! Where copy-on-write directories keep their changes: `$XDG_STATE_HOME/sentry/runs/ID/N/{upper,work}`, or `N/tree` for
//! directories that are copied whole.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc;
use nix::sys::stat::{FileStat, Mode};
use shim::failure::Failure;

use crate::changes::Moment;
use crate::changes::record::{self, Directory, How, Kept, LOCK, Lock, Sharing};

/// One run's directory, locked as long as the monitor lives.
#[derive(Debug)]
pub struct Store {
    /// The run's name.
    pub id: String,
    /// `.../runs/ID`
    pub directory: PathBuf,
    /// When it was made, by the clock that files are stamped with.
    pub started: Moment,
    /// The copies that an earlier run with this store left (`--resume`).
    pub earlier: Vec<Directory>,
    /// Whether there was an earlier run.
    pub resumed: bool,
    _lock: Lock,
}

pub(super) fn io(step: &str, path: &Path, error: &std::io::Error) -> Failure {
    let errno = Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO));
    Failure::new(format!("{step} {}", path.display()), errno).remedy(
        "copy-on-write keeps its changes there; set XDG_STATE_HOME to a place with room, or use --write or --read",
    )
}

impl Store {
    /// A new, private directory for one run.
    pub fn new(base: &Path) -> Result<Self, Failure> {
        let (id, directory, started, lock) = record::make(base)?;
        Ok(Self { id, directory, started, earlier: Vec::new(), resumed: false, _lock: lock })
    }

    /// That of the kept run called `id`.
    pub fn resume(base: Option<&Path>, id: &str) -> Result<Self, Failure> {
        let refuse = |what: &str, remedy: &str| Failure::check_text(format!("run {id} {what}")).remedy(remedy);
        let found = record::all(base).map_err(|error| Failure::check_text(error.to_string()))?;
        let run = found.runs.into_iter().find(|run| run.record.id == id && run.place.is_some());
        let Some(Kept { record, place: Some(directory), .. }) = run else {
            return Err(refuse("is not kept", "sentry ps lists those that are"));
        };
        let lock = Lock::wait(&directory.join(LOCK), Sharing::Alone)
            .map_err(|errno| Failure::new(format!("lock run {id}"), errno))?;
        let lock = lock.ok_or_else(|| refuse("is in use by another sentry", "wait for its end, or end it"))?;
        // Whoever had the lock until now may have removed it.
        if !directory.join("run.json").exists() {
            return Err(refuse("is gone", "sentry ps lists the others"));
        }
        let (started, earlier) = (record.started, record.directories);
        Ok(Self { id: id.to_owned(), directory, started, earlier, resumed: true, _lock: lock })
    }

    /// A number that no copy has yet, when `made` were made by this run.
    pub fn next(&self, made: usize) -> usize {
        let behind = self.earlier.iter().map(|directory| directory.index + 1).max().unwrap_or(0);
        behind + made
    }

    /// The layer directories of copy number `index`; an `upper` looks like the directory it stands for.
    pub fn layer(
        &self,
        index: usize,
        how: How,
        like: &FileStat,
        owner: Option<(u32, u32)>,
    ) -> Result<PathBuf, Failure> {
        let layer = self.directory.join(index.to_string());
        let parts: &[&str] = match how {
            How::Overlay => &["", "upper", "work"],
            How::Copy => &["", "tree"],
        };
        for part in parts {
            let path = if part.is_empty() { layer.clone() } else { layer.join(part) };
            fs::create_dir(&path).map_err(|error| io("make the directory", &path, &error))?;
            let mode = if *part == "upper" { like.st_mode & 0o777 } else { 0o700 };
            let mode = fs::Permissions::from_mode(mode);
            fs::set_permissions(&path, mode).map_err(|error| io("set the mode of", &path, &error))?;
            if let Some((uid, gid)) = owner {
                std::os::unix::fs::chown(&path, Some(uid), Some(gid))
                    .map_err(|error| io("give away", &path, &error))?;
            }
        }
        Ok(layer)
    }
}

/// Opens an upper directory or copied tree of ours for reading.
pub fn open_copy(layer: &Path, how: How) -> Option<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    nix::fcntl::open(&layer.join(how.name()), flags, Mode::empty()).ok()
}
