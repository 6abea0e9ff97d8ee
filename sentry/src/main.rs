//! The `sentry` command.

use std::process::ExitCode;

use sentry::platform::notify::Notify;

fn main() -> ExitCode {
    ExitCode::from(sentry::cli::main_with(std::env::args_os(), |policy| sentry::monitor::run::<Notify>(&policy)))
}
