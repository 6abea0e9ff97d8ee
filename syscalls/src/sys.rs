//! The raw calls that neither the standard library nor `nix` wraps, or not for objects without an open file (`O_PATH`).
//!
//! Results that the guest gets as they are stay bytes here: the kernel filled them in, and nobody looks into them.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;

/// The kernel's `struct timex` in 64-bit words. What stands where does not matter here, but for `modes`: the low half of
/// the first word.
pub(crate) const TIMEX_WORDS: usize = 26;

/// Asks the kernel for the state of its clock discipline. `modes` must be one that only reads.
pub(crate) fn read_clock_discipline(modes: u32) -> Result<(i64, [u64; TIMEX_WORDS]), Errno> {
    const { assert!(size_of::<libc::timex>() == TIMEX_WORDS * size_of::<u64>()) };
    let mut timex = [0_u64; TIMEX_WORDS];
    timex[0] = u64::from(modes);
    // SAFETY: the buffer is as long as `struct timex`, is aligned for it, and outlives the call; any bytes are valid.
    let state = unsafe { libc::syscall(libc::SYS_adjtimex, timex.as_mut_ptr()) };
    Ok((Errno::result(state)?, timex))
}

fn done(result: libc::c_long) -> Result<(), Errno> {
    Errno::result(result).map(drop)
}

fn length(result: libc::c_long) -> Result<usize, Errno> {
    usize::try_from(Errno::result(result)?).map_err(|_| Errno::EIO)
}

/// `struct stat` of an object, fstatat(2).
pub(crate) fn stat(object: BorrowedFd) -> Result<[u8; size_of::<libc::stat>()], Errno> {
    let mut buffer = [0; size_of::<libc::stat>()];
    // SAFETY: the path is NUL-terminated, the buffer as long as the structure.
    done(unsafe {
        libc::syscall(libc::SYS_newfstatat, object.as_raw_fd(), c"".as_ptr(), buffer.as_mut_ptr(), libc::AT_EMPTY_PATH)
    })?;
    Ok(buffer)
}

/// `struct statx` of an object, statx(2).
pub(crate) fn statx(object: BorrowedFd, flags: u32, mask: u32) -> Result<[u8; size_of::<libc::statx>()], Errno> {
    let mut buffer = [0; size_of::<libc::statx>()];
    let flags = flags | libc::AT_EMPTY_PATH.cast_unsigned();
    // SAFETY: as above.
    done(unsafe {
        libc::syscall(libc::SYS_statx, object.as_raw_fd(), c"".as_ptr(), flags, mask, buffer.as_mut_ptr())
    })?;
    Ok(buffer)
}

/// `struct statfs` of an object's file system, fstatfs(2).
pub(crate) fn statfs(object: BorrowedFd) -> Result<[u8; size_of::<libc::statfs>()], Errno> {
    let mut buffer = [0; size_of::<libc::statfs>()];
    // SAFETY: the buffer is as long as the structure.
    done(unsafe { libc::syscall(libc::SYS_fstatfs, object.as_raw_fd(), buffer.as_mut_ptr()) })?;
    Ok(buffer)
}

/// Whether an object may be used so, faccessat2(2).
pub(crate) fn access(object: BorrowedFd, mode: u32, flags: u32) -> Result<(), Errno> {
    let flags = flags | libc::AT_EMPTY_PATH.cast_unsigned();
    // SAFETY: the path is NUL-terminated.
    done(unsafe { libc::syscall(libc::SYS_faccessat2, object.as_raw_fd(), c"".as_ptr(), mode, flags) })
}

/// Sets the times of an object, each as seconds and nanoseconds or one of `UTIME_NOW` and `UTIME_OMIT`, utimensat(2).
pub(crate) fn set_times(object: BorrowedFd, times: [(i64, i64); 2]) -> Result<(), Errno> {
    const { assert!(size_of::<libc::timespec>() == size_of::<(i64, i64)>()) };
    let times = times.map(|(tv_sec, tv_nsec)| libc::timespec { tv_sec, tv_nsec });
    let fd = object.as_raw_fd();
    // SAFETY: the path is NUL-terminated, and the kernel reads two timespecs.
    done(unsafe { libc::syscall(libc::SYS_utimensat, fd, c"".as_ptr(), times.as_ptr(), libc::AT_EMPTY_PATH) })
}

