//! `sentry commit`: takes the changes of a run over to the host.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use nix::sys::stat::{Mode, umask};

use super::kept::{self, Opened};
use crate::changes::commit::{Options, Outcome};
use crate::changes::diff::line;
use crate::changes::judge::Verdict;
use crate::changes::layer::Layer;
use crate::changes::obeyed::{self, Obeyed};
use crate::changes::record::Sharing;
use crate::changes::{Change, Object, Review, record};
use crate::policy::Error;
use crate::policy::path::{absolute, shown};
use crate::report::{escape, name};

const AFTER: &str = "\
A file that changed on the host since the run began is left alone and named; the exit code is then 1.
Nothing is lost when a commit is interrupted: run it again. Set-id bits are never taken over.

Examples:
  sentry commit                all changes of the newest run that has any around or beneath here
  sentry commit 3f9c src docs  of the run 3f9c..., those in two directories
  sentry commit --dry-run      only say what would be done";

/// Take the changes of a run over to the host
#[derive(Args, Debug)]
#[command(after_help = AFTER, override_usage = "sentry commit [OPTIONS] [ID] [PATH]...")]
pub struct Commit {
    /// The run, and the files or directories to take over; all without any
    #[arg(value_name = "ID or PATH")]
    words: Vec<PathBuf>,
    /// Take over also what changed on the host meanwhile
    #[arg(long)]
    force: bool,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
}

impl Commit {
    /// Does it, and writes to `out` what was done and what was left.
    pub fn run(&self, out: &mut dyn Write) -> anyhow::Result<u8> {
        let sharing = if self.dry_run { Sharing::Readers } else { Sharing::Alone };
        kept::sweep()?;
        let (id, paths) = self.split()?;
        let mut opened = kept::chosen(id.as_deref(), sharing, out)?;
        let options = Options { force: self.force, dry_run: self.dry_run, id: opened.record.id.clone() };
        let (judged, held) = judge(&opened, &paths, &options)?;
        if self.dry_run {
            let code = tell_plan(&opened, &judged, &held, out)?;
            writeln!(out, "nothing was done (--dry-run)")?;
            return Ok(code);
        }
        // Modes are those of the copies, whatever is customary here.
        umask(Mode::empty());
        let mut code = 0;
        for (index, judged) in judged.into_iter().enumerate() {
            let outcome = opened.layers[index].commit(judged, &opened.reviews[index], &options);
            code = code.max(tell(&outcome, out)?);
            if outcome.stopped.is_some() {
                break;
            }
        }
        code = code.max(tell_held(&held, out)?);
        for problem in &opened.closed {
            writeln!(out, "left     {}", escape(problem))?;
            code = 1;
        }
        for problem in problems(&opened) {
            writeln!(out, "left     {}", escape(problem))?;
            code = 1;
        }
        // What is on the host needs no copy any more.
        let left = opened.layers.iter().map(Layer::review);
        if opened.closed.is_empty() && left.into_iter().all(|left| left.changes.is_empty() && left.problems.is_empty())
        {
            record::remove(&opened.place)?;
        } else if code == 0 {
            writeln!(out, "the rest is kept: sentry diff {} shows it", options.id)?;
        } else {
            writeln!(
                out,
                "the rest is kept: sentry diff {0} shows it, sentry commit --force {0} takes it over as well",
                options.id
            )?;
        }
        Ok(code)
    }

    /// The first word is a run if one is called so.
    fn split(&self) -> anyhow::Result<(Option<String>, Vec<PathBuf>)> {
        let first = self.words.first().and_then(|word| word.to_str()).filter(|word| kept::is_prefix(word));
        let Some(first) = first else { return Ok((None, self.words.clone())) };
        let id = || Ok((Some(first.to_owned()), self.words[1..].to_vec()));
        let runs = kept::runs()?;
        let meant = runs.iter().find(|run| run.record.id.starts_with(first));
        let is_path = Path::new(first).symlink_metadata().is_ok() || meant.is_some() && changed_here(first);
        match meant {
            // A whole name is no accident.
            Some(_) if record::is_id(first) || !is_path => id(),
            Some(run) => {
                let message = format!("'{first}' is a file here and the beginning of run {}", run.record.id);
                Err(Error::new(message, format!("write ./{first} or {}", run.record.id)).into())
            }
            None if !is_path && self.words.len() == 1 && !changed_here(first) => id(),
            None => Ok((None, self.words.clone())),
        }
    }
}

/// Whether the run that is meant without a name changed something at `word`.
fn changed_here(word: &str) -> bool {
    let Ok(cwd) = std::env::current_dir() else { return false };
    let wanted = real(&absolute(&cwd, Path::new(word)));
    kept::chosen(None, Sharing::Readers, &mut std::io::sink()).is_ok_and(|opened| {
        opened.layers.iter().zip(&opened.reviews).any(|(layer, review)| {
            review.changes.iter().any(|change| layer.host_path.join(&change.path).starts_with(&wanted))
        })
    })
}

/// The changes of a layer, and what is to become of each.
type Judged = Vec<(Change, Verdict)>;

