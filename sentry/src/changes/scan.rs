//! Finding what changed: one walk over an overlay's upper directory, or over a copied tree and its baseline.
//!
//! In an upper directory (Documentation/filesystems/overlayfs.rst) a character device 0:0 stands for a deleted name, and
//! so does an empty file with a mark in a directory that says so; a directory marked opaque hides all that was in the one
//! it replaced, and so do the directories in it, unmarked.

use std::ffi::{OsStr, OsString};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use hashbrown::HashSet;
use nix::errno::Errno;

use super::baseline::{Baseline, Mark};
use super::layer::Layer;
use super::root::{count, look_in, names, real_mode};
use super::skeleton::CLOSED;
use super::{Change, Kind, Object, Review, Type};

pub(super) const OPAQUE: &std::ffi::CStr = c"user.overlay.opaque";
const WHITEOUT: &std::ffi::CStr = c"user.overlay.whiteout";

/// A directory yet to be looked through.
struct Waiting {
    path: PathBuf,
    /// Whether what was there on the host before is hidden by it.
    opaque: bool,
    /// Whether nobody could look into what was there before.
    closed: bool,
}

impl Layer {
    pub(super) fn scan_overlay(&self, review: &mut Review) {
        let mut queue = vec![Waiting { path: PathBuf::new(), opaque: false, closed: false }];
        while let Some(waiting) = queue.pop() {
            if let Err(errno) = self.scan_upper(&waiting, &mut queue, review) {
                review.problems.push(unseen(&self.copy_path.join(&waiting.path), errno));
            }
        }
    }

    fn scan_upper(&self, at: &Waiting, queue: &mut Vec<Waiting>, review: &mut Review) -> Result<(), Errno> {
        let directory = self.copy.list(&at.path)?;
        let mark = crate::raw::attribute(directory.as_fd(), OPAQUE);
        let marked_files = mark.as_deref() == Some(b"x");
        // A program can set the mark as well; what it says of the host is asked there.
        let marked_closed = crate::raw::attribute(directory.as_fd(), CLOSED).is_some();
        let closed = at.closed || marked_closed && self.host.list(&at.path).err() == Some(Errno::EACCES);
        let opaque = !closed && (at.opaque || mark.as_deref() == Some(b"y"));
        let names = names(&directory)?;
        for name in &names {
            let path = at.path.join(name);
            let Some(after) = look_in(&directory, name)? else { continue };
            let inherited = Waiting { path, opaque, closed };
            let Some(before) = self.before(&inherited, &after, queue, review) else { continue };
            let path = &inherited.path;
            if is_whiteout(&after) || marked_files && after.size == 0 && self.is_marked(path) {
                review.deleted(self, path.clone(), before);
            } else {
                self.found(inherited, before, after, queue, review);
            }
        }
        if opaque {
            let kept: HashSet<&OsString> = names.iter().collect();
            self.hidden_by(&at.path, &kept, review);
        }
        Ok(())
    }

    /// What the host has at `path`; `None` if that does not matter any more or cannot be told.
    fn before(
        &self,
        at: &Waiting,
        after: &Object,
        queue: &mut Vec<Waiting>,
        review: &mut Review,
    ) -> Option<Option<Object>> {
        let path = at.path.as_path();
        if self.journal.is_done(path) {
            review.is_there(path, after);
            if after.is_directory() {
                queue.push(Waiting { path: path.to_owned(), ..*at });
            }
            return None;
        }
        if at.closed {
            return Some(None);
        }
        let before = self.host.look(path);
        before.map_err(|errno| review.problems.push(unseen(&self.host_path.join(path), errno))).ok()
    }

    /// What an opaque directory hides: all that the host has and it has not.
    fn hidden_by(&self, path: &Path, kept: &HashSet<&OsString>, review: &mut Review) {
        let Ok(host) = self.host.list(path) else { return };
        for name in names(&host).unwrap_or_default().iter().filter(|name| !kept.contains(name)) {
            let path = path.join(name);
            let before = look_in(&host, name).ok().flatten();
            review.deleted(self, path, before);
        }
    }

    fn is_marked(&self, path: &Path) -> bool {
        let open = self.copy.read(path);
        open.is_ok_and(|open| crate::raw::attribute(open.as_fd(), WHITEOUT).is_some())
    }

    /// An object of the copy, with what the host has at its name.
    fn found(
        &self,
        at: Waiting,
        before: Option<Object>,
        mut after: Object,
        queue: &mut Vec<Waiting>,
        review: &mut Review,
    ) {
        let path = at.path.clone();
        if after.is_directory() {
            queue.push(at);
        }
        match before {
            None => {
                if after.is_directory()
                    && let Ok(open) = self.copy.list(&path)
                {
                    after.mode = real_mode(open.as_fd(), after.mode);
                }
                let change =
                    Change { kind: Kind::New, path, before: None, after: Some(after), within: 0, attributes: false };
                review.changes.push(change);
            }
            Some(before) => {
                if before.is_directory() && !after.is_directory() {
                    // All that was in it goes with it, and none of that may go unsaid.
                    self.hidden_by(&path, &HashSet::new(), review);
                }
                match self.compare(&path, before, after.clone()) {
                    None => review.is_there(&path, &after),
                    change => review.changes.extend(change),
                }
            }
        }
    }

