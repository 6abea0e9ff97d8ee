//! The agent's socket: in a directory of its user's own, and never taken from an agent that lives.

use std::fs::{DirBuilder, File, OpenOptions};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket};
use nix::unistd::Uid;
use shim::failure::{Failure, Step};

/// The longest path that fits an address of a socket: runtimes connect to it by that.
const LONGEST: usize = 107;

/// Where the socket is if nothing else is said: in the user's runtime directory, or root's.
pub fn usual() -> Result<PathBuf, Failure> {
    let own = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute());
    let directory = match own {
        Some(own) => own,
        None if Uid::effective().is_root() => PathBuf::from("/run"),
        None => {
            return Err(Failure::check_text(
                "XDG_RUNTIME_DIR is not set, so there is no usual place for the agent's socket",
            )
            .remedy("set it, or name the socket: --socket PATH, and --listener PATH for profiles"));
        }
    };
    Ok(directory.join("sentry/agent.sock"))
}

/// A socket that is listened at. It is removed at the end.
#[derive(Debug)]
pub struct Socket {
    listener: OwnedFd,
    path: PathBuf,
    /// Held as long as the agent lives: two that start at once cannot both find nobody.
    _lock: Flock<File>,
}

impl Socket {
    /// Listens at `path`. What nobody listens at any more is removed.
    pub fn listen(path: &Path) -> Result<Self, Failure> {
        let name = path.display();
        if !path.is_absolute() || path.as_os_str().len() > LONGEST {
            return Err(Failure::check_text(format!("{name} cannot be a socket that runtimes connect to"))
                .remedy(format!("choose an absolute path of at most {LONGEST} bytes")));
        }
        let directory = path.parent().unwrap_or(Path::new("/"));
        own_directory(directory)?;
        let lock = lock(path)?;
        if let Ok(meta) = std::fs::symlink_metadata(path) {
            if !meta.file_type().is_socket() {
                return Err(Failure::check_text(format!("{name} is there, and is no socket"))
                    .remedy("choose another with --socket"));
            }
            if connect(new_socket()?.as_raw_fd(), &UnixAddr::new(path).step(|| format!("name {name}"))?).is_ok() {
                return Err(taken(path));
            }
            std::fs::remove_file(path).map_err(|error| failed(&format!("remove the old socket {name}"), &error))?;
        }
        let listener = new_socket()?;
        // Between bind and chmod nobody gets in either: the directory is closed to others.
        let address = UnixAddr::new(path).step(|| format!("name {name}"))?;
        bind(listener.as_raw_fd(), &address).step(|| format!("bind {name}"))?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
            .map_err(|error| failed(&format!("close {name} to others"), &error))?;
        listen(&listener, Backlog::MAXCONN).step(|| format!("listen at {name}"))?;
        Ok(Self { listener, path: path.to_owned(), _lock: lock })
    }

    /// Where connections arrive.
    pub fn listener(&self) -> &OwnedFd {
        &self.listener
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn new_socket() -> Result<OwnedFd, Failure> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    socket(AddressFamily::Unix, SockType::Stream, flags, None).step(|| "make a socket")
}

fn failed(step: &str, error: &std::io::Error) -> Failure {
    Failure::new(step, Errno::from_raw(error.raw_os_error().unwrap_or(nix::libc::EIO)))
}

fn taken(path: &Path) -> Failure {
    Failure::check_text(format!("an agent listens at {} already", path.display()))
        .remedy("stop it first, or choose another place with --socket")
}

/// Makes the directory if it is not there. Nobody else may put a socket of theirs in the place of ours.
fn own_directory(directory: &Path) -> Result<(), Failure> {
    let name = directory.display();
    let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
    made.map_err(|error| failed(&format!("make the directory {name}"), &error))?;
    let meta = std::fs::metadata(directory).map_err(|error| failed(&format!("look at {name}"), &error))?;
    if meta.uid() != Uid::effective().as_raw() || meta.mode() & 0o022 != 0 {
        return Err(Failure::check_text(format!("others can write to {name}, and put a socket of theirs there"))
            .remedy("choose a socket in a directory of your own, mode 0700"));
    }
    Ok(())
}

fn lock(path: &Path) -> Result<Flock<File>, Failure> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&name);
    let file = file.map_err(|error| failed(&format!("make {}", Path::new(&name).display()), &error))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        Errno::EWOULDBLOCK => taken(path),
        errno => Failure::new(format!("lock {}", Path::new(&name).display()), errno),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_live_socket_is_left_alone_and_a_stale_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/agent.sock");
        let first = Socket::listen(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(std::fs::metadata(path.parent().unwrap()).unwrap().mode() & 0o777, 0o700);
        let told = Socket::listen(&path).unwrap_err().to_string();
        assert!(told.contains("listens at"), "{told}");
        drop(first);
        assert!(!path.exists());

        // As after a kill -9: the name is there, and nobody listens.
        let stale = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert!(Socket::listen(&path).unwrap_err().to_string().contains("listens at"), "one without a lock");
        drop(stale);
        Socket::listen(&path).unwrap();
    }

    #[test]
    fn neither_files_nor_open_directories_are_taken() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "mine").unwrap();
        assert!(Socket::listen(&file).unwrap_err().to_string().contains("is no socket"));
        assert_eq!(std::fs::read(&file).unwrap(), b"mine");
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        assert!(Socket::listen(&dir.path().join("s")).unwrap_err().to_string().contains("others can write"));
        assert!(Socket::listen(Path::new("relative")).unwrap_err().to_string().contains("absolute"));
        assert!(Socket::listen(&Path::new("/tmp").join("x".repeat(120))).is_err());
    }
}
