//! The guest of the measurements: `micro QUESTION TIMES DIRECTORY` prints nanoseconds per operation.
//!
//! `micro nothing` ends at once, `micro sleep` waits to be weighed, `micro start TIMES COMMAND...` times a command.

use std::ffi::OsString;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use sentry_benches::questions::{Granted, Method, named, startup};

fn answer(arguments: &[OsString]) -> std::io::Result<f64> {
    let usage =
        || std::io::Error::other("usage: micro QUESTION TIMES DIRECTORY | start TIMES COMMAND... | nothing | sleep");
    let times = arguments.get(1).and_then(|times| times.to_str()?.parse().ok()).ok_or_else(usage)?;
    if arguments[0] == "start" {
        return startup::time(&arguments[2..], times);
    }
    let question = arguments[0].to_str().and_then(named).ok_or_else(usage)?;
    let granted = Granted::new(Path::new(arguments.get(2).ok_or_else(usage)?));
    match question.method {
        Method::Inside(ask) => ask(&granted, times),
        Method::Around | Method::Weigh => Err(usage()),
    }
}

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    match arguments.first().and_then(|first| first.to_str()) {
        Some("nothing") => return ExitCode::SUCCESS,
        Some("sleep") => {
            std::thread::sleep(std::time::Duration::from_secs(30));
            return ExitCode::SUCCESS;
        }
        _ => {}
    }
    match answer(&arguments) {
        Ok(nanoseconds) => {
            let _ = writeln!(std::io::stdout(), "{nanoseconds}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "micro: {error}");
            ExitCode::FAILURE
        }
    }
}
