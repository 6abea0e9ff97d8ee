//! The options of `sentry run`, as they are typed.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ArgAction, Args};

use super::bubblewrap::Bubblewrap;
use crate::policy::clock::Clock;
use crate::policy::limits::LimitChanges;
use crate::policy::{Ability, CowStore, FakeRoot, Interpose, Mechanism, Net, ProcFiles, Userns};

const EXAMPLES: &str = "\
A path appears under its own name. Rules do not depend on their order: the longest path wins, and
for the same path hide beats deny beats write beats cow beats read. A pattern without a slash, or
one that begins with **/, holds in every directory but the system's. Options win over the policy
file, the policy file over the profile. 'sentry explain' tells who enforces each rule.

Examples:
  sentry run -- ./configure
  sentry run -w build -r ~/.m2 -- mvn package
  sentry run -v ./site:/srv:ro --net all -- caddy file-server --root /srv
  sentry run --memory 512M --timeout 10s --json report.json -- ./solution < input.txt

Exit codes: the program's own; 128+n if signal n ended it; 124 time was up; 125 the sandbox could
not be built; 126 the program cannot be executed; 127 it cannot be found.";

/// Run a program in a sandbox
#[derive(Args, Debug, Default)]
#[command(override_usage = "sentry run [OPTIONS] -- COMMAND [ARG]...", after_help = EXAMPLES, disable_help_flag = true)]
pub struct Run {
    /// Show it a file or directory, read-only
    #[arg(short, long, value_name = "PATH", help_heading = "Files")]
    pub read: Vec<PathBuf>,
    /// Let it change a file or directory
    #[arg(short, long, value_name = "PATH", help_heading = "Files")]
    pub write: Vec<PathBuf>,
    /// Let it change a copy of a directory, as it may with the current one
    #[arg(long, value_name = "PATH", help_heading = "Files")]
    pub cow: Vec<PathBuf>,
    /// Go on with the copies that an earlier run left, which 'sentry ps' lists
    #[arg(long, value_name = "RUN", help_heading = "Files")]
    pub resume: Option<String>,
    /// Show HOST at another place, writable unless :ro (or :cow) follows
    #[arg(short, long, value_name = "HOST:BOX[:ro]", help_heading = "Files")]
    pub volume: Vec<OsString>,
    /// Make an empty private directory
    #[arg(long, value_name = "PATH[:SIZE]", help_heading = "Files")]
    pub tmpfs: Vec<OsString>,
    /// Hide a path or what matches a pattern such as '**/.env*', also if it does not exist yet
    #[arg(long, value_name = "PATTERN", help_heading = "Files")]
    pub hide: Vec<PathBuf>,
    /// Let it see that a path is there, and not use it
    #[arg(long, value_name = "PATTERN", help_heading = "Files")]
    pub deny: Vec<PathBuf>,
    /// Give a file this text, or the contents of a file of this host
    #[arg(long, value_name = "PATH=TEXT|FILE", help_heading = "Files")]
    pub file: Vec<OsString>,
    /// Show a file of this host in the place of another, read-only
    #[arg(long, value_name = "PATH=HOST", help_heading = "Files")]
    pub redirect: Vec<OsString>,
    /// Take the system directories from another root
    #[arg(long, value_name = "DIR", help_heading = "Files")]
    pub root: Option<PathBuf>,
    /// Where the copies are kept; those in memory are gone at the end
    #[arg(long, value_enum, value_name = "disk|memory", hide_possible_values = true, help_heading = "Files")]
    pub cow_store: Option<CowStore>,

    /// No network, which is the default, or all of this host's
    #[arg(long, value_name = "none|all", value_parser = network, help_heading = "Network")]
    pub net: Option<Net>,
    /// Name of the host inside
    #[arg(long, value_name = "NAME", help_heading = "Network")]
    pub hostname: Option<String>,
    /// Kernel that uname and /proc tell of, such as 6.1.0-13-amd64
    #[arg(long, value_name = "RELEASE[:VERSION]", help_heading = "Environment")]
    pub uname: Option<String>,

    /// Let the files of /proc that tell of limits show what is in use now; every path goes through the sentry then
    #[arg(long, value_enum, value_name = "static|live", hide_possible_values = true, help_heading = "Environment")]
    pub proc_files: Option<ProcFiles>,

