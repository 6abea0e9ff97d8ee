//! The command line of `sentry oci`, as runc and crun have it, because engines pass what those take.
//!
//! What concerns systemd or a security module that we do not drive is accepted where callers pass it always, and has no
//! effect; [`super::config`] refuses what a container would miss.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand};

/// An OCI container runtime whose containers are supervised by the sentry.
#[derive(Debug, Parser)]
#[command(name = "sentry-oci", disable_version_flag = true, disable_help_subcommand = true, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What stands before the command.
#[derive(Clone, Debug, Default, Args)]
pub struct Global {
    /// Where the state of containers is kept
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Where errors are logged
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// How they are: text or json
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub log_format: String,
    /// From which level on: error, warning, debug
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// Log more
    #[arg(long)]
    pub debug: bool,
    /// cgroupsPath has the form slice:prefix:name
    #[arg(long)]
    pub systemd_cgroup: bool,
    /// Who makes cgroups: cgroupfs, systemd or disabled
    #[arg(long, value_name = "WHO")]
    pub cgroup_manager: Option<String>,
    /// Ignored: what an ordinary user cannot have is found out by itself
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub rootless: Option<String>,
    /// Ignored: criu is not used
    #[arg(long, value_name = "PATH", hide = true)]
    pub criu: Option<PathBuf>,
    /// Show the version
    #[arg(long, short = 'v')]
    pub version: bool,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a container, which waits for start
    Create(Create),
    /// Run the program of a container that was created
    Start(One),
    /// Show a container's state
    State(One),
    /// Send a signal to a container
    Kill(Kill),
    /// Remove a container
    Delete(Delete),
    /// Create and start a container, and wait for its end
    Run(Run),
    /// Run one more program in a container
    Exec(Exec),
    /// List a container's processes
    Ps(Ps),
    /// Suspend all processes of a container
    Pause(One),
    /// Resume what was suspended
    Resume(One),
    /// Change a container's resource limits
    Update(Box<Update>),
    /// Show events and resource use of a container
    Events(Events),
    /// List containers
    List(List),
    /// Show what this runtime can do
    Features,
    /// Write a config.json to begin with
    Spec(Spec),
}

/// A container.
#[derive(Debug, Args)]
pub struct One {
    #[arg(value_name = "ID")]
    pub id: String,
}

/// What create and run have in common.
#[derive(Clone, Debug, Default, Args)]
pub struct Making {
    #[arg(value_name = "ID")]
    pub id: String,
    /// The directory with config.json
    #[arg(long, short, value_name = "DIR", default_value = ".")]
    pub bundle: PathBuf,
    /// Use this file in place of config.json
    #[arg(long, short = 'f', value_name = "FILE", hide = true)]
    pub config: Option<PathBuf>,
    /// Send the terminal over this socket
    #[arg(long, value_name = "SOCKET")]
    pub console_socket: Option<PathBuf>,
    /// Write the process id here
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// Move the root in place of pivot_root, for a root in memory
    #[arg(long)]
    pub no_pivot: bool,
    /// Stay in the caller's session keyring
    #[arg(long)]
    pub no_new_keyring: bool,
    /// Pass on so many descriptors from 3 on
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub preserve_fds: u32,
}

#[derive(Debug, Args)]
pub struct Create {
    #[command(flatten)]
    pub making: Making,
}

#[derive(Debug, Args)]
pub struct Run {
    #[command(flatten)]
    pub making: Making,
    /// Do not wait for the container's end
    #[arg(long, short)]
    pub detach: bool,
    /// Do not adopt the container's orphans
    #[arg(long)]
    pub no_subreaper: bool,
    /// Keep the container's state when it ends
    #[arg(long)]
    pub keep: bool,
}

#[derive(Debug, Args)]
pub struct Kill {
    #[arg(value_name = "ID")]
    pub id: String,
    /// A number, or a name with or without SIG
    #[arg(value_name = "SIGNAL", default_value = "TERM")]
    pub signal: String,
    /// To all processes of the container
    #[arg(long, short)]
    pub all: bool,
}

