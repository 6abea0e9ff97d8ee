//! How much memory the guest's own file systems may take, all together.
//!
//! Each gets a size when it is mounted, and the sizes never add up to more than there is. What one had is free again when
//! it is certain that nobody uses it any more: after an ordinary unmount, which fails while somebody does, or when the
//! kernel has given its device number to another one. After a lazy unmount (`MNT_DETACH`) open files may keep it for long.
//! An overlay keeps what its layers lie in, and does not make an unmount of that fail.

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
pub(super) struct Own {
    device: u64,
    size: u64,
    /// Whether some mount of it was taken away while it may have been in use.
    detached: bool,
}

/// An overlay.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Overlay {
    device: u64,
    /// On which devices its layers lie. Each is a mount to the kernel, in no table.
    layers: Vec<u64>,
    /// As of a file system.
    detached: bool,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Memory {
    budget: u64,
    own: Vec<Own>,
    overlays: Vec<Overlay>,
}

impl Memory {
    pub(super) fn new(budget: u64) -> Self {
        Self { budget, own: Vec::new(), overlays: Vec::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.own.is_empty() && self.overlays.is_empty()
    }

    /// How many layers all overlays have together.
    pub(super) fn layers(&self) -> u64 {
        self.overlays.iter().map(|over| over.layers.len() as u64).sum()
    }

    pub(super) fn budget(&self) -> u64 {
        self.budget
    }

    /// Whether this is one of the guest's own, and which.
    pub(super) fn device_of(&self, file: BorrowedFd) -> Option<u64> {
        let device = fstat(file).ok()?.st_dev;
        self.own.iter().any(|own| own.device == device).then_some(device)
    }

    /// Whether an unmount at this path may free some of the account.
    pub(super) fn is_at(&self, path: &CStr) -> bool {
        let device = || {
            let place = sys::open_at(None, path, libc::O_PATH | libc::O_NOFOLLOW | libc::O_CLOEXEC, 0, 0).ok()?;
            fstat(&place).ok().map(|stat| stat.st_dev)
        };
        let is_known = |device| {
            self.own.iter().any(|own| own.device == device) || self.overlays.iter().any(|over| over.device == device)
        };
        !self.is_empty() && device().is_some_and(is_known)
    }

    /// The size of one that is mounted now, or resized: as asked, as far as there is room. It is on the account from here.
    pub(super) fn take(&mut self, device: u64, asked: Option<u64>) -> Result<u64, Errno> {
        self.gone(device);
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

    /// The size of one that is there already, as asked, as far as there is room; and what was on its account before.
    pub(super) fn retake(&mut self, device: u64, asked: u64) -> Result<(u64, Own), Errno> {
        let before = self.own.iter().find(|own| own.device == device).copied().ok_or(Errno::EINVAL)?;
        let taken = self.take(device, Some(asked));
        match self.own.iter_mut().find(|own| own.device == device) {
            Some(own) => own.detached = before.detached,
            None => self.own.push(before),
        }
        Ok((taken?, before))
    }

    /// It kept the size that it had before.
    pub(super) fn restore(&mut self, before: Own) {
        self.own.retain(|own| own.device != before.device);
        self.own.push(before);
    }

    /// It was never attached.
    pub(super) fn give_back(&mut self, device: u64) {
        self.own.retain(|own| own.device != device);
    }

    /// Something new has this number: were the old one still there, it would not be free.
    fn gone(&mut self, device: u64) {
        self.own.retain(|own| own.device != device);
        self.overlays.retain(|over| over.device != device);
    }

    /// An overlay was mounted whose layers lie on these devices.
    pub(super) fn layered(&mut self, device: u64, layers: Vec<u64>) {
        self.gone(device);
        self.overlays.push(Overlay { device, layers, detached: false });
    }

    /// Something was unmounted while nobody used it; these are the devices of all mounts that are left.
    pub(super) fn unmounted(&mut self, left: &[Mount]) {
        let mounted = |device| left.iter().any(|mount| mount.device == device);
        loop {
            let layers: Vec<u64> = self.overlays.iter().flat_map(|over| over.layers.clone()).collect();
            let stays = |device, detached| detached || mounted(device) || layers.contains(&device);
            let before = self.overlays.len();
            self.overlays.retain(|over| stays(over.device, over.detached));
            self.own.retain(|own| stays(own.device, own.detached));
            // What one of them lay on may be free by that.
            if self.overlays.len() == before {
                return;
            }
        }
    }

    /// Mounts were detached; these are the devices of all mounts before and after.
    pub(super) fn detached(&mut self, before: &[Mount], after: &[Mount]) {
        let count = |mounts: &[Mount], device| mounts.iter().filter(|mount| mount.device == device).count();
        let fewer = |device| count(after, device) < count(before, device);
        for own in &mut self.own {
            own.detached |= fewer(own.device);
        }
        for over in &mut self.overlays {
            over.detached |= fewer(over.device);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    impl Memory {
        fn size_of(&self, device: u64) -> Option<u64> {
            self.own.iter().find(|own| own.device == device).map(|own| own.size)
        }
    }

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
        memory.unmounted(&mounts(&[1, 5]));
        assert_eq!(memory.size_of(5), Some(1 << 20), "mounted elsewhere");
        memory.detached(&mounts(&[1, 5, 5]), &mounts(&[1, 5]));
        memory.unmounted(&mounts(&[1]));
        assert_eq!(memory.size_of(5), Some(1 << 20), "perhaps in use");
        assert_eq!(memory.take(5, Some(1 << 21)), Ok(1 << 21), "its number was free");
        memory.unmounted(&mounts(&[1]));
        assert!(memory.is_empty());
    }

    #[test]
    fn what_an_overlay_lies_on_stays_on_the_account() {
        let mut memory = Memory::new(GIB);
        for device in [5, 6] {
            memory.take(device, Some(1 << 20)).unwrap();
        }
        // One over both, another over that one, and one that has nothing to do with them.
        memory.layered(10, vec![5, 6, 1]);
        memory.layered(11, vec![10]);
        memory.layered(12, vec![1]);
        assert_eq!(memory.layers(), 5);
        memory.unmounted(&mounts(&[1, 6, 10, 11]));
        memory.unmounted(&mounts(&[1, 6, 11]));
        assert_eq!((memory.size_of(5), memory.size_of(6)), (Some(1 << 20), Some(1 << 20)));
        memory.unmounted(&mounts(&[1, 6]));
        assert_eq!((memory.size_of(5), memory.size_of(6)), (None, Some(1 << 20)));
        assert_eq!(memory.layers(), 0);
        memory.layered(10, vec![6]);
        memory.detached(&mounts(&[1, 6, 10]), &mounts(&[1, 6]));
        memory.unmounted(&mounts(&[1]));
        assert_eq!(memory.size_of(6), Some(1 << 20), "perhaps in use");
        memory.layered(10, vec![1]);
        memory.unmounted(&mounts(&[1]));
        assert!(memory.is_empty(), "the number was free");
    }

    #[test]
    fn a_resize_forgets_nothing() {
        let mut memory = Memory::new(GIB);
        assert_eq!(memory.take(5, Some(GIB)), Ok(GIB / 4 * 3));
        memory.detached(&mounts(&[5, 5]), &mounts(&[5]));
        memory.take(6, Some(GIB)).unwrap();
        let (size, before) = memory.retake(5, 1 << 20).unwrap();
        assert_eq!((size, memory.size_of(5)), (1 << 20, Some(1 << 20)));
        memory.restore(before);
        assert_eq!(memory.size_of(5), Some(GIB / 4 * 3), "all of it, whatever is left");
        memory.retake(5, 1 << 20).unwrap();
        memory.unmounted(&mounts(&[6]));
        assert_eq!(memory.size_of(5), Some(1 << 20), "perhaps in use");
        let mut full = Memory::new(SMALLEST * 2);
        full.take(5, None).unwrap();
        full.own.push(Own { device: 6, size: SMALLEST, detached: false });
        assert_eq!((full.retake(5, 1), full.size_of(5)), (Err(Errno::ENOSPC), Some(SMALLEST)));
    }
}
