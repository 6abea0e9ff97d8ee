//! The engine's console socket: it gets the master of a container's terminal.

use std::io::IoSlice;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, connect as connect_socket, sendmsg, socket,
};
use shim::failure::{Failure, Step};
use shim::keeper;

/// Connects to it.
pub fn connect(path: &Path) -> Result<OwnedFd, Failure> {
    let step = || format!("connect to the console socket {}", path.display());
    let channel = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).step(step)?;
    keeper::within(path, |short| connect_socket(channel.as_raw_fd(), &UnixAddr::new(short)?)).step(step)?;
    Ok(channel)
}

/// Sends the master; the payload is a name, of which nobody makes anything.
pub fn send_terminal(socket: &OwnedFd, master: &OwnedFd) -> Result<(), Failure> {
    let fds = [master.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&fds)];
    let payload = [IoSlice::new(b"/dev/ptmx")];
    loop {
        match sendmsg::<UnixAddr>(socket.as_raw_fd(), &payload, &rights, MsgFlags::MSG_NOSIGNAL, None) {
            Err(Errno::EINTR) => {}
            other => return other.map(drop).step(|| "send the terminal to the console socket"),
        }
    }
}