    pub(super) fn scan_copy(&self, baseline: &Baseline, review: &mut Review) {
        let mut seen = HashSet::new();
        let mut queue = vec![PathBuf::new()];
        while let Some(at) = queue.pop() {
            if let Err(errno) = self.scan_tree(&at, baseline, &mut seen, &mut queue, review) {
                review.problems.push(unseen(&self.copy_path.join(&at), errno));
                // What could not be listed is not taken for deleted.
                seen.extend(baseline.0.keys().filter(|path| path.starts_with(&at)).cloned());
            }
        }
        let mut gone: Option<&Path> = None;
        for (path, entry) in &baseline.0 {
            if seen.contains(path) || gone.is_some_and(|gone| path.starts_with(gone)) {
                continue;
            }
            let before = self.host.look(path).ok().flatten();
            review.deleted(self, path.clone(), before);
            // With a directory goes what was in it; but what took a directory's place does not hide what was in that.
            gone = Some(path).filter(|_| entry.directory).map(PathBuf::as_path);
        }
    }

    fn scan_tree(
        &self,
        at: &Path,
        baseline: &Baseline,
        seen: &mut HashSet<PathBuf>,
        queue: &mut Vec<PathBuf>,
        review: &mut Review,
    ) -> Result<(), Errno> {
        let directory = self.copy.list(at)?;
        for name in names(&directory)? {
            let path = at.join(&name);
            let Some(mut after) = look_in(&directory, &name)? else { continue };
            seen.insert(path.clone());
            if after.is_directory() {
                queue.push(path.clone());
            }
            if self.journal.is_done(&path) {
                review.is_there(&path, &after);
                continue;
            }
            let Some(entry) = baseline.get(&path) else {
                if after.is_directory()
                    && let Ok(open) = self.copy.list(&path)
                {
                    after.mode = real_mode(open.as_fd(), after.mode);
                }
                let before = match self.host.look(&path) {
                    Ok(before) => before,
                    Err(errno) => {
                        review.problems.push(unseen(&self.host_path.join(&path), errno));
                        continue;
                    }
                };
                let kind = if before.is_some() { Kind::Changed } else { Kind::New };
                review.changes.push(Change { kind, path, before, after: Some(after), within: 0, attributes: false });
                continue;
            };
            if !after.is_directory() && entry.copy == Mark::of(&after) {
                continue;
            }
            match self.host.look(&path) {
                // What is mounted there has a copy of its own.
                Err(Errno::EXDEV) if after.is_directory() && entry.directory => {}
                Err(errno) => review.problems.push(unseen(&self.host_path.join(&path), errno)),
                Ok(Some(before)) => {
                    let copied = !after.is_directory() || entry.directory;
                    let change = self.compare(&path, before, after.clone());
                    if change.is_none() {
                        review.is_there(&path, &after);
                    }
                    // A directory that nobody changed inside may have been changed outside.
                    review.changes.extend(change.filter(|change| {
                        !copied
                            || change.attributes
                            || change.after.as_ref().is_none_or(|after| {
                                !after.is_directory() || after.harmless_mode() != entry.mode & 0o1777
                            })
                    }));
                }
                Ok(None) => {
                    let change = Change {
                        kind: Kind::New,
                        path,
                        before: None,
                        after: Some(after),
                        within: 0,
                        attributes: false,
                    };
                    // A directory that is as it was copied and gone on the host is no change of the guest's.
                    if !change.after.as_ref().is_some_and(|after| after.is_directory() && entry.directory) {
                        review.changes.push(change);
                    }
                }
            }
        }
        Ok(())
    }
}

impl Review {
    /// Notes a file that needs no commit, but whose other names may.
    fn is_there(&mut self, path: &Path, after: &Object) {
        if after.kind == Type::File && after.links > 1 {
            self.linked.push((after.identity, path.to_owned()));
        }
    }

    /// Notes that `path` is gone in the copy, unless it is gone on the host as well or a commit has seen to it.
    fn deleted(&mut self, layer: &Layer, path: PathBuf, before: Option<Object>) {
        let Some(before) = before else { return };
        if layer.journal.is_done(&path) {
            return;
        }
        let within = if before.is_directory() { count(&layer.host, &path) } else { 0 };
        let before = Some(before);
        self.changes.push(Change { kind: Kind::Deleted, path, before, after: None, within, attributes: false });
    }
}

fn is_whiteout(object: &Object) -> bool {
    object.kind == Type::Device && object.device == 0
}

fn unseen(path: &Path, errno: Errno) -> String {
    format!("{} cannot be looked through: {}", path.display(), errno.desc())
}

/// Bytes held by a copy, each file counted by its blocks.
pub fn used(directory: &std::os::fd::OwnedFd) -> u64 {
    let mut total = 0;
    let mut queue: Vec<std::os::fd::OwnedFd> = directory.try_clone().into_iter().collect();
    while let Some(directory) = queue.pop() {
        for name in names(&directory).unwrap_or_default() {
            let Ok(Some(object)) = look_in(&directory, OsStr::new(&name)) else { continue };
            total += object.used;
            if object.is_directory() {
                use nix::fcntl::{OFlag, openat};
                let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                queue.extend(openat(&directory, name.as_os_str(), flags, nix::sys::stat::Mode::empty()));
            }
        }
    }
    total
}
