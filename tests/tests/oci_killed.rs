//! A runtime that is killed at whatever moment, and containers that wait: what is left can be deleted, and holds nobody up.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sentry_tests::{Project, as_user, has, outcome, site, skip};

/// A bundle of an ordinary user with a busybox in it.
fn bundle(project: &Project) {
    for directory in ["proc", "sys", "dev", "tmp", "etc"] {
        project.write(&format!("rootfs/{directory}/.keep"), "");
    }
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].map(fs::read).into_iter().find_map(Result::ok);
    let program = project.write("rootfs/bin/busybox", busybox.expect("a busybox"));
    fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("a program");
    symlink("busybox", program.with_file_name("sh")).expect("a link");
    let mut command = oci(project);
    command.args(["spec", "--rootless", "--bundle"]).arg(project.path());
    outcome(command).exits(0);
    let mut config: serde_json::Value = serde_json::from_str(&project.read("config.json")).expect("JSON");
    config["process"]["terminal"] = false.into();
    config["process"]["args"] = serde_json::json!(["/bin/sh", "-c", "sleep 60"]);
    project.write("config.json", config.to_string());
}

fn oci(project: &Project) -> Command {
    let mut command = as_user(&site().sentry);
    command.arg("oci").arg("--root").arg(project.path().join("state"));
    command
}

/// The processes whose command line names the state of this project.
fn processes(project: &Project) -> Vec<String> {
    let state = project.path().join("state").display().to_string();
    let entries = fs::read_dir("/proc").expect("/proc").flatten();
    let lines = entries.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    let texts = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    texts.filter(|text| text.contains(&state)).collect()
}

fn create(project: &Project, options: &[&str]) -> Child {
    let mut command = oci(project);
    command.args(["create", "--bundle"]).arg(project.path()).args(options).arg("one");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("a runtime")
}

#[track_caller]
fn is_deleted(project: &Project, when: &str) {
    let began = Instant::now();
    let mut command = oci(project);
    command.args(["delete", "--force", "one"]);
    let deleted = outcome(command);
    assert_eq!(deleted.code, 0, "killed {when}: {deleted:?}");
    assert!(began.elapsed() < Duration::from_secs(5), "killed {when}: it waited for somebody");
    assert!(!project.has("state/one"), "killed {when}");
    let deadline = Instant::now() + Duration::from_secs(5);
    while !processes(project).is_empty() {
        assert!(Instant::now() < deadline, "killed {when}: {:?}", processes(project));
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn what_a_killed_runtime_leaves_is_deleted() {
    if !has("busybox") {
        skip!("there is no busybox");
    }
    let project = Project::new();
    bundle(&project);
    let mut left_a_container = 0;
    for pause in (0..20).map(|step| Duration::from_millis(3 * step)) {
        let mut runtime = create(&project, &[]);
        std::thread::sleep(pause);
        let _ = runtime.kill();
        runtime.wait().expect("its end");
        left_a_container += usize::from(project.has("state/one/state.json"));
        is_deleted(&project, &format!("after {pause:?}"));
    }
    assert!(left_a_container > 5, "it was killed in the middle");
}

#[test]
fn a_container_that_waits_holds_nothing_of_the_callers() {
    if !has("busybox") {
        skip!("there is no busybox");
    }
    let project = Project::new();
    bundle(&project);
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let mut runtime = as_user("/bin/bash");
    runtime.args(["-c", "exec 7>&1; exec \"$@\" </dev/null >/dev/null 2>&1", "bash"]).arg(&site().sentry);
    runtime.args(["oci", "--root"]).arg(project.join("state")).args(["create", "--bundle"]).arg(project.path());
    let status = runtime.arg("one").stdout(writer).status().expect("a runtime");
    drop(runtime);
    assert!(status.success() && !processes(&project).is_empty(), "the container waits");
    // With the last writer goes what makes a reader wait.
    let mut ended = [nix::poll::PollFd::new(std::os::fd::AsFd::as_fd(&reader), nix::poll::PollFlags::POLLIN)];
    let events = nix::poll::poll(&mut ended, 2000_u16).expect("polled");
    is_deleted(&project, "never");
    assert_eq!(events, 1, "somebody holds the pipe");
}

#[test]
fn a_runtime_that_is_killed_at_the_last_moment_keeps_nobody_out() {
    if !has("busybox") {
        skip!("there is no busybox");
    }
    let project = Project::new();
    bundle(&project);
    // It waits for a reader, with the container made and its directory locked.
    let fifo = project.join("pid.new");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::from_bits_truncate(0o600)).expect("a FIFO");
    project.give(&fifo);
    let mut runtime = create(&project, &["--pid-file", &project.join("pid").display().to_string()]);
    let deadline = Instant::now() + Duration::from_secs(10);
    while !project.has("state/one/made") {
        assert!(Instant::now() < deadline, "it is not made");
        std::thread::sleep(Duration::from_millis(2));
    }
    std::thread::sleep(Duration::from_millis(20));
    runtime.kill().expect("it waits");
    runtime.wait().expect("its end");
    assert!(!processes(&project).is_empty(), "its container lives");
    is_deleted(&project, "at the end");
}
