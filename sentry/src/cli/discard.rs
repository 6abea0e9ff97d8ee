//! `sentry discard`: forgets a run and its copies.

use std::ffi::OsStr;
use std::io::Write;
use std::path::Path;

use clap::Args;

use super::kept;
use crate::changes::layer::Layer;
use crate::changes::record::{self, Found, Kept, LOCK, Sharing, State};
use crate::policy::Error;
use crate::policy::path::shown;
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
        kept::sweep()?;
        if self.all {
            return all(out);
        }
        for id in &self.id {
            let Found { runs, damaged } = kept::found()?;
            if let Some(place) = damaged.iter().find(|place| place.file_name() == Some(OsStr::new(id))) {
                discard_damaged(id, place)?;
                writeln!(out, "run {id}, which was damaged, is forgotten")?;
                continue;
            }
            let run = kept::named(runs, id)?;
            discard(&run)?;
            writeln!(out, "run {} is forgotten: {}", run.record.id, run.record.command_line())?;
        }
        Ok(0)
    }
}

fn all(out: &mut dyn Write) -> anyhow::Result<u8> {
    let Found { runs, damaged } = kept::found()?;
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
    for place in damaged {
        let name = place.file_name().unwrap_or_default().to_string_lossy().into_owned();
        writeln!(out, "{name} is damaged and stays; sentry discard {name} removes it")?;
        code = 1;
    }
    writeln!(out, "{count} {} forgotten", if count == 1 { "run is" } else { "runs are" })?;
    Ok(code)
}

/// Removes a run of which nothing is known any more, if its directory is one that we made.
fn discard_damaged(id: &str, place: &Path) -> anyhow::Result<()> {
    if place.join(LOCK).symlink_metadata().is_err() {
        let message = format!("{} has no lock, so no run may have made it", shown(place));
        return Err(Error::new(message, "look at it, and remove it by hand").into());
    }
    let _lock = kept::lock(id, place, State::Damaged, Sharing::Alone)?;
    record::remove(place)?;
    Ok(())
}

fn discard(run: &Kept) -> anyhow::Result<()> {
    let Some(place) = &run.place else {
        let message = format!("run {} is still running", run.record.id);
        return Err(Error::new(message, "wait for its end, or end it").into());
    };
    let _lock = kept::lock(&run.record.id, place, run.state, Sharing::Alone)?;
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
