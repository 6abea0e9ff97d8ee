//! `sentry-bench report`: a page and tables from results files.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use clap::Args;
use sentry_benches::published;
use sentry_benches::report::{self, Source};

/// Draw a page from results files.
#[derive(Args)]
pub struct Report {
    /// Results files, one of each study.
    #[arg(required = true)]
    results: Vec<PathBuf>,
    /// Where the page goes.
    #[arg(long, value_name = "OUT")]
    html: Option<PathBuf>,
    /// Where the same tables go as Markdown.
    #[arg(long, value_name = "OUT")]
    markdown: Option<PathBuf>,
}

impl Report {
    /// Writes what is asked for.
    pub fn run(&self) -> anyhow::Result<()> {
        ensure!(
            self.html.is_some() || self.markdown.is_some(),
            "nothing to write; say where with --html OUT or --markdown OUT"
        );
        let sources = self.results.iter().map(|path| Source::load(path)).collect::<anyhow::Result<Vec<_>>>()?;
        for (place, source) in sources.iter().enumerate() {
            let study = &source.results.run.study;
            let again = sources[..place].iter().any(|other| other.results.run.study == *study);
            ensure!(
                !again,
                "two files hold the study {study}; report one, and set two against each other with compare"
            );
        }
        let figures = published::figures()?;
        if let Some(out) = &self.html {
            write(out, &report::page(&sources, &figures))?;
        }
        if let Some(out) = &self.markdown {
            write(out, &report::markdown(&sources, &figures))?;
        }
        Ok(())
    }
}

fn write(out: &Path, text: &str) -> anyhow::Result<()> {
    if let Some(parent) = out.parent() {
        std::fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    }
    std::fs::write(out, text).with_context(|| format!("cannot write {}", out.display()))
}
