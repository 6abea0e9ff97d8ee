//! `sentry agent`: the seccomp agent of runc and crun.

use std::path::PathBuf;

use clap::Args;

use crate::agent::policy::Owner;
use crate::agent::serve::{self, Options};

const EXAMPLES: &str = "\
Examples:
  sentry agent --audit containers.jsonl &
  sentry policy show default --as oci >sentry.json
  podman run --security-opt seccomp=sentry.json IMAGE

It stays in the foreground until it is told to end (SIGTERM). Containers lose what it did for them
then: their trapped calls fail.";

/// Answer trapped system calls of containers that runc and crun make
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Agent {
    /// Where runtimes connect to [default: $XDG_RUNTIME_DIR/sentry/agent.sock, or /run/sentry/agent.sock as root]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// The file with the policies that profiles may choose [default: containers.toml in /etc/sentry or ~/.config/sentry]
    #[arg(long, value_name = "FILE")]
    policy_file: Option<PathBuf>,
    /// Append to this file who comes and what is refused, a line of JSON each; - is the standard output
    #[arg(long, value_name = "FILE", default_value = "-")]
    audit: PathBuf,
    /// Containers at most
    #[arg(long, value_name = "N", default_value_t = 256)]
    max: usize,
}

impl Agent {
    /// Serves until it is told to end; says on the standard error when it listens.
    pub fn run(&self) -> anyhow::Result<u8> {
        let owner = match &self.policy_file {
            Some(file) => Owner::read_at(file),
            None => Owner::read(),
        }?;
        let socket = self.socket.clone().map_or_else(serve::usual_socket, Ok)?;
        let options = Options { socket, owner, audit: self.audit.clone(), most: self.max };
        serve::run(options, &mut std::io::stderr())?;
        Ok(0)
    }
}