/// Sets the times of an open file, utimensat(2) without a path.
pub(crate) fn set_times_of_file(file: BorrowedFd, times: [(i64, i64); 2]) -> Result<(), Errno> {
    let times = times.map(|(tv_sec, tv_nsec)| libc::timespec { tv_sec, tv_nsec });
    // SAFETY: the kernel reads two timespecs; no path is allowed here.
    done(unsafe { libc::syscall(libc::SYS_utimensat, file.as_raw_fd(), std::ptr::null::<u8>(), times.as_ptr(), 0) })
}

/// Changes the owner of an object, fchownat(2); -1 leaves an id as it is.
pub(crate) fn set_owner(object: BorrowedFd, user: u32, group: u32) -> Result<(), Errno> {
    let fd = object.as_raw_fd();
    // SAFETY: the path is NUL-terminated.
    done(unsafe { libc::syscall(libc::SYS_fchownat, fd, c"".as_ptr(), user, group, libc::AT_EMPTY_PATH) })
}

/// Sets a watch on a path of one component in the working directory, inotify_add_watch(2).
pub(crate) fn watch(queue: BorrowedFd, name: &CStr, mask: u32) -> Result<i64, Errno> {
    // SAFETY: the name is NUL-terminated.
    Errno::result(unsafe { libc::syscall(libc::SYS_inotify_add_watch, queue.as_raw_fd(), name.as_ptr(), mask) })
}

/// Reads entries of a directory as the kernel lays them out, getdents(2) or getdents64(2) by their number.
pub(crate) fn entries(number: libc::c_long, dir: BorrowedFd, into: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: the kernel writes at most `into.len()` bytes.
    length(unsafe { libc::syscall(number, dir.as_raw_fd(), into.as_mut_ptr(), into.len()) })
}

/// Asks for permissions of a link, fchmodat2(2): the kernel says why not. `EOPNOTSUPP` where it does not know the call (Linux 6.6).
pub(crate) fn set_mode_of_link(link: BorrowedFd, mode: u32) -> Result<(), Errno> {
    // SAFETY: the path is NUL-terminated.
    let result =
        done(unsafe { libc::syscall(libc::SYS_fchmodat2, link.as_raw_fd(), c"".as_ptr(), mode, libc::AT_EMPTY_PATH) });
    result.map_err(|errno| if errno == Errno::ENOSYS { Errno::EOPNOTSUPP } else { errno })
}

/// Gives a socket a name in the working directory, bind(2): up to 108 bytes, all of which a name may need.
pub(crate) fn bind_to_name(socket: BorrowedFd, name: &CStr) -> Result<(), Errno> {
    // SAFETY: all zero bytes are a valid address.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    address.sun_family = libc::sa_family_t::try_from(libc::AF_UNIX).map_err(|_| Errno::EINVAL)?;
    let bytes = name.to_bytes();
    let room = address.sun_path.get_mut(..bytes.len()).ok_or(Errno::EINVAL)?;
    for (place, byte) in room.iter_mut().zip(bytes) {
        *place = byte.cast_signed();
    }
    let length = std::mem::offset_of!(libc::sockaddr_un, sun_path) + bytes.len();
    // SAFETY: the address is at least that long.
    done(unsafe { libc::syscall(libc::SYS_bind, socket.as_raw_fd(), &raw const address, length) })
}