#[derive(Debug, Args)]
pub struct Delete {
    #[arg(value_name = "ID")]
    pub id: String,
    /// Also if it still runs; no error if it does not exist
    #[arg(long, short)]
    pub force: bool,
}

#[derive(Debug, Default, Args)]
pub struct Exec {
    #[arg(value_name = "ID")]
    pub id: String,
    /// The program and its arguments
    #[arg(value_name = "COMMAND", trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<String>,
    /// The process as config.json has it
    #[arg(long, short, value_name = "FILE")]
    pub process: Option<PathBuf>,
    /// Give it a terminal
    #[arg(long, short)]
    pub tty: bool,
    /// In this directory
    #[arg(long, value_name = "DIR")]
    pub cwd: Option<PathBuf>,
    /// With this variable
    #[arg(long, short, value_name = "NAME=VALUE")]
    pub env: Vec<String>,
    /// As this user
    #[arg(long, short, value_name = "UID[:GID]")]
    pub user: Option<String>,
    /// And in this group
    #[arg(long, short = 'g', value_name = "GID")]
    pub additional_gids: Vec<u32>,
    /// With this capability
    #[arg(long, short, value_name = "CAP")]
    pub cap: Vec<String>,
    /// Without new privileges
    #[arg(long)]
    pub no_new_privs: bool,
    /// Do not wait for its end
    #[arg(long, short)]
    pub detach: bool,
    /// Write the process id here
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// Send the terminal over this socket
    #[arg(long, value_name = "SOCKET")]
    pub console_socket: Option<PathBuf>,
    /// Pass on so many descriptors from 3 on
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub preserve_fds: u32,
    /// An AppArmor profile
    #[arg(long, value_name = "PROFILE")]
    pub apparmor: Option<String>,
    /// An SELinux label
    #[arg(long, value_name = "LABEL")]
    pub process_label: Option<String>,
    /// In this cgroup, relative to the container's
    #[arg(long, value_name = "PATH")]
    pub cgroup: Option<String>,
    /// Also in a container that is paused
    #[arg(long)]
    pub ignore_paused: bool,
    /// Do not adopt orphans
    #[arg(long, hide = true)]
    pub no_subreaper: bool,
}

#[derive(Debug, Args)]
pub struct Ps {
    #[arg(value_name = "ID")]
    pub id: String,
    /// How: table or json
    #[arg(long, short, value_name = "FORMAT", default_value = "table")]
    pub format: String,
    /// Options for ps(1), with the table
    #[arg(value_name = "OPTION", trailing_var_arg = true, allow_hyphen_values = true)]
    pub options: Vec<String>,
}

#[derive(Debug, Args)]
pub struct List {
    /// How: table or json
    #[arg(long, short, value_name = "FORMAT", default_value = "table")]
    pub format: String,
    /// Ids only
    #[arg(long, short)]
    pub quiet: bool,
}

#[derive(Debug, Args)]
pub struct Events {
    #[arg(value_name = "ID")]
    pub id: String,
    /// Show resource use once
    #[arg(long)]
    pub stats: bool,
    /// How often to show it
    #[arg(long, value_name = "TIME", default_value = "5s")]
    pub interval: String,
}

#[derive(Debug, Args)]
pub struct Spec {
    /// Where to
    #[arg(long, short, value_name = "DIR", default_value = ".")]
    pub bundle: PathBuf,
    /// For an ordinary user
    #[arg(long)]
    pub rootless: bool,
}

