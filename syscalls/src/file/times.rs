//! `utimensat(2)`, `truncate(2)`: the times and sizes of files that the view lets the guest write.

use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::stat::{SFlag, fstat};
use nix::unistd::ftruncate as kernels_ftruncate;

use super::judge::{self, Use};
use super::named::{EMPTY_PATH, NO_FOLLOW, Named};
use super::object::kind;
use super::pretend::{device, made};
use super::reopen;
use crate::args::{DirFd, Fd, Flags, Offset, PathPtr, UserPtr};
use crate::guest::Guest;
use crate::reply::{Answer, Reply};
use crate::sys;

crate::syscalls! {
    /// Sets the times of a file, in seconds.
    utime(path: PathPtr, times: UserPtr) File Compat Allow {
        PathCalls => Emulate(utime),
    };
    /// Sets the times of a file, in microseconds.
    utimes(path: PathPtr, times: UserPtr) File Compat Allow {
        PathCalls => Emulate(utimes),
    };
    /// Sets the times of a file, in nanoseconds.
    utimensat(dir: DirFd, path: PathPtr, times: UserPtr, flags: Flags) File Default Allow {
        PathCalls => Emulate(utimensat),
    };
    /// Sets the times of a file, in microseconds, relative to a directory.
    futimesat(dir: DirFd, path: PathPtr, times: UserPtr) File Compat Allow {
        PathCalls => Emulate(futimesat),
    };
    /// Sets the size of a file.
    truncate(path: PathPtr, length: Offset) File Default Allow {
        PathCalls => Emulate(truncate),
    };
    /// Sets the size of an open file.
    ftruncate(file: Fd, length: Offset) File Judge Allow;
}

/// Two times, of the last access and of the last change, each in seconds and nanoseconds.
type Pair = [(i64, i64); 2];

/// Both are the time of the call; the kernel asks for less right to set these.
const NOW: Pair = [(0, libc::UTIME_NOW), (0, libc::UTIME_NOW)];

fn utime(guest: &dyn Guest, path: PathPtr, times: UserPtr) -> Answer {
    let times = if times.is_null() {
        NOW
    } else {
        let mut bytes = [0; 16];
        guest.read(times, &mut bytes)?;
        let seconds = |at: usize| i64::from_ne_bytes(std::array::from_fn(|index| bytes[at + index]));
        [(seconds(0), 0), (seconds(8), 0)]
    };
    set_times(&Named::copy(guest, "utime", DirFd::CWD, path)?, times)
}

fn utimes(guest: &dyn Guest, path: PathPtr, times: UserPtr) -> Answer {
    let times = microseconds(guest, times)?;
    set_times(&Named::copy(guest, "utimes", DirFd::CWD, path)?, times)
}

fn futimesat(guest: &dyn Guest, dir: DirFd, path: PathPtr, times: UserPtr) -> Answer {
    let times = microseconds(guest, times)?;
    // Without a path it is about the descriptor.
    if path.0 == 0 && dir != DirFd::CWD {
        return set_times_of_file(guest, "futimesat", Fd(dir.0), times);
    }
    set_times(&Named::copy(guest, "futimesat", dir, path)?, times)
}

fn utimensat(guest: &dyn Guest, dir: DirFd, path: PathPtr, times: UserPtr, flags: Flags) -> Answer {
    let times = if times.is_null() { NOW } else { pair(guest, times)? };
    // futimens(3) passes no path.
    if path.0 == 0 && dir != DirFd::CWD {
        return if flags.0 == 0 { set_times_of_file(guest, "utimensat", Fd(dir.0), times) } else { Err(Errno::EINVAL) };
    }
    if times == [(times[0].0, libc::UTIME_OMIT), (times[1].0, libc::UTIME_OMIT)] {
        // Nothing to change: the kernel does not even look.
        return Ok(Reply::Return(0));
    }
    set_times(&Named::with_flags(guest, "utimensat", dir, path, flags, NO_FOLLOW | EMPTY_PATH)?, times)
}

fn pair(guest: &dyn Guest, at: UserPtr) -> Result<Pair, Errno> {
    let mut bytes = [0; 32];
    guest.read(at, &mut bytes)?;
    let number = |at: usize| i64::from_ne_bytes(std::array::from_fn(|index| bytes[at + index]));
    Ok([(number(0), number(8)), (number(16), number(24))])
}

fn microseconds(guest: &dyn Guest, at: UserPtr) -> Result<Pair, Errno> {
    if at.is_null() {
        return Ok(NOW);
    }
    let times = pair(guest, at)?;
    if times.iter().any(|(_, micro)| !(0..1_000_000).contains(micro)) {
        return Err(Errno::EINVAL);
    }
    Ok(times.map(|(seconds, micro)| (seconds, micro * 1000)))
}

fn set_times(named: &Named, times: Pair) -> Answer {
    let object = named.object(Use::Change)?;
    sys::set_times(object.as_fd(), times)?;
    Ok(Reply::Return(0))
}

fn set_times_of_file(guest: &dyn Guest, call: &'static str, file: Fd, times: Pair) -> Answer {
    let file = guest.duplicate(file)?;
    judge::object(guest, call, &file, Use::Change)?;
    reopen::may_copy(guest, &file)?;
    sys::set_times_of_file(file.as_fd(), times)?;
    Ok(Reply::Return(0))
}

fn truncate(guest: &dyn Guest, path: PathPtr, length: Offset) -> Answer {
    if length.0 < 0 {
        return Err(Errno::EINVAL);
    }
    let object = Named::copy(guest, "truncate", DirFd::CWD, path)?.object(Use::Change)?;
    let stat = fstat(&object)?;
    match kind(&stat) {
        SFlag::S_IFREG => {}
        SFlag::S_IFDIR => return Err(Errno::EISDIR),
        _ => return Err(Errno::EINVAL),
    }
    if device::of(guest, &object, &stat).is_some() {
        return Err(Errno::EINVAL);
    }
    let open = || reopen::file(guest, &object, &stat, libc::O_WRONLY);
    let file: OwnedFd = made::as_root(guest, &[&object], open)?;
    // The limit on our own files is not the guest's.
    if length.0.cast_unsigned() > guest.largest_file()? && length.0 > fstat(&file)?.st_size {
        guest.signal_too_large();
        return Err(Errno::EFBIG);
    }
    kernels_ftruncate(&file, length.0)?;
    Ok(Reply::Return(0))
}
