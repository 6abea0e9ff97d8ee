//! The mounts that the view is made of, watched: a program outside that replaces a file takes away what is mounted on it.
//!
//! Nobody inside can unmount them. Where the guest may mount, the table changes for its sake as well, and only a mount of
//! the view that is missing tells of something from outside.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use hashbrown::HashSet;
use nix::errno::Errno;
use nix::unistd::{Whence, lseek, read};

/// Between two looks at a table that the guest may change a thousand times a second.
const PACE: Duration = Duration::from_millis(100);

/// Identifier, device and root of a mount; its place may move with the directory that it is in.
type Mount = [Vec<u8>; 3];

/// The table, and what was in it at first.
pub(super) struct ViewMounts {
    table: OwnedFd,
    /// `None`: any change is one from outside.
    view: Option<HashSet<Mount>>,
    changed: bool,
    looked: Instant,
}

impl ViewMounts {
    /// `table` is an open `mountinfo` of the view. If the guest `may_mount`, what is there now is the view's.
    pub(super) fn new(table: OwnedFd, may_mount: bool) -> Result<Self, Errno> {
        let view = may_mount.then(|| mounts(&table)).transpose()?;
        Ok(Self { table, view, changed: false, looked: Instant::now() })
    }

    /// To be polled for `POLLPRI`: the table has changed.
    pub(super) fn table(&self) -> BorrowedFd<'_> {
        self.table.as_fd()
    }

    /// The table has changed.
    pub(super) fn note(&mut self) {
        self.changed = true;
    }

    /// After how long a look is due.
    pub(super) fn due(&self) -> Option<Duration> {
        self.changed.then(|| PACE.saturating_sub(self.looked.elapsed()))
    }

    /// Whether a mount of the view is gone since the last time this was asked.
    pub(super) fn is_one_missing(&mut self) -> bool {
        if !self.changed {
            return false;
        }
        let Some(view) = &mut self.view else {
            self.changed = false;
            return true;
        };
        if self.looked.elapsed() < PACE {
            return false;
        }
        self.changed = false;
        self.looked = Instant::now();
        let Ok(there) = mounts(&self.table) else { return false };
        let before = view.len();
        view.retain(|mount| there.contains(mount));
        view.len() < before
    }
}

fn mounts(table: &OwnedFd) -> Result<HashSet<Mount>, Errno> {
    lseek(table, 0, Whence::SeekSet)?;
    let mut text = Vec::new();
    let mut chunk = vec![0; 64 * 1024];
    loop {
        match read(table, &mut chunk)? {
            0 => break,
            length => text.extend_from_slice(&chunk[..length]),
        }
    }
    Ok(text.split(|byte| *byte == b'\n').filter_map(parse).collect())
}

fn parse(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let (id, _parent, device, root) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    Some([id.to_vec(), device.to_vec(), root.to_vec()])
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_that_went_is_told_of_once() {
        let table = std::fs::File::open("/proc/self/mountinfo").unwrap();
        let mut mounts = ViewMounts::new(table.into(), true).unwrap();
        let gone = parse(b"7 1 0:5 /x /mnt rw - tmpfs none rw").unwrap();
        mounts.view.as_mut().unwrap().insert(gone);
        assert!(!mounts.is_one_missing(), "nothing has changed");
        mounts.note();
        mounts.looked = Instant::now() - PACE;
        assert!(mounts.is_one_missing());
        mounts.note();
        assert!(mounts.due().unwrap() > Duration::ZERO);
        assert!(!mounts.is_one_missing());
    }
}
