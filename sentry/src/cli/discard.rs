//! `sentry discard`: forgets a run and its copies.

use std::io::Write;

use clap::Args;

use super::kept;
use crate::changes::layer::Layer;
use crate::changes::record::{self, Kept, LOCK, Lock, State};
use crate::policy::Error;
use crate::report::escape;

/// Forget what a run changed in its copies
#[derive(Args, Debug)]
#[command(override_usage = "sentry discard ID...\n       sentry discard --all")]
pub struct Discard {
    /// The runs, as named at their ends and by sentry ps
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    id: Vec<String>,
    /// All runs that are over
    #[arg(long)]
    all: bool,
}

impl Discard {
    /// Does it, and writes to `out` what is gone.
    pub fn run(&self, out: &mut dyn Write) -> anyhow::Result<u8> {
        if self.all {
            return all(out);
        }
        for id in &self.id {
            let run = kept::named(kept::runs()?, id)?;
            if run.state == State::Running {
                let message = format!("run {} is still running", run.record.id);
                return Err(Error::new(message, "wait for its end, or end it").into());
            }
            discard(&run)?;
            writeln!(out, "run {} is forgotten: {}", run.record.id, run.record.command_line())?;
        }
        Ok(0)
    }
}

fn all(out: &mut dyn Write) -> anyhow::Result<u8> {
    let facts = crate::host::user_facts()?;
    let (runs, strange) = record::all(record::base(Some(&facts.home)).as_deref());
    let mut code = 0;
    let mut count = 0;
    for run in runs.iter().filter(|run| run.place.is_some() && run.state != State::Running) {
        match discard(run) {
            Ok(()) => count += 1,
            Err(error) => {
                writeln!(out, "{}", escape(&error.to_string()))?;
                code = 1;
            }
        }
    }
    for place in strange {
        record::remove(&place)?;
        count += 1;
    }
    writeln!(out, "{count} {} forgotten", if count == 1 { "run is" } else { "runs are" })?;
    Ok(code)
}

fn discard(run: &Kept) -> anyhow::Result<()> {
    let Some(place) = &run.place else { return Ok(()) };
    let busy =
        || Error::new(format!("run {} is being worked on by another sentry", run.record.id), "wait until that is done");
    let _lock = Lock::take(&place.join(LOCK)).ok().flatten().ok_or_else(busy)?;
    // A commit that was killed may have left a half-written file on the host.
    for directory in &run.record.directories {
        if let Ok(layer) = Layer::open(place, directory, run.record.started)
            && layer.journal.has_begun()
        {
            layer.clean(&layer.review(), &run.record.id);
        }
    }
    record::remove(place)?;
    Ok(())
}
