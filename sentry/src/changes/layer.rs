//! One copied directory of a run: the copy, the directory on the host, and what is known of the time between.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use shim::failure::{Failure, Step};

use super::baseline::{Baseline, Mark};
use super::copy::attributes;
use super::journal::Journal;
use super::record::{Directory, How};
use super::root::{Root, real_mode};
use super::{Change, Kind, Moment, Object, Review, Type};

/// A copied directory, ready to be looked through.
#[derive(Debug)]
pub struct Layer {
    /// Where the directory is on the host.
    pub host_path: PathBuf,
    /// Where the copy is.
    pub copy_path: PathBuf,
    /// The directory on the host.
    pub host: Root,
    /// The upper directory of the overlay, or the copied tree.
    pub copy: Root,
    /// When the run began.
    pub started: Moment,
    /// What was copied, if it was copied at the start; `None` for an overlay.
    pub baseline: Option<Baseline>,
    /// What is committed already.
    pub journal: Journal,
}

impl Layer {
    /// Opens the copy of `directory` in the run's own directory. The host's directory must be the one that was copied.
    pub fn open(run: &Path, directory: &Directory, started: Moment) -> Result<Self, Failure> {
        let host_path = directory.host.clone();
        let layer = run.join(directory.index.to_string());
        let shown = host_path.display().to_string();
        let copy_path = layer.join(directory.how.name());
        let copy = Root::open(&copy_path, true).step(|| format!("open the copy {}", copy_path.display()))?;
        let host = Root::open(&host_path, false).step(|| format!("open {shown}"));
        let host =
            host.map_err(|failure| failure.remedy("its changes stay where they are kept; bring it back first"))?;
        let now = host.object().step(|| format!("look at {shown}"))?;
        if now.identity != (directory.device, directory.inode) {
            return Err(Failure::check_text(format!(
                "{shown} is not the directory that was copied (it was replaced, or its file system was mounted anew); \
                 the changes stay in {}, to be copied by hand",
                copy_path.display()
            )));
        }
        let journal = Journal::open(&layer).map_err(|error| {
            Failure::new(
                format!("read {}", layer.join("journal").display()),
                Errno::from_raw(error.raw_os_error().unwrap_or(nix::libc::EIO)),
            )
        })?;
        let baseline = match directory.how {
            How::Overlay => None,
            How::Copy => Some(read_baseline(&layer)?),
        };
        Ok(Self { host_path, copy_path, host, copy, started, baseline, journal })
    }

    /// The copy of the directory at `host` in an upper directory that lives in memory.
    pub fn in_memory(host: &Path, upper: std::os::fd::OwnedFd) -> Result<Self, Errno> {
        Ok(Self {
            host_path: host.to_owned(),
            copy_path: PathBuf::from("(memory)"),
            host: Root::open(host, false)?,
            copy: Root::from_fd(upper),
            started: (0, 0),
            baseline: None,
            journal: Journal::default(),
        })
    }

    /// What differs.
    pub fn review(&self) -> Review {
        let mut review = Review::default();
        match &self.baseline {
            Some(baseline) => self.scan_copy(baseline, &mut review),
            None => self.scan_overlay(&mut review),
        }
        review.sort();
        review
    }

    /// Whether the host's object at `path` is not what it was when the run began.
    pub fn changed_since(&self, path: &Path, now: &Object) -> bool {
        // An inode that lost its last name may be a directory by now.
        if !now.is_directory()
            && let Some(touched) = self.journal.touched(now.identity)
        {
            // A commit that was killed before it could look at the ctime leaves the content's time only.
            return touched.map_or(now.modified > self.started, |changed| now.changed != changed);
        }
        if let Some(baseline) = &self.baseline {
            let Some(entry) = baseline.get(path) else { return true };
            return if now.is_directory() { !entry.directory } else { entry.host != Mark::of(now) };
        }
        if now.is_directory() {
            // Entries that come and go move both times; what moves ctime alone is a chmod, or the whole directory's
            // having been moved here.
            return now.changed > self.started && now.modified <= self.started;
        }
        now.changed > self.started
    }

    /// Whether `before` on the host and `after` in the copy are the same in all that a commit takes over, times excepted.
    pub fn alike(&self, path: &Path, before: &Object, after: &Object) -> bool {
        if before.kind != after.kind {
            return false;
        }
        match after.kind {
            Type::Symlink => before.target == after.target,
            Type::Directory => before.mode & 0o1777 == after.harmless_mode() && !self.attributes_differ(path),
            Type::File => {
                before.size == after.size
                    && before.mode == after.harmless_mode()
                    && self.same_content(path).unwrap_or(false)
                    && !self.attributes_differ(path)
            }
            Type::Fifo => before.mode == after.harmless_mode(),
            Type::Socket | Type::Device => false,
        }
    }

    fn same_content(&self, path: &Path) -> Result<bool, Errno> {
        super::copy::same_content(&self.host.read(path)?, &self.copy.read(path)?)
    }

    /// Whether extended attributes or access lists differ; only files and directories have any that we take over.
    pub fn attributes_differ(&self, path: &Path) -> bool {
        let of = |root: &Root| {
            let open = root.list(path).or_else(|_| root.read(path)).ok()?;
            attributes(open.as_fd()).ok()
        };
        match (of(&self.host), of(&self.copy)) {
            (Some(before), Some(after)) => before != after,
            _ => false,
        }
    }

    /// Compares two objects that are both there; `None` if they do not differ.
    pub(super) fn compare(&self, path: &Path, before: Object, mut after: Object) -> Option<Change> {
        let mut attributes = false;
        if before.kind == after.kind {
            if after.is_directory()
                && let Ok(open) = self.copy.list(path)
            {
                after.mode = real_mode(open.as_fd(), after.mode);
            }
            let same = match after.kind {
                // What was only opened for writing has been copied up, times and all.
                Type::File => before.modified == after.modified && self.alike(path, &before, &after),
                _ => self.alike(path, &before, &after),
            };
            if same {
                return None;
            }
            attributes = matches!(after.kind, Type::File | Type::Directory) && self.attributes_differ(path);
        }
        let path = path.to_owned();
        Some(Change { kind: Kind::Changed, path, before: Some(before), after: Some(after), within: 0, attributes })
    }
}

fn read_baseline(layer: &Path) -> Result<Baseline, Failure> {
    let path = layer.join("baseline");
    let io = |error: std::io::Error| Errno::from_raw(error.raw_os_error().unwrap_or(nix::libc::EIO));
    let bytes = std::fs::read(&path).map_err(io).step(|| format!("read {}", path.display()))?;
    Baseline::from_bytes(&bytes).ok_or_else(|| {
        Failure::check(format!("understand {}", path.display())).remedy("it is damaged; copy what you need by hand")
    })
}
