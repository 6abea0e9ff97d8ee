//! The `sentry` command.

use std::process::ExitCode;

use sentry::platform::notify::Notify;
use sentry::platform::ptrace::Ptrace;
use sentry::policy::Mechanism;

fn main() -> ExitCode {
    ExitCode::from(sentry::cli::main_with(std::env::args_os(), |policy| match policy.platform {
        Mechanism::Notify => sentry::monitor::run::<Notify>(&policy),
        Mechanism::Ptrace => sentry::monitor::run::<Ptrace>(&policy),
    }))
}
