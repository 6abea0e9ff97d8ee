//! The directory of our own memory that the last object was made in: the next one often goes there too, and to find the same
//! directory for each of fifty names takes longer than to make them.

use std::cell::RefCell;
use std::ffi::{CStr, CString, OsStr};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;

/// One directory, by its path in the view and as a descriptor.
#[derive(Default)]
pub(super) struct Nursery(RefCell<Option<(CString, Rc<OwnedFd>)>>);

impl Nursery {
    /// The directory at `path`, if it is the one.
    pub(super) fn find(&self, path: &CStr) -> Option<Rc<OwnedFd>> {
        let held = self.0.borrow();
        held.as_ref().filter(|(known, _)| known.as_c_str() == path).map(|(_, directory)| Rc::clone(directory))
    }

    /// Whether it is this descriptor.
    pub(super) fn holds(&self, directory: &Rc<OwnedFd>) -> bool {
        self.0.borrow().as_ref().is_some_and(|(_, held)| Rc::ptr_eq(held, directory))
    }

    /// Remembers `directory`, which is in our own memory.
    pub(super) fn keep(&self, path: CString, directory: &Rc<OwnedFd>) {
        self.0.replace(Some((path, Rc::clone(directory))));
    }

    /// Something is mounted at `path`: what was there and beneath it has no name any more.
    pub(super) fn forget(&self, path: &CStr) {
        let mount = OsStr::from_bytes(path.to_bytes());
        let covered =
            |(known, _): &mut (CString, Rc<OwnedFd>)| Path::new(OsStr::from_bytes(known.to_bytes())).starts_with(mount);
        self.0.borrow_mut().take_if(covered);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_above_it_ends_it() {
        let directory = Rc::new(std::fs::File::open("/").unwrap().into());
        let nursery = Nursery::default();
        for (mount, is_covered) in [(c"etc", true), (c"etc/ssl", true), (c"etc/ssl/certs", false), (c"et", false)] {
            nursery.keep(c"etc/ssl".to_owned(), &directory);
            nursery.forget(mount);
            assert_eq!(nursery.find(c"etc/ssl").is_none(), is_covered, "{mount:?}");
        }
        assert!(nursery.holds(&directory));
        assert!(nursery.find(c"etc").is_none());
    }
}
