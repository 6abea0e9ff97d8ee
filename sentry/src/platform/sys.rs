//! The ioctls of a seccomp listener, see seccomp_unotify(2). The only unsafe code of this platform.

use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use nix::errno::Errno;
use nix::libc;

/// `struct seccomp_notif`
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Request {
    pub id: u64,
    pub pid: u32,
    pub flags: u32,
    pub number: i32,
    pub arch: u32,
    pub instruction_pointer: u64,
    pub registers: [u64; 6],
}

/// `struct seccomp_notif_resp`
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Reply {
    pub id: u64,
    pub value: i64,
    pub error: i32,
    pub flags: u32,
}

/// `struct seccomp_notif_addfd`
#[repr(C)]
struct AddDescriptor {
    id: u64,
    flags: u32,
    source: u32,
    target: u32,
    target_flags: u32,
}

/// Lets the call run (`SECCOMP_USER_NOTIF_FLAG_CONTINUE`).
pub const CONTINUE: u32 = 1;
/// Answers with the new descriptor in the same step (`SECCOMP_ADDFD_FLAG_SEND`).
const SEND: u32 = 2;
/// Wakes the answered thread on this CPU (`SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP`).
const SYNC_WAKE_UP: u64 = 1;

const MAGIC: u8 = b'!';
nix::ioctl_readwrite!(notify_receive, MAGIC, 0, Request);
nix::ioctl_readwrite!(notify_send, MAGIC, 1, Reply);
nix::ioctl_write_ptr!(notify_valid, MAGIC, 2, u64);
nix::ioctl_write_ptr!(notify_add, MAGIC, 3, AddDescriptor);

pub fn receive(listener: BorrowedFd) -> Result<Request, Errno> {
    // SAFETY: all zero bytes are a valid Request, and the kernel insists on them.
    let mut request: Request = unsafe { MaybeUninit::zeroed().assume_init() };
    // SAFETY: the structure has the kernel's layout (checked in `structures_have_the_kernels_sizes`).
    unsafe { notify_receive(listener.as_raw_fd(), &raw mut request) }?;
    Ok(request)
}

pub fn send(listener: BorrowedFd, mut reply: Reply) -> Result<(), Errno> {
    // SAFETY: as above.
    unsafe { notify_send(listener.as_raw_fd(), &raw mut reply) }.map(drop)
}

pub fn valid(listener: BorrowedFd, id: u64) -> Result<(), Errno> {
    // SAFETY: the kernel reads one u64.
    unsafe { notify_valid(listener.as_raw_fd(), &raw const id) }.map(drop)
}

/// Puts `file` into the caller's table and returns its number from the call, in one step.
pub fn inject(listener: BorrowedFd, id: u64, file: RawFd, cloexec: bool) -> Result<(), Errno> {
    let flags = if cloexec { libc::O_CLOEXEC } else { 0 };
    let request =
        AddDescriptor { id, flags: SEND, source: file.cast_unsigned(), target: 0, target_flags: flags.cast_unsigned() };
    // SAFETY: the structure has the kernel's layout.
    unsafe { notify_add(listener.as_raw_fd(), &raw const request) }.map(drop)
}

/// Asks for synchronous wake-ups; kernels before 6.6 do not know them.
pub fn wake_synchronously(listener: BorrowedFd) -> Result<(), Errno> {
    // _IOW('!', 4, __u64), whose argument is a value, not a pointer.
    const SET_FLAGS: libc::c_ulong = 0x4008_2104;
    // SAFETY: the ioctl takes an integer.
    Errno::result(unsafe { libc::ioctl(listener.as_raw_fd(), SET_FLAGS as _, SYNC_WAKE_UP) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_have_the_kernels_sizes() {
        let mut sizes = [0u16; 3];
        // SAFETY: SECCOMP_GET_NOTIF_SIZES fills three u16.
        let result = unsafe { libc::syscall(libc::SYS_seccomp, 3, 0, sizes.as_mut_ptr()) };
        assert_eq!(result, 0);
        assert_eq!(usize::from(sizes[0]), size_of::<Request>());
        assert_eq!(usize::from(sizes[1]), size_of::<Reply>());
        assert_eq!(size_of::<AddDescriptor>(), 24);
    }
}
