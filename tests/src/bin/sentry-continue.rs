//! The product with ring 2 taken away: every notification is answered CONTINUE.
//!
//! Ring 1 alone must contain everything (rule 1 of the architecture), so the escape tests run under this as well. It is a
//! program of the tests; nothing like it is in the shipped binary.

use std::process::ExitCode;

use sentry_tests::listener::AlwaysContinue;

fn main() -> ExitCode {
    ExitCode::from(sentry::cli::main_with(std::env::args_os(), |policy| {
        sentry::monitor::run::<AlwaysContinue>(&policy)
    }))
}
