//! The product with `--platform ptrace` in every run, whatever its options say.
//!
//! With `SENTRY_TEST_PLATFORM=ptrace` the tests use it in the product's place, so that all of them try that platform too.

use std::process::ExitCode;

use sentry::platform::ptrace::Ptrace;

fn main() -> ExitCode {
    ExitCode::from(sentry::cli::main_with(std::env::args_os(), |policy| sentry::monitor::run::<Ptrace>(&policy)))
}
