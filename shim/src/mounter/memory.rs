//! How much memory the guest's own file systems may take, all together.
//!
//! Each gets a size when it is mounted, and the sizes never add up to more than there is. What one had is free again when
//! it is certain that nobody uses it any more: after an ordinary unmount, which fails while somebody does, or when the
//! kernel has given its device number to another one. After a lazy unmount (`MNT_DETACH`) open files may keep it for long.

use std::ffi::CStr;
use std::os::fd::BorrowedFd;

use nix::errno::Errno;
use nix::libc;
use nix::sys::stat::fstat;

use super::table::Mount;
use crate::sys;

/// The smallest that is worth mounting.
pub(super) const SMALLEST: u64 = 64 * 1024;

/// One file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Own {
    device: u64,
    size: u64,
    /// Whether some mount of it was taken away while it may have been in use.
    detached: bool,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Memory {
    budget: u64,
    own: Vec<Own>,
}

impl Memory {
    pub(super) fn new(budget: u64) -> Self {
        Self { budget, own: Vec::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.own.is_empty()
    }

    pub(super) fn budget(&self) -> u64 {
        self.budget
    }

    /// Whether this is one of the guest's own, and which.
    pub(super) fn device_of(&self, file: BorrowedFd) -> Option<u64> {
        let device = fstat(file).ok()?.st_dev;
        self.own.iter().any(|own| own.device == device).then_some(device)
    }

    /// The same of what lies at a path.
    pub(super) fn device_at(&self, path: &CStr) -> Option<u64> {
        if self.own.is_empty() {
            return None;
        }
        let place = sys::open_at(None, path, libc::O_PATH | libc::O_NOFOLLOW | libc::O_CLOEXEC, 0, 0).ok()?;
        self.device_of(std::os::fd::AsFd::as_fd(&place))
    }

    /// The size of one that is mounted now, or resized: as asked, as far as there is room. It is on the account from here.
    pub(super) fn take(&mut self, device: u64, asked: Option<u64>) -> Result<u64, Errno> {
        // Were it still there, the number would not be free.
        self.own.retain(|own| own.device != device);
        let taken: u64 = self.own.iter().map(|own| own.size).sum();
        let left = self.budget.saturating_sub(taken);
        // Some is kept for the next one, whatever is asked for; and without a wish each gets less than the one before, so
        // that a thousand are possible.
        let most = left - left / 4;
        let size = asked.unwrap_or(self.budget / (8 * (self.own.len() as u64 + 1))).max(SMALLEST).min(most);
        if size < SMALLEST {
            return Err(Errno::ENOSPC);
        }
        self.own.push(Own { device, size, detached: false });
        Ok(size)
    }

    /// What is on the account of one.
    pub(super) fn size_of(&self, device: u64) -> Option<u64> {
        self.own.iter().find(|own| own.device == device).map(|own| own.size)
    }

    /// It was never attached.
    pub(super) fn give_back(&mut self, device: u64) {
        self.own.retain(|own| own.device != device);
    }

    /// A mount of it was unmounted while nobody used it; these are the devices of all mounts that are left.
    pub(super) fn unmounted(&mut self, device: u64, left: &[Mount]) {
        self.own.retain(|own| own.device != device || own.detached || left.iter().any(|mount| mount.device == device));
    }

    /// Mounts were detached; these are the devices of all mounts before and after.
    pub(super) fn detached(&mut self, before: &[Mount], after: &[Mount]) {
        let count = |mounts: &[Mount], device| mounts.iter().filter(|mount| mount.device == device).count();
        for own in &mut self.own {
            own.detached |= count(after, own.device) < count(before, own.device);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn a_thousand_fit_and_never_add_up_to_more_than_there_is() {
        let mut memory = Memory::new(GIB);
        let sizes: Vec<u64> = (0..1000).map(|device| memory.take(device, None).unwrap()).collect();
        assert!(sizes.iter().sum::<u64>() <= GIB);
        assert_eq!(sizes[0], GIB / 8);
        assert!(sizes[999] >= SMALLEST);
        let mut greedy = Memory::new(GIB);
        let mut total = 0;
        while let Ok(size) = greedy.take(total, Some(u64::MAX)) {
            total += size;
        }
        assert!(total <= GIB && total > GIB - GIB / 64, "{total}");
        assert_eq!(greedy.take(7, Some(1)), Err(Errno::ENOSPC));
    }

    fn mounts(devices: &[u64]) -> Vec<Mount> {
        devices.iter().map(|device| Mount { device: *device, ..Mount::default() }).collect()
    }

    #[test]
    fn what_may_be_in_use_stays_on_the_account() {
        let mut memory = Memory::new(GIB);
        memory.take(5, Some(1 << 20)).unwrap();
        memory.unmounted(5, &mounts(&[1, 5]));
        assert_eq!(memory.size_of(5), Some(1 << 20), "mounted elsewhere");
        memory.detached(&mounts(&[1, 5, 5]), &mounts(&[1, 5]));
        memory.unmounted(5, &mounts(&[1]));
        assert_eq!(memory.size_of(5), Some(1 << 20), "perhaps in use");
        assert_eq!(memory.take(5, Some(1 << 21)), Ok(1 << 21), "its number was free");
        memory.unmounted(5, &mounts(&[1]));
        assert!(memory.is_empty());
    }
}
