//! From the runtime to a process in a container's namespaces: which are joined, which are new, and in which order.
//!
//! ```text
//! runtime ── clone ── init                          every namespace is new: one clone makes them
//! runtime ── clone ── stage ── clone(PARENT) ── init   some are joined: the stage enters them and ends
//! ```
//!
//! Init is the runtime's child in both cases, and passes to the engine's monitor when the runtime ends: who waits for the
//! pid in `--pid-file` must be able to. The runtime must be single-threaded.

use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::libc::{self, c_int};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::sys::wait::waitpid;
use nix::unistd::{Gid, Pid, Uid, setgroups, setresgid, setresuid};
use serde::{Deserialize, Serialize};

use crate::failure::{Failure, Step};
use crate::message::{receive, send};
use crate::sys;

/// From a container's process to the runtime.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum ToRuntime {
    /// A user namespace was made and wants its maps.
    Map,
    /// The stage has made the process with this pid, as the runtime numbers it.
    Made(i32),
    /// A step failed.
    Failed(Failure),
    /// Something could not be had, and was done without.
    Warning(String),
    /// The mounts are made, the old root is still there: the runtime's hooks may run.
    Hooks,
    /// The master of the container's terminal comes with this message.
    Terminal,
    /// The container's own seccomp profile is wanted.
    Profile,
    /// All is made.
    Created,
}

/// From the runtime to a container's process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum ToContainer {
    /// The maps are written.
    Mapped,
    /// It is in its cgroup, and may go on; its pid as the runtime numbers it.
    Go(i32),
    /// The runtime's hooks have run.
    HooksRan,
    /// The container's own seccomp profile comes with this message, as a program to be loaded with these flags.
    Profile(u64),
}

/// An existing namespace.
#[derive(Debug)]
pub struct Joined {
    /// `CLONE_NEW*`
    pub kind: c_int,
    /// It.
    pub namespace: OwnedFd,
    /// How messages call it.
    pub name: String,
}

/// Where a process is to live.
#[derive(Debug, Default)]
pub struct Namespaces {
    /// `CLONE_NEW*` of those to be made. The cgroup namespace is made by init itself, once it is in its cgroup.
    pub new: c_int,
    /// Those to be entered.
    pub joined: Vec<Joined>,
    /// What `/proc/self/timens_offsets` takes, for a new time namespace.
    pub offsets: Option<String>,
}

/// A process that was made.
#[derive(Debug)]
pub struct Launched {
    /// It, a child of the caller's.
    pub pid: Pid,
    /// To it.
    pub channel: OwnedFd,
}

impl Namespaces {
    fn adds(&self, kind: c_int) -> bool {
        self.new & kind != 0
    }

    /// Whether one clone(2) can make it all: a time namespace is for children only.
    fn are_all_new(&self) -> bool {
        self.joined.is_empty() && !self.adds(libc::CLONE_NEWTIME)
    }
}

/// Makes a process in `namespaces` that runs `child` with its channel to us. `map` writes the maps of a new user namespace
/// for the process with the given pid.
pub fn launch(
    namespaces: &Namespaces,
    map: &mut dyn FnMut(Pid) -> Result<(), Failure>,
    child: &dyn Fn(OwnedFd) -> i32,
) -> Result<Launched, Failure> {
    let (here, there) =
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).step(|| "make a channel")?;
    let direct = namespaces.are_all_new();
    let flags = if direct { namespaces.new & !libc::CLONE_NEWCGROUP } else { 0 };
    let Some(pid) = sys::clone(flags).step(|| "make the container's namespaces").map_err(advise)? else {
        drop(here);
        let done = if direct { own(namespaces, &there) } else { stage(namespaces, &there) };
        match done {
            Ok(true) => sys::exit_now(child(there)),
            Ok(false) => sys::exit_now(0),
            Err(failure) => {
                let _ = send(there.as_fd(), &ToRuntime::Failed(failure), None);
                sys::exit_now(1)
            }
        }
    };
    drop(there);
    let pid = Pid::from_raw(pid);
    let made = attend(namespaces, map, here.as_fd(), pid, direct);
    if !direct || made.is_err() {
        if made.is_err() {
            let _ = sys::kill(pid.as_raw(), libc::SIGKILL);
        }
        let _ = waitpid(pid, None);
    }
    Ok(Launched { pid: made?, channel: here })
}

fn advise(failure: Failure) -> Failure {
    match Errno::from_raw(failure.errno) {
        Errno::EPERM | Errno::ENOSPC => failure.remedy(
            "an ordinary user needs a user namespace in config.json, and a host that allows it; run sentry doctor",
        ),
        _ => failure,
    }
}

/// The runtime's side, until the process is there.
fn attend(
    namespaces: &Namespaces,
    map: &mut dyn FnMut(Pid) -> Result<(), Failure>,
    channel: BorrowedFd,
    first: Pid,
    direct: bool,
) -> Result<Pid, Failure> {
    if direct {
        if namespaces.adds(libc::CLONE_NEWUSER) {
            map(first)?;
            tell(channel, &ToContainer::Mapped, None)?;
        }
        return Ok(first);
    }
    loop {
        match expect(channel)?.0 {
            ToRuntime::Map => {
                map(first)?;
                tell(channel, &ToContainer::Mapped, None)?;
            }
            ToRuntime::Made(pid) => return Ok(Pid::from_raw(pid)),
            _ => return Err(Failure::check("understand the container's process")),
        }
    }
}

