//! `bind(2)`: addresses that a socket takes. In the guest's own network namespace it may take any; a socket file is a
//! name that comes into being, and may be one that the policy hides.

use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;

use super::address::Address;
use crate::args::{DirFd, Fd, SockLen, UserPtr};
use crate::file::pretend::made;
use crate::file::walk::{Parent, Umask, in_directory, names_stay};
use crate::guest::Guest;
use crate::reply::{Answer, Reply};
use crate::sys;

crate::syscalls! {
    /// Gives a socket an address.
    /// Limit: while the policy hides names, `getsockname` of a socket file tells its last component only.
    bind(socket: Fd, address: UserPtr, length: SockLen) Network Default Allow {
        PathCalls => Emulate(bind),
        ProtectedNames => Emulate(bind),
    };
}

fn bind(guest: &dyn Guest, socket: Fd, address: UserPtr, length: SockLen) -> Answer {
    let socket = guest.duplicate(socket)?;
    match Address::copy(guest, address, length)? {
        Address::Path(path) => bind_to_file(guest, &socket, &path)?,
        address => address.bind(&socket)?,
    }
    Ok(Reply::Return(0))
}

fn bind_to_file(guest: &dyn Guest, socket: &OwnedFd, path: &[u8]) -> Result<(), Errno> {
    let _names = names_stay();
    let parent = Parent::find(guest, DirFd::CWD, path)?;
    parent.may_be_made(guest, "bind")?;
    let _umask = Umask::of(guest)?;
    let name = parent.as_given()?;
    made::as_root(guest, &[&parent.dir], || in_directory(&parent.dir, || sys::bind_to_name(socket.as_fd(), &name)))?;
    made::name(guest, &parent, 0, None)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, listen, socket};

    use super::*;
    use crate::file::trial::{DONE, Trial};

    fn to_path(trial: &mut Trial, path: &str) -> Errno {
        trial
            .guest
            .files
            .insert(3, socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap());
        let bytes = [&1_u16.to_ne_bytes(), path.as_bytes()].concat();
        trial.errno("bind", &[3, trial.guest.put(&bytes).0, bytes.len() as u64])
    }

    #[test]
    fn a_socket_file_takes_no_protected_name() {
        let mut trial = Trial::new(&["w/agent.sock"]);
        fs::create_dir(trial.root.join("w")).unwrap();
        symlink("agent.sock", trial.root.join("w/link")).unwrap();
        for path in ["w/agent.sock", "w/../w/agent.sock\0junk", "./w/agent.sock/"] {
            assert_eq!(to_path(&mut trial, path), Errno::EACCES, "{path}");
        }
        assert_eq!(trial.denied()[0], ("bind", "w/agent.sock".into()));
        assert_eq!(to_path(&mut trial, "w/link"), Errno::EADDRINUSE, "links are not followed");
        assert!(!trial.exists("w/agent.sock"));

        trial.guest.umask = 0o077;
        assert_eq!(to_path(&mut trial, "w/agent.sock2"), DONE);
        assert_eq!(trial.mode("w/agent.sock2"), 0o700);
        assert_eq!(to_path(&mut trial, "w/agent.sock2"), Errno::EADDRINUSE);
        assert_eq!(to_path(&mut trial, "no/s"), Errno::ENOENT);
        assert_eq!(std::env::current_dir().unwrap(), std::path::Path::new("/"));
    }

    #[test]
    fn other_addresses_are_taken_as_given() {
        let mut trial = Trial::new(&["hidden"]);
        assert_eq!(to_path(&mut trial, ""), DONE, "the kernel chooses a name");
        assert_eq!(to_path(&mut trial, &format!("\0bind\0{}", std::process::id())), DONE);
        let stream = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
        trial.guest.files.insert(3, stream);
        let bytes = [&2_u16.to_ne_bytes()[..], &[0, 0, 127, 0, 0, 1], &[0; 8]].concat();
        assert_eq!(trial.errno("bind", &[3, trial.guest.put(&bytes).0, 16]), DONE);
        assert!(listen(&trial.guest.files[&3], Backlog::new(1).unwrap()).is_ok());
        assert_eq!(trial.errno("bind", &[3, trial.guest.put(&bytes).0, 15]), Errno::EINVAL);
    }
}
