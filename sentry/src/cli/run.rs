//! `sentry run`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::bubblewrap::Bubblewrap;
use super::sink;
use crate::policy::file::Reader;
use crate::policy::layer::Layer;
use crate::policy::limits::LimitChanges;
use crate::policy::{Access, CowStore, Environment, Error, Grant, Net, Policy, Scratch, path, profile};

const DETAILS: &str = "\
Rules do not depend on their order: the longest path wins; hide beats write beats read.
Exit codes: the program's own; 128+n if signal n killed it; 124 time was up; 125 no sandbox; 126 not executable; 127 not found.
At the end, changed files and refused calls are listed on standard error.";

/// Run a command in a sandbox.
#[derive(Args, Debug)]
#[command(after_help = DETAILS)]
pub struct Run {
    /// Show a file or directory, read-only.
    #[arg(short, long, value_name = "PATH", help_heading = "Files")]
    read: Vec<PathBuf>,
    /// Show a file or directory and let it be changed.
    #[arg(short, long, value_name = "PATH", help_heading = "Files")]
    write: Vec<PathBuf>,
    /// Show a directory; changes stay in a copy (the default for the current directory).
    #[arg(long, value_name = "PATH", help_heading = "Files")]
    cow: Vec<PathBuf>,
    /// Show a path in another place; ":ro" for read-only.
    #[arg(short, long, value_name = "HOST:BOX[:ro]", help_heading = "Files")]
    volume: Vec<OsString>,
    /// An empty, private directory in memory.
    #[arg(long, value_name = "PATH[:SIZE]", help_heading = "Files")]
    tmpfs: Vec<OsString>,
    /// Hide an exact path, also one that does not exist yet.
    #[arg(long, value_name = "PATH", help_heading = "Files")]
    hide: Vec<PathBuf>,
    /// Where copies of changed files live.
    #[arg(long, value_name = "PLACE", help_heading = "Files")]
    cow_store: Option<CowStore>,
    /// Another root directory in place of the system's, read-only.
    #[arg(long, value_name = "DIR", help_heading = "Files")]
    root: Option<PathBuf>,
    /// The directory to begin in.
    #[arg(long, value_name = "DIR", help_heading = "Files")]
    workdir: Option<PathBuf>,

    /// The network: none, or all of the host's.
    #[arg(long, value_name = "none|all", help_heading = "World", value_parser = net)]
    net: Option<Net>,
    /// Pass a variable on, or set it.
    #[arg(short, long, value_name = "K[=V]", help_heading = "World")]
    env: Vec<OsString>,
    /// Pass the whole environment on, secrets included.
    #[arg(long, help_heading = "World")]
    env_all: bool,
    /// What the machine is called inside.
    #[arg(long, value_name = "NAME", help_heading = "World")]
    hostname: Option<String>,

    #[command(flatten)]
    limits: LimitChanges,

    /// Begin with a built-in policy: default, dev or judge.
    #[arg(long, value_name = "NAME", help_heading = "Policy")]
    profile: Option<String>,
    /// Read a policy file (TOML).
    #[arg(long, value_name = "FILE", help_heading = "Policy")]
    policy: Option<PathBuf>,
    /// An OCI seccomp profile on top, as podman takes it.
    #[arg(long, value_name = "FILE", help_heading = "Policy")]
    seccomp: Option<PathBuf>,
    /// Go on without protections that this machine lacks, and say which.
    #[arg(long, help_heading = "Policy")]
    allow_degraded: bool,

    /// Show what is refused or not found, as it happens.
    #[arg(long, value_name = "WHAT", help_heading = "Results")]
    trace: Option<Trace>,
    /// Write a report to a file or descriptor.
    #[arg(long, value_name = "FILE|FD", help_heading = "Results")]
    json: Option<OsString>,
    /// Write a report in isolate's format.
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    meta: Option<PathBuf>,
    /// No summary at the end.
    #[arg(short, long, help_heading = "Results")]
    quiet: bool,

    #[command(flatten)]
    bubblewrap: Bubblewrap,

