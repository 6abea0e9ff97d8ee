//! The verbs, one file each; their doc comments are their help.

use std::io::Write;

use sentry_benches::results::Results;
use sentry_benches::tables::{self, Table};

pub mod compare;
pub mod containers;
pub mod mechanisms;
pub mod peers;
pub mod readme;
pub mod report;
pub mod table;

fn print(text: &str) -> anyhow::Result<()> {
    Ok(std::io::stdout().write_all(text.as_bytes())?)
}

/// Progress and warnings.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Prints all tables, and whether promises were kept.
fn show(results: &Results) -> anyhow::Result<()> {
    // Nobody needs a table of questions that were not asked.
    let asked = |table: &&Table| table.questions.iter().any(|name| results.question(name).is_some());
    for table in tables::ALL.iter().filter(asked) {
        print(&format!("{}\n", table.markdown(results)))?;
    }
    tables::promises(results).iter().try_for_each(|promise| print(&format!("- {promise}\n")))
}
