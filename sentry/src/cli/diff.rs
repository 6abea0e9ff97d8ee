//! `sentry diff`: what a run changed in its copies.

use std::io::Write;

use clap::Args;

use super::kept;
use crate::changes::diff::{Style, counts, write};
use crate::changes::record::Sharing;
use crate::report::escape;

const AFTER: &str = "\
Without ID it is about the newest run that has changes around or beneath the current directory. ID may be cut short to 4 digits or more.
Deletions come first.";

/// Show what a run changed in its copies
#[derive(Args, Debug)]
#[command(after_help = AFTER)]
pub struct Diff {
    /// The run, as named at its end and by sentry ps
    id: Option<String>,
    /// With the number of lines or bytes
    #[arg(long, conflicts_with = "patch")]
    stat: bool,
    /// With the lines that differ
    #[arg(short, long)]
    patch: bool,
}

impl Diff {
    /// Writes them to `out`.
    pub fn run(&self, out: &mut dyn Write) -> anyhow::Result<u8> {
        let opened = kept::chosen(self.id.as_deref(), Sharing::Readers, out)?;
        let style = match (self.stat, self.patch) {
            (true, _) => Style::Stat,
            (_, true) => Style::Patch,
            _ => Style::Names,
        };
        for (layer, review) in opened.layers.iter().zip(&opened.reviews) {
            write(layer, &review.changes, style, out)?;
            for problem in &review.problems {
                writeln!(out, "unknown  {}", escape(problem))?;
            }
        }
        for problem in &opened.closed {
            writeln!(out, "unknown  {}", escape(problem))?;
        }
        let all: Vec<_> = opened.reviews.iter().flat_map(|review| review.changes.iter().cloned()).collect();
        writeln!(out, "{}", counts(&all))?;
        Ok(0)
    }
}
