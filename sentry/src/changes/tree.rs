//! Copying a whole directory before a run, where overlayfs cannot serve.
//!
//! As the user, with the user's rights: what cannot be read is left out and counted. Hard links stay together, holes stay
//! holes, set-id bits are dropped. The size is bounded, for a copy that fills the disk would be a poor surprise.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use hashbrown::{HashMap, HashSet};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, SFlag, UtimensatFlags, fchmod, fstat, futimens, mkdirat, mknodat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, LinkatFlags, Uid, fchownat, linkat, symlinkat};
use shim::failure::{Failure, Step};

use super::baseline::{Baseline, Entry};
use super::copy::{copy_attributes, copy_content};
use super::root::{Root, look_in, names};
use super::{Object, Type};

/// What to copy, and how much at most.
#[derive(Debug)]
pub struct Wanted<'a> {
    /// Directories, relative to the one that is copied, that are made and not filled: something is mounted there.
    pub empty: &'a HashSet<PathBuf>,
    /// Directories that are not made.
    pub without: &'a HashSet<PathBuf>,
    /// By root: the owner that becomes another one.
    pub owner: Option<(u32, (u32, u32))>,
    /// Bytes.
    pub bytes: u64,
    /// Names.
    pub names: u64,
}

/// A copy that was made.
#[derive(Debug, Default)]
pub struct Copied {
    /// What it looks like.
    pub baseline: Baseline,
    /// What could not be read, or is no file.
    pub left_out: u64,
    /// Bytes.
    pub bytes: u64,
}

/// Why a copy was not made.
#[derive(Debug)]
pub enum Refusal {
    /// It would be larger than allowed.
    TooLarge,
    /// Something failed.
    Failed(Failure),
}

struct Copying<'a> {
    wanted: &'a Wanted<'a>,
    host: &'a Root,
    copy: &'a Root,
    host_path: &'a Path,
    made: Vec<(PathBuf, Object)>,
    linked: HashMap<(u64, u64), PathBuf>,
    result: Copied,
}

/// Copies `host`, which is at `host_path`, into the empty directory `copy`.
pub fn copy_tree(host: &Root, host_path: &Path, copy: &Root, wanted: &Wanted) -> Result<Copied, Refusal> {
    let (made, linked, result) = (Vec::new(), HashMap::new(), Copied::default());
    let mut copying = Copying { wanted, host, copy, host_path, made, linked, result };
    let mut queue = vec![PathBuf::new()];
    while let Some(directory) = queue.pop() {
        copying.directory(&directory, &mut queue)?;
    }
    copying.finish().map_err(Refusal::Failed)
}