    /// Set a variable, or pass one on
    #[arg(short, long, value_name = "K[=V]", help_heading = "Environment")]
    pub env: Vec<OsString>,
    /// Pass on all variables, secrets included
    #[arg(long, help_heading = "Environment")]
    pub env_all: bool,
    /// Start in this directory of the sandbox
    #[arg(long, alias = "chdir", value_name = "DIR", help_heading = "Environment")]
    pub workdir: Option<PathBuf>,

    /// A clock of its own: virtual, +3d, -1h or a date; add ,frozen ,scale=N ,uptime=TIME
    #[arg(long, value_name = "CLOCK", allow_hyphen_values = true, help_heading = "Environment")]
    pub clock: Option<Clock>,

    #[command(flatten)]
    pub(crate) limits: LimitChanges,

    /// Begin with a built-in profile: default, dev or judge
    #[arg(long, value_name = "NAME", help_heading = "Policy")]
    pub profile: Option<String>,
    /// Add a policy file (TOML)
    #[arg(long, value_name = "FILE", help_heading = "Policy")]
    pub policy: Vec<PathBuf>,
    /// Add a seccomp profile (OCI's JSON); it can only take away
    #[arg(long, value_name = "FILE", help_heading = "Policy")]
    pub seccomp: Option<PathBuf>,
    /// Send every call that takes a path through the sentry, or only those that a rule needs
    #[arg(long, value_enum, value_name = "minimal|full", hide_possible_values = true, help_heading = "Policy")]
    pub interpose: Option<Interpose>,
    /// Ask the sentry by a seccomp listener, or, where none can be had, by ptrace
    #[arg(long, value_enum, value_name = "notify|ptrace", hide_possible_values = true, help_heading = "Policy")]
    pub platform: Option<Mechanism>,
    /// Let it be root, with users, owners and modes that only it sees
    #[arg(
        long,
        value_enum,
        value_name = "pretend|range",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "pretend",
        hide_possible_values = true,
        help_heading = "Policy"
    )]
    pub fake_root: Option<FakeRoot>,
    /// Refuse user namespaces, or let a program believe that it is root in one
    #[arg(long, value_enum, value_name = "deny|emulate", hide_possible_values = true, help_heading = "Policy")]
    pub userns: Option<Userns>,
    /// Within another sandbox: hold the program by what can be had there, and say what cannot
    #[arg(long, help_heading = "Policy")]
    pub nested: bool,
    /// Do for it what needs rights: mount, within what it sees
    #[arg(long, value_enum, value_name = "mount", hide_possible_values = true, help_heading = "Policy")]
    pub allow: Vec<Ability>,
    /// Go on without protections that this host cannot give
    #[arg(long, help_heading = "Policy")]
    pub allow_degraded: bool,

    /// Show denials as they happen, missing files too
    #[arg(long, value_name = "denied", value_parser = ["denied"], hide_possible_values = true, help_heading = "Reports")]
    pub trace: Option<String>,
    /// Write a report in JSON to a file, or to a descriptor by its number
    #[arg(long, value_name = "FILE|FD", help_heading = "Reports")]
    pub json: Option<PathBuf>,
    /// Write a report in the format of isolate
    #[arg(long, value_name = "FILE", help_heading = "Reports")]
    pub meta: Option<PathBuf>,
    /// Log only what is done with these paths, and what is refused
    #[arg(long, value_name = "PATTERN", help_heading = "Reports")]
    pub log: Vec<PathBuf>,
    /// Log every decision about a path, a line of JSON each
    #[arg(long, value_name = "FILE", help_heading = "Reports")]
    pub audit: Option<PathBuf>,
    /// No summary at the end
    #[arg(short, long, help_heading = "Reports")]
    pub quiet: bool,

    /// Print this help
    #[arg(short, long, action = ArgAction::Help, help_heading = "Reports")]
    help: Option<bool>,

    #[command(flatten)]
    pub(crate) bubblewrap: Bubblewrap,

    /// The program and its arguments
    #[arg(last = true, value_name = "COMMAND", hide = true)]
    pub command: Vec<OsString>,
}

fn network(text: &str) -> Result<Net, String> {
    match text {
        "none" => Ok(Net::None),
        "all" => Ok(Net::All),
        _ => {
            Err("this version knows no single hosts; use --net none, or --net all for the network of this host".into())
        }
    }
}
