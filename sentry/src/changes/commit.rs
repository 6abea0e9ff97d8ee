//! Taking changes over to the host: what may be, in an order that can be interrupted anywhere.
//!
//! First every change is judged against what stands on the host now; then deletions are done, then the rest. A file is
//! written beside its place, forced to disk and renamed into it; only when that is on disk as well is it noted as done
//! and let go of in the copy. A commit that was killed is repeated: what is on the host already is recognised.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use hashbrown::{HashMap, HashSet};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, RenameFlags, openat, renameat2};
use nix::sys::stat::{Mode, SFlag, UtimensatFlags, fstat, futimens, mkdirat, mknodat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, LinkatFlags, Uid, UnlinkatFlags, fchown, fchownat, fsync, linkat, symlinkat, unlinkat};

use super::judge::Verdict;
use super::layer::Layer;
use super::obeyed::stays_alone;
use super::root::{look_in, names};
use super::{Change, Kind, Object, Review, Type};

/// How to commit.
#[derive(Clone, Debug)]
pub struct Options {
    /// Take over also what changed on the host.
    pub force: bool,
    /// Only say what would be done.
    pub dry_run: bool,
    /// The run's name, for names of files that are being written.
    pub id: String,
}

/// What came of a commit.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Changes that are on the host now.
    pub done: Vec<(Kind, PathBuf)>,
    /// What was left alone, and why.
    pub left: Vec<(PathBuf, String)>,
    /// What no commit takes over, and why.
    pub never: Vec<(PathBuf, String)>,
    /// What ended the commit early.
    pub stopped: Option<String>,
}

/// Names of files that are being written, one for each run: a commit that was killed leaves one behind at most.
pub fn temporary(id: &str) -> String {
    format!(".sentry-commit-{id}")
}

impl Layer {
    /// Takes over what was judged.
    pub fn commit(&mut self, judged: Vec<(Change, Verdict)>, review: &Review, options: &Options) -> Outcome {
        let mut commit = Commit {
            temporary: temporary(&options.id),
            force: options.force,
            owner: by_root(self),
            outcome: Outcome::default(),
            links: linked(self, review),
            unready: Vec::new(),
            pending: Vec::new(),
            failed: Vec::new(),
            placed: HashSet::new(),
            touched: Vec::new(),
            layer: self,
        };
        if let Err(error) = commit.layer.journal.begin() {
            commit.outcome.stopped =
                Some(format!("cannot write the journal: {error}; make room where the copy is kept"));
            return commit.outcome;
        }
        commit.layer.clean(review, &options.id);
        for (change, verdict) in judged {
            if commit.outcome.stopped.is_some() {
                break;
            }
            commit.one(change, verdict);
        }
        commit.finish_directories();
        commit.flush();
        commit.outcome
    }

    /// Removes what a commit that was killed may have left beside the files it was writing.
    pub fn clean(&self, review: &Review, id: &str) {
        let name = temporary(id);
        let mut parents: Vec<&Path> = review.changes.iter().filter_map(|change| change.path.parent()).collect();
        parents.sort_unstable();
        parents.dedup();
        for parent in parents {
            if let Ok(open) = self.host.list(parent) {
                let _ = unlinkat(&open, name.as_str(), UnlinkatFlags::NoRemoveDir);
            }
        }
    }
}

/// Root's commits give what they write to the directory's owner, as the guest's id-mapped view of it would have done.
fn by_root(layer: &Layer) -> Option<(u32, u32)> {
    let root = Uid::effective().is_root();
    layer.host.object().ok().filter(|_| root).map(|object| object.owner)
}

/// Where the host has the inodes of the copy that have several names, and may get more.
fn linked(layer: &Layer, review: &Review) -> HashMap<(u64, u64), PathBuf> {
    review.linked.iter().filter(|(_, path)| !stays_alone(layer, path)).cloned().collect()
}

struct Commit<'a> {
    layer: &'a mut Layer,
    temporary: String,
    force: bool,
    owner: Option<(u32, u32)>,
    outcome: Outcome,
    /// Where the host has the inodes of the copy that have several names.
    links: HashMap<(u64, u64), PathBuf>,
    /// Directories that are there and lack their mode, times and attributes, parents first.
    unready: Vec<Change>,
    /// Done, but perhaps not on disk yet: the change and the directory that must be forced out.
    pending: Vec<(Change, OwnedFd)>,
    /// Directories that could not be made.
    failed: Vec<PathBuf>,
    /// Files with several names that this commit brought to the host.
    placed: HashSet<(u64, u64)>,
    /// Inodes of the host that have another number of names by the change that is being made.
    touched: Vec<OwnedFd>,
}

