//! `sentry syscalls`: how each system call is treated, from the table that the filter is made of.

use std::io::Write;

use clap::Args;
use syscalls::abi::Arch;
use syscalls::{page, table};

use crate::policy::Error;

const EXAMPLES: &str = "\
Examples:
  sentry syscalls             one line for each system call
  sentry syscalls connect     everything about one";

/// Tell how system calls are treated
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Syscalls {
    /// The name of one
    name: Option<String>,
    /// Print the whole page as Markdown
    #[arg(long, conflicts_with = "name")]
    markdown: bool,
}

impl Syscalls {
    /// Writes the answer to `out`.
    pub fn run(&self, out: &mut dyn Write) -> anyhow::Result<u8> {
        if self.markdown {
            out.write_all(page::markdown().as_bytes())?;
            return Ok(0);
        }
        let Some(name) = &self.name else {
            for call in table::all().iter().filter(|call| call.number(Arch::native()).is_some()) {
                writeln!(out, "{:<24} {:<8} {}", call.name, call.route.word(), call.summary())?;
            }
            return Ok(0);
        };
        match table::find(name) {
            Some(call) => out.write_all(page::describe(call).as_bytes())?,
            None => return Err(unknown(name).into()),
        }
        Ok(0)
    }
}

/// Says that there is no call of this name.
pub(super) fn unknown(name: &str) -> Error {
    Error::new(format!("Linux has no system call '{name}' that this version knows"), similar(name))
}

/// The calls that `name` may have meant.
fn similar(name: &str) -> String {
    let close = |known: &str| known.contains(name) || name.contains(known);
    let names: Vec<&str> = table::all().iter().map(|call| call.name).filter(|known| close(known)).take(5).collect();
    match names.as_slice() {
        [] => "sentry syscalls lists them".to_owned(),
        names => format!("is it {}?", names.join(", ")),
    }
}
