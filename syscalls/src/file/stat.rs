//! `stat(2)`, `access(2)`, `readlink(2)`: what is known about a file.
//!
//! The view decides which files there are. Under rules about paths, or with every path interposed, the object is found and
//! judged first, and then asked itself.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;
use nix::fcntl::readlinkat;
use nix::libc;
use nix::sys::stat::{SFlag, fstat};

use super::judge::Use;
use super::named::{EMPTY_PATH, NO_AUTOMOUNT, NO_FOLLOW, Named};
use super::object::kind;
use super::pretend;
use super::resolve::{is_procfs, may_look_behind};
use super::trace::looked_up;
use crate::args::{DirFd, Fd, Flags, Int, Mode, PathPtr, Uint, UserPtr};
use crate::guest::Guest;
use crate::reply::{Answer, Reply};
use crate::sys;
use crate::table::Verdict::{Allow, Notify};
use crate::table::{Check, Op, Test};

crate::syscalls! {
    /// Tells about a file.
    stat(path: PathPtr, buffer: UserPtr) File Judge Allow {
        PathCalls => Emulate(stat),
        TracePaths => Observe(stat_seen),
    };
    /// Tells about a file or link.
    lstat(path: PathPtr, buffer: UserPtr) File Judge Allow {
        PathCalls => Emulate(lstat),
        TracePaths => Observe(lstat_seen),
    };
    /// Tells about an open file.
    fstat(file: Fd, buffer: UserPtr) File Judge Allow {
        FakeRoot => Emulate(open_file_stat),
    };
    /// Tells about a file, relative to a directory.
    /// Limit: with `AT_EMPTY_PATH` the kernel answers, as for an open file, but under `--fake-root`.
    newfstatat(dir: DirFd, path: PathPtr, buffer: UserPtr, flags: Flags) File Judge Allow {
        FakeRoot => Emulate(newfstatat),
        PathCalls => Emulate(newfstatat) when FLAGS_4TH,
        TracePaths => Observe(newfstatat_seen),
    };
    /// Tells about a file, with its time of birth and its mount.
    /// Limit: with `AT_EMPTY_PATH` the kernel answers, as for an open file, but under `--fake-root`.
    statx(dir: DirFd, path: PathPtr, flags: Flags, mask: Uint, buffer: UserPtr) File Judge Allow {
        FakeRoot => Emulate(statx),
        PathCalls => Emulate(statx) when FLAGS_3RD,
        TracePaths => Observe(statx_seen),
    };
    /// Tells whether a file may be read, written or executed.
    /// Limit: under `--fake-root` answered for the pretended ids and permissions, which opens do not obey.
    /// Limit: answered by the sentry, a program may not write to the directory `/proc/self/fd`, which the kernel allows and nothing comes of.
    access(path: PathPtr, mode: Mode) File Judge Allow {
        PathCalls => Emulate(access),
        TracePaths => Observe(access_seen),
    };
    /// Tells whether a file may be read, written or executed, relative to a directory.
    faccessat(dir: DirFd, path: PathPtr, mode: Mode) File Judge Allow {
        PathCalls => Emulate(faccessat),
        TracePaths => Observe(faccessat_seen),
    };
    /// Tells whether a file may be read, written or executed, relative to a directory, with flags.
    faccessat2(dir: DirFd, path: PathPtr, mode: Mode, flags: Flags) File Judge Allow {
        PathCalls => Emulate(faccessat2),
        TracePaths => Observe(faccessat2_seen),
    };
    /// Reads where a symbolic link leads.
    readlink(path: PathPtr, buffer: UserPtr, size: Int) File Judge Allow {
        PathCalls => Emulate(readlink),
    };
    /// Reads where a symbolic link leads, relative to a directory.
    readlinkat(dir: DirFd, path: PathPtr, buffer: UserPtr, size: Int) File Judge Allow {
        PathCalls => Emulate(readlink_at),
    };
    /// Tells about a file system.
    statfs(path: PathPtr, buffer: UserPtr) File Judge Allow {
        PathCalls => Emulate(statfs),
    };
    /// Tells about the file system of an open file.
    fstatfs(file: Fd, buffer: UserPtr) File Judge Allow;
    /// Would name a file by its place in the file system instead of its path. Fails with `EOPNOTSUPP`.
    name_to_handle_at(dir: DirFd, path: PathPtr, handle: UserPtr, mount: UserPtr, flags: Flags) File Default Errno(EOPNOTSUPP);
    /// Would open a file by its place in the file system, around the view. Fails with `EPERM`.
    open_by_handle_at(mount: Fd, handle: UserPtr, flags: Flags) File Default Errno(EPERM);
    /// Would read the flags of a file (immutable, append-only). Fails with `ENOSYS`.
    file_getattr(dir: DirFd, path: PathPtr, attributes: UserPtr, size: Size, flags: Flags) File Compat Errno(ENOSYS);
    /// Would set the flags of a file. Fails with `ENOSYS`.
    file_setattr(dir: DirFd, path: PathPtr, attributes: UserPtr, size: Size, flags: Flags) File Compat Errno(ENOSYS);
}