impl Copying<'_> {
    fn directory(&mut self, path: &Path, queue: &mut Vec<PathBuf>) -> Result<(), Refusal> {
        let step = || format!("copy {}", self.host_path.join(path).display());
        let (from, names) = match self.host.list(path).and_then(|from| Ok((names(&from)?, from))) {
            Ok((names, from)) => (from, names),
            Err(Errno::EACCES | Errno::EXDEV | Errno::ENOENT) if !path.as_os_str().is_empty() => {
                self.result.left_out += 1;
                return Ok(());
            }
            Err(errno) => return Err(Refusal::Failed(Failure::new(step(), errno))),
        };
        let to = self.copy.list(path).step(step).map_err(Refusal::Failed)?;
        for name in names {
            let within = path.join(&name);
            if self.wanted.without.contains(&within) {
                continue;
            }
            let Some(object) = look_in(&from, &name).ok().flatten() else { continue };
            self.result.bytes += if object.kind == Type::File { object.used } else { 0 };
            if self.result.bytes > self.wanted.bytes || self.made.len() as u64 >= self.wanted.names {
                return Err(Refusal::TooLarge);
            }
            let name = CString::new(name.as_bytes()).unwrap_or_default();
            let step = || format!("copy {}", self.host_path.join(&within).display());
            match self.object(&within, &object, &to, &name) {
                Ok(true) => {
                    if object.is_directory() && !self.wanted.empty.contains(&within) {
                        queue.push(within.clone());
                    }
                    self.made.push((within, object));
                }
                Ok(false) => self.result.left_out += 1,
                Err(errno) => return Err(Refusal::Failed(Failure::new(step(), errno))),
            }
        }
        Ok(())
    }

    /// Copies one object; `false` if it is left out.
    fn object(&mut self, path: &Path, object: &Object, to: &OwnedFd, name: &CString) -> Result<bool, Errno> {
        match object.kind {
            Type::Directory => mkdirat(to, name.as_c_str(), Mode::S_IRWXU)?,
            Type::Symlink => {
                symlinkat(object.target.as_deref().ok_or(Errno::EINVAL)?, to, name.as_c_str())?;
                let (read, changed) = (time(object.accessed), time(object.modified));
                let _ = utimensat(to, name.as_c_str(), &read, &changed, UtimensatFlags::NoFollowSymlink);
            }
            Type::Fifo => {
                mknodat(to, name.as_c_str(), SFlag::S_IFIFO, Mode::from_bits_truncate(object.mode & 0o777), 0)?
            }
            Type::File => return self.file(path, object, to, name),
            Type::Socket | Type::Device => return Ok(false),
        }
        self.own(object, to, name)?;
        Ok(true)
    }

    fn file(&mut self, path: &Path, object: &Object, to: &OwnedFd, name: &CString) -> Result<bool, Errno> {
        if object.links > 1
            && let Some(first) = self.linked.get(&object.identity)
        {
            let (directory, first) = self.copy.parent(first)?;
            linkat(&directory, first.as_c_str(), to, name.as_c_str(), LinkatFlags::empty())?;
            return Ok(true);
        }
        let from = match self.host.read(path) {
            Err(Errno::EACCES | Errno::EPERM | Errno::ENOENT | Errno::EXDEV | Errno::EINVAL) => return Ok(false),
            other => other?,
        };
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_RDWR | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let made = openat(to, name.as_c_str(), flags, Mode::S_IRUSR | Mode::S_IWUSR)?;
        copy_content(&from, &made)?;
        // Attributes that the store cannot hold are not worth failing for.
        let _ = copy_attributes(from.as_fd(), made.as_fd(), true);
        self.own(object, to, name)?;
        fchmod(&made, Mode::from_bits_truncate(object.mode & 0o777))?;
        futimens(&made, &time(object.accessed), &time(object.modified))?;
        if object.links > 1 {
            self.linked.insert(object.identity, path.to_owned());
        }
        Ok(true)
    }

    fn own(&self, object: &Object, to: &OwnedFd, name: &CString) -> Result<(), Errno> {
        let Some((owner, (uid, gid))) = self.wanted.owner else { return Ok(()) };
        let ids = if object.owner.0 == owner { (uid, gid) } else { object.owner };
        let (uid, gid) = (Some(Uid::from_raw(ids.0)), Some(Gid::from_raw(ids.1)));
        fchownat(to, name.as_c_str(), uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW)
    }

    /// Gives directories their modes, the deepest first, and writes down what all looks like now.
    fn finish(mut self) -> Result<Copied, Failure> {
        let step = |path: &Path| format!("copy {}", path.display());
        for (path, object) in self.made.iter().filter(|(_, object)| object.is_directory()).rev() {
            let finished = (|| {
                let directory = self.copy.list(path)?;
                fchmod(&directory, Mode::from_bits_truncate(object.mode & 0o1777))?;
                futimens(&directory, &time(object.accessed), &time(object.modified))
            })();
            finished.step(|| step(path))?;
        }
        for (path, object) in &self.made {
            if let Some(copy) = self.copy.look(path).step(|| step(path))? {
                self.result.baseline.0.insert(path.clone(), Entry::new(&copy, object));
            }
        }
        Ok(self.result)
    }
}

/// Gives `copy` the mode of `like`.
pub fn finish_root(copy: &Root, like: &Object, owner: Option<(u32, u32)>) -> Result<(), Errno> {
    let open = copy.list(Path::new(""))?;
    if let Some((uid, gid)) = owner {
        nix::unistd::fchown(&open, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    }
    let stat = fstat(&open)?;
    let mode = if stat.st_uid == like.owner.0 { like.mode & 0o777 } else { like.mode & 0o777 | 0o700 };
    fchmod(&open, Mode::from_bits_truncate(mode))
}

fn time((seconds, nanoseconds): super::Moment) -> TimeSpec {
    TimeSpec::new(seconds, nanoseconds)
}
