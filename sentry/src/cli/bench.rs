//! `sentry bench`: what interposition costs, measured by a program of its own.
//!
//! The sandbox carries no code for benchmarks: `sentry-bench` lies beside it or in `PATH`, gets all arguments as they are, and is
//! told which sentry to measure.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;

use crate::policy::Error;
use crate::policy::path::{reason, shown};

/// The program.
const PROGRAM: &str = "sentry-bench";
/// The variable that tells it which sentry to measure, unless its options do.
const MEASURED: &str = "SENTRY_MEASURED";

/// Measure what this and other sandboxes cost
///
/// Runs the program sentry-bench, which lies beside sentry or in PATH. 'sentry bench peers --quick' compares the sandboxes
/// that are installed here in two minutes; 'sentry bench --help' lists the rest.
#[derive(Args, Debug)]
#[command(disable_help_flag = true)]
pub struct Bench {
    /// What sentry-bench is told: a verb and its options
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARG")]
    arguments: Vec<OsString>,
}

impl Bench {
    /// Becomes that program.
    pub fn run(&self) -> anyhow::Result<u8> {
        let own = std::env::current_exe().map_err(|error| {
            Error::new(format!("cannot find sentry's own program: {}", reason(&error)), "mount /proc")
        })?;
        let Some(program) = find(&own, std::env::var_os("PATH").as_deref()) else {
            let message = format!("there is no {PROGRAM} beside {} or in PATH", shown(&own));
            return Err(Error::new(message, "build it with make bench-build").into());
        };
        let error = Command::new(&program).args(&self.arguments).env(MEASURED, &own).exec();
        let message = format!("cannot run {}: {}", shown(&program), reason(&error));
        Err(Error::new(message, "build it again with make bench-build").into())
    }
}

/// The program beside `own`, which is a real path and no link, or in one of the directories of `path`.
fn find(own: &Path, path: Option<&OsStr>) -> Option<PathBuf> {
    let beside = own.with_file_name(PROGRAM);
    let elsewhere = path.into_iter().flat_map(std::env::split_paths).map(|directory| directory.join(PROGRAM));
    std::iter::once(beside).chain(elsewhere).find(|place| place.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_looked_for_beside_and_then_in_path() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let own = here.path().join("sentry");
        let path = std::env::join_paths([Path::new("/nonexistent"), there.path()]).unwrap();
        assert_eq!(find(&own, Some(&path)), None);
        assert_eq!(find(&own, None), None);
        let (beside, elsewhere) = (here.path().join(PROGRAM), there.path().join(PROGRAM));
        std::fs::write(&elsewhere, "").unwrap();
        assert_eq!(find(&own, Some(&path)), Some(elsewhere));
        std::fs::write(&beside, "").unwrap();
        assert_eq!(find(&own, Some(&path)), Some(beside));
    }
}
