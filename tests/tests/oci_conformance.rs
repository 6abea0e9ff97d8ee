//! The container runtime against the OCI runtime specification, by the suite that `oci-conformance` is.
//!
//! The suite itself was validated on runc and crun (`tests/oci/conformance.sh` runs all three); here it holds ours: what passes
//! stays so. What cannot pass is named with its reason.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use sentry_tests::{as_user, is_root, outcome, site, skip};
use serde_json::Value;

/// What we refuse, and why that is so.
const KNOWN: &[(&str, &str)] = &[
    ("seccomp_listener", "a process tree can have one listener, and ours is it"),
    ("namespace_mount_by_path", "without a mount namespace of its own nothing keeps the container's root apart"),
];

/// The suite and the runtime, where the ordinary user finds them.
fn installed() -> &'static Path {
    static INSTALLED: OnceLock<PathBuf> = OnceLock::new();
    INSTALLED.get_or_init(|| {
        let own = std::env::current_exe().expect("the test's own path");
        let built = own.parent().and_then(Path::parent).expect("a target directory");
        let shared = site().sentry.parent().expect("a directory");
        for name in ["oci-conformance", "oci-probe"] {
            std::fs::copy(built.join(name), shared.join(name)).expect("a built workspace");
        }
        let _ = symlink(&site().sentry_itself, shared.join("sentry-oci"));
        shared.to_owned()
    })
}

/// Runs the suite, or a part of it, and returns what failed with the words that it failed with.
fn failures(mut command: Command, name: &str, only: &[&str]) -> (Vec<(String, String)>, usize) {
    let kept = site().home.join(format!("conformance-{}-{name}.json", std::process::id()));
    command.arg("--runtime").arg(installed().join("sentry-oci")).arg("--quiet").arg("--json").arg(&kept);
    for part in only {
        command.args(["--only", part]);
    }
    let run = outcome(command);
    let text = std::fs::read_to_string(&kept).unwrap_or_default();
    let _ = std::fs::remove_file(&kept);
    let records: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let with = |verdict: &str| records.iter().filter(|test| test["verdict"] == verdict).cloned().collect::<Vec<_>>();
    let word = |test: &Value, key: &str| test[key].as_str().unwrap_or_default().to_owned();
    let failed = with("fail").iter().map(|test| (word(test, "id"), word(test, "why"))).collect();
    let passed = with("pass").len();
    assert!(passed > 0, "{}{}", run.out, run.err);
    (failed, passed)
}

fn holds(command: Command, name: &str, only: &[&str], at_least: usize) {
    let (failed, passed) = failures(command, name, only);
    let unknown: Vec<_> = failed.iter().filter(|(id, _)| !KNOWN.iter().any(|(known, _)| known == id)).collect();
    assert!(unknown.is_empty(), "{unknown:#?}");
    assert!(passed >= at_least, "only {passed} passed");
}

/// The suite's program as the ordinary user, for whom all of it takes a quarter of a minute.
#[test]
fn an_ordinary_users_containers_are_as_the_specification_has_them() {
    holds(as_user(installed().join("oci-conformance")), "user", &[], 240);
}

/// What root's containers have that an ordinary user's cannot: devices, namespaces by path, control groups, idmapped mounts.
#[test]
fn roots_containers_are_as_the_specification_has_them() {
    if !is_root() {
        skip!("only root can try root's containers");
    }
    let command = Command::new(installed().join("oci-conformance"));
    let only = ["device", "namespace", "cgroup", "idmap", "mapping", "terminal", "hook", "delete"];
    holds(command, "root", &only, 60);
}
