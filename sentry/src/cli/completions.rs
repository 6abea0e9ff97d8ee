//! `sentry completions`.

use clap::{Args, CommandFactory};
use clap_complete::{Shell, generate};

/// Print a completion script for a shell.
#[derive(Args, Debug)]
pub struct Completions {
    /// Which shell.
    shell: Shell,
}

impl Completions {
    /// Prints the script.
    pub fn run(self) -> anyhow::Result<u8> {
        generate(self.shell, &mut super::Cli::command(), "sentry", &mut std::io::stdout());
        Ok(0)
    }
}
