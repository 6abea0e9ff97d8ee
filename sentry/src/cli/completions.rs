//! `sentry completions`: what a shell needs to complete our options.

use std::io::Write;

use clap::Args;
use clap_complete::Shell;

const EXAMPLES: &str = "\
Examples:
  sentry completions bash > ~/.local/share/bash-completion/completions/sentry
  sentry completions fish > ~/.config/fish/completions/sentry.fish
  sentry completions zsh  > \"${fpath[1]}/_sentry\"";

/// Print completions for a shell
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Completions {
    /// One of bash, elvish, fish, powershell, zsh
    #[arg(value_enum, hide_possible_values = true)]
    shell: Shell,
}

impl Completions {
    /// Writes the script to `out`.
    pub fn run(&self, out: &mut dyn Write) -> anyhow::Result<u8> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut super::command(), "sentry", &mut script);
        out.write_all(&script)?;
        Ok(0)
    }
}
