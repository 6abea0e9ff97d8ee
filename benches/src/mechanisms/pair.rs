//! The process that is measured, and the one that serves it.

use std::io;
use std::os::fd::OwnedFd;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::unistd::{ForkResult, Pid, getpid};

use super::sys;

/// Which processors the two run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seats {
    /// Both on the same.
    One,
    /// Each on its own.
    Two,
    /// Wherever the kernel likes.
    Free,
}

impl Seats {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::One, Self::Two, Self::Free];

    /// As it stands in names of subjects.
    pub fn words(self) -> &'static str {
        match self {
            Self::One => "one CPU",
            Self::Two => "two CPUs",
            Self::Free => "unpinned",
        }
    }

    /// Why it cannot be had here.
    pub fn missing(self) -> Option<String> {
        (self == Self::Two && processors().len() < 2).then(|| "there is one CPU only".to_owned())
    }

    /// How many operations make a sample, where so many make one on a single CPU: waking another CPU may take long.
    pub fn times(self, times: u64) -> u64 {
        if self == Self::Two { times / 8 } else { times }
    }

    /// Takes the seat of who is measured.
    pub fn guest(self) -> io::Result<()> {
        match self {
            Self::Free => Ok(()),
            Self::One | Self::Two => pin(0),
        }
    }

    /// Takes the seat of who serves.
    pub fn server(self) -> io::Result<()> {
        match self {
            Self::Free => Ok(()),
            Self::One => pin(0),
            Self::Two => pin(1),
        }
    }
}

/// The processors that we may use.
pub fn processors() -> Vec<usize> {
    let Ok(set) = sched_getaffinity(Pid::from_raw(0)) else { return vec![0] };
    (0..CpuSet::count()).filter(|cpu| set.is_set(*cpu) == Ok(true)).collect()
}

/// Binds the calling thread to one of those, by its place in the list.
pub fn pin(place: usize) -> io::Result<()> {
    let all = processors();
    let cpu = all.get(place).ok_or_else(|| io::Error::other("there are not as many CPUs"))?;
    let mut set = CpuSet::new();
    set.set(*cpu)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
}

/// Forks a process that serves, until its whole group is killed at the end of the sample. Both ends of a channel between
/// the two are given: here and there. The calling process is the one to be measured, whose number the server is told.
pub fn serve(server: impl FnOnce(Pid, OwnedFd) -> io::Result<()>) -> io::Result<OwnedFd> {
    let (here, there) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
    let guest = getpid();
    sys::let_children_trace();
    match sys::fork()? {
        ForkResult::Parent { .. } => Ok(here),
        ForkResult::Child => {
            drop(here);
            sys::die_with_parent();
            let _ = server(guest, there);
            sys::exit_now()
        }
    }
}
