//! `sentry doctor`: what this host can enforce, what it cannot, and the command that changes that.
//!
//! A pure function of the facts in [`Host`], so that hosts can be shown to it that nobody has at hand.

use std::io::Write;

use clap::Args;
use nix::errno::Errno;

use crate::host::cgroup::CONTROLLERS;
use crate::host::{Cgroups, Host};
use crate::policy::path::shown;

/// Tell what this host can enforce, and how to get the rest
#[derive(Args, Debug)]
#[command(after_help = "The exit code is 0 if 'sentry run' works here, and 1 if something that it needs is missing.")]
pub struct Doctor {}

impl Doctor {
    /// Looks at this host and writes one line for each check to `out`.
    pub fn run(&self, out: &mut dyn Write) -> anyhow::Result<u8> {
        let checks = checks(&Host::look());
        out.write_all(page(&checks).as_bytes())?;
        Ok(u8::from(!works(&checks)))
    }
}

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// As it should be.
    Ok,
    /// `sentry run` works, but something is weaker.
    Warn,
    /// `sentry run` refuses to start.
    Missing,
}

/// One line of the page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What it is about.
    pub about: &'static str,
    /// How it went.
    pub state: State,
    /// What was found.
    pub found: String,
    /// What to do; each line is a command or a sentence.
    pub remedy: Vec<String>,
}

/// Whether `sentry run` works on a host with these `checks`.
pub fn works(checks: &[Check]) -> bool {
    checks.iter().all(|check| check.state != State::Missing)
}

/// Everything that there is to say about `host`.
pub fn checks(host: &Host) -> Vec<Check> {
    let mut checks = vec![kernel(host), user_namespaces(host)];
    checks.extend([proc(host), time_namespace(host), listener(host), landlock(host), overlay(host), limits(host)]);
    checks.extend(id_range(host));
    checks.extend(id_mapped_mounts(host));
    checks.extend(container(host));
    checks.extend(privileges(host));
    checks
}

/// The page for a terminal.
pub fn page(checks: &[Check]) -> String {
    let mut page = String::new();
    for check in checks {
        let state = match check.state {
            State::Ok => "ok",
            State::Warn => "warn",
            State::Missing => "missing",
        };
        page.push_str(&format!("{state:<8} {:<21} {}\n", check.about, check.found));
        for (number, line) in check.remedy.iter().enumerate() {
            let label = if number == 0 { "fix:" } else { "" };
            page.push_str(&format!("{:<8} {label:<5}{line}\n", ""));
        }
    }
    page.push_str(match () {
        () if !works(checks) => "\n'sentry run' does not work here until what is missing is there.\n",
        () if checks.iter().any(|check| check.state == State::Warn) => {
            "\n'sentry run' works here; what is marked 'warn' is weaker than it could be.\n"
        }
        () => "\n'sentry run' works here, with every protection.\n",
    });
    page
}

fn ok(about: &'static str, found: impl Into<String>) -> Check {
    Check { about, state: State::Ok, found: found.into(), remedy: Vec::new() }
}

fn warn(about: &'static str, found: impl Into<String>, remedy: &[&str]) -> Check {
    let remedy = remedy.iter().map(|line| (*line).to_owned()).collect();
    Check { state: State::Warn, remedy, ..ok(about, found) }
}

fn missing(about: &'static str, found: impl Into<String>, remedy: &[&str]) -> Check {
    Check { state: State::Missing, ..warn(about, found, remedy) }
}

fn kernel(host: &Host) -> Check {
    let found = format!("Linux {}", host.release);
    match host.kernel() {
        // What else it needs is tried below; this tells at once why all of that fails.
        Some(version) if version < (5, 19) => {
            missing("kernel", format!("{found} is too old"), &["install a kernel of version 5.19 or later"])
        }
        _ => ok("kernel", found),
    }
}

const OUTSIDE: &str = "start sentry outside of that sandbox";
const NESTED: &str = "or have less: sentry run --nested holds a program by what can be had here, and says what cannot";

