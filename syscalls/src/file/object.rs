//! Opens an existing object for the guest, after looking at what it is.
//!
//! An open by the supervisor is an open in another process: a FIFO would make it wait, a device or a file of `/proc`
//! would act on or tell about the supervisor. So the object is pinned first (`O_PATH`), its type decides, and the very
//! same object is opened again with the guest's flags; its name plays no part any more.

use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::libc;
use nix::sys::stat::{FileStat, SFlag, fstat, major, minor};
use nix::sys::statfs::{PROC_SUPER_MAGIC, SYSFS_MAGIC, fstatfs};

use super::walk::shown;
use crate::args::Fd;
use crate::guest::{Denial, Guest};
use crate::reply::{Answer, Reply};
use crate::waits;

/// What becomes of an object that the supervisor does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Otherwise {
    /// `ENOSYS`: programs try `openat` next, and the kernel or the other handler answers that.
    AnotherCall,
    /// `EACCES`, recorded as a refusal of this call.
    Refusal(&'static str),
}

/// The devices that any number of processes may hold and that never make one wait: major and minor number.
const HARMLESS: [(u64, u64); 5] = [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9)];
/// `/dev/tty`: the caller's own terminal.
const OWN_TERMINAL: (u64, u64) = (5, 0);
/// Majors of the terminals in `/dev/pts`.
const TERMINALS: std::ops::RangeInclusive<u64> = 136..=143;

/// Opens `object` with the guest's `flags` and hands it over.
pub(crate) fn open(guest: &dyn Guest, object: &OwnedFd, flags: i32, otherwise: Otherwise) -> Answer {
    let stat = fstat(object)?;
    let what = || guest.path_of(object).map_or_else(|_| "a device".to_owned(), |path| shown(&path));
    match kind(&stat) {
        SFlag::S_IFLNK => return Err(Errno::ELOOP),
        SFlag::S_IFDIR if flags & libc::O_CREAT != 0 => return Err(Errno::EISDIR),
        SFlag::S_IFREG | SFlag::S_IFDIR if !is_kernels_own(object)? => {}
        SFlag::S_IFIFO if otherwise != Otherwise::AnotherCall => {
            // Programs open again after EINTR, which is also what the kernel says when it gives up a wait.
            let _place = if waits_for_other_end(flags) { Some(waits::place().ok_or(Errno::EINTR)?) } else { None };
            return hand_over(guest, object, flags);
        }
        SFlag::S_IFCHR => match (major(stat.st_rdev), minor(stat.st_rdev)) {
            number if HARMLESS.contains(&number) => {}
            (major, _) if TERMINALS.contains(&major) => {}
            OWN_TERMINAL if otherwise != Otherwise::AnotherCall => return own_terminal(guest, flags),
            _ => return refuse(guest, what, otherwise),
        },
        // Sockets, and what has no type because it has no name: eventfd, epoll and their like.
        SFlag::S_IFREG | SFlag::S_IFDIR | SFlag::S_IFIFO | SFlag::S_IFBLK => return refuse(guest, what, otherwise),
        _ => return Err(Errno::ENXIO),
    }
    hand_over(guest, object, flags)
}

/// The file type of what `stat` is about.
pub(crate) fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT
}

/// True for files of procfs and sysfs, which answer according to who opens them.
pub(crate) fn is_kernels_own(object: &OwnedFd) -> Result<bool, Errno> {
    Ok(matches!(fstatfs(object)?.filesystem_type(), PROC_SUPER_MAGIC | SYSFS_MAGIC))
}

fn hand_over(guest: &dyn Guest, object: &OwnedFd, flags: i32) -> Answer {
    Ok(Reply::Inject { file: guest.reopen(object, flags)?, cloexec: flags & libc::O_CLOEXEC != 0 })
}

/// Whether an open of a FIFO with these flags waits until somebody opens its other end, see fifo(7).
fn waits_for_other_end(flags: i32) -> bool {
    flags & libc::O_NONBLOCK == 0 && flags & libc::O_ACCMODE != libc::O_RDWR
}

/// `/dev/tty` would be the supervisor's terminal, if it had one. The guest's is almost always among its first descriptors.
fn own_terminal(guest: &dyn Guest, flags: i32) -> Answer {
    let is_terminal = |file: &OwnedFd| fstat(file).is_ok_and(|stat| TERMINALS.contains(&major(stat.st_rdev)));
    let mut standard = (0..=2).filter_map(|number| guest.duplicate(Fd(number)).ok());
    hand_over(guest, &standard.find(is_terminal).ok_or(Errno::ENXIO)?, flags)
}

/// Answers for what the supervisor does not open.
pub(crate) fn refuse(guest: &dyn Guest, what: impl FnOnce() -> String, otherwise: Otherwise) -> Answer {
    let Otherwise::Refusal(call) = otherwise else { return Err(Errno::ENOSYS) };
    guest.record(Denial { call, what: what(), remedy: "not opened with O_CREAT while the policy hides names".into() });
    Err(Errno::EACCES)
}
