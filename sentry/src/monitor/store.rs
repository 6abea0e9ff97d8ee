//! Where copy-on-write directories keep their changes: `$XDG_STATE_HOME/sentry/runs/ID/N/{upper,work}`.
//!
//! What lies in `upper` was made by the guest and is hostile: names are escaped, links never followed, modes not trusted.

use std::ffi::{CString, OsStr, OsString};
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::dir::Dir;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::libc;
use nix::sys::stat::{FileStat, Mode, fstatat};
use shim::failure::Failure;

/// One run's directory.
#[derive(Debug)]
pub struct Store {
    /// `.../runs/ID`
    pub directory: PathBuf,
}

/// What happened to a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// It was there and is not any more.
    Deleted,
    /// It was there and is different.
    Changed,
    /// It was not there.
    New,
}

impl Change {
    /// The word for the report.
    pub fn word(self) -> &'static str {
        match self {
            Self::Deleted => "deleted",
            Self::Changed => "changed",
            Self::New => "new",
        }
    }
}

fn io(step: &str, path: &Path, error: &std::io::Error) -> Failure {
    let errno = nix::errno::Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO));
    Failure::new(format!("{step} {}", path.display()), errno).remedy(
        "copy-on-write keeps its changes there; set XDG_STATE_HOME to a place with room, or use --write or --read",
    )
}

impl Store {
    /// The base of all runs of this user.
    pub fn base(home: Option<&Path>) -> Option<PathBuf> {
        let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
        Some(state.or_else(|| home.map(|home| home.join(".local/state")))?.join("sentry/runs"))
    }

    /// A new, private directory for one run.
    pub fn new(base: &Path) -> Result<Self, Failure> {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700).create(base).map_err(|error| io("make the directory", base, &error))?;
        let base = fs::canonicalize(base).map_err(|error| io("open the directory", base, &error))?;
        let seconds = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
        for attempt in 0..1000 {
            let directory = base.join(format!("{seconds:x}-{}-{attempt}", std::process::id()));
            match fs::DirBuilder::new().mode(0o700).create(&directory) {
                Ok(()) => return Ok(Self { directory }),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(io("make the directory", &directory, &error)),
            }
        }
        Err(Failure::check(format!("find a free name in {}", base.display())))
    }

    /// The layer directories of overlay number `index`; `upper` looks like the directory it stands for.
    pub fn layer(&self, index: usize, like: &FileStat, owner: Option<(u32, u32)>) -> Result<PathBuf, Failure> {
        let layer = self.directory.join(index.to_string());
        for path in [layer.clone(), layer.join("upper"), layer.join("work")] {
            fs::create_dir(&path).map_err(|error| io("make the directory", &path, &error))?;
            let mode = if path.ends_with("upper") { like.st_mode & 0o777 } else { 0o700 };
            let mode = fs::Permissions::from_mode(mode);
            fs::set_permissions(&path, mode).map_err(|error| io("set the mode of", &path, &error))?;
            if let Some((uid, gid)) = owner {
                std::os::unix::fs::chown(&path, Some(uid), Some(gid))
                    .map_err(|error| io("give away", &path, &error))?;
            }
        }
        Ok(layer)
    }

    /// Removes everything, also what overlayfs left without permissions.
    pub fn remove(&self) {
        if fs::remove_dir_all(&self.directory).is_ok() {
            return;
        }
        if let Ok(layers) = fs::read_dir(&self.directory) {
            for layer in layers.flatten() {
                // overlayfs makes `work/work` with mode 0.
                let inner = layer.path().join("work/work");
                let _ = fs::set_permissions(&inner, fs::Permissions::from_mode(0o700));
            }
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Lists what changed in an upper directory against the directory it stands for: deletions first, then by name.
pub fn changes(upper: OwnedFd, lower: &Path) -> Vec<(Change, PathBuf)> {
    let mut found = Vec::new();
    let mut queue = vec![(upper, PathBuf::new())];
    while let Some((directory, prefix)) = queue.pop() {
        for name in names(&directory) {
            let path = prefix.join(&name);
            let Ok(stat) = fstatat(&directory, name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW) else { continue };
            let before = fs::symlink_metadata(lower.join(&path)).ok();
            let kind = stat.st_mode & libc::S_IFMT;
            if kind == libc::S_IFCHR && stat.st_rdev == 0 {
                if before.is_some() {
                    found.push((Change::Deleted, path));
                }
                continue;
            }
            if kind != libc::S_IFDIR {
                found.push((if before.is_some() { Change::Changed } else { Change::New }, path));
                continue;
            }
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let Ok(inner) = openat(&directory, name.as_os_str(), flags, Mode::empty()) else {
                found.push((Change::Changed, path));
                continue;
            };
            match before.filter(fs::Metadata::is_dir) {
                None => found.push((Change::New, path.clone())),
                Some(before) => {
                    if before.mode() & 0o7777 != stat.st_mode & 0o7777 {
                        found.push((Change::Changed, path.clone()));
                    }
                    // An opaque directory hides all that was there before.
                    if is_opaque(&inner) {
                        let kept: Vec<OsString> = names(&inner);
                        let gone = names_of_path(&lower.join(&path)).into_iter().filter(|name| !kept.contains(name));
                        found.extend(gone.map(|name| (Change::Deleted, path.join(name))));
                    }
                }
            }
            queue.push((inner, path));
        }
    }
    found.sort();
    found
}

/// Bytes held by an upper directory, each file counted by its blocks.
pub fn used(upper: OwnedFd) -> u64 {
    let mut total = 0;
    let mut queue = vec![upper];
    while let Some(directory) = queue.pop() {
        for name in names(&directory) {
            let Ok(stat) = fstatat(&directory, name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW) else { continue };
            total += u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
            if stat.st_mode & libc::S_IFMT == libc::S_IFDIR {
                let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                if let Ok(inner) = openat(&directory, name.as_os_str(), flags, Mode::empty()) {
                    queue.push(inner);
                }
            }
        }
    }
    total
}

fn names(directory: &OwnedFd) -> Vec<OsString> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let Ok(mut open) = Dir::openat(directory, ".", flags, Mode::empty()) else { return Vec::new() };
    let entries = open.iter().flatten().map(|entry| OsStr::from_bytes(entry.file_name().to_bytes()).to_owned());
    entries.filter(|name| name != "." && name != "..").collect()
}

fn names_of_path(path: &Path) -> Vec<OsString> {
    fs::read_dir(path).map(|entries| entries.flatten().map(|entry| entry.file_name()).collect()).unwrap_or_default()
}

fn is_opaque(directory: &OwnedFd) -> bool {
    ["user.overlay.opaque", "trusted.overlay.opaque"].iter().any(|name| {
        CString::new(*name).is_ok_and(|name| crate::raw::attribute(directory.as_fd(), &name).as_deref() == Some(b"y"))
    })
}

/// Opens an upper directory of ours for reading.
pub fn open_upper(layer: &Path) -> Option<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    nix::fcntl::open(&layer.join("upper"), flags, Mode::empty()).ok()
}
