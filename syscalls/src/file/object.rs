//! Opens an existing object for the guest, after looking at what it is.
//!
//! An open by the supervisor is an open in another process: a FIFO would make it wait, a device would act on it, and some
//! files of `/proc` ask who opens them. So the object is pinned first (`O_PATH`), its type decides, and the very same
//! object is opened again with the guest's flags; its name plays no part any more.

use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::libc;
use nix::sys::stat::{FileStat, SFlag, fstat, fstatat, major, minor};

use super::pretend::{device, made};
use super::reopen;
use super::resolve::{is_procfs, may_look_behind};
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
/// `/dev/ptmx`: each open makes a new pair.
const NEW_TERMINAL: (u64, u64) = (5, 2);
/// Majors of the terminals in `/dev/pts`.
const TERMINALS: std::ops::RangeInclusive<u64> = 136..=143;

/// Opens `object` with the guest's `flags` and hands it over.
pub(crate) fn open(guest: &dyn Guest, object: &OwnedFd, flags: i32, otherwise: Otherwise) -> Answer {
    let stat = fstat(object)?;
    // Devices and FIFOs notice who opens them; before that it has to be certain that the path was the caller's.
    if !matches!(kind(&stat), SFlag::S_IFREG | SFlag::S_IFDIR) {
        guest.confirm()?;
    }
    let what = || guest.path_of(object).map_or_else(|_| "a device".to_owned(), |path| shown(&path));
    match kind(&stat) {
        SFlag::S_IFLNK => return Err(Errno::ELOOP),
        SFlag::S_IFDIR if flags & libc::O_CREAT != 0 => return Err(Errno::EISDIR),
        SFlag::S_IFDIR => may_be_opened(guest, object, &stat)?,
        SFlag::S_IFREG => {
            may_be_opened(guest, object, &stat)?;
            if let Some(device) = device::of(guest, object, &stat) {
                guest.confirm()?;
                return match device::instead(guest, device)? {
                    device::Instead::Own(device) => hand_over(guest, &device, flags),
                    device::Instead::Terminal => own_terminal(guest, flags),
                };
            }
            if flags & (libc::O_ACCMODE | libc::O_TRUNC) != libc::O_RDONLY && reopen::copies_first(object, &stat)? {
                guest.wait_or_leave()?;
            }
            let file = made::as_root(guest, &[object], || reopen::file(guest, object, &stat, flags))?;
            return Ok(Reply::Inject { file, cloexec: flags & libc::O_CLOEXEC != 0 });
        }
        SFlag::S_IFIFO => {
            // Programs open again after EINTR, which is also what the kernel says when it gives up a wait.
            let _place = if waits_for_other_end(flags) { Some(waits::place(guest).ok_or(Errno::EINTR)?) } else { None };
            return hand_over(guest, object, flags);
        }
        SFlag::S_IFCHR => match (major(stat.st_rdev), minor(stat.st_rdev)) {
            number if HARMLESS.contains(&number) => {}
            (major, _) if TERMINALS.contains(&major) => {}
            NEW_TERMINAL => {}
            OWN_TERMINAL => return own_terminal(guest, flags),
            _ => return refuse(guest, what, otherwise),
        },
        // Sockets, and what has no type because it has no name: eventfd, epoll and their like.
        SFlag::S_IFBLK => return refuse(guest, what, otherwise),
        _ => return Err(Errno::ENXIO),
    }
    made::as_root(guest, &[object], || hand_over(guest, object, flags))
}

/// The file type of what `stat` is about.
pub(crate) fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT
}

/// Files of a process in procfs that anyone may open by their mode, and that then ask whether the one who opens may trace
/// that process (`PTRACE_MODE_READ`, ptrace(2)): the supervisor may, whoever it is.
const ASK_WHO_OPENS: [&[u8]; 4] = [b"maps", b"smaps", b"smaps_rollup", b"numa_maps"];
/// Directories of a process that ask the same, and so do the files in them.
const ASK_WHO_LISTS: [&[u8]; 3] = [b"fdinfo", b"fd", b"map_files"];

/// Fails with `EACCES` for what only the supervisor's rights would open: the maps and descriptors of a process that the
/// guest may not trace. It may always look into its own.
fn may_be_opened(guest: &dyn Guest, object: &OwnedFd, stat: &FileStat) -> Result<(), Errno> {
    // Directories that all may list belong to the process's user whether it may be looked into or not (proc(5)).
    let for_all = kind(stat) == SFlag::S_IFDIR && stat.st_mode & 0o7777 == 0o555;
    if may_look_behind(guest, stat) && !for_all || !is_procfs(object)? {
        return Ok(());
    }
    let label = guest.label_of(object)?;
    let mut parts = label.as_bytes().rsplit(|byte| *byte == b'/');
    let (last, above) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let asks = ASK_WHO_OPENS.contains(&last) || ASK_WHO_LISTS.contains(&last) || ASK_WHO_LISTS.contains(&above);
    if !asks || belongs_to(label.as_bytes(), guest.own_ids()?.0) {
        return Ok(());
    }
    // So for these the directory of the descriptors themselves tells.
    let tells = if for_all { &fstatat(object, "../fd", AtFlags::empty())? } else { stat };
    if may_look_behind(guest, tells) { Ok(()) } else { Err(Errno::EACCES) }
}

/// Whether a path into procfs leads to this process: the first of its components that is a number.
pub(super) fn belongs_to(label: &[u8], process: i32) -> bool {
    let number = |part: &[u8]| std::str::from_utf8(part).ok()?.parse::<i32>().ok();
    label.split(|byte| *byte == b'/').find_map(number) == Some(process)
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
    guest.record(Denial { call, what: what(), remedy: "not opened while the policy has rules about names".into() });
    Err(Errno::EACCES)
}
