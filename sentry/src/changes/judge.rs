//! What may be taken over: each change against what stands on the host now.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use hashbrown::HashMap;
use nix::errno::Errno;

use super::layer::Layer;
use super::root::{look_in, names};
use super::{Change, Kind, Object, Review, Type};

/// What is to become of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It can be taken over.
    Apply,
    /// The host has it already.
    Already,
    /// The host's side changed; the reason.
    Conflict(String),
    /// It is nothing that can be taken over; the reason.
    Never(String),
}

impl Layer {
    /// Judges each of `changes`, which are some of those of `review`.
    pub fn judge(&self, changes: Vec<Change>, review: &Review, force: bool) -> Vec<(Change, Verdict)> {
        // A file that was copied up and has no name on the host was renamed by the guest, or deleted by somebody else.
        let may_be_renamed = review.changes.iter().any(|change| {
            let file = |object: &Option<Object>| object.as_ref().is_some_and(|object| !object.is_directory());
            file(&change.before) && !self.was_copied_up(&change.path) || change.within > 0
        });
        let mut grounds: HashMap<PathBuf, Option<String>> = HashMap::new();
        let judged = changes.into_iter().map(|change| {
            let parent = change.path.parent().unwrap_or(Path::new(""));
            let ground = match grounds.get(parent) {
                Some(ground) => ground.clone(),
                None => grounds.entry(parent.to_owned()).or_insert(self.is_another_ground(parent)).clone(),
            };
            let verdict = match (self.verdict(&change, may_be_renamed), ground) {
                (Verdict::Apply | Verdict::Conflict(_), _) if force => Verdict::Apply,
                (Verdict::Apply, Some(reason)) => Verdict::Conflict(reason),
                (verdict, _) => verdict,
            };
            (change, verdict)
        });
        judged.collect()
    }

    fn verdict(&self, change: &Change, may_be_renamed: bool) -> Verdict {
        let conflict = |reason: &str| Verdict::Conflict(reason.to_owned());
        let path = &change.path;
        match (&change.before, &change.after) {
            (None, None) => Verdict::Already,
            (Some(before), None) if before.is_directory() => match self.changed_within(path, before) {
                None => Verdict::Apply,
                Some(reason) => Verdict::Conflict(reason),
            },
            (Some(before), None) if self.changed_since(path, before) => conflict("it changed on the host meanwhile"),
            (Some(_), None) => Verdict::Apply,
            (_, Some(after)) if matches!(after.kind, Type::Socket | Type::Device) => {
                Verdict::Never(format!("a {} means nothing outside of its sandbox", after.kind.word()))
            }
            (None, Some(after)) => {
                let lost = self.baseline.as_ref().is_some_and(|baseline| baseline.get(path).is_some())
                    || self.was_copied_up(path) && (after.is_directory() || !may_be_renamed);
                if lost { conflict("it was deleted on the host meanwhile") } else { Verdict::Apply }
            }
            (Some(before), Some(after)) if self.alike(path, before, after) => {
                let times_only = after.kind == Type::File && before.modified != after.modified;
                if times_only && !self.changed_since(path, before) { Verdict::Apply } else { Verdict::Already }
            }
            (Some(before), Some(after)) if before.is_directory() && after.is_directory() => {
                // So we make directories, and give them their own mode when they are filled.
                let half_made = before.mode & 0o777 == 0o700;
                if !half_made && self.changed_since(path, before) {
                    conflict("its mode changed on the host meanwhile")
                } else {
                    Verdict::Apply
                }
            }
            (Some(before), Some(_)) if before.is_directory() => Verdict::Apply,
            (Some(before), Some(_)) if self.changed_since(path, before) => conflict(match change.kind {
                Kind::New => "it appeared on the host meanwhile",
                _ => "it changed on the host meanwhile",
            }),
            (Some(_), Some(_)) => Verdict::Apply,
        }
    }

    /// Whether overlayfs copied this object from the host's side, rather than the guest making it.
    fn was_copied_up(&self, path: &Path) -> bool {
        if self.baseline.is_some() {
            return false;
        }
        let open = self.copy.list(path).or_else(|_| self.copy.read(path));
        open.is_ok_and(|open| crate::raw::attribute(open.as_fd(), super::identity::ORIGIN).is_some())
    }

    /// What changed or came to be in a directory that is to be deleted.
    fn changed_within(&self, path: &Path, object: &Object) -> Option<String> {
        let shown = |path: &Path| crate::report::escape(&self.host_path.join(path).to_string_lossy());
        let mut queue = vec![path.to_owned()];
        while let Some(path) = queue.pop() {
            let listed = self.host.list(&path).and_then(|open| Ok((names(&open)?, open)));
            let (names, open) = match listed {
                Ok(listed) => listed,
                Err(Errno::EXDEV) => return Some(format!("another file system is mounted at {}", shown(&path))),
                Err(errno) => return Some(format!("{} cannot be looked through: {}", shown(&path), errno.desc())),
            };
            for name in names {
                let path = path.join(&name);
                let Ok(Some(object)) = look_in(&open, &name) else { continue };
                let changed = match object.is_directory() {
                    true => self.is_another_to_delete(&path, &object),
                    false => self.changed_since(&path, &object),
                };
                if changed {
                    return Some(format!("{} changed or appeared on the host meanwhile", shown(&path)));
                }
                if object.is_directory() {
                    queue.push(path);
                }
            }
        }
        // Last, for what came in tells more.
        self.is_another_to_delete(path, object).then(|| "it changed on the host meanwhile".to_owned())
    }
}
