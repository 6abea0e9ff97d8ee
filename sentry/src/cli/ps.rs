//! `sentry ps`: running sandboxes, and runs whose changes are kept.

use std::io::Write;
use std::path::Path;

use clap::Args;
use serde::Serialize;

use super::kept::{self, Opened, age};
use crate::changes::record::{Kept, Sharing, State};
use crate::report::escape;

/// List running sandboxes and kept changes
#[derive(Args, Debug)]
pub struct Ps {
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Line {
    id: String,
    state: State,
    started: f64,
    command: Vec<String>,
    directories: Vec<String>,
    kept_in: Option<String>,
    changes: Option<u64>,
    ending: Option<crate::changes::record::Ending>,
    /// Whether there may be changes, and nobody can say how many.
    #[serde(skip)]
    unknown: bool,
    #[serde(skip)]
    shown: String,
    #[serde(skip)]
    age: String,
}

impl Ps {
    /// Writes them to `out`, newest first.
    pub fn run(&self, out: &mut dyn Write) -> anyhow::Result<u8> {
        let found = kept::found()?;
        let lines = found.runs.into_iter().map(line).chain(found.damaged.iter().map(|place| damaged(place)));
        let lines: Vec<Line> = lines.collect();
        if self.json {
            writeln!(out, "{}", serde_json::to_string(&lines)?)?;
            return Ok(0);
        }
        if lines.is_empty() {
            writeln!(out, "no sandbox is running, and no changes are kept")?;
            return Ok(0);
        }
        writeln!(out, "{:8}  {:8}  {:>10}  {:>7}  COMMAND", "ID", "STATE", "AGE", "CHANGES")?;
        for line in lines {
            let state = match line.state {
                State::Running => "running",
                State::Ended => "ended",
                State::Orphaned => "orphaned",
                State::Damaged => "damaged",
            };
            let unknown = if line.unknown { "?" } else { "-" };
            let changes = line.changes.map_or(unknown.to_owned(), |count| count.to_string());
            writeln!(out, "{:8}  {state:8}  {:>10}  {changes:>7}  {}", line.id, line.age, line.shown)?;
            for directory in &line.directories {
                writeln!(out, "{:43}in {}", "", escape(directory))?;
            }
        }
        Ok(0)
    }
}

fn line(run: Kept) -> Line {
    let record = run.record.clone();
    let (place, state) = (run.place.clone(), run.state);
    // Copies of a running sandbox are its own: nobody looks into them.
    let looked = state != State::Running && place.is_some();
    let opened = looked.then(|| Opened::new(run, Sharing::Readers).ok()).flatten();
    let whole =
        |opened: &Opened| opened.closed.is_empty() && opened.reviews.iter().all(|review| review.problems.is_empty());
    let opened = opened.filter(whole);
    let changes = opened.map(|opened| opened.reviews.iter().map(|review| review.changes.len() as u64).sum());
    #[allow(clippy::cast_precision_loss)] // a time stamp for people and scripts
    let started = record.started.0 as f64 + record.started.1 as f64 / 1e9;
    Line {
        shown: record.command_line(),
        age: age(record.started),
        command: record.command.iter().map(|word| word.0.to_string_lossy().into_owned()).collect(),
        directories: record.directories.iter().map(|one| one.host.to_string_lossy().into_owned()).collect(),
        kept_in: place.map(|place| place.to_string_lossy().into_owned()),
        id: record.id,
        state,
        started,
        changes,
        unknown: looked && changes.is_none(),
        ending: record.ending,
    }
}

/// A run of which nothing but the name is known.
fn damaged(place: &Path) -> Line {
    Line {
        id: place.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        state: State::Damaged,
        started: 0.0,
        command: Vec::new(),
        directories: Vec::new(),
        kept_in: Some(place.to_string_lossy().into_owned()),
        changes: None,
        ending: None,
        unknown: true,
        shown: format!("in {}; sentry discard with its whole name removes it", escape(&place.to_string_lossy())),
        age: "?".to_owned(),
    }
}
