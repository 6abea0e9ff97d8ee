//! How trapped calls reach the supervisor, and how answers go back.
//!
//! Handlers and the supervise loop know only [`Platform`]. The default one is seccomp user notification; where no listener can be
//! had, [`ptrace`] drives the same handlers.

pub mod notify;
pub mod ptrace;
#[allow(unsafe_code)]
mod sys;

use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use nix::errno::Errno;
use shim::failure::{Failure, Step};
use syscalls::reply::Response;

use crate::supervise::{Shared, pool, receive, tracer};

/// One trapped call.
#[derive(Clone, Copy, Debug)]
pub struct Notification {
    /// What the answer must carry.
    pub id: u64,
    /// The calling thread, in the supervisor's pid namespace; 0 if it is already gone.
    pub tid: i32,
    /// The syscall's number.
    pub number: i32,
    /// Its six argument registers.
    pub registers: [u64; 6],
    /// The address behind the instruction that made it.
    pub instruction_pointer: u64,
}

/// A source of trapped calls.
pub trait Platform: Sized + Send + Sync + 'static {
    /// Whether every process of the guest is traced.
    const TRACES: bool;

    /// How many numbers must be free in a guest's table for it to be given one descriptor.
    const FREE_NUMBERS: u64;

    /// Waits for what the guest's process sends just before it runs the program. `None`: it never came to that. `proc` is the
    /// supervisor's private procfs.
    fn receive_guest(channel: OwnedFd, proc: BorrowedFd) -> Result<Option<Self>, Failure>;

    /// What can be polled for the first call: until it comes no thread has to wait for one. `None`: there is no such thing.
    fn first_call(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Starts the threads that answer. `init` is the guest's.
    fn serve(shared: Arc<Shared<Self>>, init: i32) -> Result<(), Failure>;

    /// Whether the call is still pending: its thread has not been killed, so its id means what it meant.
    fn valid(&self, id: u64) -> bool;
}

/// A platform that any thread may ask for calls and give answers to.
pub trait Listener: Send + Sync + 'static {
    /// Takes over the descriptor that the guest's filter came with.
    fn new(listener: OwnedFd) -> Result<Self, Errno>
    where
        Self: Sized;

    /// Readable when there is a call.
    fn bell(&self) -> BorrowedFd<'_>;

    /// Waits for the next call. `None`: no guest is left that could make one.
    fn receive(&self) -> Result<Option<Notification>, Errno>;

    /// Whether the call is still pending.
    fn valid(&self, id: u64) -> bool;

    /// Answers. `ENOENT` if the caller is gone; every other failure has already been turned into an errno for the guest.
    fn respond(&self, id: u64, response: Response) -> Result<(), Errno>;
}

impl<L: Listener> Platform for L {
    const TRACES: bool = false;
    const FREE_NUMBERS: u64 = 1;

    fn receive_guest(channel: OwnedFd, _proc: BorrowedFd) -> Result<Option<Self>, Failure> {
        let listener = receive(&channel, *b"L", || "receive the guest's listener")?;
        listener.map(|listener| L::new(listener).step(|| "set up the listener")).transpose()
    }

    fn first_call(&self) -> Option<BorrowedFd<'_>> {
        Some(self.bell())
    }

    fn serve(shared: Arc<Shared<Self>>, init: i32) -> Result<(), Failure> {
        if shared.clock.is_some() {
            tracer::start(Arc::clone(&shared.world), Some(init)).step(|| "start the thread that patches programs")?;
        }
        pool::Pool::start(shared).step(|| "start the supervisor's threads").map(drop)
    }

    fn valid(&self, id: u64) -> bool {
        Listener::valid(self, id)
    }
}
