//! What is kept of each container: a directory below the root, with `state.json`, the configuration as it was, the socket
//! where init waits for `start`, and that of the keeper.
//!
//! A process is known by its pid and when it began, so that one that got the number later is never signalled.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::libc;
use nix::unistd::{Pid, Uid};
use serde::{Deserialize, Serialize};
use shim::failure::{Failure, Step};

use super::cgroup::Groups;

/// How long a command waits for another one that works on the same container.
const PATIENCE: Duration = Duration::from_secs(30);

/// What `state.json` says, in the words of the specification, and what we need besides.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Record {
    pub oci_version: String,
    pub id: String,
    pub pid: i32,
    /// When that process began, in clock ticks since the machine did.
    pub began: u64,
    pub bundle: PathBuf,
    pub rootfs: PathBuf,
    pub created: String,
    pub owner: String,
    /// Its control groups.
    pub groups: Groups,
    #[serde(skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub annotations: std::collections::BTreeMap<String, String>,
}

/// A container's status as the specification has it, and `paused`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Creating,
    Created,
    Running,
    Paused,
    Stopped,
}

impl Status {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }
}

/// All containers of one root.
#[derive(Debug)]
pub struct Store(PathBuf);

/// A container's directory.
#[derive(Debug)]
pub struct Entry {
    /// The container.
    pub id: String,
    /// Its directory.
    pub path: PathBuf,
}

/// A container's directory, locked for one command.
pub type Lock = Flock<File>;

fn errno(error: &std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}

fn missing(id: &str) -> Failure {
    Failure::check_text(format!("container {id:?} does not exist"))
}

/// Engines choose ids of letters, digits and a few signs; anything else could name another directory.
pub fn check_id(id: &str) -> Result<(), Failure> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_+-.".contains(c);
    if id.is_empty() || id.len() > 1024 || id == "." || id == ".." || !id.chars().all(allowed) {
        return Err(Failure::check_text(format!(
            "invalid container id {id:?}: it takes letters, digits and the signs _ + - ."
        )));
    }
    Ok(())
}

impl Store {
    /// At `root`, or where it lies by default.
    pub fn open(root: Option<&Path>) -> Result<Self, Failure> {
        match root {
            Some(root) => {
                let whole = std::path::absolute(root).map_err(|error| errno(&error));
                Ok(Self(whole.step(|| format!("find {}", root.display()))?))
            }
            None => super::place::default_root().map(Self),
        }
    }

    /// A new container's directory, locked. Fails if there is one with this id.
    pub fn create(&self, id: &str) -> Result<(Entry, Lock), Failure> {
        check_id(id)?;
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.0)
            .map_err(|error| errno(&error))
            .step(|| format!("make {}", self.0.display()))?;
        let path = self.0.join(id);
        match fs::DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {
                return Err(Failure::check_text(format!("container with id {id:?} exists already")));
            }
            Err(error) => return Err(Failure::new(format!("make {}", path.display()), errno(&error))),
        }
        let entry = Entry { id: id.to_owned(), path };
        let lock = entry.lock()?;
        Ok((entry, lock))
    }

    /// The directory of a container that exists.
    pub fn find(&self, id: &str) -> Result<Entry, Failure> {
        check_id(id)?;
        let path = self.0.join(id);
        if path.is_dir() { Ok(Entry { id: id.to_owned(), path }) } else { Err(missing(id)) }
    }

    /// All of them, by name.
    pub fn all(&self) -> Vec<Entry> {
        let Ok(entries) = fs::read_dir(&self.0) else { return Vec::new() };
        let mut all: Vec<Entry> = entries
            .flatten()
            .filter_map(|entry| {
                let id = entry.file_name().into_string().ok()?;
                check_id(&id).ok()?;
                Some(Entry { id, path: entry.path() })
            })
            .collect();
        all.sort_by(|one, other| one.id.cmp(&other.id));
        all
    }
}

