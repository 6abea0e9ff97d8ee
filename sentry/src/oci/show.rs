//! What is only shown: `state`, `list`, `ps`, `features`, `--version`.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::json;
use shim::failure::Failure;

use super::cli::{List, Ps};
use super::config::VERSION;
use super::state::{Entry, Record, Status, Store};
use super::{kill, told};

/// `--version`, in the words that engines look through.
pub fn version(out: &mut dyn Write) -> Result<(), Failure> {
    let own = env!("CARGO_PKG_VERSION");
    told(writeln!(out, "sentry-oci version {own}\nspec: {VERSION}\n+SECCOMP +CAP +SECCOMP_NOTIFY +SUPERVISOR"))
}

fn facts(entry: &Entry) -> Result<(Record, Status, serde_json::Value), Failure> {
    let record = entry.read()?;
    let status = entry.status(&record);
    let pid = if status == Status::Stopped { 0 } else { record.pid };
    let mut value = record.state(status.name(), pid);
    value["pid"] = pid.into();
    value["rootfs"] = json!(record.rootfs);
    value["created"] = json!(record.created);
    value["owner"] = json!(record.owner);
    Ok((record, status, value))
}

/// `state`
pub fn state(store: &Store, id: &str, out: &mut dyn Write) -> Result<(), Failure> {
    let (_, _, value) = facts(&store.find(id)?)?;
    told(writeln!(out, "{value:#}"))
}

/// `list`
pub fn list(store: &Store, list: &List, out: &mut dyn Write) -> Result<(), Failure> {
    // One that is removed meanwhile is not there.
    let all: Vec<_> = store.all().iter().filter_map(|entry| facts(entry).ok()).collect();
    if list.quiet {
        return told(all.iter().try_for_each(|(record, ..)| writeln!(out, "{}", record.id)));
    }
    match list.format.as_str() {
        "json" => {
            let values: Vec<_> = all.into_iter().map(|(.., value)| value).collect();
            told(writeln!(out, "{}", json!(values)))
        }
        "table" => {
            let width = all.iter().map(|(record, ..)| record.id.len()).max().unwrap_or(0).max(2);
            let mut text = format!("{:width$}  {:8}  {:8}  {:30}  BUNDLE\n", "ID", "PID", "STATUS", "CREATED");
            for (record, status, value) in &all {
                let pid = value["pid"].to_string();
                let bundle = record.bundle.display();
                text +=
                    &format!("{:width$}  {pid:8}  {:8}  {:30}  {bundle}\n", record.id, status.name(), record.created);
            }
            told(out.write_all(text.as_bytes()))
        }
        other => Err(Failure::check_text(format!("--format {other:?} is neither table nor json"))),
    }
}

/// `ps`
pub fn ps(store: &Store, ps: &Ps, out: &mut dyn Write) -> Result<(), Failure> {
    let record = store.find(&ps.id)?.read()?;
    let pids = kill::members(&record);
    match ps.format.as_str() {
        "json" => told(writeln!(out, "{}", json!(pids))),
        "table" => {
            let options = if ps.options.is_empty() { vec!["-ef".to_owned()] } else { ps.options.clone() };
            let said = Command::new("ps").args(options).stdin(Stdio::null()).stderr(Stdio::inherit()).output();
            let said = said.map_err(|error| {
                Failure::check_text(format!("cannot run ps: {}", crate::policy::path::reason(&error)))
                    .remedy("install procps, or use --format json")
            })?;
            told(out.write_all(rows(&String::from_utf8_lossy(&said.stdout), &pids)?.as_bytes()))
        }
        other => Err(Failure::check_text(format!("--format {other:?} is neither table nor json"))),
    }
}

/// The lines of ps(1) that are about `pids`, with their heading.
fn rows(text: &str, pids: &[i32]) -> Result<String, Failure> {
    let mut lines = text.lines();
    let heading = lines.next().unwrap_or_default();
    let column = heading
        .split_whitespace()
        .position(|name| name == "PID")
        .ok_or_else(|| Failure::check_text("the options for ps show no PID"))?;
    let ours = |line: &&str| {
        line.split_whitespace().nth(column).and_then(|pid| pid.parse().ok()).is_some_and(|pid| pids.contains(&pid))
    };
    Ok([heading].into_iter().chain(lines.filter(ours)).map(|line| format!("{line}\n")).collect())
}

/// `features`, as the specification has it.
pub fn features(out: &mut dyn Write) -> Result<(), Failure> {
    let capabilities: Vec<&str> = (0..=40).map(shim::container::name_of).collect();
    let features = json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": VERSION,
        "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        "mountOptions": Vec::<&str>::new(),
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"],
            "capabilities": capabilities,
            "cgroup": {"v1": true, "v2": true, "systemd": false, "systemdUser": false, "rdma": false},
            "seccomp": {
                "enabled": true,
                "actions": ["SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS",
                            "SCMP_ACT_KILL_THREAD", "SCMP_ACT_LOG", "SCMP_ACT_TRAP"],
                "operators": ["SCMP_CMP_NE", "SCMP_CMP_LT", "SCMP_CMP_LE", "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT",
                              "SCMP_CMP_MASKED_EQ"],
                "archs": [native()],
                "knownFlags": ["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_LOG",
                               "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],
                "supportedFlags": ["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
                                   "SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]
            },
            "apparmor": {"enabled": false},
            "selinux": {"enabled": false},
            "intelRdt": {"enabled": false},
            "mountExtensions": {"idmap": {"enabled": true}}
        },
        "annotations": {"dev.sentry.version": env!("CARGO_PKG_VERSION")}
    });
    told(writeln!(out, "{features:#}"))
}

fn native() -> &'static str {
    if cfg!(target_arch = "aarch64") { "SCMP_ARCH_AARCH64" } else { "SCMP_ARCH_X86_64" }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_the_containers_processes_are_shown() {
        let text = "UID  PID  PPID  CMD\nroot 1 0 init\nroot 12 1 sh -c 1\n";
        assert_eq!(rows(text, &[12]).unwrap(), "UID  PID  PPID  CMD\nroot 12 1 sh -c 1\n");
        assert!(rows("USER CMD\n", &[1]).is_err());
    }

    #[test]
    fn features_are_what_the_specification_describes() {
        let mut out = Vec::new();
        features(&mut out).unwrap();
        let features: oci_spec::runtime::Features = serde_json::from_slice(&out).unwrap();
        assert_eq!(features.oci_version_max(), VERSION);
    }
}