/// How one change fared.
enum Step {
    Done(OwnedFd),
    Later,
    Conflict(String),
}

impl Commit<'_> {
    fn one(&mut self, change: Change, verdict: Verdict) {
        let full = self.layer.host_path.join(&change.path);
        if self.failed.iter().any(|failed| change.path.starts_with(failed)) {
            self.outcome.left.push((full, "its directory is not there".to_owned()));
            return;
        }
        let step = match verdict {
            Verdict::Conflict(reason) => Ok(Step::Conflict(reason)),
            Verdict::Never(reason) => {
                self.outcome.never.push((full, reason));
                let _ = self.layer.journal.done(&change.path);
                return;
            }
            Verdict::Already => self.already(&change),
            Verdict::Apply => self.apply(&change),
        };
        match step {
            Ok(Step::Done(parent)) => {
                self.outcome.done.push((change.kind, full));
                self.pending.push((change, parent));
                if self.pending.len() >= 64 {
                    self.flush();
                }
            }
            Ok(Step::Later) => {
                self.outcome.done.push((change.kind, full));
                self.unready.push(change);
            }
            Ok(Step::Conflict(reason)) => {
                self.note_failed(&change);
                self.outcome.left.push((full, reason));
            }
            Err(errno @ (Errno::ENOSPC | Errno::EDQUOT)) => {
                let shown = crate::report::escape(&full.to_string_lossy());
                self.outcome.stopped = Some(format!(
                    "cannot write {shown}: {}; what was done stays done and the rest is kept: make room there, then commit \
                     again",
                    errno.desc()
                ));
            }
            Err(errno) => {
                self.note_failed(&change);
                self.outcome.left.push((full, format!("{}{}", errno.desc(), advice(errno))));
            }
        }
    }

    fn note_failed(&mut self, change: &Change) {
        if change.after.as_ref().is_some_and(Object::is_directory)
            && !change.before.as_ref().is_some_and(Object::is_directory)
        {
            self.failed.push(change.path.clone());
        }
    }

    /// What the host has already is done; but several names of one file in the copy are to be one file there too.
    fn already(&mut self, change: &Change) -> Result<Step, Errno> {
        if let (Some(before), Some(after)) = (&change.before, &change.after)
            && after.kind == Type::File
            && after.links > 1
            && !stays_alone(self.layer, &change.path)
        {
            let first = self.links.entry(after.identity).or_insert_with(|| change.path.clone()).clone();
            if self.layer.host.look(&first)?.is_some_and(|first| first.identity != before.identity) {
                return self.apply(change);
            }
        }
        Ok(Step::Done(self.layer.host.parent(&change.path)?.0))
    }

    fn apply(&mut self, change: &Change) -> Result<Step, Errno> {
        let (parent, name) = self.layer.host.parent(&change.path)?;
        let now = self.layer.host.look(&change.path)?;
        let moved_on = |now: &Option<Object>| match (now, &change.before) {
            (Some(now), Some(before)) => {
                now.identity != before.identity || !now.is_directory() && now.modified != before.modified
            }
            (now, before) => now.is_some() != before.is_some(),
        };
        if !self.force && moved_on(&now) && !(change.after.is_none() && now.is_none()) {
            return Ok(Step::Conflict("it changed on the host just now".to_owned()));
        }
        if let Some(reason) = self.stand_on(change.path.parent().unwrap_or(Path::new("")))? {
            return Ok(Step::Conflict(reason));
        }
        let rights = Rights::in_directory(&parent)?;
        let step = self.apply_in(change, now, &parent, &name);
        rights.give_back(&parent);
        self.settle();
        step.map(|later| if later { Step::Later } else { Step::Done(parent) })
    }

    /// Notes that the host's directory at `path` is about to be changed by us; or why it may not be.
    fn stand_on(&mut self, path: &Path) -> Result<Option<String>, Errno> {
        if path.as_os_str().is_empty() {
            return Ok(None);
        }
        let identity = self.layer.host.look(path)?.ok_or(Errno::ENOENT)?.identity;
        if self.layer.journal.known(path) == Some(identity) {
            return Ok(None);
        }
        match self.layer.is_another_ground(path) {
            // Forced once is not right for ever: it is not noted.
            Some(reason) => Ok(Some(reason).filter(|_| !self.force)),
            None => self.know(path, identity).map(|()| None),
        }
    }

    fn know(&mut self, path: &Path, identity: (u64, u64)) -> Result<(), Errno> {
        self.layer.journal.know(path, identity).map_err(|_| Errno::EIO)
    }

    /// Notes that the inode at `path` gets another number of names by us, unless somebody else changed it before.
    fn touch(&mut self, path: &Path, object: &Object) -> Result<(), Errno> {
        if self.layer.changed_since(path, object) {
            return Ok(());
        }
        self.layer.journal.touch(object.identity).map_err(|_| Errno::EIO)?;
        if let Some(open) = self.layer.host.find(path)? {
            self.touched.push(open);
        }
        Ok(())
    }

    /// Notes what ctimes we gave. Without that note another commit looks at the content's time only.
    fn settle(&mut self) {
        for open in self.touched.drain(..) {
            let Ok(stat) = fstat(&open) else { continue };
            let object = Object::new(&stat);
            let _ = self.layer.journal.settle(object.identity, object.changed);
        }
    }

    /// Does it; `true`: a directory that is to be finished later.
    fn apply_in(
        &mut self,
        change: &Change,
        now: Option<Object>,
        parent: &OwnedFd,
        name: &std::ffi::CString,
    ) -> Result<bool, Errno> {
        let path = &change.path;
        let Some(after) = &change.after else {
            match now {
                None => {}
                Some(now) if now.is_directory() => self.delete_directory(path, parent, name)?,
                Some(now) => self.unlink(path, &now, parent, name)?,
            }
            return Ok(false);
        };
        if after.is_directory() {
            match now {
                Some(now) if now.is_directory() => {}
                now => {
                    if let Some(now) = now {
                        self.unlink(path, &now, parent, name)?;
                    }
                    mkdirat(parent, name.as_c_str(), Mode::from_bits_truncate(0o700))?;
                    if let Some((uid, gid)) = self.owner {
                        fchownat(
                            parent,
                            name.as_c_str(),
                            Some(Uid::from_raw(uid)),
                            Some(Gid::from_raw(gid)),
                            AtFlags::AT_SYMLINK_NOFOLLOW,
                        )?;
                    }
                    if let Some(made) = self.layer.host.look(path)? {
                        self.know(path, made.identity)?;
                    }
                }
            }
            return Ok(true);
        }
        let staged = self.stage(path, after, now.as_ref(), parent);
        let placed = staged.and_then(|()| {
            if let Some(now) = &now {
                if now.is_directory() {
                    unlinkat(parent, name.as_c_str(), UnlinkatFlags::RemoveDir)?;
                } else if now.links > 1 {
                    self.touch(path, now)?;
                }
            }
            let exclusive = if now.is_none() { RenameFlags::RENAME_NOREPLACE } else { RenameFlags::empty() };
            match renameat2(parent, self.temporary.as_str(), parent, name.as_c_str(), exclusive) {
                Err(Errno::EINVAL) if now.is_none() => {
                    renameat2(parent, self.temporary.as_str(), parent, name.as_c_str(), RenameFlags::empty())
                }
                other => other,
            }
        });
        // After a rename onto another name of the same file, the file is still there as well.
        let _ = unlinkat(parent, self.temporary.as_str(), UnlinkatFlags::NoRemoveDir);
        placed?;
        if after.kind == Type::File && after.links > 1 && !stays_alone(self.layer, path) {
            self.links.entry(after.identity).or_insert_with(|| path.clone());
            self.placed.extend(self.layer.host.look(path)?.map(|placed| placed.identity));
        }
        Ok(false)
    }

    /// Writes the new object beside its place.
    fn stage(&mut self, path: &Path, after: &Object, now: Option<&Object>, parent: &OwnedFd) -> Result<(), Errno> {
        let temporary = self.temporary.as_str();
        match after.kind {
            Type::File => {
                let linked = after.links > 1 && !stays_alone(self.layer, path);
                let first = linked.then(|| self.links.get(&after.identity)).flatten().cloned();
                if let Some(first) = first.filter(|first| first != path) {
                    if self.is_same_file(&first, path, after)? {
                        return self.stage_link(&first, parent);
                    }
                    // Somebody changed or replaced it: the other names go with the one that comes now.
                    self.links.insert(after.identity, path.to_owned());
                }
                let from = self.layer.copy.read(path)?;
                let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_RDWR | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                let to = openat(parent, temporary, flags, Mode::from_bits_truncate(0o600))?;
                super::copy::copy_content(&from, &to)?;
                match (self.owner, now) {
                    (Some((uid, gid)), _) => fchown(&to, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?,
                    // The group of what is replaced stays, where we are in it.
                    (None, Some(now)) if now.kind == Type::File => {
                        let _ = fchown(&to, None, Some(Gid::from_raw(now.owner.1)));
                    }
                    _ => {}
                }
                let mode = Mode::from_bits_truncate(after.harmless_mode());
                nix::sys::stat::fchmod(&to, mode | Mode::S_IRUSR | Mode::S_IWUSR)?;
                match super::copy::copy_attributes(from.as_fd(), to.as_fd(), self.owner.is_none()) {
                    // A file system without attributes cannot have them.
                    Err(Errno::EOPNOTSUPP) => {}
                    other => other?,
                }
                nix::sys::stat::fchmod(&to, mode)?;
                futimens(&to, &time(after.accessed), &time(after.modified))?;
                fsync(&to)
            }
            Type::Symlink => {
                let target = after.target.as_deref().ok_or(Errno::EINVAL)?;
                symlinkat(target, parent, temporary)?;
                self.own(parent)?;
                let _ = utimensat(
                    parent,
                    temporary,
                    &time(after.accessed),
                    &time(after.modified),
                    UtimensatFlags::NoFollowSymlink,
                );
                Ok(())
            }
            Type::Fifo => {
                // The process has no umask of its own while it commits.
                let mode = Mode::from_bits_truncate(after.harmless_mode());
                mknodat(parent, temporary, SFlag::S_IFIFO, mode, 0)?;
                self.own(parent)
            }
            Type::Directory | Type::Socket | Type::Device => Err(Errno::EINVAL),
        }
    }

    fn own(&self, parent: &OwnedFd) -> Result<(), Errno> {
        let Some((uid, gid)) = self.owner else { return Ok(()) };
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        fchownat(parent, self.temporary.as_str(), uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW)
    }

    /// Whether the host's file at `first` is what the copy has at `path`, so that it may get that name as well.
    fn is_same_file(&self, first: &Path, path: &Path, after: &Object) -> Result<bool, Errno> {
        let Some(object) = self.layer.host.look(first)? else { return Ok(false) };
        if object.kind != Type::File || object.size != after.size || object.mode != after.harmless_mode() {
            return Ok(false);
        }
        if self.placed.contains(&object.identity) && object.modified == after.modified {
            return Ok(true);
        }
        let Ok(there) = self.layer.host.read(first) else { return Ok(false) };
        super::copy::same_content(&there, &self.layer.copy.read(path)?)
    }

    /// Another name for a file that is on the host already.
    fn stage_link(&mut self, first: &Path, parent: &OwnedFd) -> Result<(), Errno> {
        let (directory, name) = self.layer.host.parent(first)?;
        let object = self.layer.host.look(first)?.filter(|object| object.kind == Type::File).ok_or(Errno::ENOENT)?;
        self.touch(first, &object)?;
        linkat(&directory, name.as_c_str(), parent, self.temporary.as_str(), LinkatFlags::empty())
    }

    fn unlink(&mut self, path: &Path, now: &Object, parent: &OwnedFd, name: &std::ffi::CString) -> Result<(), Errno> {
        if now.links > 1 {
            self.touch(path, now)?;
        }
        unlinkat(parent, name.as_c_str(), UnlinkatFlags::NoRemoveDir)
    }

    /// Deletes a directory from its leaves. What changed since it was judged makes the kernel refuse (`ENOTEMPTY`).
    fn delete_directory(&mut self, path: &Path, parent: &OwnedFd, name: &std::ffi::CString) -> Result<(), Errno> {
        let directory = self.layer.host.list(path)?;
        let stat = fstat(&directory)?;
        self.know(path, (stat.st_dev, stat.st_ino))?;
        let rights = Rights::in_directory(&directory)?;
        let emptied = self.empty(path, &directory);
        if emptied.is_err() {
            rights.give_back(&directory);
        }
        emptied?;
        unlinkat(parent, name.as_c_str(), UnlinkatFlags::RemoveDir)
    }

    fn empty(&mut self, path: &Path, directory: &OwnedFd) -> Result<(), Errno> {
        for entry in names(directory)? {
            let within = path.join(&entry);
            let Some(object) = look_in(directory, &entry)? else { continue };
            let changed = match object.is_directory() {
                true => self.layer.is_another_to_delete(&within, &object),
                false => self.layer.changed_since(&within, &object),
            };
            if !self.force && changed {
                return Err(Errno::ENOTEMPTY);
            }
            let name = std::ffi::CString::new(std::os::unix::ffi::OsStrExt::as_bytes(entry.as_os_str()))
                .map_err(|_| Errno::EINVAL)?;
            if object.is_directory() {
                self.delete_directory(&within, directory, &name)?;
            } else {
                self.unlink(&within, &object, directory, &name)?;
            }
        }
        Ok(())
    }

    /// Gives directories what they were denied while they were filled: the deepest first, for a parent may lose rights.
    fn finish_directories(&mut self) {
        while let Some(change) = self.unready.pop() {
            let Some(after) = &change.after else { continue };
            let ground = self.stand_on(&change.path);
            let finished = (|| {
                ground.and_then(|reason| reason.map_or(Ok(()), |_| Err(Errno::ESTALE)))?;
                let directory = self.layer.host.list(&change.path)?;
                let from = self.layer.copy.list(&change.path)?;
                match super::copy::copy_attributes(from.as_fd(), directory.as_fd(), self.owner.is_none()) {
                    Err(Errno::EOPNOTSUPP) => {}
                    other => other?,
                }
                // Directories inherit set-group-id from those they are made in: that is the host's doing.
                let inherited = fstat(&directory)?.st_mode & 0o2000;
                nix::sys::stat::fchmod(&directory, Mode::from_bits_truncate(after.harmless_mode() | inherited))?;
                if change.before.is_none() {
                    let _ = futimens(&directory, &time(after.accessed), &time(after.modified));
                }
                fsync(&directory)?;
                self.layer.host.parent(&change.path).map(|(parent, _)| parent)
            })();
            match finished {
                Ok(parent) => self.pending.push((change, parent)),
                Err(errno) => {
                    let full = self.layer.host_path.join(&change.path);
                    self.outcome.left.push((full, format!("its mode cannot be set: {}", errno.desc())));
                }
            }
        }
    }

    /// Forces what was done to disk, notes it, and lets go of it in the copy.
    fn flush(&mut self) {
        let mut synced = Vec::new();
        let forced = self.pending.iter().try_for_each(|(_, parent)| {
            let inode = fstat(parent)?.st_ino;
            if !synced.contains(&inode) {
                fsync(parent)?;
                synced.push(inode);
            }
            Ok(())
        });
        let forced = forced.map_err(|errno: Errno| std::io::Error::from_raw_os_error(errno as i32));
        let noted =
            forced.and_then(|()| self.pending.iter().try_for_each(|(change, _)| self.layer.journal.done(&change.path)));
        let noted = noted.and_then(|()| self.layer.journal.sync());
        if let Err(error) = noted {
            // Without the note the copy must stay as it is: the next commit finds out what is done.
            let place = self.layer.copy_path.display();
            self.outcome.stopped.get_or_insert(format!(
                "cannot force to disk and note beside {place} what is done: {error}; the copy is kept, commit again"
            ));
            self.pending.clear();
            return;
        }
        for (change, _) in self.pending.drain(..) {
            // A file with other names keeps them together until the end.
            let last_name = change.after.as_ref().is_some_and(|after| !after.is_directory() && after.links == 1);
            if last_name && let Ok((parent, name)) = self.layer.copy.parent(&change.path) {
                let _ = unlinkat(&parent, name.as_c_str(), UnlinkatFlags::NoRemoveDir);
            }
        }
    }
}