/// Chooses the changes that `paths` name, and judges them; and tells what is left because the user's tools obey it.
fn judge(opened: &Opened, paths: &[PathBuf], options: &Options) -> anyhow::Result<(Vec<Judged>, Vec<PathBuf>)> {
    let cwd = if paths.is_empty() { PathBuf::new() } else { std::env::current_dir()? };
    let wanted: Vec<PathBuf> = paths.iter().map(|path| real(&absolute(&cwd, path))).collect();
    let mut met = vec![paths.is_empty(); paths.len().max(1)];
    let (mut all, mut held) = (Vec::new(), Vec::new());
    for (layer, review) in opened.layers.iter().zip(&opened.reviews) {
        let mut chosen =
            if paths.is_empty() { review.changes.clone() } else { choose(layer, review, &wanted, &mut met)? };
        if !options.force {
            let obeyed = Obeyed::new(layer, &review.changes);
            chosen.retain(|change| {
                let Some(root) = obeyed.root(change) else { return true };
                let full = layer.host_path.join(&change.path);
                // The whole of a directory is not a word about what is hidden in it.
                let named = wanted
                    .iter()
                    .any(|path| path.starts_with(&root) && (full.starts_with(path) || path.starts_with(&full)));
                if !named && !held.iter().any(|held| full.starts_with(held)) {
                    held.push(full);
                }
                named
            });
        }
        all.push(layer.judge(chosen, review, options.force));
    }
    match met.iter().position(|met| !met) {
        Some(missed) => {
            let message = format!("run {} changed nothing at {}", options.id, shown(&wanted[missed]));
            Err(Error::new(message, format!("sentry diff {} lists its changes", options.id)).into())
        }
        None => Ok((all, held)),
    }
}

/// The real name of the directory that holds `path`; the last part need not exist, and is not followed.
fn real(path: &Path) -> PathBuf {
    match (path.parent().and_then(|parent| parent.canonicalize().ok()), path.file_name()) {
        (Some(parent), Some(name)) => parent.join(name),
        _ => path.to_owned(),
    }
}

fn choose(layer: &Layer, review: &Review, wanted: &[PathBuf], met: &mut [bool]) -> anyhow::Result<Vec<Change>> {
    let mut chosen = Vec::new();
    for change in &review.changes {
        let full = layer.host_path.join(&change.path);
        let mut take = false;
        for (path, met) in wanted.iter().zip(met.iter_mut()) {
            if full.starts_with(path) {
                *met = true;
                take = true;
            } else if path.starts_with(&full) && change.after.is_none() {
                let message = format!("{} went with its directory", shown(path));
                return Err(Error::new(message, format!("name {}, which was deleted as a whole", shown(&full))).into());
            } else if path.starts_with(&full) && change.after.as_ref().is_some_and(Object::is_directory) {
                // A new file needs the new directories that lead to it.
                take |= change.before.as_ref().is_none_or(|before| !before.is_directory());
            }
        }
        if take {
            chosen.push(change.clone());
        }
    }
    Ok(chosen)
}

/// What could not be looked at when the changes were found: nobody knows what a commit misses there.
fn problems(opened: &Opened) -> impl Iterator<Item = &str> {
    opened.reviews.iter().flat_map(|review| &review.problems).map(String::as_str)
}

fn tell_plan(opened: &Opened, judged: &[Judged], held: &[PathBuf], out: &mut dyn Write) -> anyhow::Result<u8> {
    let mut code = 0;
    for ((layer, review), judged) in opened.layers.iter().zip(&opened.reviews).zip(judged) {
        let obeyed = Obeyed::new(layer, &review.changes);
        for (change, verdict) in judged {
            let line = line(layer, change, &obeyed);
            match verdict {
                Verdict::Apply => writeln!(out, "{line}")?,
                Verdict::Already => writeln!(out, "{line}  is there already")?,
                Verdict::Never(reason) => writeln!(out, "{line}  is left out: {reason}")?,
                Verdict::Conflict(reason) => {
                    writeln!(out, "{line}  is left alone: {}", escape(reason))?;
                    code = 1;
                }
            }
        }
    }
    for problem in &opened.closed {
        writeln!(out, "left     {}", escape(problem))?;
        code = 1;
    }
    for problem in problems(opened) {
        writeln!(out, "left     {}", escape(problem))?;
        code = 1;
    }
    Ok(code.max(tell_held(held, out)?))
}

fn tell_held(held: &[PathBuf], out: &mut dyn Write) -> anyhow::Result<u8> {
    for path in held {
        writeln!(out, "left     {}: {}", name(path), obeyed::LEFT)?;
    }
    Ok(u8::from(!held.is_empty()))
}

fn tell(outcome: &Outcome, out: &mut dyn Write) -> anyhow::Result<u8> {
    for (kind, path) in &outcome.done {
        writeln!(out, "{:7}  {}", kind.word(), name(path))?;
    }
    for (path, reason) in &outcome.never {
        writeln!(out, "left out {}: {}", name(path), escape(reason))?;
    }
    for (path, reason) in &outcome.left {
        writeln!(out, "left     {}: {}", name(path), escape(reason))?;
    }
    if let Some(stopped) = &outcome.stopped {
        writeln!(out, "stopped  {stopped}")?;
    }
    Ok(u8::from(!outcome.left.is_empty() || outcome.stopped.is_some()))
}
