//! The process that mounts for the guest, with `--allow mount` only.
//!
//! Neither the guest nor the supervisor has rights over mounts. This process keeps `CAP_SYS_ADMIN` in the *outer* user
//! namespace and lives in the guest's mount namespace, where every mount of the view is locked: whatever it is told to do,
//! the kernel refuses to undo the view or to show what the view covers. It is outside the guest's pid namespace, takes
//! orders from the supervisor only, and allows itself a few calls by a filter of its own. It dies with the supervisor,
//! which is pid 1 of its pid namespace.

mod guard;
mod make;
mod memory;
mod serve;
mod table;

use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::{Mutex, PoisonError};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, sendmsg, socketpair};
use nix::unistd::{Pid, read};
use syscalls::mount::order::{Mounter, Order};

use crate::failure::{Failure, Step};
use crate::plan::{Mounting, Plan};
use crate::{capabilities, sys};

/// The calls that it needs; its filter kills it for any other.
pub const OWN_CALLS: &[&str] = &[
    "brk",
    "capset",
    "chdir",
    "clock_nanosleep",
    "close",
    "exit_group",
    "fchdir",
    "fcntl",
    "fsconfig",
    "fsmount",
    "fsopen",
    "fspick",
    "fstat",
    "fstatfs",
    "lseek",
    "madvise",
    "mmap",
    "mount_setattr",
    "move_mount",
    "mprotect",
    "mremap",
    "munmap",
    "newfstatat",
    "open_tree",
    "openat2",
    "read",
    "recvmsg",
    "restart_syscall",
    "rt_sigreturn",
    "sendmsg",
    "statx",
    "umount2",
    "write",
];

/// What it needs beside them where it guards a container's mounts.
pub const OWN_CALLS_INSIDE: &[&str] = &["readlinkat"];

/// Started, and waiting for the guest's mount namespace.
#[derive(Debug)]
pub struct Started {
    /// The process, as the supervisor's pid namespace numbers it.
    pub pid: Pid,
    /// Orders and answers.
    pub channel: OwnedFd,
}

/// Starts it, if the plan wants it. `proc` is a procfs that knows it. The caller must be single-threaded.
pub fn start(plan: &Plan, proc: &OwnedFd) -> Result<Option<Started>, Failure> {
    let Some(mounting) = &plan.mounting else { return Ok(None) };
    let (here, there) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
        .step(|| "make a channel to the process that mounts")?;
    match sys::clone(0).step(|| "start the process that mounts")? {
        Some(pid) => Ok(Some(Started { pid: Pid::from_raw(pid), channel: here })),
        None => {
            drop(here);
            sys::exit_now(run(mounting, &there, proc))
        }
    }
}

/// Starts it for a container whose user and mount namespaces the caller has joined, and waits until it is ready. Nothing is
/// locked there, so it guards what the container's runtime has mounted. `proc` is a procfs that knows it.
pub fn start_inside(mounting: &Mounting, proc: &OwnedFd) -> Result<Orders, Failure> {
    let (here, there) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
        .step(|| "make a channel to the process that mounts")?;
    let step = || "start the process that mounts";
    if sys::clone(0).step(step)?.is_none() {
        drop(here);
        sys::exit_now(run_inside(mounting, &there, proc));
    }
    drop(there);
    outcome(here.as_fd()).step(step)?;
    Ok(Orders(Mutex::new(here)))
}

fn run_inside(mounting: &Mounting, channel: &OwnedFd, proc: &OwnedFd) -> i32 {
    let ready = || {
        // With the supervisor goes the only one who gives orders.
        sys::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as u64, 0)
            .step(|| "tie the process that mounts to its orders")?;
        keep_only(channel, proc);
        sys::prctl(libc::PR_SET_DUMPABLE, 0, 0).step(|| "protect the process that mounts")?;
        let server = serve::Server::inside(mounting, proc)?;
        capabilities::keep_for_mounting()?;
        sys::load_filter(&mounting.filter, 0).step(|| "confine the process that mounts")?;
        Ok(server)
    };
    obey_until_the_end(ready(), channel)
}

fn run(mounting: &Mounting, channel: &OwnedFd, proc: &OwnedFd) -> i32 {
    keep_only(channel, proc);
    let ready = capabilities::keep_for_joining_to_mount()
        .and_then(|()| sys::prctl(libc::PR_SET_DUMPABLE, 0, 0).step(|| "protect the process that mounts"))
        .and_then(|_| serve::Server::join(mounting, channel, proc))
        .and_then(|server| {
            capabilities::keep_for_mounting()?;
            sys::load_filter(&mounting.filter, 0).step(|| "confine the process that mounts")?;
            Ok(server)
        });
    obey_until_the_end(ready, channel)
}

/// Of everything that the monitor had open nothing may stay.
fn keep_only(channel: &OwnedFd, proc: &OwnedFd) {
    let mut next = 0;
    let mut keep: [RawFd; 2] = [channel.as_raw_fd(), proc.as_raw_fd()];
    keep.sort_unstable();
    for fd in keep.into_iter().filter_map(|fd| u32::try_from(fd).ok()) {
        if fd > next {
            sys::close_range(next, fd - 1);
        }
        next = fd + 1;
    }
    sys::close_range(next, u32::MAX);
}

fn obey_until_the_end(ready: Result<serve::Server, Failure>, channel: &OwnedFd) -> i32 {
    match ready {
        Ok(mut server) => {
            serve::answer(channel.as_fd(), Ok(()));
            server.serve(channel.as_fd());
            0
        }
        Err(failure) => {
            serve::answer(channel.as_fd(), Err(Errno::from_raw(failure.errno.max(1))));
            125
        }
    }
}

/// The supervisor's end of the channel.
#[derive(Debug)]
pub struct Orders(Mutex<OwnedFd>);

impl Orders {
    /// Lets the process into the guest's mount namespace, and waits until it is ready.
    pub fn begin(channel: OwnedFd, mounts: BorrowedFd) -> Result<Self, Failure> {
        let step = || "let the process that mounts into the guest's mount namespace";
        transfer(channel.as_fd(), b"M", &[mounts]).step(step)?;
        outcome(channel.as_fd()).step(step)?;
        Ok(Self(Mutex::new(channel)))
    }
}

impl Mounter for Orders {
    fn ask(&self, order: &Order, text: &[u8], files: &[BorrowedFd]) -> Result<(), Errno> {
        let message = order.encode(text);
        let channel = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        transfer(channel.as_fd(), &message, files)?;
        outcome(channel.as_fd())
    }
}

fn transfer(channel: BorrowedFd, message: &[u8], files: &[BorrowedFd]) -> Result<(), Errno> {
    let raw: Vec<RawFd> = files.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let rights = if raw.is_empty() { &[][..] } else { &rights[..] };
    // It is gone: nobody mounts any more.
    let sent = sendmsg::<UnixAddr>(channel.as_raw_fd(), &[IoSlice::new(message)], rights, MsgFlags::MSG_NOSIGNAL, None);
    sent.map(drop).map_err(|errno| if errno == Errno::EPIPE { Errno::EIO } else { errno })
}

fn outcome(channel: BorrowedFd) -> Result<(), Errno> {
    let mut answer = [0; 4];
    loop {
        return match read(channel, &mut answer) {
            Ok(4) => match i32::from_ne_bytes(answer) {
                0 => Ok(()),
                errno => Err(Errno::from_raw(errno)),
            },
            Err(Errno::EINTR) => continue,
            _ => Err(Errno::EIO),
        };
    }
}
