//! How trapped calls reach the supervisor, and how answers go back.
//!
//! Handlers and the supervise loop know only [`Platform`]. The default one is seccomp user notification.

pub mod notify;
#[allow(unsafe_code)]
mod sys;

use std::os::fd::{BorrowedFd, OwnedFd};

use nix::errno::Errno;
use syscalls::reply::Response;

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
pub trait Platform: Send + Sync + 'static {
    /// Takes over the descriptor that the guest's filter came with.
    fn new(listener: OwnedFd) -> Result<Self, Errno>
    where
        Self: Sized;

    /// What can be polled for the first call: until it comes no thread has to wait for one. `None`: there is no such thing.
    fn bell(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Waits for the next call. `None`: no guest is left that could make one.
    fn receive(&self) -> Result<Option<Notification>, Errno>;

    /// Whether the call is still pending: its thread has not been killed, so its id means what it meant.
    fn valid(&self, id: u64) -> bool;

    /// Answers. `ENOENT` if the caller is gone; every other failure has already been turned into an errno for the guest.
    fn respond(&self, id: u64, response: Response) -> Result<(), Errno>;
}
