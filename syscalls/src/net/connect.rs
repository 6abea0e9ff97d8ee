//! `connect(2)`: whom a program reaches.
//!
//! By default the empty network namespace decides, and the sentry only looks on, so that it can name the host that was
//! out of reach; whatever the address says by the time that the kernel reads it, nothing is there. Socket files are
//! different: one that lies in a granted directory belongs to a service outside (a container engine, a message bus, an
//! agent with keys), and a grant of the directory is not meant as a grant of the service. Where grants hold sockets, each
//! connection is made here: the address is copied once, the socket file is pinned and judged, and that very object is
//! connected to, by way of its descriptor and not its name.

use std::os::fd::{AsRawFd, OwnedFd};
use std::time::UNIX_EPOCH;

use nix::errno::Errno;
use nix::fcntl::{OFlag, ResolveFlag};
use nix::sys::socket::{UnixAddr, connect as kernels_connect};
use nix::sys::stat::{SFlag, fstat};

use super::address::Address;
use super::introduced::introduce;
use crate::args::{DirFd, Fd, SockLen, UserPtr};
use crate::file::judge::{self, Use};
use crate::file::walk::{Start, in_directory, shown};
use crate::guest::{Denial, Guest};
use crate::reply::{Answer, Reply};
use crate::waits;

crate::syscalls! {
    /// Connects a socket to an address. One that is out of reach is named at the end of the run.
    /// Fails with `EACCES`, while sockets in grants are judged, for a socket file that was neither granted nor bound by the sandbox.
    /// Limit: then a connection that has to wait cannot be interrupted by a signal (but its task can be killed), `SO_PEERCRED` at the other end shows the sentry, and `getpeername` of a socket file tells a path of the sentry.
    /// Limit: under `--fake-root` a Unix socket without a name has one of the kernel's choice afterwards, by which `SO_PEERCRED` finds the caller.
    /// Limit: then it fails with `EAGAIN` when 48 calls that the sentry makes for others wait already, or the sentry may have no more threads.
    /// Limit: then a socket file counts as the sandbox's own if it was born after its start, also when a program outside bound it.
    connect(socket: Fd, address: UserPtr, length: SockLen) Network Default Observe(connect_seen) {
        PathCalls => Emulate(connect),
        SocketGrants => Emulate(connect),
        HostNetwork => Allow,
        Container => Allow,
    };
}

fn connect_seen(guest: &dyn Guest, _: Fd, address: UserPtr, length: SockLen) {
    if let Ok(address) = Address::copy(guest, address, length) {
        tell(guest, "connect", &address);
    }
}

fn connect(guest: &dyn Guest, socket: Fd, address: UserPtr, length: SockLen) -> Answer {
    let socket = guest.duplicate(socket)?;
    let address = Address::copy(guest, address, length)?;
    if guest.rules().fake_root {
        introduce(guest, &socket)?;
    }
    match &address {
        Address::Path(path) => guest.as_itself(&mut || {
            connect_to_file(guest, &socket, path)?;
            Ok(Reply::Return(0))
        }),
        _ => {
            tell(guest, "connect", &address);
            let _place = waits::place(guest).ok_or(Errno::EAGAIN)?;
            guest.as_itself(&mut || {
                address.connect(&socket)?;
                Ok(Reply::Return(0))
            })
        }
    }
}

/// Records an address that cannot be reached from an empty network.
pub(super) fn tell(guest: &dyn Guest, call: &'static str, address: &Address) {
    let what = match address.elsewhere() {
        _ if guest.rules().host_network => return,
        Some(there) => there.to_string(),
        None if address.is_name_server() => "look up a host name (DNS)".to_owned(),
        None => return,
    };
    guest.record(Denial { call, what, remedy: "allow with --net all".into() });
}

fn connect_to_file(guest: &dyn Guest, socket: &OwnedFd, path: &[u8]) -> Result<(), Errno> {
    let object = Start::of(guest, DirFd::CWD, path)?.object(guest, OFlag::empty(), ResolveFlag::empty())?;
    judge::object(guest, "connect", &object, Use::Change)?;
    if SFlag::from_bits_truncate(fstat(&object)?.st_mode) & SFlag::S_IFMT != SFlag::S_IFSOCK {
        // The kernel knows why not, and does not wait.
        return connect_to_object(guest, socket, &object);
    }
    let path = guest.path_of(&object)?;
    if !guest.rules().may_connect(&path, birth(&object)) {
        let path = shown(&path);
        let remedy = format!("a socket inside a grant leads out of the sandbox; allow with --write {path}");
        guest.record(Denial { call: "connect", what: path, remedy: remedy.into() });
        return Err(Errno::EACCES);
    }
    // Also for a socket that does not wait now: the guest may change that while we connect.
    let _place = waits::place(guest).ok_or(Errno::EAGAIN)?;
    connect_to_object(guest, socket, &object)
}

