//! `sentry policy show`: the policies of containers, as text, and as a profile for other runtimes.

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use crate::agent::policy::{Audited, BUILT_IN, ContainerPolicy, Owner};
use crate::agent::profile::{self, Destination};
use crate::agent::serve;
use crate::policy::Error;
use crate::policy::clock::Clock;

const EXAMPLES: &str = "\
Examples:
  sentry policy show                              the policies there are
  sentry policy show default                      what one of them says
  sentry policy show default --as oci >sentry.json
  podman run --security-opt seccomp=sentry.json IMAGE";

/// Show the policies of containers, also as seccomp profiles for other runtimes
#[derive(Args, Debug)]
pub struct PolicyVerb {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Show(Show),
}

/// Show policies
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
struct Show {
    /// The name of one
    policy: Option<String>,
    /// How to write it
    #[arg(long = "as", value_enum, value_name = "FORM", default_value = "text", requires = "policy")]
    form: Form,
    /// The socket of the agent that the profile sends containers to
    #[arg(long, value_name = "SOCKET", requires = "policy")]
    listener: Option<PathBuf>,
    /// What the profile tells the agent: the name of a policy that the agent allows [default: POLICY]
    #[arg(long, value_name = "NAME", requires = "policy")]
    metadata: Option<String>,
    /// Whom the profile is for: crun keeps calls that are being answered from signals, runc takes no profile that asks for it
    #[arg(long, value_enum, value_name = "RUNTIME", default_value = "any", requires = "policy")]
    runtime: Runtime,
    /// The file with the policies of this host's owner
    #[arg(long, value_name = "FILE")]
    policy_file: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Form {
    /// For people
    Text,
    /// A seccomp profile of the OCI runtime specification, for an agent
    Oci,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum Runtime {
    /// Runc as well
    Any,
    /// Crun alone
    Crun,
}

impl PolicyVerb {
    /// Writes to `out` what is asked for.
    pub fn run(&self, out: &mut dyn Write) -> anyhow::Result<u8> {
        match &self.verb {
            Verb::Show(show) => show.run(out),
        }
    }
}

impl Show {
    fn run(&self, out: &mut dyn Write) -> anyhow::Result<u8> {
        let owner = match &self.policy_file {
            Some(file) => Owner::read_at(file),
            None => Owner::read(),
        }?;
        let Some(name) = &self.policy else {
            for name in owner.names() {
                let built_in = BUILT_IN.iter().find(|(known, _)| *known == name);
                writeln!(out, "{name:<10} {}", built_in.map_or("from the owner's file", |(_, about)| about))?;
            }
            return Ok(0);
        };
        let policy = owner.any(Some(name))?;
        match self.form {
            Form::Text => out.write_all(text(&policy).as_bytes())?,
            Form::Oci => writeln!(out, "{}", profile::write(&policy, &self.destination(name)?)?)?,
        }
        Ok(0)
    }

    fn destination(&self, policy: &str) -> anyhow::Result<Destination> {
        let socket = self.listener.clone().map_or_else(serve::usual_socket, Ok)?;
        if !socket.is_absolute() {
            let message = format!("the listener {} is not an absolute path", socket.display());
            return Err(Error::new(message, "runtimes start elsewhere; write it with a / in front").into());
        }
        Ok(Destination {
            socket,
            metadata: self.metadata.clone().unwrap_or_else(|| policy.to_owned()),
            wait_killable: self.runtime == Runtime::Crun,
        })
    }
}

fn word<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

fn surface(policy: &ContainerPolicy) -> &'static str {
    match policy.surface {
        syscalls::table::Surface::Judge => "judge",
        syscalls::table::Surface::Default => "default",
        syscalls::table::Surface::Compat => "compat",
    }
}

fn text(policy: &ContainerPolicy) -> String {
    let yes = |done: bool| if done { "answered by the sentry" } else { "refused" };
    let mount = match policy.mount.iter().map(word).collect::<Vec<_>>().join(", ") {
        kinds if kinds.is_empty() => "refused".to_owned(),
        kinds => format!("{kinds}, by the sentry"),
    };
    let clock = match policy.clock {
        Clock::Hosts => "the host's; setting it is refused".to_owned(),
        Clock::Own { .. } => "the container's own".to_owned(),
    };
    let audited = match policy.audited {
        Audited::Denied => "what is refused",
        Audited::All => "what is refused, and what is done by the sentry",
    };
    let rows = [
        ("policy", policy.name.clone()),
        ("calls", format!("those of the profile {}", surface(policy))),
        ("mount", mount),
        ("mknod", format!("of harmless devices: {}", yes(policy.mknod))),
        (
            "sysinfo",
            if policy.sysinfo { "tells of the container's memory".into() } else { "tells of the host's memory".into() },
        ),
        ("clock", clock),
        ("audited", audited.to_owned()),
    ];
    rows.iter().map(|(about, says)| format!("{about:<9}{says}\n")).collect()
}