fn user_namespaces(host: &Host) -> Check {
    let about = "user namespaces";
    let errno = match host.user_namespaces {
        Ok(()) => return ok(about, "can be made, and file systems can be mounted in them"),
        Err(errno) => errno,
    };
    let lost = |why: &str, remedy: &[&str]| missing(about, format!("cannot be used ({}): {why}", errno.desc()), remedy);
    if host.max_user_namespaces == Some(0) {
        return lost("their number is limited to 0", &["sudo sysctl -w user.max_user_namespaces=15000"]);
    }
    if host.unprivileged_userns_clone == Some(0) && !host.root {
        return lost("ordinary users may not make them", &["sudo sysctl -w kernel.unprivileged_userns_clone=1"]);
    }
    if host.apparmor_restricts.is_some_and(|value| value != 0) && host.container.is_none() && !host.root {
        let why = "AppArmor allows them to known programs only";
        return Check { remedy: apparmor_remedy(host), ..lost(why, &[]) };
    }
    match container_command(host) {
        Some(command) => lost("the container forbids it", &[command]),
        None if host.sandbox().is_some() => lost("the sandbox around this forbids it", &[OUTSIDE, NESTED]),
        None if host.filtered => lost("a seccomp filter forbids it", &[OUTSIDE]),
        None => {
            let remedy = "ask whoever runs this host which security module or kernel option forbids user namespaces";
            lost("the kernel does not say why", &[remedy])
        }
    }
}

/// A profile for this program alone comes first: to switch the rule off opens user namespaces to every program.
fn apparmor_remedy(host: &Host) -> Vec<String> {
    let program = host.program.display();
    let profile = format!(
        "printf '%s\\n' 'abi <abi/4.0>,' 'profile sentry \"{program}\" flags=(unconfined) {{' '  userns,' '}}' \
         | sudo tee /etc/apparmor.d/sentry"
    );
    let mut remedy = vec![profile, "sudo apparmor_parser -r /etc/apparmor.d/sentry".to_owned()];
    remedy.push("or, for every program on this host:".to_owned());
    remedy.push("sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0".to_owned());
    remedy
}

/// How to start the container that we seem to be in.
fn container_command(host: &Host) -> Option<&'static str> {
    match host.container? {
        "podman" => {
            Some("start the container with: podman run --security-opt seccomp=unconfined --security-opt unmask=ALL")
        }
        _ => Some(
            "start the container with: docker run --security-opt seccomp=unconfined --security-opt apparmor=unconfined \
             --security-opt systempaths=unconfined",
        ),
    }
}

/// Whatever needs a mount cannot be tried where user namespaces do not work; the remedy stands there.
fn untried(host: &Host, about: &'static str) -> Option<Check> {
    host.user_namespaces.err().map(|_| warn(about, "could not be tried without user namespaces", &[]))
}

fn proc(host: &Host) -> Check {
    let about = "own /proc";
    match host.proc {
        Ok(()) => ok(about, "can be mounted"),
        Err(_) if host.user_namespaces.is_err() => untried(host, about).unwrap_or_else(|| ok(about, "")),
        Err(Errno::EPERM) => {
            let remedy =
                container_command(host).unwrap_or("unmount what lies over parts of /proc: findmnt -R /proc lists it");
            missing(about, "cannot be mounted: the host's /proc is partly covered", &[remedy])
        }
        Err(errno) => missing(about, format!("cannot be mounted: {}", errno.desc()), &["use a kernel with procfs"]),
    }
}

fn time_namespace(host: &Host) -> Check {
    let about = "time namespaces";
    match host.time_namespace {
        Ok(()) => ok(about, "can be made"),
        Err(_) if host.user_namespaces.is_err() => untried(host, about).unwrap_or_else(|| ok(about, "")),
        Err(errno) => {
            let remedy = "use a kernel with CONFIG_TIME_NS, or accept the loss with --allow-degraded";
            missing(about, format!("cannot be made: {}", errno.desc()), &[remedy])
        }
    }
}

const TRACED: &str = "or do without a listener: sentry run --platform ptrace";

fn listener(host: &Host) -> Check {
    let about = "system call listener";
    match (host.listener, host.wait_killable) {
        (Ok(()), Ok(())) => ok(about, "seccomp notifies, and signals do not interrupt it"),
        (Ok(()), Err(_)) => {
            let found = "seccomp notifies, but signals would make it repeat calls (no WAIT_KILLABLE_RECV)";
            missing(about, found, &["install a kernel of version 5.19 or later", TRACED])
        }
        (Err(Errno::EBUSY), _) => {
            // Where nothing else is missing, only the listener is: then a tracer does.
            let instead = if host.user_namespaces.is_ok() { TRACED } else { NESTED };
            missing(about, "another sandbox listens to this process already", &[OUTSIDE, instead])
        }
        (Err(errno), _) => {
            let remedy = container_command(host).unwrap_or("use a kernel with CONFIG_SECCOMP_FILTER");
            missing(about, format!("seccomp cannot be used: {}", errno.desc()), &[remedy, TRACED])
        }
    }
}

