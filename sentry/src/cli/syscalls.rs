//! `sentry syscalls`.

use std::io::Write;

use anyhow::bail;
use clap::Args;
use syscalls::abi::Arch;
use syscalls::{page, table};

/// Say how each syscall is treated.
///
/// Without a name, all of them on a line each; with a name, its numbers, route, checks and limits.
#[derive(Args, Debug)]
pub struct Syscalls {
    /// A syscall, such as openat.
    name: Option<String>,
    /// The whole page as Markdown.
    #[arg(long, conflicts_with = "name")]
    markdown: bool,
}

impl Syscalls {
    /// Prints what was asked for.
    pub fn run(self) -> anyhow::Result<u8> {
        let mut text = String::new();
        match self.name {
            Some(name) => match table::find(&name) {
                Some(row) => text.push_str(&page::describe(row)),
                None => bail!("there is no syscall {name:?} in Linux 6.18; sentry syscalls lists them"),
            },
            None if self.markdown => text.push_str(&page::markdown()),
            None => {
                for row in table::all().iter().filter(|row| row.number(Arch::native()).is_some()) {
                    text.push_str(&format!("{:<26} {:<8} {}\n", row.name, row.route.word(), row.summary()));
                }
            }
        }
        // A reader that has seen enough (head) is no error.
        let _ = std::io::stdout().write_all(text.as_bytes());
        Ok(0)
    }
}
