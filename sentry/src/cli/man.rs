//! `sentry man`.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, CommandFactory};

/// Write the man pages into a directory.
#[derive(Args, Debug)]
pub struct Man {
    /// Where to.
    directory: PathBuf,
}

impl Man {
    /// Writes `sentry.1` and a page for each verb.
    pub fn run(self) -> anyhow::Result<u8> {
        let directory = &self.directory;
        clap_mangen::generate_to(super::Cli::command(), directory)
            .with_context(|| format!("cannot write man pages to {}; name a directory that exists", directory.display()))?;
        Ok(0)
    }
}