/// Limits; what is not named stays.
#[derive(Debug, Default, Args)]
pub struct Update {
    #[arg(value_name = "ID")]
    pub id: String,
    /// A file with linux.resources; - is standard input
    #[arg(long, short, value_name = "FILE")]
    pub resources: Option<PathBuf>,
    /// 10 to 1000
    #[arg(long, value_name = "WEIGHT")]
    pub blkio_weight: Option<u16>,
    /// Microseconds
    #[arg(long, value_name = "TIME")]
    pub cpu_period: Option<u64>,
    /// Microseconds in a period
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub cpu_quota: Option<i64>,
    /// Microseconds that may be saved up
    #[arg(long, value_name = "TIME")]
    pub cpu_burst: Option<u64>,
    /// Microseconds
    #[arg(long, value_name = "TIME")]
    pub cpu_rt_period: Option<u64>,
    /// Microseconds in a real-time period
    #[arg(long, value_name = "TIME")]
    pub cpu_rt_runtime: Option<i64>,
    /// A share beside others
    #[arg(long, visible_alias = "cpu-shares", value_name = "SHARE")]
    pub cpu_share: Option<u64>,
    /// Processors
    #[arg(long, value_name = "LIST")]
    pub cpuset_cpus: Option<String>,
    /// Memory nodes
    #[arg(long, value_name = "LIST")]
    pub cpuset_mems: Option<String>,
    /// Scheduled only when nobody else wants to run
    #[arg(long, value_name = "0|1")]
    pub cpu_idle: Option<i64>,
    /// Bytes of memory
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    pub memory: Option<i64>,
    /// Bytes of memory to fall back to
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    pub memory_reservation: Option<i64>,
    /// Bytes of memory and swap
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    pub memory_swap: Option<i64>,
    /// Ignored, as the kernel does
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true, hide = true)]
    pub kernel_memory: Option<i64>,
    /// Ignored, as the kernel does
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true, hide = true)]
    pub kernel_memory_tcp: Option<i64>,
    /// Processes and threads
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub pids_limit: Option<i64>,
}

/// The words for this command line out of those of the whole program: called as `sentry-oci`, or with the verb `oci`.
pub fn own_words(args: &[OsString]) -> Option<Vec<OsString>> {
    let name = Path::new(args.first()?).file_name();
    if name.is_some_and(|name| name == "sentry-oci") {
        return Some(args.to_vec());
    }
    let (name, rest) = args.split_first()?;
    let (verb, rest) = rest.split_first()?;
    (verb == "oci").then(|| std::iter::once(name).chain(rest).cloned().collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Cli {
        Cli::try_parse_from(std::iter::once("sentry-oci").chain(line.split_whitespace())).unwrap()
    }

    #[test]
    fn what_conmon_passes_is_understood() {
        let line = "--root /r --log-format=json --log /l create --bundle /b --pid-file /p --console-socket /s --preserve-fds 2 \
                    --no-pivot --no-new-keyring abc";
        let Some(Command::Create(create)) = parsed(line).command else { panic!("no create") };
        assert_eq!(create.making.id, "abc");
        assert_eq!(create.making.preserve_fds, 2);
        assert!(create.making.no_pivot && create.making.no_new_keyring);
        let Some(Command::Exec(exec)) = parsed("exec --pid-file /p --process /f --detach abc").command else {
            panic!("no exec")
        };
        assert!(exec.detach && exec.command.is_empty());
        let Some(Command::Kill(kill)) = parsed("kill --all abc 9").command else { panic!("no kill") };
        assert!(kill.all);
        assert_eq!(kill.signal, "9");
        assert!(parsed("--systemd-cgroup --rootless=true list").global.systemd_cgroup);
    }

    #[test]
    fn options_may_come_after_the_id_but_not_after_a_program() {
        let Some(Command::Delete(delete)) = parsed("delete abc --force").command else { panic!("no delete") };
        assert!(delete.force);
        let Some(Command::Exec(exec)) = parsed("exec abc --tty ls --detach -l").command else { panic!("no exec") };
        assert!(exec.tty && !exec.detach);
        assert_eq!(exec.command, ["ls", "--detach", "-l"]);
    }

    #[test]
    fn the_description_is_sound() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }
}
