//! What the host says of a container's process: where it lives, and what its engine calls the container.
//!
//! The runtime's word for a process is its number. It is pinned before it is looked at, and whatever is opened counts only if it is
//! still there afterwards.

use std::fs::{self, OpenOptions};
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::Deserialize;
use shim::sys;

use crate::agent::Container;
use crate::agent::protocol::State;
use crate::agent::supervisor::Place;

/// How far from the runtime its engine's monitor may be.
const GENERATIONS: usize = 4;

/// A process that is looked at.
#[derive(Debug)]
pub struct Process {
    pid: i32,
    /// Pins the number.
    handle: OwnedFd,
}

/// Which mount namespace it is.
pub type Mounts = (u64, u64);

impl Process {
    /// The process with this number.
    pub fn find(pid: i32) -> Result<Self, Errno> {
        Ok(Self { pid, handle: sys::open_process(pid)? })
    }

    fn file(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{name}", self.pid))
    }

    /// Whether it has not ended.
    pub fn lives(&self) -> bool {
        let mut ended = [PollFd::new(self.handle.as_fd(), PollFlags::POLLIN)];
        matches!(poll(&mut ended, PollTimeout::ZERO), Ok(0))
    }

    /// Its mount namespace. `EACCES` while it may not be looked at, as runtimes are until they have become the program.
    pub fn mounts(&self) -> Result<Mounts, Errno> {
        let meta = fs::metadata(self.file("ns/mnt")).map_err(errno)?;
        if self.lives() { Ok((meta.dev(), meta.ino())) } else { Err(Errno::ESRCH) }
    }

    /// Where it lives.
    pub fn place(&self) -> Result<Place, Errno> {
        let open = |name: &str, flags: i32| {
            let path = std::ffi::CString::new(self.file(name).into_os_string().into_encoded_bytes());
            sys::open_at(None, &path.map_err(|_| Errno::EINVAL)?, flags | libc::O_CLOEXEC, 0, 0)
        };
        let place = Place {
            users: open("ns/user", libc::O_RDONLY)?,
            mounts: open("ns/mnt", libc::O_RDONLY)?,
            root: open("root", libc::O_PATH | libc::O_DIRECTORY)?,
            init: self.handle.try_clone().map_err(|_| Errno::EMFILE)?,
        };
        if self.lives() { Ok(place) } else { Err(Errno::ESRCH) }
    }

    /// Whether it shares our pid namespace.
    fn shares_our_pids(&self) -> bool {
        let namespace = |path: &Path| fs::metadata(path).map(|meta| (meta.dev(), meta.ino())).ok();
        namespace(&self.file("ns/pid")) == namespace(Path::new("/proc/self/ns/pid"))
    }
}

fn errno(error: std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}

fn status(pid: i32, key: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    text.lines().find_map(|line| line.strip_prefix(key)).map(|value| value.trim().to_owned())
}

/// What is known of the container that `process` is the first of. `told` is the name that its runtime's parent knew.
pub fn container(state: &State, process: &Process, told: Option<String>) -> Container {
    let config = Config::read(&state.bundle);
    Container {
        id: state.id.clone(),
        // A runtime that has ended leaves the process to the same parent.
        name: name(state).or(told).or_else(|| told_to_conmon(process.pid)),
        bundle: state.bundle.clone(),
        annotations: state.annotations.clone(),
        rootfs: state.bundle.join(&config.root.path),
        shares_pids: process.shares_our_pids(),
        // Without a limit it is what the host has.
        memory: Some(config.memory().unwrap_or(u64::MAX)),
        // The profile does not know, and leaves these to us.
        own_name: false,
        real_root: false,
        makes_devices: false,
        made_elsewhere: true,
    }
}

/// The name, where the engine writes it into the container's annotations.
fn name(state: &State) -> Option<String> {
    const KEYS: [&str; 3] = ["io.kubernetes.cri-o.ContainerName", "io.kubernetes.cri.container-name", "nerdctl/name"];
    KEYS.iter().find_map(|key| state.annotations.get(*key)).filter(|name| !name.is_empty()).cloned()
}

/// The name that podman gave its monitor of the container, which is the parent of the runtime `pid`: podman writes it nowhere else
/// that the runtime passes on.
pub fn told_to_conmon(mut pid: i32) -> Option<String> {
    for _ in 0..GENERATIONS {
        pid = status(pid, "PPid:")?.parse().ok().filter(|parent| *parent > 1)?;
        if status(pid, "Name:")? == "conmon" {
            let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
            let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
            let at = words.iter().position(|word| *word == b"-n" || *word == b"--name")?;
            return words.get(at + 1).map(|name| String::from_utf8_lossy(name).into_owned());
        }
    }
    None
}

/// What matters of a container's `config.json`. It may be wrong or missing: nothing of security hangs on it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Config {
    root: Root,
    linux: Linux,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Root {
    path: PathBuf,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Linux {
    resources: Resources,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Resources {
    memory: Memory,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Memory {
    limit: i64,
}

impl Config {
    fn read(bundle: &Path) -> Self {
        const LARGEST: u64 = 4 << 20;
        // A FIFO must not stop us.
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(bundle.join("config.json")).ok();
        let file = file.filter(|file| file.metadata().is_ok_and(|meta| meta.is_file()));
        let text = file.map(|file| std::io::read_to_string(file.take(LARGEST)).unwrap_or_default());
        serde_json::from_str(&text.unwrap_or_default()).unwrap_or_default()
    }

    fn memory(&self) -> Option<u64> {
        u64::try_from(self.linux.resources.memory.limit).ok().filter(|limit| *limit > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_tells_root_and_memory_if_it_can_be_read() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Config::read(dir.path()).memory(), None);
        let write = |text: &str| fs::write(dir.path().join("config.json"), text).unwrap();
        write(
            r#"{"root":{"path":"rootfs","readonly":true},"linux":{"resources":{"memory":{"limit":1048576}}},"x":[]}"#,
        );
        let config = Config::read(dir.path());
        assert_eq!((config.root.path.as_path(), config.memory()), (Path::new("rootfs"), Some(1 << 20)));
        write(r#"{"linux":{"resources":{"memory":{"limit":-1}}}}"#);
        assert_eq!(Config::read(dir.path()).memory(), None);
        write("[");
        assert_eq!(Config::read(dir.path()).memory(), None);
    }

    #[test]
    fn processes_are_pinned() {
        let own = Process::find(i32::try_from(std::process::id()).unwrap()).unwrap();
        assert!(own.lives() && own.shares_our_pids());
        let mounts = fs::metadata("/proc/self/ns/mnt").unwrap();
        assert_eq!(own.mounts().unwrap(), (mounts.dev(), mounts.ino()));
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let process = Process::find(i32::try_from(child.id()).unwrap()).unwrap();
        child.wait().unwrap();
        assert!(!process.lives());
        assert!(process.place().is_err() && process.mounts().is_err());
    }
}
