//! The guest of the measurements. It prints a line an answer: a name, numbers, and the proof, or why it failed.
//!
//! `micro answer TOKEN DIRECTORY quick|full QUESTION...` answers questions inside; `micro greet TOKEN` proves that it runs;
//! `micro nothing [TOKEN]` ends at once, with the proof as its exit code; `micro sleep TOKEN` proves that it runs and waits to
//! be weighed; `micro start TIMES quick|full TOKEN COMMAND...` times starts of a command, and `micro crowd COUNT ...` many at
//! once.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use sentry_benches::proof::Token;
use sentry_benches::questions::{Granted, Method, crowd, named, startup};
use sentry_benches::sitting::GREETING;

fn usage() -> io::Error {
    io::Error::other(
        "usage: micro answer TOKEN DIRECTORY quick|full QUESTION... | greet TOKEN | nothing [TOKEN] | sleep TOKEN\n       \
         micro start TIMES quick|full TOKEN COMMAND... | crowd COUNT quick|full TOKEN COMMAND...",
    )
}

fn parsed<T: std::str::FromStr>(argument: Option<&OsString>) -> io::Result<T> {
    argument.and_then(|argument| argument.to_str()?.parse().ok()).ok_or_else(usage)
}

fn is_quick(argument: Option<&OsString>) -> io::Result<bool> {
    match argument.and_then(|argument| argument.to_str()) {
        Some("quick") => Ok(true),
        Some("full") => Ok(false),
        _ => Err(usage()),
    }
}

/// Says one answer. Each is written out at once, so that those before a crash are known.
fn say(name: &str, token: Token, answer: io::Result<Vec<f64>>) -> io::Result<()> {
    match answer {
        Ok(values) => {
            let values: String = values.iter().map(|value| format!("{value} ")).collect();
            writeln!(io::stdout(), "{name} {values}{}", token.word(name))
        }
        Err(error) => writeln!(io::stdout(), "{name} failed: {}", error.to_string().replace('\n', "; ")),
    }
}

fn answer(arguments: &[OsString]) -> io::Result<()> {
    let [token, directory, form, names @ ..] = arguments else { return Err(usage()) };
    let (token, quick) = (parsed::<Token>(Some(token))?, is_quick(Some(form))?);
    let granted = Granted::new(Path::new(directory));
    say(GREETING, token, Ok(Vec::new()))?;
    for name in names {
        let question = name.to_str().and_then(named).ok_or_else(usage)?;
        let (Method::Call(ask) | Method::Program(ask)) = question.method else { return Err(usage()) };
        let value = ask(&granted, question.stint(quick)).map(|value| vec![value]);
        say(question.name, token, value)?;
    }
    Ok(())
}

fn start(arguments: &[OsString]) -> io::Result<()> {
    let [times, form, token, command @ ..] = arguments else { return Err(usage()) };
    let mut stint = named("startup").ok_or_else(usage)?.stint(is_quick(Some(form))?);
    stint.most = parsed(Some(times))?;
    let token = parsed(Some(token))?;
    say("start", token, startup::time(command, stint, token).map(|value| vec![value]))
}

fn crowd(arguments: &[OsString]) -> io::Result<()> {
    let [count, form, token, command @ ..] = arguments else { return Err(usage()) };
    is_quick(Some(form))?;
    let token = parsed(Some(token))?;
    say("crowd", token, crowd::run(command, parsed(Some(count))?, token).map(|(time, processor)| vec![time, processor]))
}

fn run(arguments: &[OsString]) -> io::Result<ExitCode> {
    let (verb, rest) = arguments.split_first().ok_or_else(usage)?;
    match verb.to_str().ok_or_else(usage)? {
        "nothing" if rest.is_empty() => return Ok(ExitCode::SUCCESS),
        "nothing" => return Ok(parsed::<Token>(rest.first())?.exit_code().into()),
        "greet" => say(GREETING, parsed(rest.first())?, Ok(Vec::new()))?,
        // As long as the containers of a study are needed; killed with them.
        "linger" => std::thread::sleep(std::time::Duration::from_secs(1800)),
        "sleep" => {
            say("sleep", parsed(rest.first())?, Ok(Vec::new()))?;
            std::thread::sleep(std::time::Duration::from_secs(30));
        }
        "answer" => answer(rest)?,
        "start" => start(rest)?,
        "crowd" => crowd(rest)?,
        _ => return Err(usage()),
    }
    Ok(ExitCode::SUCCESS)
}

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    run(&arguments).unwrap_or_else(|error| {
        let _ = writeln!(io::stderr(), "micro: {error}");
        ExitCode::FAILURE
    })
}
