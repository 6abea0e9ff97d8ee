//! Calls on sockets that exist: whom they talk to was decided before.

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::getpid;

use super::introduced;
use crate::args::{Fd, Int, UserPtr};
use crate::guest::Guest;
use crate::reply::{Answer, Reply};
use crate::table::{Check, Op, Test, Verdict};

/// Whom a peer pretends to be who is gone, or unknown.
const NOBODY: u32 = 65534;

const fn is(arg: usize, value: i32) -> Test {
    Test { arg, op: Op::Equal(value.cast_unsigned() as u64) }
}

const PEER: &[Check] = &[Check { all: &[is(1, libc::SOL_SOCKET), is(2, libc::SO_PEERCRED)], then: Verdict::Notify }];

crate::syscalls! {
    /// Waits for connections to a socket.
    listen(socket: Fd, backlog: Int) Network Default Allow;
    /// Takes a connection.
    accept(socket: Fd, address: UserPtr, length: UserPtr) Network Default Allow;
    /// Takes a connection, with flags.
    accept4(socket: Fd, address: UserPtr, length: UserPtr, flags: Flags) Network Default Allow;
    /// Receives data, and tells from whom.
    recvfrom(socket: Fd, buffer: UserPtr, size: Size, flags: Flags, address: UserPtr, length: UserPtr) Network Default Allow;
    /// Receives a message.
    recvmsg(socket: Fd, message: UserPtr, flags: Flags) Network Default Allow;
    /// Receives several messages.
    recvmmsg(socket: Fd, messages: UserPtr, count: Uint, flags: Flags, timeout: UserPtr) Network Compat Allow;
    /// Ends one or both directions of a connection.
    shutdown(socket: Fd, how: Int) Network Default Allow;
    /// Tells the address of a socket.
    getsockname(socket: Fd, address: UserPtr, length: UserPtr) Network Default Allow;
    /// Tells the address of a socket's peer.
    getpeername(socket: Fd, address: UserPtr, length: UserPtr) Network Default Allow;
    /// Reads an option of a socket.
    /// Limit: under `--fake-root` `SO_PEERCRED` tells whom the peer pretends to be now, not then; nobody (65534) when it is gone.
    /// Limit: under `--fake-root` `SO_PEERGROUPS` tells the kernel's groups.
    getsockopt(socket: Fd, level: Int, option: Int, value: UserPtr, length: UserPtr) Network Default Allow {
        FakeRoot => Emulate(peer_credentials) when PEER,
    };
    /// Sets an option of a socket.
    setsockopt(socket: Fd, level: Int, option: Int, value: UserPtr, length: SockLen) Network Default Allow;
}

/// `SO_PEERCRED`, unix(7): the kernel knows the peer's process, and its ids are ours to tell.
fn peer_credentials(guest: &dyn Guest, socket: Fd, _: Int, _: Int, value: UserPtr, length: UserPtr) -> Answer {
    let socket = guest.duplicate(socket)?;
    let mut room = [0; 4];
    guest.read(length, &mut room)?;
    let room = usize::try_from(i32::from_ne_bytes(room)).map_err(|_| Errno::EINVAL)?;
    let peer = getsockopt(&socket, sockopt::PeerCredentials)?;
    let (process, user, group) = match peer.pid() {
        0 => (0, peer.uid(), peer.gid()),
        own if own == getpid().as_raw() => introduced::caller(&socket).unwrap_or((0, NOBODY, NOBODY)),
        pid => guest.peer(pid).unwrap_or((0, NOBODY, NOBODY)),
    };
    let known = [process.cast_unsigned(), user, group].map(u32::to_ne_bytes);
    let told = &known.as_flattened()[..room.min(size_of::<libc::ucred>())];
    guest.write(value, told)?;
    guest.write(length, &u32::try_from(told.len()).unwrap_or(0).to_ne_bytes())?;
    Ok(Reply::Return(0))
}
