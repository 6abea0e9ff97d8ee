//! Whose a store of runs is: what a record says is written to, so it must not be anybody else's to say.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, fstat};
use nix::unistd::Uid;

use crate::policy::Error;
use crate::policy::path::shown;

/// Refuses a store that somebody else could write to: whoever does says where a commit writes.
pub fn check_base(base: &Path) -> Result<(), Error> {
    let Ok(real) = fs::canonicalize(base) else { return Ok(()) };
    check(&real, &fs::metadata(&real).map_err(|error| unreadable(&real, &error))?)?;
    if !Uid::effective().is_root() {
        return Ok(());
    }
    // Whoever owns a directory above it can put another one there at any moment.
    for above in real.ancestors().skip(1) {
        let metadata = fs::metadata(above).map_err(|error| unreadable(above, &error))?;
        if metadata.uid() != 0 {
            return Err(foreign(above, metadata.uid()));
        }
    }
    Ok(())
}

/// Opens what lies in a store, a directory or a file, through no symlink, if nobody else can write to it.
pub fn open_ours(path: &Path) -> Result<OwnedFd, OpenError> {
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let open = open(path, flags, Mode::empty()).map_err(OpenError::Closed)?;
    let stat = fstat(&open).map_err(OpenError::Closed)?;
    verdict(path, stat.st_uid, stat.st_mode).map_err(OpenError::Foreign)?;
    Ok(open)
}

/// Why something in a store was not opened.
#[derive(Debug)]
pub enum OpenError {
    /// The kernel did not.
    Closed(nix::errno::Errno),
    /// It is somebody else's.
    Foreign(Error),
}

fn check(path: &Path, metadata: &fs::Metadata) -> Result<(), Error> {
    verdict(path, metadata.uid(), metadata.mode())
}

fn verdict(path: &Path, uid: u32, mode: u32) -> Result<(), Error> {
    if uid != Uid::effective().as_raw() {
        return Err(foreign(path, uid));
    }
    if mode & 0o022 != 0 {
        let message = format!("others may write to {}, which says what a commit writes, and where", shown(path));
        return Err(Error::new(message, "if nobody did, take that right away: chmod go-w"));
    }
    Ok(())
}

fn foreign(path: &Path, uid: u32) -> Error {
    let message = format!(
        "{} belongs to user id {uid} and not to you (user id {}): what is kept there could make a commit write anywhere",
        shown(path),
        Uid::effective()
    );
    Error::new(message, "work as that user, or set HOME or XDG_STATE_HOME to a place of your own")
}

fn unreadable(path: &Path, error: &std::io::Error) -> Error {
    Error::new(format!("cannot look at {}: {error}", shown(path)), "make it accessible, or set XDG_STATE_HOME")
}
