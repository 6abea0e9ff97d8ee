//! Who connected, when it was the sentry that did it for them.
//!
//! The kernel tells a server the process that called `connect`, which is the sentry where connections are made by it
//! (`SO_PEERCRED`, unix(7)). Under `--fake-root` servers ask for the ids of their peers and must be told those that the
//! caller pretended to have. What the two ends of a connection share is the name of the calling socket. So that each has
//! one, a socket without a name is given one of the kernel's choice, and who called by it is noted under that name.

use std::collections::VecDeque;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use nix::errno::Errno;
use nix::sys::socket::{UnixAddr, bind, getpeername, getsockname};

use crate::guest::Guest;

/// Callers remembered at most: of one whose name is older, nobody knows any more.
const MOST: usize = 4096;

/// A process, as the guest numbers it, and the user and group that it pretended to be.
pub(super) type Caller = (i32, u32, u32);

/// The latest last. Names are given again when their sockets are gone, so the latest with a name counts.
static CALLERS: Mutex<VecDeque<(Name, Caller)>> = Mutex::new(VecDeque::new());

/// What a Unix socket may be called: a path, or anything that begins with a zero byte.
type Name = Vec<u8>;

/// Notes that the caller is about to connect this socket, if it is one of the Unix domain.
pub(super) fn introduce(guest: &dyn Guest, socket: &OwnedFd) -> Result<(), Errno> {
    let Ok(own) = getsockname::<UnixAddr>(socket.as_raw_fd()) else { return Ok(()) };
    let name = match name(&own) {
        Some(name) => name,
        None => {
            bind(socket.as_raw_fd(), &UnixAddr::new_unnamed())?;
            name(&getsockname::<UnixAddr>(socket.as_raw_fd())?).ok_or(Errno::EADDRNOTAVAIL)?
        }
    };
    let credentials = guest.credentials()?;
    let caller = (guest.own_ids()?.0, credentials.user.effective, credentials.group.effective);
    let mut callers = CALLERS.lock().unwrap_or_else(PoisonError::into_inner);
    if callers.len() == MOST {
        callers.pop_front();
    }
    callers.push_back((name, caller));
    Ok(())
}

/// Who connected to the other end of this socket, if it was by way of the sentry and not too long ago.
pub(super) fn caller(socket: &OwnedFd) -> Option<Caller> {
    let name = name(&getpeername::<UnixAddr>(socket.as_raw_fd()).ok()?)?;
    let callers = CALLERS.lock().unwrap_or_else(PoisonError::into_inner);
    callers.iter().rev().find(|(known, _)| *known == name).map(|(_, caller)| *caller)
}

fn name(address: &UnixAddr) -> Option<Name> {
    let path = || address.path().map(|path| path.as_os_str().as_encoded_bytes().to_vec());
    let hidden = || address.as_abstract().map(|name| [b"\0", name].concat());
    hidden().or_else(path).filter(|name| !name.is_empty())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
    use std::sync::Arc;

    use nix::sys::socket::{AddressFamily, SockFlag, SockType, connect, socket};

    use super::*;
    use crate::credentials::Credentials;
    use crate::fake::FakeGuest;

    fn calls(user: u32, to: &UnixAddr) -> OwnedFd {
        let guest = FakeGuest::default();
        let mut credentials = Credentials::default();
        (credentials.user.effective, credentials.group.effective) = (user, user + 1);
        *guest.credentials.borrow_mut() = Arc::new(credentials);
        let socket = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
        introduce(&guest, &socket).unwrap();
        connect(socket.as_raw_fd(), to).unwrap();
        socket
    }

    #[test]
    fn each_end_knows_the_other() {
        let name = format!("introduced-{}", std::process::id());
        let listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let there = UnixAddr::new_abstract(name.as_bytes()).unwrap();
        let own = std::process::id().cast_signed();
        for user in [33, 34, 33] {
            let _client = calls(user, &there);
            let accepted = OwnedFd::from(listener.accept().unwrap().0);
            assert_eq!(caller(&accepted), Some((own, user, user + 1)));
        }
        let (one, _other) = UnixStream::pair().unwrap();
        assert_eq!(caller(&one.into()), None);
        let guest = FakeGuest::default();
        let internet = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
        assert_eq!(introduce(&guest, &internet), Ok(()));
    }
}
