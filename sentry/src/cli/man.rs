//! `sentry man`: manual pages, made from the same definitions as the help.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use crate::policy::Error;
use crate::policy::path::{reason, shown};

/// Print the manual page, or write all pages into a directory
#[derive(Args, Debug)]
#[command(hide = true)]
pub struct Man {
    /// Where to write sentry.1, sentry-run.1 and the others
    dir: Option<PathBuf>,
}

impl Man {
    /// Writes to the directory, or to `out` without one.
    pub fn run(&self, out: &mut dyn Write) -> anyhow::Result<u8> {
        let Some(directory) = &self.dir else {
            let mut page = Vec::new();
            clap_mangen::Man::new(super::command()).render(&mut page)?;
            out.write_all(&page)?;
            return Ok(0);
        };
        clap_mangen::generate_to(super::command(), directory).map_err(|error| {
            let message = format!("cannot write manual pages to {}: {}", shown(directory), reason(&error));
            Error::new(message, "name a directory that exists and that you may write")
        })?;
        Ok(0)
    }
}
