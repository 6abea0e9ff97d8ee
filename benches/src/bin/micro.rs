//! The guest of the measurements: `micro QUESTION TIMES TOKEN DIRECTORY` prints nanoseconds per operation and the proof.
//!
//! `micro nothing [TOKEN]` ends at once, with the proof as its exit code; `micro sleep TOKEN` proves that it runs and waits to
//! be weighed; `micro start TIMES TOKEN COMMAND...` times a command.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use sentry_benches::proof::Token;
use sentry_benches::questions::{Granted, Method, named, startup};

fn usage() -> io::Error {
    io::Error::other(
        "usage: micro QUESTION TIMES TOKEN DIRECTORY | start TIMES TOKEN COMMAND... | nothing [TOKEN] | sleep TOKEN",
    )
}

fn parsed<T: std::str::FromStr>(argument: Option<&OsString>) -> io::Result<T> {
    argument.and_then(|argument| argument.to_str()?.parse().ok()).ok_or_else(usage)
}

fn answer(name: &str, arguments: &[OsString]) -> io::Result<(f64, String)> {
    let (times, token) = (parsed(arguments.first())?, parsed::<Token>(arguments.get(1))?);
    let proof = |name| token.word(name);
    if name == "start" {
        return Ok((startup::time(&arguments[2..], times, token)?, proof("startup")));
    }
    let question = named(name).ok_or_else(usage)?;
    let granted = Granted::new(Path::new(arguments.get(2).ok_or_else(usage)?));
    match question.method {
        Method::Inside(ask) => Ok((ask(&granted, times)?, proof(question.name))),
        Method::Around | Method::Weigh => Err(usage()),
    }
}

fn run(arguments: &[OsString]) -> io::Result<ExitCode> {
    let (name, rest) = arguments.split_first().ok_or_else(usage)?;
    match name.to_str().ok_or_else(usage)? {
        "nothing" if rest.is_empty() => Ok(ExitCode::SUCCESS),
        "nothing" => Ok(parsed::<Token>(rest.first())?.exit_code().into()),
        "sleep" => {
            writeln!(io::stdout(), "{}", parsed::<Token>(rest.first())?.word("sleep"))?;
            std::thread::sleep(std::time::Duration::from_secs(30));
            Ok(ExitCode::SUCCESS)
        }
        name => {
            let (nanoseconds, proof) = answer(name, rest)?;
            writeln!(io::stdout(), "{nanoseconds} {proof}")?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    run(&arguments).unwrap_or_else(|error| {
        let _ = writeln!(io::stderr(), "micro: {error}");
        ExitCode::FAILURE
    })
}
