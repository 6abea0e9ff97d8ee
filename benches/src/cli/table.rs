//! `sentry bench table`: results as Markdown.

use std::path::PathBuf;

use clap::Args;
use sentry_benches::results::Results;

/// Print the tables of a results file
#[derive(Args)]
pub struct Table {
    /// The results.
    results: PathBuf,
}

impl Table {
    /// Prints them.
    pub fn run(&self) -> anyhow::Result<()> {
        super::show(&Results::load(&self.results)?)
    }
}