// With AT_EMPTY_PATH this is how the C library asks about an open file, as often as it reads one. A path may stand there
// all the same; what is told then is what an `O_PATH` descriptor tells as well.
const FLAGS_3RD: &[Check] = &[
    Check { all: &[Test { arg: 2, op: Op::AnyOf(EMPTY_PATH as u64) }], then: Allow },
    Check { all: &[], then: Notify },
];
const FLAGS_4TH: &[Check] = &[
    Check { all: &[Test { arg: 3, op: Op::AnyOf(EMPTY_PATH as u64) }], then: Allow },
    Check { all: &[], then: Notify },
];

fn stat(guest: &dyn Guest, path: PathPtr, buffer: UserPtr) -> Answer {
    tell_stat(guest, &Named::copy(guest, "stat", DirFd::CWD, path)?, buffer)
}

fn lstat(guest: &dyn Guest, path: PathPtr, buffer: UserPtr) -> Answer {
    tell_stat(guest, &Named::copy(guest, "lstat", DirFd::CWD, path)?.itself(), buffer)
}

fn newfstatat(guest: &dyn Guest, dir: DirFd, path: PathPtr, buffer: UserPtr, flags: Flags) -> Answer {
    let known = NO_FOLLOW | EMPTY_PATH | NO_AUTOMOUNT;
    tell_stat(guest, &Named::or_nothing(guest, "newfstatat", dir, path, flags, known)?, buffer)
}

fn tell_stat(guest: &dyn Guest, named: &Named, buffer: UserPtr) -> Answer {
    write_stat(guest, &named.object(Use::Look)?, buffer)
}

fn open_file_stat(guest: &dyn Guest, file: Fd, buffer: UserPtr) -> Answer {
    write_stat(guest, &guest.object(file)?, buffer)
}

fn write_stat(guest: &dyn Guest, object: &OwnedFd, buffer: UserPtr) -> Answer {
    let mut stat = sys::stat(object.as_fd())?;
    if guest.rules().fake_root {
        pretend::shown::in_stat(guest, object, &mut stat)?;
    } else {
        guest.owner().show_in_stat(&mut stat);
    }
    guest.write(buffer, &stat)?;
    Ok(Reply::Return(0))
}

fn statx(guest: &dyn Guest, dir: DirFd, path: PathPtr, flags: Flags, mask: Uint, buffer: UserPtr) -> Answer {
    const SYNC: u32 = libc::AT_STATX_SYNC_TYPE.cast_unsigned();
    const RESERVED: u32 = 0x8000_0000;
    if mask.0 & RESERVED != 0 || flags.0 & SYNC == SYNC {
        return Err(Errno::EINVAL);
    }
    let known = NO_FOLLOW | EMPTY_PATH | NO_AUTOMOUNT | SYNC;
    let named = Named::or_nothing(guest, "statx", dir, path, flags, known)?;
    let object = named.object(Use::Look)?;
    let mut statx = sys::statx(object.as_fd(), flags.0 & (SYNC | NO_AUTOMOUNT), mask.0)?;
    if guest.rules().fake_root {
        pretend::shown::in_statx(guest, &object, &mut statx)?;
    } else {
        guest.owner().show_in_statx(&mut statx);
    }
    guest.write(buffer, &statx)?;
    Ok(Reply::Return(0))
}

fn access(guest: &dyn Guest, path: PathPtr, mode: Mode) -> Answer {
    may_access(guest, "access", DirFd::CWD, path, mode, Flags(0))
}

fn faccessat(guest: &dyn Guest, dir: DirFd, path: PathPtr, mode: Mode) -> Answer {
    may_access(guest, "faccessat", dir, path, mode, Flags(0))
}

fn faccessat2(guest: &dyn Guest, dir: DirFd, path: PathPtr, mode: Mode, flags: Flags) -> Answer {
    may_access(guest, "faccessat2", dir, path, mode, flags)
}

fn may_access(guest: &dyn Guest, call: &'static str, dir: DirFd, path: PathPtr, mode: Mode, flags: Flags) -> Answer {
    const EFFECTIVE: u32 = libc::AT_EACCESS.cast_unsigned();
    if mode.0 & !7 != 0 {
        return Err(Errno::EINVAL);
    }
    let named = Named::with_flags(guest, call, dir, path, flags, NO_FOLLOW | EMPTY_PATH | EFFECTIVE)?;
    let bits = mode.0.cast_signed();
    let usage = match bits {
        _ if bits & libc::W_OK != 0 => Use::Change,
        _ if bits != libc::F_OK => Use::Read,
        _ => Use::Look,
    };
    let object = named.object(usage)?;
    let flags = flags.0 & (EFFECTIVE | NO_FOLLOW);
    if guest.rules().fake_root {
        pretend::access::check(guest, &object, mode.0, flags)?;
    } else {
        sys::access(object.as_fd(), mode.0, flags)?;
    }
    Ok(Reply::Return(0))
}

