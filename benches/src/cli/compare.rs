//! `sentry-bench compare`: what changed between two runs.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::ensure;
use clap::Args;
use sentry_benches::compare::Comparison;
use sentry_benches::results::Results;

/// Tell what became slower or faster between two runs, beyond noise.
#[derive(Args)]
#[command(
    after_help = "Exits with 0 when nothing of ours became slower, 1 when something did, 2 when the files cannot be compared."
)]
pub struct Compare {
    /// The results of the run before.
    old: PathBuf,
    /// The results of the run after.
    new: PathBuf,
    /// Smaller changes are not told, in percent.
    #[arg(long, default_value_t = 5.0, value_name = "PERCENT")]
    threshold: f64,
    /// All lines as JSON.
    #[arg(long)]
    json: bool,
}

impl Compare {
    /// Prints what changed; the code says whether something of ours became slower.
    pub fn run(&self) -> ExitCode {
        self.compared().unwrap_or_else(|error| {
            let _ = writeln!(std::io::stderr(), "Error: {error:#}");
            ExitCode::from(2)
        })
    }

    fn compared(&self) -> anyhow::Result<ExitCode> {
        ensure!(
            (0.0..1000.0).contains(&self.threshold),
            "a threshold of {} % means nothing; give 0 to 1000",
            self.threshold
        );
        let (old, new) = (Results::load(&self.old)?, Results::load(&self.new)?);
        let comparison = Comparison::new(&old, &new, self.threshold / 100.0)?;
        let text = if self.json { serde_json::to_string_pretty(&comparison)? + "\n" } else { comparison.to_string() };
        std::io::stdout().write_all(text.as_bytes())?;
        Ok(ExitCode::from(u8::from(comparison.ours_became_worse())))
    }
}