    /// The program and its arguments.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// What `--trace` shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Trace {
    /// Refused calls, and paths that are not in the view.
    Denied,
}

fn net(text: &str) -> Result<Net, String> {
    match text {
        "none" => Ok(Net::None),
        "all" => Ok(Net::All),
        _ => Err("this version knows none and all; single hosts cannot be allowed yet".to_owned()),
    }
}

impl Run {
    /// The policy that profile, policy file and options make together.
    pub fn policy(self) -> anyhow::Result<Policy> {
        let facts = crate::host::user_facts()?;
        let here = |given: &PathBuf| path::absolute(&facts.cwd, given);

        let mut policy = Policy::bare(self.command.clone());
        let mut reader = Reader::new(&facts);
        match &self.policy {
            Some(file) => reader.file(file, Some(self.profile.as_deref().unwrap_or(profile::DEFAULT)), &mut policy)?,
            None => reader.profile(self.profile.as_deref().unwrap_or(profile::DEFAULT), &mut policy)?,
        }
        if self.policy.is_some() && let Some(name) = &self.profile {
            policy.profile.clone_from(name);
        }
        let files = reader.files;

        let mut layer = Layer {
            root: self.root.as_ref().map(here),
            workdir: self.workdir.as_ref().map(|path| path::inside(&facts.cwd, path)).transpose()?,
            net: self.net,
            hostname: self.hostname.clone(),
            limits: self.limits.clone(),
            cow_store: self.cow_store,
            seccomp: self.seccomp.as_ref().map(here),
            ..Layer::default()
        };
        for (paths, access) in [(&self.read, Access::Read), (&self.write, Access::Write), (&self.cow, Access::Cow)] {
            for given in paths {
                path::check_bytes(given.as_os_str())?;
                layer.grants.push(Grant::same(here(given), access)?);
            }
        }
        for volume in &self.volume {
            let mut grant = Grant::volume(volume)?;
            grant.host = here(&grant.host);
            layer.grants.push(grant);
        }
        for text in &self.tmpfs {
            let (place, size) = Scratch::split(text)?;
            layer.scratch.push(Scratch { inside: path::inside(&facts.cwd, &place)?, size });
        }
        for hidden in &self.hide {
            path::check_exact(hidden)?;
            layer.hide.push(path::inside(&facts.cwd, hidden)?);
        }
        layer.environment = Environment { inherit_all: self.env_all, ..Environment::default() };
        layer.environment.set.extend(self.env.iter().map(variable));
        self.bubblewrap.add_to(&mut layer, &facts)?;
        layer.lay_over(&mut policy);

        policy.trace_denied = self.trace == Some(Trace::Denied);
        policy.json = self.json.as_deref().map(sink);
        policy.meta = self.meta;
        policy.quiet = self.quiet;
        policy.allow_degraded = self.allow_degraded;
        policy.validate()?;
        sealed(&policy, &files)?;
        Ok(policy)
    }
}

/// `K=V`, or `K` to be passed on.
fn variable(text: &OsString) -> (OsString, Option<OsString>) {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let bytes = text.as_bytes();
    match bytes.iter().position(|byte| *byte == b'=') {
        Some(at) => (OsString::from_vec(bytes[..at].to_vec()), Some(OsString::from_vec(bytes[at + 1..].to_vec()))),
        None => (text.clone(), None),
    }
}

/// A policy that the program can rewrite is no policy for the next run.
fn sealed(policy: &Policy, files: &[PathBuf]) -> Result<(), Error> {
    for file in files {
        let real = file.canonicalize().unwrap_or_else(|_| file.clone());
        let writable = policy.grants.iter().filter(|grant| grant.access == Access::Write);
        let over = writable.filter_map(|grant| grant.host.canonicalize().ok()).find(|host| real.starts_with(host));
        if let Some(over) = over {
            return Err(Error::new(
                format!("the policy file {} could be changed by the program, for {} is writable", file.display(), over.display()),
                "keep the policy elsewhere",
            ));
        }
    }
    Ok(())
}
