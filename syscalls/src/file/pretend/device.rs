//! Devices that are only said to be devices: empty files, which nobody may open. A few numbers mean what the sandbox has
//! of its own: `/dev/null` and its like are used by whoever makes a system tree.

use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, makedev};

use super::record::Device;
use super::store::look;
use crate::file::object::kind;
use crate::guest::Guest;

/// What stands in for a device when it is opened.
pub(crate) enum Instead {
    /// This device of the sandbox's own.
    Own(OwnedFd),
    /// The caller's terminal.
    Terminal,
}

/// The character devices of every sandbox: major and minor number, and where they are in the view.
const OWN: [((u32, u32), &str); 5] =
    [((1, 3), "dev/null"), ((1, 5), "dev/zero"), ((1, 7), "dev/full"), ((1, 8), "dev/random"), ((1, 9), "dev/urandom")];
const TERMINAL: (u32, u32) = (5, 0);

/// The device that a file is said to be.
pub(crate) fn of(guest: &dyn Guest, object: &OwnedFd, stat: &FileStat) -> Option<Device> {
    // Those that stand for devices are empty: most files are spared the question.
    let may_be = guest.rules().fake_root && kind(stat) == SFlag::S_IFREG && stat.st_size == 0;
    if may_be { look(guest, object, stat).device } else { None }
}

/// What is opened in the place of `device`. `ENXIO` for whatever the sandbox has not got, as for a device without a driver.
pub(crate) fn instead(guest: &dyn Guest, device: Device) -> Result<Instead, Errno> {
    let number = (device.major, device.minor);
    if !device.block && number == TERMINAL {
        return Ok(Instead::Terminal);
    }
    let own = OWN.iter().find(|(own, _)| !device.block && *own == number);
    let (_, path) = own.ok_or(Errno::ENXIO)?;
    // In the view, for the caller may have another root: there its own devices are such files too.
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let object = openat(guest.view()?, *path, flags, Mode::empty());
    let object = object.map_err(|_| Errno::ENXIO)?;
    // The guest may have put something else there.
    let stat = fstat(&object)?;
    let is_it = kind(&stat) == SFlag::S_IFCHR && stat.st_rdev == makedev(number.0.into(), number.1.into());
    if is_it { Ok(Instead::Own(object)) } else { Err(Errno::ENXIO) }
}