/// Connects to the object, not to its name: another socket may have that name by now.
fn connect_to_object(guest: &dyn Guest, socket: &OwnedFd, object: &OwnedFd) -> Result<(), Errno> {
    in_directory(&guest.descriptors()?, || {
        kernels_connect(socket.as_raw_fd(), &UnixAddr::new(object.as_raw_fd().to_string().as_str())?)
    })
}

/// When a file came into being, if its file system knows.
fn birth(object: &OwnedFd) -> Option<(i64, u32)> {
    let file = std::fs::File::from(object.try_clone().ok()?);
    let since = file.metadata().ok()?.created().ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some((i64::try_from(since.as_secs()).ok()?, since.subsec_nanos()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::cast_possible_truncation)]
mod tests {
    use std::fs;
    use std::io::{Read, Write};
    use std::net::{TcpListener, UdpSocket};
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
    use std::time::{SystemTime, UNIX_EPOCH};

    use nix::libc;
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, getpeername, socket};

    use super::*;
    use crate::file::trial::{DONE, Trial, verdict};
    use crate::table::Feature::{HostNetwork, SocketGrants};
    use crate::table::Verdict::{Allow, Notify};

    fn trial(family: AddressFamily, kind: SockType) -> Trial {
        let mut trial = Trial::with(SocketGrants);
        trial.guest.files.insert(3, socket(family, kind, SockFlag::SOCK_CLOEXEC, None).unwrap());
        trial
    }

    fn unix() -> Trial {
        trial(AddressFamily::Unix, SockType::Stream)
    }

    fn to(trial: &Trial, address: &[u8]) -> Errno {
        trial.errno("connect", &[3, trial.guest.put(address).0, address.len() as u64])
    }

    fn to_path(trial: &Trial, path: &str) -> Errno {
        to(trial, &[&1_u16.to_ne_bytes(), path.as_bytes()].concat())
    }

    fn v4(ip: [u8; 4], port: u16) -> Vec<u8> {
        [&2_u16.to_ne_bytes()[..], &port.to_be_bytes(), &ip, &[0; 8]].concat()
    }

    fn now() -> (i64, u32) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        (now.as_secs().try_into().unwrap(), now.subsec_nanos())
    }

    #[test]
    fn a_host_out_of_reach_is_named() {
        let mut trial = Trial::with(SocketGrants);
        let observe = |trial: &Trial, bytes: &[u8]| {
            let (address, length) = (trial.guest.put(bytes), SockLen(u32::try_from(bytes.len()).unwrap()));
            connect_seen(&trial.guest, Fd(3), address, length);
        };
        observe(&trial, &v4([93, 184, 216, 34], 443));
        observe(&trial, &v4([127, 0, 0, 1], 53));
        observe(&trial, &v4([127, 0, 0, 1], 80));
        observe(&trial, &v4([93, 184, 216, 34], 443)[..15]);
        observe(&trial, &[0xff; 200]);
        connect_seen(&trial.guest, Fd(3), UserPtr(8), SockLen(16));
        let wanted = [("connect", "93.184.216.34:443".to_owned()), ("connect", "look up a host name (DNS)".to_owned())];
        assert_eq!(trial.denied(), wanted);
        assert_eq!(trial.guest.denials()[0].remedy, "allow with --net all");
        trial.guest.rules.host_network = true;
        observe(&trial, &v4([93, 184, 216, 34], 443));
        assert_eq!(trial.denied().len(), 2);
    }

    #[test]
    fn the_stricter_feature_wins() {
        assert_eq!(verdict("connect", &[], &[3, 1, 16]), Notify);
        assert_eq!(verdict("connect", &[HostNetwork], &[3, 1, 16]), Allow);
        assert_eq!(verdict("connect", &[HostNetwork, SocketGrants], &[3, 1, 16]), Notify);
        assert_eq!(verdict("sendto", &[], &[3, 1, 16, 0, 0, 0]), Allow);
        assert_eq!(verdict("sendto", &[], &[3, 1, 16, 0, 1 << 32, 16]), Notify);
        assert_eq!(verdict("sendto", &[HostNetwork], &[3, 1, 16, 0, 1, 16]), Allow);
    }

    #[test]
    fn a_socket_in_a_grant_is_not_granted_with_it() {
        let mut trial = unix();
        let _service = UnixListener::bind(trial.root.join("docker.sock")).unwrap();
        symlink("docker.sock", trial.root.join("link")).unwrap();
        fs::hard_link(trial.root.join("docker.sock"), trial.root.join("hard")).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(20));
        trial.guest.rules.started = Some(now());
        trial.guest.rules.sockets = vec![trial.root.join("docker.sock-evil")];
        let absolute = trial.root.join("docker.sock").into_os_string().into_string().unwrap();
        for path in ["docker.sock", "./docker.sock\0junk", "link", "hard", &absolute] {
            assert_eq!(to_path(&trial, path), Errno::EACCES, "{path}");
        }
        assert_eq!(trial.denied()[0], ("connect", "docker.sock".into()));
        assert!(trial.guest.denials()[0].remedy.ends_with(&format!("allow with --write {absolute}")));

        trial.guest.rules.sockets = vec![absolute.into()];
        assert_eq!(to_path(&trial, "link"), DONE);
    }

    #[test]
    fn a_socket_that_the_sandbox_bound_is_its_own() {
        let mut trial = unix();
        trial.guest.rules.started = Some((now().0 - 60, 0));
        let service = UnixListener::bind(trial.root.join("own")).unwrap();
        assert_eq!(to_path(&trial, "own"), DONE);
        let mut served = service.accept().unwrap().0;
        let mut client = UnixStream::from(trial.guest.files.remove(&3).unwrap());
        client.write_all(b"hello").unwrap();
        drop(client);
        let mut text = String::new();
        served.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");
        assert_eq!(std::env::current_dir().unwrap(), std::path::Path::new("/"));
    }

    /// Between the judgement and the act another thread gives the name to a service outside.
    #[test]
    fn flipping_the_name_reaches_no_other_socket() {
        let mut trial = unix();
        let service = UnixListener::bind(trial.root.join("service")).unwrap();
        service.set_nonblocking(true).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(20));
        trial.guest.rules.started = Some(now());
        std::thread::sleep(std::time::Duration::from_millis(20));
        let own = UnixListener::bind(trial.root.join("own")).unwrap();
        own.set_nonblocking(true).unwrap();
        let (one, other) = (trial.root.join("service"), trial.root.join("own"));
        let stop = std::sync::atomic::AtomicBool::new(false);
        let (mut reached, mut refused) = (0, 0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    let exchange = nix::fcntl::RenameFlags::RENAME_EXCHANGE;
                    nix::fcntl::renameat2(nix::fcntl::AT_FDCWD, &one, nix::fcntl::AT_FDCWD, &other, exchange).unwrap();
                }
            });
            for round in 0.. {
                let fresh = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
                trial.guest.files.insert(3, fresh);
                match to_path(&trial, "service") {
                    DONE => reached += 1,
                    Errno::EACCES => refused += 1,
                    errno => panic!("{errno}"),
                }
                while own.accept().is_ok() {}
                if round > 2000 && reached > 100 && refused > 100 {
                    break;
                }
            }
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        assert!(service.accept().is_err(), "after {reached} and {refused} tries");
    }

    #[test]
    fn errors_are_the_kernels_own() {
        let trial = unix();
        trial.guest.put(b"");
        fs::write(trial.root.join("file"), "").unwrap();
        symlink("loop", trial.root.join("loop")).unwrap();
        for (path, wanted) in [
            ("nothing", Errno::ENOENT),
            ("file", Errno::ECONNREFUSED),
            (".", Errno::ECONNREFUSED),
            ("file/", Errno::ENOTDIR),
            ("loop", Errno::ELOOP),
            ("", Errno::EINVAL),
        ] {
            assert_eq!(to_path(&trial, path), wanted, "{path}");
        }
        assert_eq!(to(&trial, &[1]), Errno::EINVAL);
        assert_eq!(to(&trial, &[0; 129]), Errno::EINVAL);
        assert_eq!(trial.errno("connect", &[9, 8, 16]), Errno::EBADF);
        assert_eq!(trial.errno("connect", &[3, 8, 16]), Errno::EFAULT);
    }

    #[test]
    fn abstract_names_keep_their_nuls() {
        let trial = unix();
        let name = format!("a\0b{}\0", std::process::id());
        let service = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        assert_eq!(to_path(&trial, &format!("\0{}", name.trim_end_matches('\0'))), Errno::ECONNREFUSED);
        assert_eq!(to_path(&trial, &format!("\0{name}")), DONE);
        service.accept().unwrap();
    }

    #[test]
    fn other_families_act_on_the_copy() {
        let stream = trial(AddressFamily::Inet, SockType::Stream);
        let service = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = service.local_addr().unwrap().port();
        assert_eq!(to(&stream, &v4([127, 0, 0, 1], port)), DONE);
        assert!(stream.denied().is_empty());

        // The C library asks for source addresses like this: connect, look, let go, connect to the next.
        let datagram = trial(AddressFamily::Inet, SockType::Datagram);
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        let raw = datagram.guest.files[&3].as_raw_fd();
        assert_eq!(to(&datagram, &v4([127, 0, 0, 1], peer.local_addr().unwrap().port())), DONE);
        assert!(getpeername::<SockaddrStorage>(raw).is_ok());
        assert_eq!(to(&datagram, &[0; 16]), DONE);
        assert_eq!(getpeername::<SockaddrStorage>(raw).err(), Some(Errno::ENOTCONN));
        assert_eq!(to(&datagram, &[libc::AF_PACKET as u8, 0, 0, 0]), Errno::EAFNOSUPPORT);
    }
}