/// The next message of the container's process; its failure is ours.
pub fn expect(channel: BorrowedFd) -> Result<(ToRuntime, Option<OwnedFd>), Failure> {
    loop {
        match receive(channel) {
            // Reset is told once, before what is still to be read, when the other end has left something unread.
            Err(Errno::EINTR | Errno::ECONNRESET) => {}
            Ok(Some((ToRuntime::Failed(failure), _))) => return Err(failure),
            Ok(Some(message)) => return Ok(message),
            Ok(None) => {
                return Err(Failure::check_text("the container's process ended before it was made"));
            }
            Err(errno) => return Err(Failure::new("hear from the container's process", errno)),
        }
    }
}

/// Tells the container's process something. That it is gone shows, with the reason, when it is listened to.
pub fn tell(channel: BorrowedFd, message: &ToContainer, file: Option<BorrowedFd>) -> Result<(), Failure> {
    match send(channel, message, file) {
        Err(Errno::EPIPE | Errno::ECONNRESET) => Ok(()),
        other => other.step(|| "tell the container's process to go on"),
    }
}

/// Waits for a message of the runtime of which `wanted` makes something.
pub fn await_runtime<T>(
    channel: BorrowedFd,
    wanted: impl Fn(ToContainer, Option<OwnedFd>) -> Option<T>,
) -> Result<T, Failure> {
    loop {
        match receive(channel) {
            Err(Errno::EINTR) => {}
            Ok(Some((message, file))) => {
                if let Some(found) = wanted(message, file) {
                    return Ok(found);
                }
                return Err(Failure::check("understand the runtime"));
            }
            // It has told why itself.
            Ok(None) => return Err(Failure::check("go on without the runtime")),
            Err(errno) => return Err(Failure::new("hear from the runtime", errno)),
        }
    }
}

fn await_maps(channel: BorrowedFd) -> Result<(), Failure> {
    await_runtime(channel, |message, _| matches!(message, ToContainer::Mapped).then_some(()))?;
    become_root();
    Ok(())
}

/// Becomes the namespace's root. Where it has none, or the groups cannot be changed (`setgroups` denied), the process
/// stays who it is: it has all capabilities there anyway.
fn become_root() {
    let _ = setgroups(&[]);
    let _ = setresgid(Gid::from_raw(0), Gid::from_raw(0), Gid::from_raw(0));
    let _ = setresuid(Uid::from_raw(0), Uid::from_raw(0), Uid::from_raw(0));
}

/// Init's beginning when clone has made all namespaces.
fn own(namespaces: &Namespaces, channel: &OwnedFd) -> Result<bool, Failure> {
    if namespaces.adds(libc::CLONE_NEWUSER) {
        await_maps(channel.as_fd())?;
    }
    Ok(true)
}

/// Enters and makes namespaces, and clones init beside us. `true` in init.
fn stage(namespaces: &Namespaces, channel: &OwnedFd) -> Result<bool, Failure> {
    let users = namespaces.joined.iter().find(|joined| joined.kind == libc::CLONE_NEWUSER);
    let mut left: Vec<&Joined> = namespaces.joined.iter().filter(|joined| joined.kind != libc::CLONE_NEWUSER).collect();
    if users.is_some() || namespaces.adds(libc::CLONE_NEWUSER) {
        // Namespaces that belong to a user namespace above can only be entered from there, others only from below.
        left.retain(|joined| sys::join(joined.namespace.as_fd()).is_err());
    }
    if let Some(users) = users {
        enter(users)?;
        become_root();
    }
    if namespaces.adds(libc::CLONE_NEWUSER) {
        sys::unshare(libc::CLONE_NEWUSER).step(|| "make a user namespace").map_err(advise)?;
        send(channel.as_fd(), &ToRuntime::Map, None).step(|| "have the user namespace mapped")?;
        await_maps(channel.as_fd())?;
    }
    for joined in left {
        enter(joined)?;
    }
    let rest = namespaces.new & !(libc::CLONE_NEWUSER | libc::CLONE_NEWCGROUP);
    if rest != 0 {
        sys::unshare(rest).step(|| "make the container's namespaces").map_err(advise)?;
    }
    if let Some(offsets) = &namespaces.offsets {
        let open = std::fs::OpenOptions::new().write(true).open("/proc/self/timens_offsets");
        open.and_then(|mut file| file.write_all(offsets.as_bytes()))
            .map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))
            .step(|| "set linux.timeOffsets")?;
    }
    match sys::clone(libc::CLONE_PARENT).step(|| "make the container's first process")? {
        Some(pid) => {
            send(channel.as_fd(), &ToRuntime::Made(pid), None).step(|| "tell the container's process")?;
            Ok(false)
        }
        None => Ok(true),
    }
}

fn enter(joined: &Joined) -> Result<(), Failure> {
    match sys::join(joined.namespace.as_fd()) {
        // One's own user namespace cannot be entered again, and need not.
        Err(Errno::EINVAL) if joined.kind == libc::CLONE_NEWUSER => Ok(()),
        other => other.step(|| format!("enter the namespace {}", joined.name)),
    }
}