fn landlock(host: &Host) -> Check {
    let about = "Landlock scopes";
    let degraded = "or accept the loss with --allow-degraded: namespaces still keep signals and sockets apart";
    match host.landlock {
        Ok(version) if version >= 6 => {
            ok(about, format!("signals and abstract sockets stay inside (version {version})"))
        }
        Ok(version) => {
            let found = format!("not in this kernel's Landlock (version {version}, scopes came with 6)");
            missing(about, found, &["install a kernel of version 6.12 or later", degraded])
        }
        Err(Errno::EOPNOTSUPP) => {
            let boot = "add landlock to the kernel's command line, as in lsm=landlock,..., and restart \
                        (/sys/kernel/security/lsm lists what else must stay in it)";
            missing(about, "Landlock is there but switched off", &[boot, degraded])
        }
        Err(errno) => {
            let remedy = match container_command(host) {
                Some(command) if host.filtered => command,
                _ => "install a kernel of version 6.12 or later with CONFIG_SECURITY_LANDLOCK",
            };
            missing(about, format!("no Landlock: {}", errno.desc()), &[remedy, degraded])
        }
    }
}

fn overlay(host: &Host) -> Check {
    let about = "copy-on-write";
    match host.overlay {
        Ok(()) => ok(about, "overlayfs can be mounted"),
        Err(_) if host.user_namespaces.is_err() => untried(host, about).unwrap_or_else(|| ok(about, "")),
        Err(errno) => {
            let found = format!("overlayfs cannot be mounted: {}", errno.desc());
            let all = ["sudo modprobe overlay", "or choose for the current directory: --read . or --write ."];
            warn(about, found, if errno == Errno::ENODEV { &all } else { &all[1..] })
        }
    }
}

fn limits(host: &Host) -> Check {
    let about = "limits";
    let usable = host.cgroups.usable();
    if CONTROLLERS.iter().all(|wanted| usable.iter().any(|one| one == wanted)) {
        return ok(about, format!("by control groups ({})", usable.join(", ")));
    }
    let weaker = "without control groups pids are limited by rlimit, memory by rlimit and a watch, cpus to whole ones";
    let delegate = "systemd-run --user --scope -p Delegate=yes sentry run ...";
    match &host.cgroups {
        Cgroups::None => warn(about, format!("no control groups are mounted; {weaker}"), &[]),
        Cgroups::Legacy { .. } => {
            let remedy = "start as root, or boot with systemd.unified_cgroup_hierarchy=1 and use delegation";
            let found = format!("control groups of version 1 are not ours to use; {weaker}");
            warn(about, found, &[if host.root { "mount the missing controllers" } else { remedy }])
        }
        Cgroups::Unified { usable: false, .. } => {
            warn(about, format!("no control group is delegated to this user; {weaker}"), &[delegate])
        }
        Cgroups::Unified { controllers, .. } => {
            let lacking: Vec<&str> =
                CONTROLLERS.into_iter().filter(|wanted| !controllers.iter().any(|one| one == wanted)).collect();
            let more = "sudo systemctl edit user@.service, and write: [Service] Delegate=cpu cpuset io memory pids";
            warn(about, format!("the control group lacks {}; {weaker}", lacking.join(", ")), &[delegate, more])
        }
    }
}

/// Only root starts guests under another id than its own.
/// Nothing is weaker without one.
fn id_range(host: &Host) -> Option<Check> {
    let about = "id range";
    Some(match host.id_range.as_ref()? {
        Ok(first) => ok(about, format!("ids from {first} on are yours, for --fake-root=range")),
        Err((what, remedy)) => Check { remedy: vec![remedy.clone()], ..ok(about, what.as_str()) },
    })
}

fn id_mapped_mounts(host: &Host) -> Option<Check> {
    let about = "id-mapped mounts";
    if !host.root {
        return None;
    }
    Some(match host.kernel() {
        Some(version) if version >= (5, 12) => {
            ok(about, "in this kernel; a grant on a file system without them is told at start")
        }
        _ => warn(about, "not in this kernel: files in --write grants get an unprivileged owner", &[]),
    })
}

fn container(host: &Host) -> Option<Check> {
    let about = "container";
    if let Some(name) = host.sandbox() {
        return Some(ok("sandbox", format!("this is inside {name}; what it forbids is told above")));
    }
    match (host.container, host.filtered) {
        (Some(kind), _) => Some(ok(about, format!("this is one ({kind}); what it forbids is told above"))),
        (None, true) => Some(ok(about, "a seccomp filter is in force already; what it forbids is told above")),
        (None, false) => None,
    }
}

fn privileges(host: &Host) -> Option<Check> {
    let found = "sentry was given rights that its user does not have, and refuses to use them";
    let remove = format!("sudo chmod ug-s {0}; sudo setcap -r {0}", shown(&host.program));
    host.privileged_start.then(|| missing("privileges", found, &[&remove]))
}

#[cfg(test)]
#[path = "doctor_tests.rs"]
mod tests;
