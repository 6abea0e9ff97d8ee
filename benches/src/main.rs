//! `sentry-bench`, which `sentry bench` runs: what interposition costs.

use std::process::ExitCode;

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
    Mechanisms(cli::mechanisms::Mechanisms),
    Peers(cli::peers::Peers),
    Containers(cli::containers::Containers),
    Compare(cli::compare::Compare),
    Report(cli::report::Report),
    Table(cli::table::Table),
    Readme(cli::readme::Readme),
}

fn main() -> anyhow::Result<ExitCode> {
    let done = match Cli::parse().verb {
        Verb::Compare(compare) => return Ok(compare.run()),
        Verb::Mechanisms(mechanisms) => mechanisms.run(),
        Verb::Peers(peers) => peers.run(),
        Verb::Containers(containers) => containers.run(),
        Verb::Report(report) => report.run(),
        Verb::Table(table) => table.run(),
        Verb::Readme(readme) => readme.run(),
    };
    done.map(|()| ExitCode::SUCCESS)
}
