//! `inotify(7)`: watching files. It tells about files that the guest can reach anyway.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::stat::{SFlag, fstat};

use super::judge::Use;
use super::named::Named;
use super::object::kind;
use super::walk::in_directory;
use crate::args::{DirFd, Fd, PathPtr, Uint};
use crate::guest::Guest;
use crate::reply::{Answer, Reply};
use crate::sys;

crate::syscalls! {
    /// Makes a queue of file events.
    inotify_init() File Compat Allow;
    /// Makes a queue of file events, with flags.
    inotify_init1(flags: Flags) File Default Allow;
    /// Watches a file or directory.
    inotify_add_watch(queue: Fd, path: PathPtr, mask: Uint) File Default Allow {
        PathCalls => Emulate(add_watch),
    };
    /// Ends a watch.
    inotify_rm_watch(queue: Fd, watch: Int) File Default Allow;
}

/// `ALL_INOTIFY_BITS`.
const EVENTS_AND_FLAGS: u32 = libc::IN_ALL_EVENTS
    | libc::IN_UNMOUNT
    | libc::IN_Q_OVERFLOW
    | libc::IN_IGNORED
    | libc::IN_ONLYDIR
    | libc::IN_DONT_FOLLOW
    | libc::IN_EXCL_UNLINK
    | libc::IN_MASK_CREATE
    | libc::IN_MASK_ADD
    | libc::IN_ISDIR
    | libc::IN_ONESHOT;

fn add_watch(guest: &dyn Guest, queue: Fd, path: PathPtr, mask: Uint) -> Answer {
    if mask.0 & EVENTS_AND_FLAGS == 0 {
        return Err(Errno::EINVAL);
    }
    let queue = guest.duplicate(queue)?;
    // The kernel says first whether queue and mask are good; with a path that leads nowhere it says only that.
    match sys::watch(queue.as_fd(), c"", mask.0) {
        Err(Errno::ENOENT) => {}
        other => return other.map(Reply::Return),
    }
    let named = Named::copy(guest, "inotify_add_watch", DirFd::CWD, path)?;
    let named = if mask.0 & libc::IN_DONT_FOLLOW != 0 { named.itself() } else { named };
    let object = named.object(Use::Read)?;
    if kind(&fstat(&object)?) == SFlag::S_IFLNK {
        let parent = named.parent()?;
        let name = parent.as_given()?;
        return in_directory(&parent.dir, || sys::watch(queue.as_fd(), &name, mask.0)).map(Reply::Return);
    }
    // What was judged is watched, by way of its descriptor's entry, which is a link.
    let entry = CString::new(object.as_raw_fd().to_string()).map_err(|_| Errno::EINVAL)?;
    let mask = mask.0 & !libc::IN_DONT_FOLLOW;
    in_directory(&guest.descriptors()?, || sys::watch(queue.as_fd(), &entry, mask)).map(Reply::Return)
}