impl Entry {
    /// Waits until no other command works on this container.
    pub fn lock(&self) -> Result<Lock, Failure> {
        let step = || format!("lock container {:?}", self.id);
        let open = File::options().read(true).custom_flags(libc::O_DIRECTORY).open(&self.path);
        let mut file = match open {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(missing(&self.id)),
            other => other.map_err(|error| errno(&error)).step(step)?,
        };
        let end = Instant::now() + PATIENCE;
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => {
                    // While we waited, it may have been removed, and even made anew.
                    let same = fs::metadata(&self.path).ok().zip(lock.metadata().ok());
                    if same.is_none_or(|(here, held)| (here.dev(), here.ino()) != (held.dev(), held.ino())) {
                        return Err(missing(&self.id));
                    }
                    return Ok(lock);
                }
                Err((back, Errno::EWOULDBLOCK | Errno::EINTR)) if Instant::now() < end => {
                    file = back;
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err((_, errno)) => {
                    return Err(Failure::new(step(), errno).remedy("another command works on it; try again"));
                }
            }
        }
    }

    /// A file of it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Where init waits for `start`.
    pub fn start_socket(&self) -> PathBuf {
        self.file("start")
    }

    /// Where the keeper listens.
    pub fn keeper_socket(&self) -> PathBuf {
        self.file("keeper.sock")
    }

    /// Writes a file of it, wholly or not at all.
    pub fn write(&self, name: &str, content: &[u8]) -> Result<(), Failure> {
        let step = || format!("write {}", self.file(name).display());
        let new = self.file(&format!(".{name}.new"));
        let write = || {
            let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
            file.write_all(content)?;
            fs::rename(&new, self.file(name))
        };
        write().map_err(|error| errno(&error)).step(step)
    }

    /// Takes down what is known.
    pub fn record(&self, record: &Record) -> Result<(), Failure> {
        let text = serde_json::to_vec(record).map_err(|_| Failure::check("write state.json"))?;
        self.write("state.json", &text)
    }

    /// Reads what is known. A container whose `create` has only begun has no more than an id.
    pub fn read(&self) -> Result<Record, Failure> {
        let path = self.file("state.json");
        match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text)
                .map_err(|error| Failure::check_text(format!("{} cannot be understood: {error}", path.display()))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && self.path.is_dir() => {
                Ok(Record { id: self.id.clone(), ..Record::default() })
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(missing(&self.id)),
            Err(error) => Err(Failure::new(format!("read {}", path.display()), errno(&error))),
        }
    }

    /// How the container is. Whether it is paused, its cgroup says.
    pub fn status(&self, record: &Record) -> Status {
        if record.pid == 0 {
            return Status::Creating;
        }
        if began(Pid::from_raw(record.pid)) != Some(record.began) {
            return Status::Stopped;
        }
        if !self.file("made").exists() {
            return Status::Creating;
        }
        if self.start_socket().exists() {
            return Status::Created;
        }
        if record.groups.is_frozen() { Status::Paused } else { Status::Running }
    }

    /// Removes it. Whoever waits for the lock finds it gone.
    pub fn remove(&self) -> Result<(), Failure> {
        match fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Failure::new(format!("remove {}", self.path.display()), errno(&error)))
            }
            _ => Ok(()),
        }
    }
}

impl Record {
    /// The state as the specification has it, for hooks and for `state`.
    pub fn state(&self, status: &str, pid: i32) -> serde_json::Value {
        let mut state = serde_json::json!({
            "ociVersion": self.oci_version,
            "id": self.id,
            "status": status,
            "bundle": self.bundle,
        });
        if status != "stopped" || pid != 0 {
            state["pid"] = pid.into();
        }
        if !self.annotations.is_empty() {
            state["annotations"] = serde_json::json!(self.annotations);
        }
        state
    }

    /// The container's init, to be signalled whatever becomes of its number. `None` if it is gone.
    pub fn process(&self) -> Option<OwnedFd> {
        let pid = Pid::from_raw(self.pid);
        if self.pid == 0 || began(pid) != Some(self.began) {
            return None;
        }
        let process = shim::sys::open_process(self.pid).ok()?;
        // Still the same, now that the number cannot be given again.
        (began(pid) == Some(self.began)).then_some(process)
    }
}

