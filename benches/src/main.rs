//! `sentry-bench`, which `sentry bench` runs: what interposition costs.

use clap::{Parser, Subcommand};

mod cli;

/// Measure what interposition costs on this machine.
#[derive(Parser)]
#[command(name = "sentry-bench", bin_name = "sentry bench", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Peers(cli::peers::Peers),
    Table(cli::table::Table),
    Readme(cli::readme::Readme),
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().verb {
        Verb::Peers(peers) => peers.run(),
        Verb::Table(table) => table.run(),
        Verb::Readme(readme) => readme.run(),
    }
}
