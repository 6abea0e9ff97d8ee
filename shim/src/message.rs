//! What the sandbox tells the monitor, and the other way round.
//!
//! One datagram a message (`SOCK_SEQPACKET`), JSON inside, so that a half-written message cannot exist. The monitor
//! treats what it receives as hostile: bounded in size, checked by serde, escaped before it is shown.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, recvmsg, sendmsg};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// The longest message, in bytes.
pub const MAX_MESSAGE: usize = 60 * 1024;

/// What the guest's processes have used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Microseconds of processor time in user mode.
    pub user_us: u64,
    /// Microseconds of processor time in the kernel.
    pub system_us: u64,
    /// The largest resident set of one process, in bytes.
    pub peak_process: u64,
}

/// From the sandbox to the monitor.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum ToMonitor {
    /// The start failed.
    Failed(Failure),
    /// A protection that the host cannot give was done without, as the user allowed.
    Lost(String),
    /// The master of the sandbox's terminal comes with this message.
    Terminal,
    /// The upper directory of an overlay that lives in memory comes with this message.
    Upper(String),
    /// The program stopped by this signal.
    Stopped(i32),
    /// The program ended, and everything it had started.
    Exited {
        /// Its exit code, if it exited.
        code: Option<i32>,
        /// The signal that killed it, otherwise.
        signal: Option<i32>,
        /// What all processes used.
        usage: Usage,
        /// Whether a fork failed for the limit on processes when it ended.
        pids_exhausted: bool,
    },
    /// A call was refused.
    Denied {
        /// Its name.
        call: String,
        /// What it was about to do.
        what: String,
        /// What would allow it.
        remedy: String,
    },
    /// So many refusals in all, and so many that were not told one by one.
    DenialCount {
        /// All of them.
        total: u64,
        /// Not told.
        dropped: u64,
    },
    /// A decision about a path, for the audit log.
    Decided {
        /// Seconds since the epoch.
        seconds: u64,
        /// And nanoseconds.
        nanoseconds: u32,
        /// The process, as the sandbox numbers it.
        pid: i32,
        /// The thread.
        tid: i32,
        /// The call's name.
        call: String,
        /// The path as it was resolved, in bytes.
        path: Vec<u8>,
        /// The rule that decided.
        rule: Option<String>,
        /// The errno with which the call was refused.
        errno: Option<i32>,
    },
    /// A call of a container was refused, or done in the kernel's stead.
    Audited {
        /// Seconds since the epoch.
        seconds: u64,
        /// And nanoseconds.
        nanoseconds: u32,
        /// The process, as the container numbers it.
        pid: i32,
        /// The thread.
        tid: i32,
        /// The thread's name.
        comm: String,
        /// The call's name.
        call: String,
        /// What it was about.
        what: String,
        /// What would allow it; `None`: it was done.
        remedy: Option<String>,
    },
    /// So many decisions could not be told.
    DecisionsDropped(u64),
    /// A limit was reached: its name, and whether the sandbox was ended for it.
    Limit {
        /// `memory`, `pids`, `disk`, `cpu-time`.
        name: String,
        /// Whether it was fatal.
        fatal: bool,
    },
    /// The highest sum of memory seen, in bytes, and of processes.
    Peaks {
        /// Bytes.
        memory: u64,
        /// Processes and threads.
        pids: u64,
    },
}

/// From the monitor to init.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum ToInit {
    /// Send this signal to the program.
    Signal(i32),
    /// Send this signal to the group in the terminal's foreground, or else the program's group.
    GroupSignal(i32),
}

/// Sends one message, with a descriptor if given. `EPIPE` when nobody listens any more; never `SIGPIPE`.
pub fn send<M: Serialize>(socket: BorrowedFd, message: &M, file: Option<BorrowedFd>) -> Result<(), Errno> {
    let bytes = serde_json::to_vec(message).map_err(|_| Errno::EINVAL)?;
    if bytes.len() > MAX_MESSAGE {
        return Err(Errno::EMSGSIZE);
    }
    let raw = file.map(|file| [file.as_raw_fd()]);
    let control: Vec<ControlMessage> = raw.iter().map(|fds| ControlMessage::ScmRights(fds)).collect();
    let payload = [IoSlice::new(&bytes)];
    loop {
        match sendmsg::<UnixAddr>(socket.as_raw_fd(), &payload, &control, MsgFlags::MSG_NOSIGNAL, None) {
            Err(Errno::EINTR) => {}
            other => return other.map(drop),
        }
    }
}

/// Receives one message and the descriptor that may come with it. `None` when every sender is gone.
/// A message that does not parse is `EBADMSG`.
pub fn receive<M: DeserializeOwned>(socket: BorrowedFd) -> Result<Option<(M, Option<OwnedFd>)>, Errno> {
    let mut bytes = vec![0; MAX_MESSAGE];
    let mut space = nix::cmsg_space!([i32; 1]);
    let mut payload = [IoSliceMut::new(&mut bytes)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let received = recvmsg::<UnixAddr>(socket.as_raw_fd(), &mut payload, Some(&mut space), flags)?;
    let mut file = None;
    for message in received.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = message {
            for fd in fds {
                file = Some(own(fd));
            }
        }
    }
    let length = received.bytes;
    if length == 0 {
        return Ok(None);
    }
    let message = serde_json::from_slice(&bytes[..length]).map_err(|_| Errno::EBADMSG)?;
    Ok(Some((message, file)))
}

fn own(fd: i32) -> OwnedFd {
    // SAFETY: the kernel has just put this descriptor into our table for us.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
