//! Which kept run a verb is about, and the options that say so.

use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::changes::layer::Layer;
use crate::changes::record::{self, Kept, LOCK, Lock, Record, State};
use crate::changes::{Moment, Review};
use crate::policy::Error;
use crate::report::escape;

/// All kept runs, newest first.
pub(super) fn runs() -> anyhow::Result<Vec<Kept>> {
    let facts = crate::host::user_facts()?;
    Ok(record::all(record::base(Some(&facts.home)).as_deref()).0)
}

/// Whether `text` can be the beginning of a run's name. Fewer digits are too easily another word, or a slip.
pub(super) fn is_prefix(text: &str) -> bool {
    (4..=8).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// The run whose name begins with `prefix`.
pub(super) fn named(mut runs: Vec<Kept>, prefix: &str) -> anyhow::Result<Kept> {
    if !is_prefix(prefix) {
        let message =
            format!("'{}' names no run: a name is 8 hexadecimal digits, or at least the first 4", escape(prefix));
        return Err(Error::new(message, "sentry ps lists them").into());
    }
    runs.retain(|run| run.place.is_some());
    let fits: Vec<usize> = (0..runs.len()).filter(|&index| runs[index].record.id.starts_with(prefix)).collect();
    match fits.as_slice() {
        [one] => Ok(runs.swap_remove(*one)),
        [] => Err(Error::new(format!("no kept run is called '{prefix}'"), "sentry ps lists them").into()),
        several => {
            let names: Vec<&str> = several.iter().map(|&index| runs[index].record.id.as_str()).collect();
            let message = format!("'{prefix}' can be {}", names.join(" or "));
            Err(Error::new(message, "write one more digit").into())
        }
    }
}

/// The run to be reviewed: the one that is named, or the newest that has changes, which is said.
pub(super) fn chosen(id: Option<&str>, out: &mut dyn Write) -> anyhow::Result<Opened> {
    let runs = runs()?;
    if let Some(id) = id {
        return Opened::new(named(runs, id)?);
    }
    let nothing =
        || Error::new("no run has kept changes", "sentry run keeps those of the current directory, or --cow DIR");
    for run in runs.into_iter().filter(|run| run.place.is_some() && run.state != State::Running) {
        let opened = Opened::new(run)?;
        let found = opened.reviews.iter().any(|review| !review.changes.is_empty() || !review.problems.is_empty());
        if found || !opened.closed.is_empty() {
            let record = &opened.record;
            writeln!(out, "run {}, {} ago: {}", record.id, age(record.started), record.command_line())?;
            return Ok(opened);
        }
        // A commit that was killed at its very end, or a run that was killed before it changed anything.
        record::remove(&opened.place)?;
    }
    Err(nothing().into())
}

/// A run that is over, with its copies looked through. Nobody else commits or discards it meanwhile.
pub(super) struct Opened {
    pub record: Record,
    pub place: std::path::PathBuf,
    pub layers: Vec<Layer>,
    pub reviews: Vec<Review>,
    /// Copies that cannot be opened, and why.
    pub closed: Vec<String>,
    pub _lock: Lock,
}

impl Opened {
    pub(super) fn new(run: Kept) -> anyhow::Result<Self> {
        let Kept { record, place, state } = run;
        let place = place.ok_or_else(|| Error::new(format!("run {} keeps no changes", record.id), "leave it out"))?;
        let busy = || {
            let (what, remedy) = match state {
                State::Running => ("is still running", "wait for its end"),
                _ => ("is being worked on by another sentry", "wait until that is done"),
            };
            Error::new(format!("run {} {what}", record.id), remedy)
        };
        let lock = Lock::take(&place.join(LOCK)).ok().flatten().ok_or_else(busy)?;
        let (mut layers, mut reviews, mut closed) = (Vec::new(), Vec::new(), Vec::new());
        for directory in &record.directories {
            match Layer::open(&place, directory, record.started) {
                Ok(layer) => {
                    reviews.push(layer.review());
                    layers.push(layer);
                }
                Err(failure) => closed.push(failure.to_string()),
            }
        }
        Ok(Self { record, place, layers, reviews, closed, _lock: lock })
    }
}

/// How long ago something was, roughly.
pub(super) fn age(moment: Moment) -> String {
    let then = UNIX_EPOCH + Duration::from_secs(u64::try_from(moment.0).unwrap_or(0));
    let seconds = SystemTime::now().duration_since(then).unwrap_or_default().as_secs();
    let (count, unit) = match seconds {
        0..60 => (seconds, "second"),
        60..3600 => (seconds / 60, "minute"),
        3600..86400 => (seconds / 3600, "hour"),
        _ => (seconds / 86400, "day"),
    };
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}
