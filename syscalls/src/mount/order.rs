//! What the supervisor asks of the process that mounts: a small structure of fixed size, descriptors, and one string.
//!
//! Places are descriptors, so that neither side walks a path that the guest can change. The string is the name that the
//! mount table shows as the source, and, of an unmount, the place: a descriptor would keep the mount busy.

use std::os::fd::BorrowedFd;

use nix::errno::Errno;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The longest string of an order, in bytes.
pub const LONGEST: usize = libc::PATH_MAX as usize;
/// Lower layers of one overlay, at most.
pub const MOST_LAYERS: usize = 100;
/// Descriptors of one order, at most: a target, two directories of an overlay, and its lower layers.
pub const MOST_FILES: usize = MOST_LAYERS + 3;

/// What is to be done, and with which descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    /// A new file system in memory: target.
    Memory = 1,
    /// New pseudo-terminals: target.
    Terminals,
    /// The message queues of the sandbox: target.
    Queues,
    /// The sandbox's own `/proc` once more: target.
    Processes,
    /// A part of the tree once more: source, target.
    Bind,
    /// The same with all that is mounted beneath.
    BindAll,
    /// A mount goes elsewhere: source, target.
    Move,
    /// Directories on top of one another: target, then upper and work directory if it is [`WRITABLE`], then the layers from
    /// the top down.
    Overlay,
    /// Other attributes of a mount: target.
    Change,
    /// Another propagation: target.
    Propagate,
    /// The mount at the place that the string names goes away.
    Unmount,
}

impl Kind {
    const ALL: [Self; 11] = [
        Self::Memory,
        Self::Terminals,
        Self::Queues,
        Self::Processes,
        Self::Bind,
        Self::BindAll,
        Self::Move,
        Self::Overlay,
        Self::Change,
        Self::Propagate,
        Self::Unmount,
    ];
}

/// [`Order::flags`] of an overlay: it has an upper and a work directory.
pub const WRITABLE: u32 = 1;
/// Of a propagation: everything beneath as well.
pub const RECURSIVE: u32 = 1;
/// Of a change: the file system itself too, if it is one in memory that the guest made.
pub const RESIZE: u32 = 2;
/// Of a file system in memory: `size` is a percentage.
pub const PERCENT: u32 = 4;

/// The fixed part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Order {
    /// The number of a [`Kind`].
    pub number: u32,
    /// See above; of an unmount those of umount2(2).
    pub flags: u32,
    /// `MOUNT_ATTR_*` to set.
    pub set: u32,
    /// `MOUNT_ATTR_*` to take away, if nobody else set them.
    pub clear: u32,
    /// `MS_SHARED` and its like.
    pub propagation: u32,
    /// Permission bits of a new root.
    pub mode: u32,
    /// Bytes, or 0: not said.
    pub size: u64,
    /// Files, or 0: not said.
    pub inodes: u64,
}

impl Order {
    /// An order to do this, with nothing said yet.
    pub fn new(kind: Kind) -> Self {
        Self { number: kind as u32, ..Self::default() }
    }

    /// What is to be done.
    pub fn kind(&self) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| *kind as u32 == self.number)
    }

    /// The message: the fixed part, then the string.
    pub fn encode(&self, text: &[u8]) -> Vec<u8> {
        [self.as_bytes(), text].concat()
    }

    /// What a message says.
    pub fn decode(message: &[u8]) -> Option<(Self, &[u8])> {
        Self::read_from_prefix(message).ok().filter(|(_, text)| text.len() < LONGEST)
    }
}

/// Who mounts for the guest.
pub trait Mounter {
    /// Has `order` carried out; what fails, fails with the kernel's errno.
    fn ask(&self, order: &Order, text: &[u8], files: &[BorrowedFd]) -> Result<(), Errno>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_arrives_as_it_was_sent() {
        let order = Order { size: 7 << 40, mode: 0o1777, set: 9, ..Order::new(Kind::Overlay) };
        let message = order.encode(b"none");
        assert_eq!(Order::decode(&message), Some((order, &b"none"[..])));
        assert_eq!(Order::decode(&message[..39]), None);
        assert_eq!(Order::decode(&order.encode(&[b'a'; LONGEST])), None);
    }

    #[test]
    fn a_number_that_means_nothing_is_no_order() {
        for kind in Kind::ALL {
            assert_eq!(Order::new(kind).kind(), Some(kind));
        }
        assert_eq!(Order::default().kind(), None);
        assert_eq!(Order { number: 12, ..Order::default() }.kind(), None);
    }
}
