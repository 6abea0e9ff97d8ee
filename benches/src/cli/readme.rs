//! `sentry bench readme`: tables in documents.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use sentry_benches::results::Results;
use sentry_benches::tables;

/// Put tables into a file, between markers such as `<!-- numbers main -->` and `<!-- /numbers -->`
#[derive(Args)]
pub struct Readme {
    /// The file with the markers.
    file: PathBuf,
    /// The results, a file of each study.
    #[arg(required = true)]
    results: Vec<PathBuf>,
}

impl Readme {
    /// Rewrites the file.
    pub fn run(&self) -> anyhow::Result<()> {
        let file = &self.file;
        let studies = self.results.iter().map(|path| Results::load(path)).collect::<anyhow::Result<Vec<_>>>()?;
        let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        let new = tables::rewritten(&text, &studies.iter().collect::<Vec<_>>())
            .with_context(|| format!("cannot rewrite {}", file.display()))?;
        std::fs::write(file, new).with_context(|| format!("cannot write {}", file.display()))
    }
}
