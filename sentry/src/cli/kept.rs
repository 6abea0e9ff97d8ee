//! Which kept run a verb is about, and the options that say so.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::changes::layer::Layer;
use crate::changes::record::{self, Found, Kept, LOCK, Lock, Record, Sharing, State};
use crate::changes::{Moment, Review};
use crate::policy::Error;
use crate::policy::path::shown;
use crate::report::escape;

/// Where this user's runs are kept.
pub(super) fn base() -> anyhow::Result<Option<PathBuf>> {
    Ok(record::base(Some(&crate::host::user_facts()?.home)))
}

/// Removes what those left who were killed while they removed a run.
pub(super) fn sweep() -> anyhow::Result<()> {
    if let Some(base) = base()?.filter(|base| base.is_dir()) {
        crate::changes::owned::check_base(&base)?;
        record::sweep(&base);
    }
    Ok(())
}

/// All runs that can be found.
pub(super) fn found() -> anyhow::Result<Found> {
    Ok(record::all(base()?.as_deref())?)
}

/// All kept runs, newest first.
pub(super) fn runs() -> anyhow::Result<Vec<Kept>> {
    Ok(found()?.runs)
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

/// The run to be reviewed: the one that is named, or the newest that changed something here. It is said which.
pub(super) fn chosen(id: Option<&str>, sharing: Sharing, out: &mut dyn Write) -> anyhow::Result<Opened> {
    let runs = runs()?;
    let opened = match id {
        Some(id) => Opened::new(named(runs, id)?, sharing)?,
        None => newest_here(runs, sharing)?,
    };
    let record = &opened.record;
    writeln!(out, "run {}, {} ago: {}", record.id, age(record.started), record.command_line())?;
    Ok(opened)
}

/// The newest run with changes in a directory that contains the current one, or lies beneath it.
fn newest_here(runs: Vec<Kept>, sharing: Sharing) -> anyhow::Result<Opened> {
    let cwd = std::env::current_dir()?;
    let mut others = Vec::new();
    for run in runs.into_iter().filter(|run| run.place.is_some() && run.state != State::Running) {
        let near = |host: &Path| cwd.starts_with(host) || host.starts_with(&cwd);
        if !run.record.directories.iter().any(|directory| near(&directory.host)) {
            others.push(told(&run.record));
            continue;
        }
        let opened = Opened::new(run, sharing)?;
        let found = |review: &Review| !review.changes.is_empty() || !review.problems.is_empty();
        let mut reviewed = opened.layers.iter().zip(&opened.reviews);
        if reviewed.any(|(layer, review)| near(&layer.host_path) && found(review)) || !opened.closed.is_empty() {
            return Ok(opened);
        }
        if opened.reviews.iter().any(found) {
            others.push(told(&opened.record));
        } else if sharing == Sharing::Alone {
            // A commit that was killed at its very end, or a run that was killed before it changed anything.
            record::remove(&opened.place)?;
        }
    }
    if others.is_empty() {
        let remedy = "sentry run keeps those of the current directory, or --cow DIR";
        return Err(Error::new("no run has kept changes", remedy).into());
    }
    let message = format!("no run has changes at {}, but elsewhere: {}", shown(&cwd), others.join(", "));
    Err(Error::new(message, "go there, or name the run").into())
}

/// A run and where it worked, for a message.
fn told(record: &Record) -> String {
    match record.directories.as_slice() {
        [] => record.id.clone(),
        [one] => format!("{} in {}", record.id, shown(&one.host)),
        [first, rest @ ..] => format!("{} in {} and {} more", record.id, shown(&first.host), rest.len()),
    }
}

/// The lock of a run that is over, waited for while others work on it.
pub(super) fn lock(id: &str, place: &Path, state: State, sharing: Sharing) -> anyhow::Result<Lock> {
    if state == State::Running {
        return Err(Error::new(format!("run {id} is still running"), "wait for its end, or end it").into());
    }
    match Lock::wait(&place.join(LOCK), sharing) {
        Ok(Some(lock)) => Ok(lock),
        Ok(None) => {
            Err(Error::new(format!("run {id} is being worked on by another sentry"), "wait until that is done").into())
        }
        Err(nix::errno::Errno::ENOENT) => {
            Err(Error::new(format!("run {id} is gone"), "sentry ps lists the others").into())
        }
        Err(errno) => {
            let message = format!("cannot lock run {id} in {}: {}", shown(place), errno.desc());
            Err(Error::new(message, "make it accessible").into())
        }
    }
}

/// A run that is over, with its copies looked through. Nobody else commits or discards it meanwhile.
pub(super) struct Opened {
    pub record: Record,
    pub place: PathBuf,
    pub layers: Vec<Layer>,
    pub reviews: Vec<Review>,
    /// Copies that cannot be opened, and why.
    pub closed: Vec<String>,
    pub _lock: Lock,
}

impl Opened {
    pub(super) fn new(run: Kept, sharing: Sharing) -> anyhow::Result<Self> {
        let Kept { record, place, state } = run;
        let place = place.ok_or_else(|| Error::new(format!("run {} keeps no changes", record.id), "leave it out"))?;
        let lock = lock(&record.id, &place, state, sharing)?;
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
