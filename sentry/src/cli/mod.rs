//! The command line: one file a verb, whose doc comments are its help.

mod bubblewrap;
mod completions;
pub mod doctor;
mod man;
mod run;
mod syscalls;

use std::ffi::{OsStr, OsString};
use std::io::Write;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};

use crate::policy::Policy;

/// Exit code when there was no sandbox: bad usage, or it could not be built.
pub const FAILED: u8 = 125;

const EXAMPLES: &str = "\
Examples:
  sentry run -- ./build.sh                  changes to files stay in a copy, no network
  sentry run --write . -- make              let it change the current directory
  sentry run --read ~/data -- python3 x.py  show it one more directory
  sentry run --memory 512M --timeout 10s -- ./a.out
  sentry run --trace denied -- npm test     show what it looked for and did not find
  sentry doctor                             what this machine can enforce";

/// Run code you do not trust.
///
/// The program sees the system directories, a copy of the current directory, and nothing else of yours: no home
/// directory, no network, no other processes. Grant it more with options.
#[derive(Debug, Parser)]
#[command(name = "sentry", version, after_help = EXAMPLES, max_term_width = 100, subcommand_required = true)]
#[command(arg_required_else_help = true, disable_help_subcommand = true)]
pub struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Run(Box<run::Run>),
    /// Say what this machine can enforce, and the command that fixes what it cannot.
    Doctor,
    Syscalls(syscalls::Syscalls),
    Completions(completions::Completions),
    #[command(hide = true)]
    Man(man::Man),
}

/// Runs the command line `args`, whose first item is the program's own name; `run` is what carries a policy out.
/// Returns the exit code.
pub fn main_with(args: impl IntoIterator<Item = OsString>, run: impl FnOnce(Policy) -> u8) -> u8 {
    start_log();
    let args = with_verb(args.into_iter().collect());
    let cli = match Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(error) => return explain(&error, &args),
    };
    let result = match cli.verb {
        Verb::Run(options) => options.policy().map(run),
        Verb::Doctor => Ok(doctor::run()),
        Verb::Syscalls(verb) => verb.run(),
        Verb::Completions(verb) => verb.run(),
        Verb::Man(verb) => verb.run(),
    };
    result.unwrap_or_else(|error| {
        let _ = writeln!(std::io::stderr(), "sentry: {}", one_line(&error));
        FAILED
    })
}

/// `SENTRY_LOG=debug` shows what sentry itself does.
fn start_log() {
    if let Ok(filter) = std::env::var("SENTRY_LOG") {
        let filter = tracing_subscriber::EnvFilter::new(filter);
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).try_init();
    }
}

/// `sentry -- CMD` is short for `sentry run -- CMD`.
fn with_verb(mut args: Vec<OsString>) -> Vec<OsString> {
    if args.get(1).is_some_and(|first| first == "--") {
        args.insert(1, "run".into());
    }
    args
}

/// Prints what clap has to say; help and version are no errors.
fn explain(error: &clap::Error, args: &[OsString]) -> u8 {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        let _ = error.print();
        return 0;
    }
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let _ = error.print();
        return FAILED;
    }
    let run = args.get(1).is_some_and(|verb| verb == "run");
    if run && error.kind() == ErrorKind::UnknownArgument && !args.iter().any(|arg| arg == "--") {
        // The command must stand apart, or its own options could be taken for ours (CVE-2024-32462).
        if let Some(command) = unexpected(error).filter(|text| !text.starts_with('-')) {
            let _ = writeln!(
                std::io::stderr(),
                "sentry: the command must come after '--'; write sentry run [OPTION]... -- {command} ..."
            );
            return FAILED;
        }
    }
    // clap explains in paragraphs; the first says it, and usage would push it off the screen.
    let text = error.render().to_string();
    let lines = text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:"));
    let parts: Vec<&str> = lines.filter(|line| !line.is_empty()).collect();
    let text = parts.join("; ").replacen("error: ", "", 1).replace("; tip: ", "; ");
    let _ = writeln!(std::io::stderr(), "sentry: {text}; sentry {} --help lists the options", verb_name(args));
    FAILED
}

fn verb_name(args: &[OsString]) -> String {
    let known = Cli::command().get_subcommands().map(|verb| verb.get_name().to_owned()).collect::<Vec<_>>();
    let name = args.get(1).and_then(|verb| verb.to_str()).filter(|verb| known.iter().any(|one| one == verb));
    name.unwrap_or("").to_owned()
}

fn unexpected(error: &clap::Error) -> Option<String> {
    use clap::error::{ContextKind, ContextValue};
    match error.get(ContextKind::InvalidArg)? {
        ContextValue::String(text) => Some(text.clone()),
        _ => None,
    }
}

/// An error and its causes on one line; a caret under a line of a policy file needs several, and keeps them.
fn one_line(error: &anyhow::Error) -> String {
    let text = format!("{error:#}");
    if text.contains('^') { text } else { text.replace('\n', " ") }
}

/// What went wrong with a file, in the field's words and without the number.
pub fn reason(error: &std::io::Error) -> String {
    match error.raw_os_error() {
        Some(code) => nix::errno::Errno::from_raw(code).desc().to_lowercase(),
        None => error.to_string(),
    }
}

/// Names that begin with a digit are descriptors: `--json 3`.
fn sink(text: &OsStr) -> crate::policy::Sink {
    let number = text.to_str().filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()));
    match number.and_then(|text| text.parse().ok()) {
        Some(number) => crate::policy::Sink::Descriptor(number),
        None => crate::policy::Sink::File(text.into()),
    }
}

#[cfg(test)]
mod tests;