/// When a process began, in clock ticks; `None` for one that is gone or has ended.
pub fn began(pid: Pid) -> Option<u64> {
    parse_began(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn parse_began(stat: &str) -> Option<u64> {
    /// `PF_EXITING`: it only waits for those of its pid namespace to be reaped.
    const EXITING: u64 = 4;
    // The name may contain anything, parentheses too.
    let rest = &stat[stat.rfind(')')? + 1..];
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    let ended = matches!(*fields.first()?, "Z" | "X" | "x") || number(6)? & EXITING != 0;
    // A first thread that has ended may have left others.
    if ended && number(17)? <= 1 { None } else { number(19) }
}

/// Sends a signal to the process behind `process`.
pub fn signal(process: &OwnedFd, signal: i32) -> Result<(), Errno> {
    shim::sys::signal_process(process.as_fd(), signal)
}

/// Now, as `created` has it.
pub fn now() -> String {
    humantime::format_rfc3339_nanos(SystemTime::now()).to_string()
}

/// The name of the user that we are, or the number.
pub fn own_name() -> String {
    let own = Uid::effective().as_raw();
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(own)).then(|| name.to_owned())
    });
    name.unwrap_or_else(|| own.to_string())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn an_id_cannot_name_another_directory() {
        for id in ["a", "0f3_+-.b", "...", "a..b"] {
            check_id(id).unwrap();
        }
        for id in ["", ".", "..", "a/b", "/", "a b", "a\nb", "ä", "a\0"] {
            assert!(check_id(id).is_err(), "{id:?}");
        }
    }

    #[test]
    fn a_name_with_parentheses_hides_nothing() {
        let stat = "7 (a) Z (b)) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 0 0";
        assert_eq!(parse_began(stat), Some(4711));
        assert_eq!(parse_began(&stat.replace(") S", ") Z")), None);
        assert_eq!(parse_began(&stat.replace("4194560", "4194564")), None, "it is exiting");
        assert_eq!(parse_began(&stat.replace(") S", ") Z").replace("20 0 1", "20 0 2")), Some(4711));
    }

    #[test]
    fn one_id_is_one_container() {
        let place = tempfile::tempdir().unwrap();
        let store = Store::open(Some(place.path())).unwrap();
        let (entry, lock) = store.create("one").unwrap();
        assert!(store.create("one").unwrap_err().to_string().contains("exists already"));
        let record = Record { id: "one".into(), pid: 1, ..Record::default() };
        entry.record(&record).unwrap();
        assert_eq!(store.find("one").unwrap().read().unwrap().pid, 1);
        assert_eq!(store.all().len(), 1);
        entry.remove().unwrap();
        drop(lock);
        assert!(store.find("one").unwrap_err().to_string().contains("does not exist"));
        assert!(entry.lock().unwrap_err().to_string().contains("does not exist"));
    }

    #[test]
    fn who_waited_for_a_removed_container_does_not_get_the_next_one() {
        let place = tempfile::tempdir().unwrap();
        let store = Store::open(Some(place.path())).unwrap();
        let (entry, lock) = store.create("one").unwrap();
        let waiting = std::thread::spawn(move || entry.lock().map(drop));
        std::thread::sleep(Duration::from_millis(50));
        store.find("one").unwrap().remove().unwrap();
        let _anew = fs::create_dir(place.path().join("one"));
        drop(lock);
        assert!(waiting.join().unwrap().unwrap_err().to_string().contains("does not exist"));
    }

    #[test]
    fn our_own_process_has_begun() {
        assert!(began(nix::unistd::getpid()).is_some());
        let record = Record { pid: nix::unistd::getpid().as_raw(), began: 1, ..Record::default() };
        assert!(record.process().is_none(), "it began at another time");
    }
}
