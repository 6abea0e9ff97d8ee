//! The attribute on disk. Attributes cannot be reached through an `O_PATH` descriptor, so the object is named by its entry
//! in the directory of our own descriptors.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;

use super::record::{LONGEST, NAME, Record};
use crate::file::walk::in_directory;
use crate::guest::Guest;
use crate::sys::{self, Bearer};

/// The kernel lacks the calls that take a directory (Linux 6.13).
static OLD_KERNEL: AtomicBool = AtomicBool::new(false);

/// How an attribute is reached.
enum Way<'a> {
    /// By a name in a directory.
    At(BorrowedFd<'a>, &'a CStr),
    /// By a name in the working directory.
    Here(Bearer<'a>),
}

/// Runs `act` on `object`.
fn on<T>(guest: &dyn Guest, object: &OwnedFd, mut act: impl FnMut(Way) -> Result<T, Errno>) -> Result<T, Errno> {
    let directory = guest.descriptors()?;
    let entry = CString::new(object.as_raw_fd().to_string()).map_err(|_| Errno::EINVAL)?;
    if !OLD_KERNEL.load(Ordering::Relaxed) {
        match act(Way::At(directory.as_fd(), &entry)) {
            Err(Errno::ENOSYS) => OLD_KERNEL.store(true, Ordering::Relaxed),
            other => return other,
        }
    }
    in_directory(&directory, || act(Way::Here(Bearer::Followed(&entry))))
}

/// Runs `act` on the object itself, by its entry in the working directory.
pub(super) fn here<T>(
    guest: &dyn Guest,
    object: &OwnedFd,
    act: &impl Fn(Bearer) -> Result<T, Errno>,
) -> Result<T, Errno> {
    let entry = CString::new(object.as_raw_fd().to_string()).map_err(|_| Errno::EINVAL)?;
    in_directory(&guest.descriptors()?, || act(Bearer::Followed(&entry)))
}

/// The record of a file or directory, if it has a sound one.
pub(super) fn read(guest: &dyn Guest, object: &OwnedFd) -> Option<Record> {
    let mut value = [0; LONGEST];
    let length = on(guest, object, |way| match way {
        Way::At(dir, entry) => sys::attribute_at(dir, entry, NAME, &mut value),
        Way::Here(bearer) => sys::attribute(bearer, NAME, &mut value),
    });
    Record::parse(value.get(..length.ok()?)?)
}

/// Gives a file or directory this record.
pub(super) fn write(guest: &dyn Guest, object: &OwnedFd, record: &Record) -> Result<(), Errno> {
    let text = record.to_string();
    on(guest, object, |way| match way {
        Way::At(dir, entry) => sys::set_attribute_at(dir, entry, NAME, text.as_bytes()),
        Way::Here(bearer) => sys::set_attribute(bearer, NAME, text.as_bytes(), 0),
    })
}

/// Takes the record away, if there is one.
pub(super) fn remove(guest: &dyn Guest, object: &OwnedFd) -> Result<(), Errno> {
    let removed = on(guest, object, |way| match way {
        Way::At(dir, entry) => sys::remove_attribute_at(dir, entry, NAME),
        Way::Here(bearer) => sys::remove_attribute(bearer, NAME),
    });
    match removed {
        Err(Errno::ENODATA) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::file::trial::Trial;
    use crate::table::Feature::FakeRoot;

    /// Both ways do the same, so tests that run meanwhile do not care which one they go.
    #[test]
    fn an_old_kernel_is_no_obstacle() {
        let trial = Trial::with(FakeRoot);
        trial.write("file", "");
        let object = OwnedFd::from(std::fs::File::open(trial.root.join("file")).unwrap());
        let record = Record { user: 1, group: 2, mode: Some(0o4000), device: None, capability: None };
        for old in [true, false] {
            OLD_KERNEL.store(old, Ordering::Relaxed);
            assert_eq!(remove(&trial.guest, &object), Ok(()));
            assert_eq!(read(&trial.guest, &object), None);
            assert_eq!(write(&trial.guest, &object, &record), Ok(()));
            assert_eq!(read(&trial.guest, &object), Some(record.clone()), "old: {old}");
            assert_eq!(remove(&trial.guest, &object), Ok(()));
        }
    }
}
