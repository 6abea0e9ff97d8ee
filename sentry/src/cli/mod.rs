//! The command line: options in, one [`Policy`] out; or a page of text.
//!
//! One file a verb, and its doc comments are its help. A program can only be named after `--`: whatever comes before is
//! ours, and whatever comes after is never taken for an option.

use std::ffi::OsString;
use std::io::Write;

use clap::{CommandFactory, Parser, Subcommand};

use crate::policy::Policy;

pub mod agent;
pub mod bench;
mod bubblewrap;
pub mod commit;
pub mod completions;
pub mod diff;
pub mod discard;
pub mod doctor;
pub mod explain;
mod kept;
pub mod man;
mod mistake;
pub mod options;
pub mod policy;
pub mod ps;
pub mod run;
pub mod syscalls;

/// The exit code when the sandbox could not be built, wrong options included. 1 and 2 belong to programs.
pub const FAILED: u8 = 125;

const ABOUT: &str = "\
Run code you do not trust.

The program sees the system directories, a copy of the current directory that it may change, and an
empty home directory. It has no network, none of your secrets and no privileges. What it changed and
what it was refused is told at the end.";

const USAGE: &str =
    "sentry run [OPTIONS] -- COMMAND [ARG]...\n       sentry [OPTIONS] -- COMMAND [ARG]...\n       sentry VERB";

const EXAMPLES: &str = "\
Examples:
  sentry run -- python3 script.py          your files stay as they are
  sentry run --write . -- make -j4         it may change this directory
  sentry run --read ~/data -- ./analyse    it sees one more directory
  sentry run --net all -- npm install      it has this host's network
  sentry run --profile judge -- ./a.out    few system calls, tight limits
  sentry diff                              what the last run changed in its copies
  sentry commit                            take that over
  sentry doctor                            what this host can enforce, and how to get the rest

'sentry run --help' lists the options, 'sentry VERB --help' tells more about a verb.";

const TEMPLATE: &str = "{about}\n\n{usage-heading} {usage}\n\nVerbs:\n{subcommands}{after-help}\n";

/// The whole command line.
#[derive(Debug, Parser)]
#[command(name = "sentry", version, about = ABOUT, override_usage = USAGE, after_help = EXAMPLES)]
#[command(help_template = TEMPLATE, max_term_width = 100, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Run(Box<options::Run>),
    Explain(Box<explain::Explain>),
    Ps(ps::Ps),
    Diff(diff::Diff),
    Commit(commit::Commit),
    Discard(discard::Discard),
    Doctor(doctor::Doctor),
    Syscalls(syscalls::Syscalls),
    Policy(policy::PolicyVerb),
    Agent(agent::Agent),
    Bench(bench::Bench),
    Completions(completions::Completions),
    Man(man::Man),
}

/// The verb that starts a program, alone: to describe all the others to the parser takes longer than to parse.
#[derive(Debug, Parser)]
struct Quick {
    #[command(subcommand)]
    verb: QuickVerb,
}

#[derive(Debug, Subcommand)]
enum QuickVerb {
    Run(Box<options::Run>),
}

/// Everything that can be typed, for help, completions and man pages.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Does what `args` say, the first of which is our own name; `run` runs a program under a policy. Returns the exit code.
pub fn main_with(args: impl IntoIterator<Item = OsString>, run: impl FnOnce(Policy) -> u8) -> u8 {
    start_log();
    let args: Vec<OsString> = args.into_iter().collect();
    if let Some(words) = crate::oci::own_words(&args) {
        return crate::oci::main(words, &mut std::io::stdout());
    }
    start(args, &mut std::io::stdout(), &mut std::io::stderr(), run)
}

/// The same, with the places where text goes.
fn start(args: Vec<OsString>, out: &mut dyn Write, err: &mut dyn Write, run: impl FnOnce(Policy) -> u8) -> u8 {
    if args.len() < 2 {
        // Whoever types the bare name wants to know what it is; but nothing ran, and a script must not think so.
        let _ = write!(err, "{}", command().render_help());
        return FAILED;
    }
    match act(with_verb(args), out, run) {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(err, "sentry: {}", mistake::harmless(&error.to_string()));
            FAILED
        }
    }
}

fn act(args: Vec<OsString>, out: &mut dyn Write, run: impl FnOnce(Policy) -> u8) -> anyhow::Result<u8> {
    // What it does not understand, or asks for help, is for the whole parser.
    if args.get(1).is_some_and(|verb| verb == "run")
        && let Ok(Quick { verb: QuickVerb::Run(options) }) = Quick::try_parse_from(&args)
    {
        return Ok(run(run::policy(*options, &crate::host::user_facts()?)?));
    }
    let cli = match Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(error) if !error.use_stderr() => {
            write!(out, "{error}")?;
            return Ok(0);
        }
        Err(error) => return Err(mistake::explain(&error, &args).into()),
    };
    match cli.verb {
        Verb::Run(options) => Ok(run(run::policy(*options, &crate::host::user_facts()?)?)),
        Verb::Explain(explain) => explain.run(out),
        Verb::Ps(ps) => ps.run(out),
        Verb::Diff(diff) => diff.run(out),
        Verb::Commit(commit) => commit.run(out),
        Verb::Discard(discard) => discard.run(out),
        Verb::Doctor(doctor) => doctor.run(out),
        Verb::Syscalls(syscalls) => syscalls.run(out),
        Verb::Policy(policy) => policy.run(out),
        Verb::Agent(agent) => agent.run(),
        Verb::Bench(bench) => bench.run(),
        Verb::Completions(completions) => completions.run(out),
        Verb::Man(man) => man.run(out),
    }
}

/// `SENTRY_LOG=debug` shows what sentry itself does.
fn start_log() {
    if let Ok(filter) = std::env::var("SENTRY_LOG") {
        let filter = tracing_subscriber::EnvFilter::new(filter);
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).try_init();
    }
}

/// `sentry -- ls` and `sentry --read x -- ls` mean `sentry run ...`: no verb begins with a dash.
fn with_verb(mut args: Vec<OsString>) -> Vec<OsString> {
    let first = args.get(1).map(|first| first.as_encoded_bytes());
    let ours = [&b"-h"[..], b"--help", b"-V", b"--version"];
    if first.is_some_and(|first| first.starts_with(b"-") && !ours.contains(&first)) {
        args.insert(1, "run".into());
    }
    args
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
