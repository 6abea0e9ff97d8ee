//! xattr(7) with what is pretended: our own attribute is not there for the guest, and `security.capability` is what its
//! record says.

use std::ffi::CStr;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::sys::stat::fstat;

use super::record::OURS;
use super::{attribute, change, look};
use crate::file::pretend::made::as_root;
use crate::guest::Guest;
use crate::reply::{Answer, Reply};
use crate::sys::{self, Bearer};

const CAPABILITY: &CStr = c"security.capability";
/// The longest list of names, `XATTR_LIST_MAX`.
const LONGEST: usize = 65_536;

/// An attribute to be set.
pub(crate) struct Setting<'a> {
    /// Its name.
    pub(crate) name: &'a CStr,
    /// Its value, with ids as the kernel knows them.
    pub(crate) value: &'a [u8],
    /// As in setxattr(2).
    pub(crate) flags: u32,
}

fn is_ours(name: &CStr) -> bool {
    name.to_bytes().starts_with(OURS)
}

/// Acts on `object` by a name in the working directory; once more where only its real permissions were in root's way.
fn on<T>(guest: &dyn Guest, object: &OwnedFd, act: impl Fn(Bearer) -> Result<T, Errno>) -> Result<T, Errno> {
    as_root(guest, &[object], || attribute::here(guest, object, &act))
}

/// Sets an attribute.
pub(crate) fn set(guest: &dyn Guest, object: &OwnedFd, setting: &Setting) -> Answer {
    match setting.name {
        name if is_ours(name) => return Err(Errno::EPERM),
        name if name == CAPABILITY => change::set_file_capability(guest, object, setting.value, setting.flags)?,
        name => on(guest, object, |bearer| sys::set_attribute(bearer, name, setting.value, setting.flags))?,
    }
    Ok(Reply::Return(0))
}

/// Reads an attribute: its length, and the value if there is room.
pub(crate) fn get(guest: &dyn Guest, object: &OwnedFd, name: &CStr, into: &mut [u8]) -> Result<usize, Errno> {
    match name {
        name if is_ours(name) => Err(Errno::ENODATA),
        name if name == CAPABILITY => fill(into, &change::file_capability(guest, object)?),
        name => {
            let into = std::cell::RefCell::new(into);
            on(guest, object, |bearer| {
                let mut into = into.borrow_mut();
                let length = sys::attribute(bearer, name, &mut into)?;
                guest.owner().show_in_attribute(name, &mut into);
                Ok(length)
            })
        }
    }
}

/// Lists the names of attributes, each with a NUL behind it.
pub(crate) fn list(guest: &dyn Guest, object: &OwnedFd, into: &mut [u8]) -> Result<usize, Errno> {
    let names = on(guest, object, |bearer| {
        let mut names = vec![0; LONGEST];
        let length = sys::attributes(bearer, &mut names)?;
        names.truncate(length);
        Ok(names)
    });
    let names = match names {
        // A file system without attributes can still have what is only remembered.
        Err(Errno::EOPNOTSUPP) => Vec::new(),
        names => names?,
    };
    let capability = CAPABILITY.to_bytes_with_nul();
    let shown = names.split_inclusive(|byte| *byte == 0).filter(|name| !name.starts_with(OURS) && *name != capability);
    let mut shown: Vec<u8> = shown.flatten().copied().collect();
    if look(guest, object, &fstat(object)?).capability.is_some() {
        shown.extend(capability);
    }
    fill(into, &shown)
}

/// Removes an attribute.
pub(crate) fn remove(guest: &dyn Guest, object: &OwnedFd, name: &CStr) -> Answer {
    match name {
        name if is_ours(name) => return Err(Errno::ENODATA),
        name if name == CAPABILITY => change::remove_file_capability(guest, object)?,
        name => on(guest, object, |bearer| sys::remove_attribute(bearer, name))?,
    }
    Ok(Reply::Return(0))
}

/// As the kernel fills a buffer: without one, only the length is told.
fn fill(into: &mut [u8], bytes: &[u8]) -> Result<usize, Errno> {
    if !into.is_empty() {
        into.get_mut(..bytes.len()).ok_or(Errno::ERANGE)?.copy_from_slice(bytes);
    }
    Ok(bytes.len())
}