fn readlink(guest: &dyn Guest, path: PathPtr, buffer: UserPtr, size: Int) -> Answer {
    read_link(guest, "readlink", DirFd::CWD, path, buffer, size)
}

fn readlink_at(guest: &dyn Guest, dir: DirFd, path: PathPtr, buffer: UserPtr, size: Int) -> Answer {
    read_link(guest, "readlinkat", dir, path, buffer, size)
}

fn read_link(guest: &dyn Guest, call: &'static str, dir: DirFd, path: PathPtr, buffer: UserPtr, size: Int) -> Answer {
    if size.0 <= 0 {
        return Err(Errno::EINVAL);
    }
    // An empty path is about the descriptor of a link.
    let named = Named::with_flags(guest, call, dir, path, Flags(NO_FOLLOW | EMPTY_PATH), NO_FOLLOW | EMPTY_PATH)?;
    if named.is_descriptor() && dir == DirFd::CWD {
        return Err(Errno::ENOENT);
    }
    let object = named.object(Use::Look)?;
    if kind(&fstat(&object)?) != SFlag::S_IFLNK {
        return Err(if named.is_descriptor() { Errno::ENOENT } else { Errno::EINVAL });
    }
    let text = link_text(guest, &object)?;
    let length = text.len().min(usize::try_from(size.0).map_err(|_| Errno::EINVAL)?);
    guest.write(buffer, &text[..length])?;
    Ok(Reply::Return(i64::try_from(length).map_err(|_| Errno::EIO)?))
}

/// Where a link leads; in procfs as the caller would read it.
fn link_text(guest: &dyn Guest, link: &OwnedFd) -> Result<Vec<u8>, Errno> {
    if !is_procfs(link)? {
        return Ok(readlinkat(link, "")?.as_bytes().to_vec());
    }
    let label = guest.label_of(link)?;
    let ids = || guest.own_ids();
    match label.as_bytes() {
        name if name.ends_with(b"/thread-self") => {
            let (process, thread) = ids()?;
            Ok(format!("{process}/task/{thread}").into_bytes())
        }
        name if name.ends_with(b"/self") => Ok(ids()?.0.to_string().into_bytes()),
        // Where a process of somebody else's is and what it has open.
        _ if !may_look_behind(guest, &fstat(link)?) && is_magic(link) => Err(Errno::EACCES),
        _ => Ok(readlinkat(link, "")?.as_bytes().to_vec()),
    }
}

/// Whether a link of procfs leads to an object and not to a name: those of processes have the permissions of a descriptor
/// or of all, and an owner who is not root unless the process may not be looked into.
fn is_magic(link: &OwnedFd) -> bool {
    readlinkat(link, "").is_ok_and(|text| text.as_bytes().starts_with(b"/") || text.as_bytes().contains(&b':'))
}

fn statfs(guest: &dyn Guest, path: PathPtr, buffer: UserPtr) -> Answer {
    let object = Named::copy(guest, "statfs", DirFd::CWD, path)?.object(Use::Look)?;
    guest.write(buffer, &sys::statfs(object.as_fd())?)?;
    Ok(Reply::Return(0))
}

fn stat_seen(guest: &dyn Guest, path: PathPtr, _: UserPtr) {
    looked_up(guest, "stat", DirFd::CWD, path);
}

fn lstat_seen(guest: &dyn Guest, path: PathPtr, _: UserPtr) {
    looked_up(guest, "lstat", DirFd::CWD, path);
}

fn newfstatat_seen(guest: &dyn Guest, dir: DirFd, path: PathPtr, _: UserPtr, _: Flags) {
    looked_up(guest, "newfstatat", dir, path);
}

fn statx_seen(guest: &dyn Guest, dir: DirFd, path: PathPtr, _: Flags, _: Uint, _: UserPtr) {
    looked_up(guest, "statx", dir, path);
}

fn access_seen(guest: &dyn Guest, path: PathPtr, _: Mode) {
    looked_up(guest, "access", DirFd::CWD, path);
}

fn faccessat_seen(guest: &dyn Guest, dir: DirFd, path: PathPtr, _: Mode) {
    looked_up(guest, "faccessat", dir, path);
}

fn faccessat2_seen(guest: &dyn Guest, dir: DirFd, path: PathPtr, _: Mode, _: Flags) {
    looked_up(guest, "faccessat2", dir, path);
}
