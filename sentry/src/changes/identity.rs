//! Whether the directories of the host are those that the guest saw, or others that were put in their place.
//!
//! Files tell by their ctime that they changed; what lies in a directory that was moved here keeps old ones. But rename(2)
//! moves the ctime of what it renames (ext4, xfs, btrfs, tmpfs), so the directory itself tells. overlayfs notes what it
//! copied from (`user.overlay.origin`), without saying what that was unless root mounts. What a commit does moves ctimes
//! as well: it writes down which directory it found good, by device and inode, before it changes anything in it.

use std::os::fd::AsFd;
use std::path::Path;

use super::layer::Layer;
use super::root::names;
use super::scan::OPAQUE;
use super::{Moment, Object};

/// How the copy's directory at a path hangs together with the host's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bond {
    /// The copy's shows what the host's has beneath it, and was copied from one.
    Merged,
    /// The same, but the guest made it: the host had none then.
    Made,
    /// The copy hides all that the host has there.
    Hides,
}

impl Layer {
    /// Why nothing may be taken over beneath `path`, whose directories on the host are looked at one by one.
    pub fn is_another_ground(&self, path: &Path) -> Option<String> {
        let mut parents: Vec<&Path> = path.ancestors().filter(|path| !path.as_os_str().is_empty()).collect();
        parents.reverse();
        let mut hidden = false;
        for path in parents {
            let bond = if hidden { Bond::Hides } else { self.bond(path) };
            hidden = bond == Bond::Hides;
            let Ok(Some(now)) = self.host.look(path) else { return None };
            if !now.is_directory() {
                return None;
            }
            if self.is_another(path, &now, bond) && !self.is_bare(path) {
                let shown = crate::report::escape(&self.host_path.join(path).to_string_lossy());
                return Some(format!("{shown} changed or appeared on the host meanwhile"));
            }
        }
        None
    }

    /// Whether the host's directory at `path`, which is to go with all that is in it, changed or came here meanwhile.
    pub fn is_another_to_delete(&self, path: &Path, now: &Object) -> bool {
        self.is_another(path, now, Bond::Hides)
    }

    fn is_another(&self, path: &Path, now: &Object, bond: Bond) -> bool {
        if let Some(known) = self.journal.known(path) {
            return known != now.identity;
        }
        if let Some(baseline) = &self.baseline {
            return baseline.get(path).is_none_or(|entry| !entry.directory || entry.host.0 != now.identity.1);
        }
        match bond {
            Bond::Made => true,
            Bond::Hides => now.changed > self.started,
            // Entries that come and go move both times; what moves ctime alone is a chmod, or its having been moved here.
            Bond::Merged => {
                now.changed > self.started && (now.modified <= self.started || self.born(path) > Some(self.started))
            }
        }
    }

    fn born(&self, path: &Path) -> Option<Moment> {
        let found = self.host.find(path).ok()??;
        crate::raw::birth(found.as_fd()).map(|(seconds, nanoseconds)| (seconds, i64::from(nanoseconds)))
    }

    /// Whether there is nothing in it that could be lost; so are directories that a commit made and was killed then.
    fn is_bare(&self, path: &Path) -> bool {
        self.host.list(path).and_then(|open| names(&open)).is_ok_and(|names| names.is_empty())
    }

    fn bond(&self, path: &Path) -> Bond {
        let Ok(open) = self.copy.list(path) else { return Bond::Hides };
        if crate::raw::attribute(open.as_fd(), OPAQUE).as_deref() == Some(b"y") {
            Bond::Hides
        } else if crate::raw::attribute(open.as_fd(), ORIGIN).is_some() {
            Bond::Merged
        } else {
            Bond::Made
        }
    }
}

/// The mark of what overlayfs copied up.
pub const ORIGIN: &std::ffi::CStr = c"user.overlay.origin";
