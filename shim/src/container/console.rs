//! The container's terminal: made by its own devpts, shown as `/dev/console`.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::libc;
use nix::sys::stat::{fstat, major};

use super::root::{Kind, Root, type_of};
use crate::failure::{Failure, Step};
use crate::sys;

/// Both ends of a pseudo-terminal.
#[derive(Debug)]
pub struct Console {
    /// For whoever shows it.
    pub master: OwnedFd,
    /// For the container's process.
    pub slave: OwnedFd,
    /// Its name in the container, such as `/dev/pts/0`.
    pub name: String,
}

/// Whether a device is a `ptmx`: that of any devpts has the number of the old one.
fn is_multiplexer(device: &OwnedFd) -> Result<bool, Errno> {
    let stat = fstat(device)?;
    Ok(type_of(&stat) == libc::S_IFCHR && stat.st_rdev == libc::makedev(5, 2))
}

impl Console {
    /// Makes one in the devpts at `/dev/pts` of this root. Nothing there may be a symlink of the image, and `ptmx` must be one.
    pub fn open(root: &Root) -> Result<Self, Failure> {
        let step = || "make a terminal in the container's /dev/pts";
        let remedy =
            |failure: Failure| failure.remedy("a terminal needs a devpts at /dev/pts in the configuration's mounts");
        let path = Path::new("/dev/pts/ptmx");
        let multiplexer = root.open_plain(path).step(step).map_err(remedy)?;
        if !is_multiplexer(&multiplexer).step(step)? {
            return Err(remedy(Failure::check("use /dev/pts/ptmx: it is no ptmx")));
        }
        let master = root.open_existing(&multiplexer, path, libc::O_RDWR | libc::O_NOCTTY).step(step)?;
        let slave = sys::open_peer(master.as_fd()).step(step)?;
        let number = super::sys::terminal_number(master.as_fd()).step(step)?;
        // 136 to 143 are the ends of Unix98 terminals.
        if !(136..=143).contains(&major(fstat(&slave).step(step)?.st_rdev)) {
            return Err(Failure::check("verify that the terminal is one"));
        }
        Ok(Self { master, slave, name: format!("/dev/pts/{number}") })
    }
}

/// A terminal that is `/dev/console` as well.
pub(super) fn make(root: &Root) -> Result<Console, Failure> {
    let console = Console::open(root)?;
    let place = Path::new("/dev/console");
    let step = || "show the terminal as /dev/console";
    // The name itself, never what a symlink there leads to (CVE-2025-52565).
    let target = match root.open_plain(place) {
        Ok(found) => found,
        Err(Errno::ENOENT) => root.target(place, Kind::File, true)?,
        Err(errno) => return Err(Failure::new(step(), errno).remedy("there must be no symlink in its way")),
    };
    if type_of(&fstat(&target).step(step)?) == libc::S_IFLNK {
        return Err(Failure::new(step(), Errno::ELOOP).remedy("there must be no symlink in its way"));
    }
    let tree = sys::clone_tree(Some(console.slave.as_fd()), c"", false).step(step)?;
    sys::attach(tree.as_fd(), target.as_fd()).step(step)?;
    Ok(console)
}
