//! `sentry oci`: a container runtime as the OCI runtime specification has it, whose containers are supervised.
//!
//! Engines call it as they call runc and crun; under the name `sentry-oci` it needs no verb. What happens inside the
//! container's namespaces is in [`shim::container`], who answers its trapped calls in [`crate::agent`].

use std::ffi::OsString;
use std::io::Write;

use clap::{CommandFactory, Parser};
use shim::failure::Failure;

pub mod cgroup;
#[allow(missing_docs)] // the help says it
pub mod cli;
pub mod config;
mod console;
mod create;
mod delete;
mod exec;
mod kill;
mod limit;
mod log;
mod maps;
mod place;
mod protect;
mod run;
mod show;
mod signal;
mod start;
#[allow(missing_docs)] // the specification says it
pub mod state;
mod template;

pub use cli::own_words;
use cli::{Cli, Command};
use log::Log;
use state::Store;

/// Does what `words` say, the first of which is our own name; the exit code.
pub fn main(words: Vec<OsString>, out: &mut dyn Write) -> u8 {
    let cli = match Cli::try_parse_from(words) {
        Ok(cli) => cli,
        Err(error) if !error.use_stderr() => {
            let _ = write!(out, "{error}");
            return 0;
        }
        Err(error) => {
            let _ = write!(std::io::stderr(), "{error}");
            return 1;
        }
    };
    let log = Log::new(&cli.global);
    match act(&cli, out, &log) {
        Ok(code) => code,
        Err(failure) => {
            log.error(&failure.to_string());
            // 125 says that the sandbox of `sentry run` was not built; callers of a runtime expect 1.
            if failure.exit == crate::cli::FAILED { 1 } else { failure.exit }
        }
    }
}

fn act(cli: &Cli, out: &mut dyn Write, log: &Log) -> Result<u8, Failure> {
    let global = &cli.global;
    if global.version {
        return show::version(out).map(|()| 0);
    }
    let Some(command) = &cli.command else {
        return told(write!(out, "{}", Cli::command().render_help())).map(|()| 1);
    };
    let store = || Store::open(global.root.as_deref());
    match command {
        Command::Create(create) => {
            create::create(&store()?, global, &create.making, log).and_then(|made| match made.terminal {
                None => Ok(()),
                Some(_) => {
                    delete::remove(&made.entry, &made.record, log)?;
                    Err(Failure::check_text("a container with a terminal needs --console-socket"))
                }
            })?;
        }
        Command::Start(one) => start::start(&store()?, &one.id, log)?,
        Command::State(one) => show::state(&store()?, &one.id, out)?,
        Command::Kill(kill) => kill::kill(&store()?, &kill.id, &kill.signal, kill.all)?,
        Command::Delete(delete) => delete::delete(&store()?, &delete.id, delete.force, log)?,
        Command::Run(run) => return run::run(&store()?, global, run, log),
        Command::Exec(exec) => return exec::exec(&store()?, exec, log),
        Command::Ps(ps) => show::ps(&store()?, ps, out)?,
        Command::List(list) => show::list(&store()?, list, out)?,
        Command::Pause(one) => limit::pause(&store()?, &one.id)?,
        Command::Resume(one) => limit::resume(&store()?, &one.id)?,
        Command::Update(update) => limit::update(&store()?, update, log)?,
        Command::Events(events) => limit::events(&store()?, events, out)?,
        Command::Features => show::features(out)?,
        Command::Spec(spec) => template::write(spec)?,
    }
    Ok(0)
}

/// The outcome of writing to our caller.
fn told(result: std::io::Result<()>) -> Result<(), Failure> {
    result.map_err(|error| {
        Failure::new("write the answer", nix::errno::Errno::from_raw(error.raw_os_error().unwrap_or(nix::libc::EIO)))
    })
}
