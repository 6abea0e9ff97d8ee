//! What a container's processes say to its keeper: where they live, and who answers the calls of their filters.
//!
//! Over a `SOCK_SEQPACKET` channel, one message a step. Init announces the container once, from inside its final root; then
//! init, and later each process that enters the container, hands over the listener of its filter, and waits until a
//! supervisor has taken it: a process without one would find every trapped call `ENOSYS`.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr,
    connect as connect_socket, recvmsg, sendmsg, socket,
};

use crate::failure::{Failure, Step};
use crate::sys;

/// Names the message that announces a container.
pub const ANNOUNCE: u8 = b'N';
/// Names the message that hands a listener over.
pub const LISTENER: u8 = b'L';
/// The whole answer when all is well; any other is the text of an error.
pub const READY: &[u8] = b"A";
/// The longest message.
pub const LONGEST: usize = 4096;
/// Descriptors of one message, at most.
const MOST_FILES: usize = 8;

/// Where a container's processes live.
#[derive(Debug)]
pub struct Place<'a> {
    /// Its user namespace; it may be the caller's own.
    pub users: BorrowedFd<'a>,
    /// Its mount namespace.
    pub mounts: BorrowedFd<'a>,
    /// Its root directory, `O_PATH`.
    pub root: BorrowedFd<'a>,
    /// Its init, as a pidfd.
    pub init: BorrowedFd<'a>,
}

/// Tells the keeper where the container is. Once, by init, when its root is final and its mounts are made.
pub fn announce(channel: BorrowedFd, place: &Place) -> Result<(), Failure> {
    let files = [place.users, place.mounts, place.root, place.init];
    send(channel, &[ANNOUNCE], &files).step(|| "announce the container to its keeper")
}

/// Hands the listener of a filter over, and waits until it is answered. The listener must exist nowhere else.
pub fn hand_over(channel: BorrowedFd, listener: OwnedFd) -> Result<(), Failure> {
    let step = || "hand the listener to the container's keeper";
    send(channel, &[LISTENER], &[listener.as_fd()]).step(step)?;
    drop(listener);
    // The filter holds already, and the narrowest surface has read(2) but not recvmsg(2).
    let mut answer = vec![0; LONGEST];
    let length = loop {
        match nix::unistd::read(channel, &mut answer) {
            Err(Errno::EINTR) => {}
            other => break other.step(step)?,
        }
    };
    answer.truncate(length);
    if answer == READY {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&answer).into_owned();
    Err(if text.is_empty() {
        Failure::check("reach the container's keeper: it has ended")
    } else {
        Failure::check_text(text)
    })
}

/// Connects to the keeper that listens at `path`, however long that path is.
pub fn connect(path: &Path) -> Result<OwnedFd, Failure> {
    let step = || format!("reach the container's keeper at {}", path.display());
    let channel = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).step(step)?;
    within(path, |short| connect_socket(channel.as_raw_fd(), &UnixAddr::new(short)?)).step(step)?;
    Ok(channel)
}

/// Runs `act` with a name of the same socket that is short enough for an address, which has room for 107 bytes only.
pub fn within<T>(path: &Path, act: impl FnOnce(&Path) -> Result<T, Errno>) -> Result<T, Errno> {
    use std::os::unix::ffi::OsStrExt;
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else { return Err(Errno::EINVAL) };
    let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    let text = std::ffi::CString::new(directory.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)?;
    let directory = sys::open_at(None, &text, libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC, 0, 0)?;
    act(&Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name))
}

/// Sends one message with its descriptors.
pub fn send(channel: BorrowedFd, message: &[u8], files: &[BorrowedFd]) -> Result<(), Errno> {
    let raw: Vec<RawFd> = files.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let rights = if raw.is_empty() { &[][..] } else { &rights[..] };
    loop {
        match sendmsg::<UnixAddr>(channel.as_raw_fd(), &[IoSlice::new(message)], rights, MsgFlags::MSG_NOSIGNAL, None) {
            Err(Errno::EINTR) => {}
            other => return other.map(drop),
        }
    }
}

/// Receives one message and its descriptors; an empty one when nobody is left to send.
pub fn receive(channel: BorrowedFd) -> Result<(Vec<u8>, Vec<OwnedFd>), Errno> {
    receive_within::<MOST_FILES>(channel, LONGEST)
}

/// The same, of at most so many descriptors and bytes.
pub(crate) fn receive_within<const FILES: usize>(
    channel: BorrowedFd,
    longest: usize,
) -> Result<(Vec<u8>, Vec<OwnedFd>), Errno> {
    let mut bytes = vec![0; longest];
    let mut space = nix::cmsg_space!([RawFd; FILES]);
    let mut payload = [IoSliceMut::new(&mut bytes)];
    let received = loop {
        match recvmsg::<UnixAddr>(channel.as_raw_fd(), &mut payload, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC) {
            Err(Errno::EINTR) => {}
            other => break other?,
        }
    };
    let length = received.bytes;
    let mut files = Vec::new();
    for message in received.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = message {
            files.extend(fds.into_iter().map(sys::own_received));
        }
    }
    bytes.truncate(length);
    Ok((bytes, files))
}
