//! Whose files are, under `--fake-root`: owners, permissions, devices and capabilities that are the sentry's to tell.
//!
//! The real user owns all that the sandbox makes, and the kernel lets nobody but root give files away, make devices or set
//! capabilities. So what the guest does of that kind is written down with the file ([`record`]), and told to whoever asks.
//! It is no boundary: what may really be read and written is what the kernel lets the real user read and write. And it has
//! no power outside: set-id bits and devices never come into being.

pub(crate) mod access;
mod attribute;
pub(crate) mod attributes;
pub(crate) mod change;
pub(crate) mod device;
pub(crate) mod gone;
pub(crate) mod made;
pub mod record;
pub(crate) mod shown;
mod store;
pub(crate) mod table;

use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};

pub(crate) use store::look;

/// Fails with `EBADF` for a descriptor without an open file (`O_PATH`), through which nothing may be changed.
pub(crate) fn is_open(file: &OwnedFd) -> Result<(), Errno> {
    let flags = OFlag::from_bits_retain(fcntl(file, FcntlArg::F_GETFL)?);
    if flags.contains(OFlag::O_PATH) { Err(Errno::EBADF) } else { Ok(()) }
}

/// Set-user-id.
pub(crate) const SET_USER: u32 = 0o4000;
/// Set-group-id.
pub(crate) const SET_GROUP: u32 = 0o2000;

/// Capabilities by number, see capabilities(7).
pub(crate) mod capability {
    /// Changes owners.
    pub(crate) const CHOWN: u32 = 0;
    /// Reads and writes everything, and searches every directory.
    pub(crate) const DAC_OVERRIDE: u32 = 1;
    /// Reads everything, and searches every directory.
    pub(crate) const DAC_READ_SEARCH: u32 = 2;
    /// Changes what belongs to others.
    pub(crate) const FOWNER: u32 = 3;
    /// Keeps set-group-id bits of groups that it is not in.
    pub(crate) const FSETID: u32 = 4;
    /// Makes devices.
    pub(crate) const MKNOD: u32 = 27;
    /// Gives programs capabilities.
    pub(crate) const SETFCAP: u32 = 31;
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
