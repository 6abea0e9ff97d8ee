//! The product with a delay planted into one handler: each `openat` that the supervisor answers takes 5 us longer.
//!
//! The benchmark's `compare` must catch it (`make hold-bench`). The time is spent, not slept, for a sleep is never so short.

use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use sentry::platform::notify::Notify;
use sentry::platform::{Listener, Notification};
use syscalls::reply::Response;

/// What is planted.
const DELAY: Duration = Duration::from_micros(5);

/// The default platform, slower at one call.
struct Delayed(Notify);

impl Listener for Delayed {
    fn new(listener: OwnedFd) -> Result<Self, Errno> {
        Notify::new(listener).map(Self)
    }

    fn receive(&self) -> Result<Option<Notification>, Errno> {
        let received = self.0.receive()?;
        if received.is_some_and(|call| libc::c_long::from(call.number) == libc::SYS_openat) {
            let until = Instant::now() + DELAY;
            while Instant::now() < until {
                std::hint::spin_loop();
            }
        }
        Ok(received)
    }

    fn valid(&self, id: u64) -> bool {
        self.0.valid(id)
    }

    fn respond(&self, id: u64, response: Response) -> Result<(), Errno> {
        self.0.respond(id, response)
    }
}

fn main() -> ExitCode {
    ExitCode::from(sentry::cli::main_with(std::env::args_os(), |policy| sentry::monitor::run::<Delayed>(&policy)))
}
