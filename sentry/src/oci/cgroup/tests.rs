//! Groups with processes in them, where the tests run as root; and what is decided without.

use std::process::{Child, Command};

use super::*;

#[test]
fn sizes_of_pages_are_no_paths() {
    assert!(page_size("2MB").is_ok() && page_size("1GB").is_ok() && page_size("64KB").is_ok());
    for bad in ["2", "MB", "../2MB", "2MB/x", ""] {
        assert!(page_size(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_limit_that_cannot_hold_is_an_error_and_its_absence_none() {
    let mut warnings = Vec::new();
    let with = |resources: &str| -> Spec {
        let text = format!(r#"{{"ociVersion": "1.0.2", "linux": {{"resources": {resources}}}}}"#);
        serde_json::from_str(&text).unwrap()
    };
    let wish = Wish { disabled: true, rootless: true, ..Wish::default() };
    let idle = r#"{"memory": {}, "cpu": {"shares": 1024}, "pids": {"limit": 0}, "blockIO": {"weight": 0},
                   "devices": [{"allow": false, "access": "rwm"}]}"#;
    assert!(Groups::make(&with(idle), "x", wish, &mut warnings).is_ok());
    for asked in [
        r#"{"memory": {"limit": 1048576}}"#,
        r#"{"pids": {"limit": 10}}"#,
        r#"{"cpu": {"quota": 1000}}"#,
        r#"{"cpu": {"cpus": "0"}}"#,
        r#"{"unified": {"memory.high": "1"}}"#,
    ] {
        let failure = Groups::make(&with(asked), "x", wish, &mut warnings).unwrap_err();
        assert!(failure.to_string().contains("disabled"), "{failure}");
    }
}

/// A process to be moved, ended with the test.
struct Sleeper(Child);

impl Sleeper {
    fn new() -> Self {
        Self(Command::new("sleep").arg("100").spawn().unwrap())
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.0.id().try_into().unwrap())
    }

    fn state(&self) -> String {
        let text = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        text.lines().find(|line| line.starts_with("State:")).unwrap().to_owned()
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn spec(path: &str, resources: &str) -> Spec {
    let text = format!(r#"{{"ociVersion": "1.0.2", "linux": {{"cgroupsPath": "{path}", "resources": {resources}}}}}"#);
    serde_json::from_str(&text).unwrap()
}

/// The hierarchies that this process may divide; none if it is not root.
fn places(version_2: bool) -> Vec<find::Place> {
    if !nix::unistd::Uid::effective().is_root() {
        return Vec::new();
    }
    let mut places = find::of_caller();
    places.retain(|place| !version_2 || place.controllers.is_empty());
    places.retain(|place| nix::unistd::access(&place.mount, nix::unistd::AccessFlags::W_OK).is_ok());
    places
}

#[test]
fn a_container_lives_and_dies_in_its_groups() {
    for version_2 in [false, true] {
        let places = places(version_2);
        if places.is_empty() {
            eprintln!("SKIPPED: oci::cgroup: no control groups that may be divided (version 2 only: {version_2})");
            continue;
        }
        let path = format!("/sentry-test-{}/{version_2}", std::process::id());
        let rules = r#"{"devices": [{"allow": false, "access": "rwm"}]}"#;
        let mut warnings = Vec::new();
        let mut groups = Groups::make_in(&places, &spec(&path, rules), "x", Wish::default(), &mut warnings).unwrap();
        assert_eq!(groups.hierarchies().len(), places.len(), "{warnings:?}");

        let mut sleeper = Sleeper::new();
        groups.enter(sleeper.pid(), &mut warnings).unwrap();
        assert_eq!(groups.processes(), [sleeper.pid()]);
        let membership = fs::read_to_string(format!("/proc/{}/cgroup", sleeper.pid())).unwrap();
        assert_eq!(membership.matches(&path).count(), places.len(), "{membership}");

        // They are nobody else's: whose start fails would take them along.
        let other = Groups::make_in(&places, &spec(&path, rules), "y", Wish::default(), &mut warnings).unwrap_err();
        assert!(other.to_string().contains("has processes already"), "{other}");
        assert_eq!(groups.processes(), [sleeper.pid()]);

        assert!(!groups.is_frozen());
        groups.freeze().unwrap();
        assert!(groups.is_frozen());
        let frozen = sleeper.state();
        groups.thaw().unwrap();
        assert!(!groups.is_frozen() && frozen.contains(if version_2 { "S" } else { "D" }), "{frozen}");
        assert!(groups.stats()["pids"]["current"].as_u64().unwrap() >= 1);

        groups.signal_all(nix::libc::SIGKILL).unwrap();
        sleeper.0.wait().unwrap();
        assert!(groups.processes().is_empty());
        groups.remove().unwrap();
        groups.remove().unwrap();
        for hierarchy in groups.hierarchies() {
            assert!(!hierarchy.group.exists(), "{}", hierarchy.group.display());
            let _ = fs::remove_dir(hierarchy.group.parent().unwrap());
        }
        assert!(warnings.is_empty(), "{warnings:?}");
    }
}

#[test]
fn limits_are_what_the_kernel_has() {
    let places = places(false);
    if !places.iter().any(|place| place.controllers.iter().any(|name| name == "memory")) {
        eprintln!("SKIPPED: oci::cgroup: no memory controller of version 1 that may be divided");
        return;
    }
    let path = format!("/sentry-test-limits-{}", std::process::id());
    let resources = r#"{"memory": {"limit": 67108864, "swap": 134217728, "reservation": 33554432, "swappiness": 10},
                        "cpu": {"shares": 512, "period": 50000, "quota": 25000, "cpus": "0", "mems": "0"},
                        "pids": {"limit": 77}}"#;
    let mut warnings = Vec::new();
    let groups = Groups::make_in(&places, &spec(&path, resources), "x", Wish::default(), &mut warnings).unwrap();
    let value = |controller: &str, file: &str| read(&groups.legacy(controller).unwrap().join(file)).unwrap();
    let all = [
        ("memory", "memory.limit_in_bytes", "67108864"),
        ("memory", "memory.soft_limit_in_bytes", "33554432"),
        ("memory", "memory.swappiness", "10"),
        ("cpu", "cpu.shares", "512"),
        ("cpu", "cpu.cfs_quota_us", "25000"),
        ("cpu", "cpu.cfs_period_us", "50000"),
        ("cpuset", "cpuset.cpus", "0"),
        ("pids", "pids.max", "77"),
    ];
    for (controller, file, wanted) in all {
        assert_eq!(value(controller, file), wanted, "{file}");
    }
    // Up and down again: memory with swap is never less than memory.
    for (limit, swap) in [(268_435_456_i64, 268_435_456_i64), (33_554_432, 33_554_432), (67_108_864, -1), (-1, 0)] {
        let text = format!(r#"{{"memory": {{"limit": {limit}, "swap": {swap}}}, "pids": {{"limit": -1}}}}"#);
        groups.limit(&serde_json::from_str(&text).unwrap(), &mut warnings).unwrap();
        if limit > 0 {
            assert_eq!(value("memory", "memory.limit_in_bytes"), limit.to_string());
        }
        assert_eq!(value("pids", "pids.max"), "max");
    }
    groups.remove().unwrap();
}
