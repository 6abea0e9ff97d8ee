//! Raw calls that only containers need.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;

use crate::sys::Sys;

/// setdomainname(2).
pub fn set_domain_name(name: &str) -> Sys<()> {
    // SAFETY: the kernel reads `name.len()` bytes.
    Errno::result(unsafe { libc::setdomainname(name.as_ptr().cast(), name.len()) }).map(drop)
}

/// The number of a pseudo-terminal: `TIOCGPTN`.
pub fn terminal_number(master: BorrowedFd) -> Sys<u32> {
    let mut number: libc::c_uint = 0;
    // SAFETY: TIOCGPTN fills an unsigned int.
    Errno::result(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTN as _, &raw mut number) })?;
    Ok(number)
}

/// What the kernel has to say about a file system that is being made: it can be read from its context.
pub fn complaint(context: BorrowedFd) -> String {
    let mut text = [0u8; 512];
    // SAFETY: the kernel writes at most as many bytes as the array has.
    let read = unsafe { libc::read(context.as_raw_fd(), text.as_mut_ptr().cast(), text.len()) };
    let read = usize::try_from(read).unwrap_or(0);
    let text = String::from_utf8_lossy(&text[..read]);
    // `e ` is the level.
    text.trim().trim_start_matches(['e', 'w', 'i']).trim().to_owned()
}

/// keyctl(2) `KEYCTL_JOIN_SESSION_KEYRING` without a name: a new session keyring.
pub fn new_session_keyring() -> Sys<()> {
    const JOIN_SESSION_KEYRING: libc::c_int = 1;
    // SAFETY: no name, so no memory is read.
    Errno::result(unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, std::ptr::null::<u8>()) }).map(drop)
}

/// What sched_setattr(2) takes, version 1.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Schedule {
    /// Bytes of this structure.
    pub size: u32,
    /// `SCHED_*`
    pub policy: u32,
    /// `SCHED_FLAG_*`
    pub flags: u64,
    /// For `SCHED_OTHER` and `SCHED_BATCH`.
    pub nice: i32,
    /// For `SCHED_FIFO` and `SCHED_RR`.
    pub priority: u32,
    /// For `SCHED_DEADLINE`, nanoseconds.
    pub runtime: u64,
    /// For `SCHED_DEADLINE`, nanoseconds.
    pub deadline: u64,
    /// For `SCHED_DEADLINE`, nanoseconds.
    pub period: u64,
    /// Least utilisation.
    pub least: u32,
    /// Most utilisation.
    pub most: u32,
}

/// sched_setattr(2) for this thread.
pub fn set_schedule(schedule: &Schedule) -> Sys<()> {
    // SAFETY: the structure is `struct sched_attr` and says its size.
    Errno::result(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, std::ptr::from_ref(schedule), 0) }).map(drop)
}

/// ioprio_set(2) for this thread.
pub fn set_io_priority(class: u32, priority: u32) -> Sys<()> {
    const PROCESS: libc::c_int = 1;
    // SAFETY: integers only.
    Errno::result(unsafe { libc::syscall(libc::SYS_ioprio_set, PROCESS, 0, class << 13 | priority) }).map(drop)
}

fn bpf(command: libc::c_int, attributes: &[u8]) -> Sys<libc::c_long> {
    // SAFETY: the kernel reads the bytes of the attributes, whose number is passed; pointers among them outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_ptr(), attributes.len()) };
    if result < 0 { Err(Errno::last()) } else { Ok(result) }
}

/// bpf(2) `BPF_PROG_LOAD` of a program that decides about devices.
pub fn load_device_program(program: &[u64]) -> Sys<OwnedFd> {
    const LOAD: libc::c_int = 5;
    const CGROUP_DEVICE: u32 = 15;
    let count = u32::try_from(program.len()).map_err(|_| Errno::E2BIG)?;
    let mut attributes = [0u8; 48];
    attributes[0..4].copy_from_slice(&CGROUP_DEVICE.to_ne_bytes());
    attributes[4..8].copy_from_slice(&count.to_ne_bytes());
    attributes[8..16].copy_from_slice(&(program.as_ptr() as u64).to_ne_bytes());
    attributes[16..24].copy_from_slice(&(c"MIT".as_ptr() as u64).to_ne_bytes());
    let fd = i32::try_from(bpf(LOAD, &attributes)?).map_err(|_| Errno::EBADF)?;
    Ok(crate::sys::own_received(fd))
}

/// bpf(2) `BPF_PROG_ATTACH` to a control group, in the place of one that is there.
pub fn attach_device_program(group: BorrowedFd, program: BorrowedFd) -> Sys<()> {
    const ATTACH: libc::c_int = 8;
    const CGROUP_DEVICE: u32 = 6;
    let mut attributes = [0u8; 16];
    attributes[0..4].copy_from_slice(&group.as_raw_fd().to_ne_bytes());
    attributes[4..8].copy_from_slice(&program.as_raw_fd().to_ne_bytes());
    attributes[8..12].copy_from_slice(&CGROUP_DEVICE.to_ne_bytes());
    bpf(ATTACH, &attributes).map(drop)
}
