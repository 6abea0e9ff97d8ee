//! The product with ring 2 taken away: every notification is answered CONTINUE.
//!
//! Ring 1 alone must contain everything (rule 1 of the architecture), so the escape tests run under this as well. It is a
//! program of the tests; nothing like it is in the shipped binary.

use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;

use nix::errno::Errno;
use sentry::platform::{Listener, Notification};
use sentry_tests::listener;
use syscalls::reply::Response;

/// Answers before anybody could ask.
struct AlwaysContinue(OwnedFd);

impl Listener for AlwaysContinue {
    fn new(listener: OwnedFd) -> Result<Self, Errno> {
        Ok(Self(listener))
    }

    fn receive(&self) -> Result<Option<Notification>, Errno> {
        loop {
            match listener::receive(self.0.as_fd()) {
                Ok(id) => drop(listener::let_it_run(self.0.as_fd(), id)),
                Err(Errno::EINTR) => {}
                Err(Errno::ENOENT) if !listener::is_hung_up(self.0.as_fd()) => {}
                Err(_) => return Ok(None),
            }
        }
    }

    fn valid(&self, _id: u64) -> bool {
        false
    }

    fn respond(&self, _id: u64, _response: Response) -> Result<(), Errno> {
        Err(Errno::ENOENT)
    }
}

fn main() -> ExitCode {
    ExitCode::from(sentry::cli::main_with(std::env::args_os(), |policy| {
        sentry::monitor::run::<AlwaysContinue>(&policy)
    }))
}