/// What an extended attribute belongs to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bearer<'a> {
    /// A name of one component in the working directory, followed if it is a link.
    Followed(&'a CStr),
    /// The same, itself.
    Itself(&'a CStr),
    /// An open file.
    File(BorrowedFd<'a>),
}

impl Bearer<'_> {
    /// The number of the call for it, of three, and its first argument as a register.
    fn call(&self, numbers: [libc::c_long; 3]) -> (libc::c_long, libc::c_long) {
        match self {
            Self::Followed(name) => (numbers[0], name.as_ptr() as libc::c_long),
            Self::Itself(name) => (numbers[1], name.as_ptr() as libc::c_long),
            Self::File(file) => (numbers[2], libc::c_long::from(file.as_raw_fd())),
        }
    }
}

/// setxattr(2)
pub(crate) fn set_attribute(bearer: Bearer, name: &CStr, value: &[u8], flags: u32) -> Result<(), Errno> {
    let (number, bearer) = bearer.call([libc::SYS_setxattr, libc::SYS_lsetxattr, libc::SYS_fsetxattr]);
    // SAFETY: both names are NUL-terminated, and the kernel reads `value.len()` bytes.
    done(unsafe { libc::syscall(number, bearer, name.as_ptr(), value.as_ptr(), value.len(), flags) })
}

/// getxattr(2): how long the value is, of which `into` takes as much as fits or nothing.
pub(crate) fn attribute(bearer: Bearer, name: &CStr, into: &mut [u8]) -> Result<usize, Errno> {
    let (number, bearer) = bearer.call([libc::SYS_getxattr, libc::SYS_lgetxattr, libc::SYS_fgetxattr]);
    // SAFETY: both names are NUL-terminated, and the kernel writes at most `into.len()` bytes.
    length(unsafe { libc::syscall(number, bearer, name.as_ptr(), into.as_mut_ptr(), into.len()) })
}

/// listxattr(2), likewise.
pub(crate) fn attributes(bearer: Bearer, into: &mut [u8]) -> Result<usize, Errno> {
    let (number, bearer) = bearer.call([libc::SYS_listxattr, libc::SYS_llistxattr, libc::SYS_flistxattr]);
    // SAFETY: as above.
    length(unsafe { libc::syscall(number, bearer, into.as_mut_ptr(), into.len()) })
}

/// removexattr(2)
pub(crate) fn remove_attribute(bearer: Bearer, name: &CStr) -> Result<(), Errno> {
    let (number, bearer) = bearer.call([libc::SYS_removexattr, libc::SYS_lremovexattr, libc::SYS_fremovexattr]);
    // SAFETY: both names are NUL-terminated.
    done(unsafe { libc::syscall(number, bearer, name.as_ptr()) })
}

/// `struct xattr_args`, for the calls below.
#[repr(C)]
struct AttributeValue {
    value: u64,
    size: u32,
    flags: u32,
}

// The C library does not know these three (Linux 6.13); they have the same numbers everywhere.
const SETXATTRAT: libc::c_long = 463;
const GETXATTRAT: libc::c_long = 464;
const REMOVEXATTRAT: libc::c_long = 466;

/// getxattrat(2) of a name in a directory, followed. `ENOSYS` before Linux 6.13.
pub(crate) fn attribute_at(dir: BorrowedFd, entry: &CStr, name: &CStr, into: &mut [u8]) -> Result<usize, Errno> {
    let size = u32::try_from(into.len()).map_err(|_| Errno::E2BIG)?;
    let mut value = AttributeValue { value: into.as_mut_ptr().expose_provenance() as u64, size, flags: 0 };
    let (at, entry, name) = (dir.as_raw_fd(), entry.as_ptr(), name.as_ptr());
    // SAFETY: both names are NUL-terminated, the structure is as long as we say, and the kernel writes at most
    // `into.len()` bytes to where it points.
    length(unsafe { libc::syscall(GETXATTRAT, at, entry, 0, name, &raw mut value, size_of::<AttributeValue>()) })
}

/// setxattrat(2), likewise.
pub(crate) fn set_attribute_at(dir: BorrowedFd, entry: &CStr, name: &CStr, value: &[u8]) -> Result<(), Errno> {
    let size = u32::try_from(value.len()).map_err(|_| Errno::E2BIG)?;
    let value = AttributeValue { value: value.as_ptr().expose_provenance() as u64, size, flags: 0 };
    let (at, entry, name) = (dir.as_raw_fd(), entry.as_ptr(), name.as_ptr());
    // SAFETY: both names are NUL-terminated, the structure is as long as we say, and the kernel reads `size` bytes from
    // where it points.
    done(unsafe { libc::syscall(SETXATTRAT, at, entry, 0, name, &raw const value, size_of::<AttributeValue>()) })
}

/// removexattrat(2), likewise.
pub(crate) fn remove_attribute_at(dir: BorrowedFd, entry: &CStr, name: &CStr) -> Result<(), Errno> {
    // SAFETY: both names are NUL-terminated.
    done(unsafe { libc::syscall(REMOVEXATTRAT, dir.as_raw_fd(), entry.as_ptr(), 0, name.as_ptr()) })
}