/// Rights that the owner of a directory gave up and a commit needs for a moment.
struct Rights(Option<u32>);

impl Rights {
    fn in_directory(directory: &OwnedFd) -> Result<Self, Errno> {
        let stat = fstat(directory)?;
        let (mode, own) = (stat.st_mode & 0o7777, stat.st_uid == Uid::effective().as_raw());
        if mode & 0o300 == 0o300 || !own || Uid::effective().is_root() {
            return Ok(Self(None));
        }
        nix::sys::stat::fchmod(directory, Mode::from_bits_truncate(mode | 0o300))?;
        Ok(Self(Some(mode)))
    }

    fn give_back(self, directory: &OwnedFd) {
        if let Self(Some(mode)) = self {
            let _ = nix::sys::stat::fchmod(directory, Mode::from_bits_truncate(mode));
        }
    }
}

fn time((seconds, nanoseconds): super::Moment) -> TimeSpec {
    TimeSpec::new(seconds, nanoseconds)
}

fn advice(errno: Errno) -> &'static str {
    match errno {
        Errno::EACCES | Errno::EPERM => "; you may not write there, copy it by hand with the rights it needs",
        Errno::EROFS => "; the file system is mounted read-only",
        Errno::ENOTEMPTY => "; something in it was left or came in meanwhile",
        Errno::EXDEV => "; another file system is mounted there",
        Errno::ENOENT => "; its directory is gone on the host",
        _ => "",
    }
}
