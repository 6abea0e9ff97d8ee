//! The command line: exit codes, reports, and errors that say what to do.
#![allow(clippy::unwrap_used)] // a panic is how a test fails

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use sentry_tests::{Project, Sandbox, as_user, outcome, site};

fn sentry(arguments: &[&str]) -> sentry_tests::Outcome {
    let mut command = as_user(&site().sentry);
    command.args(arguments).current_dir("/");
    outcome(command)
}

#[test]
fn exit_codes_are_the_programs_own() {
    let project = Project::new();
    for code in [0, 1, 2, 42, 124, 125, 126, 127, 128, 200, 255] {
        Sandbox::new(&project).sh(&format!("exit {code}")).exits(code).because("exited");
    }
    for signal in [1, 6, 9, 11, 15] {
        Sandbox::new(&project).sh(&format!("ulimit -c 0; kill -{signal} $$")).exits(128 + signal).because("signal");
    }
}

#[test]
fn commands_that_cannot_be_run() {
    let project = Project::new();
    project.write("not-executable", "x");
    Sandbox::new(&project).run(["no-such-command"]).exits(127).because("setup").says("no-such-command");
    Sandbox::new(&project).run(["./missing"]).exits(127);
    Sandbox::new(&project).run(["./not-executable"]).exits(126).says("not-executable");
    Sandbox::new(&project).run(["/tmp"]).exits(126);
    let other = Project::new();
    let tool = other.write("tool", "#!/bin/sh\n");
    Sandbox::new(&project).run([tool.as_os_str()]).exits(127).says("--read");
}

#[test]
fn wrong_usage_is_one_line_with_a_remedy() {
    let project = Project::new();
    for (options, says) in [
        (&["--no-such-option"][..], "--no-such-option"),
        (&["--net", "example.com"], "none"),
        (&["--hide", "**/*"], "matches everything"),
        (&["--read", ".", "--write", "./*.log"], "read-only in the view"),
        (&["--write", "/srv/none/*.log"], "grant the directory"),
        (&["--file", "no/such/dir/x=y"], "create that first"),
        (&["--file", "x=./missing"], "create it first"),
        (&["--redirect", "/etc/x=/dev/null"], "only files and directories"),
        (&["--write", ".", "--audit", "audit.log"], "could be rewritten"),
        (&["--memory", "lots"], "512M"),
        (&["--profile", "strict"], "default, dev, judge"),
        (&["--read", "missing"], "create it first"),
        (&["--read", "/proc"], "/proc"),
        (&["--workdir", "/nowhere"], "--workdir"),
        (&["--seccomp", "missing.json"], "missing.json"),
        (&["--json", "/nowhere/report"], "/nowhere/report"),
    ] {
        let run = outcome(Sandbox::new(&project).options(options).command(["true"])).exits(125).says(says);
        assert_eq!(run.err.trim_end().lines().count(), 1, "{options:?}: {}", run.err);
    }
    let run = sentry(&["run", "ls"]).exits(125);
    assert!(run.err.contains("-- ls"), "{}", run.err);
    sentry(&["frobnicate"]).exits(125);
}

#[test]
fn a_malformed_policy_is_shown_with_a_caret() {
    let project = Project::new();
    let policy = project.write("policy.toml", "[limits]\nmemroy = \"1G\"\n");
    let run = Sandbox::new(&project).options([OsStr::new("--policy"), policy.as_os_str()]).sh("true").exits(125);
    assert!(run.err.contains("memroy") && run.err.contains('^'), "{}", run.err);
    let policy = project.write("good.toml", "extends = [\"judge\"]\n[limits]\ntimeout = \"500ms\"\n");
    Sandbox::new(&project).options([OsStr::new("--policy"), policy.as_os_str()]).run(["sleep", "9"]).exits(124);
}

#[test]
fn profiles_work() {
    let project = Project::new();
    for profile in ["default", "dev", "judge"] {
        let run = Sandbox::new(&project).options(["--profile", profile]).sh("echo ok; ls /proc/self/status").exits(0);
        assert!(run.out.starts_with("ok\n"));
    }
    let run = Sandbox::new(&project).options(["--profile", "judge"]).run(["cat", "/proc/meminfo"]);
    assert_ne!(run.code, 0, "judge sees processes only");
}

#[test]
fn names_that_are_not_utf8_work() {
    let project = Project::new();
    let name = OsStr::from_bytes(b"caf\xe9");
    std::fs::create_dir(project.path().join(name)).unwrap();
    project.give(&project.path().join(name));
    let run = Sandbox::new(&project)
        .options([OsStr::new("--write"), name])
        .run([OsStr::new("sh"), OsStr::new("-c"), OsStr::new("echo \"$1\" > \"$1/x\""), OsStr::new("sh"), name])
        .exits(0);
    assert!(run.err.is_empty(), "{}", run.err);
    assert_eq!(std::fs::read(project.path().join(name).join("x")).unwrap(), b"caf\xe9\n");
}

#[test]
fn ten_thousand_grants_work() {
    let project = Project::new();
    let mut options = vec!["--cow".to_owned(), ".".to_owned()];
    for number in 0..10_000 {
        std::fs::write(project.join(format!("f{number}")), "x").unwrap();
        options.push("--read".to_owned());
        options.push(format!("f{number}"));
    }
    let run = Sandbox::new(&project).options(options).sh("cat f9999");
    assert!(
        run.code == 0 && run.out == "x" || run.code == 125 && run.err.lines().count() == 1,
        "{} {}",
        run.code,
        run.err
    );
}

#[test]
fn reports_are_written_where_asked() {
    let project = Project::new();
    let meta = project.join("meta");
    let mut command = Sandbox::new(&project)
        .options([OsStr::new("--meta"), meta.as_os_str(), OsStr::new("--timeout"), OsStr::new("300ms")])
        .command(["sleep", "5"]);
    assert_eq!(command.status().unwrap().code(), Some(124));
    let meta = project.read("meta");
    assert!(meta.contains("status:TO\n") && meta.contains("killed:1\n"), "{meta}");
    let mut command = as_user("bash");
    command.args(["-c", "\"$0\" run --json 3 -- true 3>&1"]).arg(&site().sentry).current_dir(project.path());
    let run = outcome(command).exits(0);
    let report: serde_json::Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!((report["cause"].as_str(), report["version"].as_u64()), (Some("exited"), Some(1)));
    assert!(report["protections"]["held"].as_array().unwrap().len() > 5);
}

#[test]
fn quiet_is_quiet() {
    let project = Project::new();
    let run = Sandbox::new(&project)
        .options(["--quiet"])
        .sh("touch x; mount -t tmpfs none /tmp 2>/dev/null; exit 3")
        .exits(3);
    assert!(run.err.is_empty(), "{}", run.err);
}

#[test]
fn a_trace_shows_what_was_missing() {
    let project = Project::new();
    let run = Sandbox::new(&project).options(["--trace", "denied"]).run(["cat", "/srv/nothing-here"]).exits(1);
    run.says("/srv/nothing-here: not in the view");
    Sandbox::new(&project).sh("exit 1").says("--trace denied");
}

#[test]
fn the_home_directory_itself_is_not_granted() {
    let mut command = as_user(&site().sentry);
    command.args(["run", "--", "sh", "-c", "ls -A; pwd"]).current_dir(&site().home);
    let run = outcome(command).exits(0);
    assert_eq!(run.out.trim(), site().home.to_str().unwrap());
    run.says("home directory");
}

#[test]
fn other_verbs_answer() {
    assert!(sentry(&["--help"]).exits(0).out.contains("doctor"));
    assert!(sentry(&["--version"]).exits(0).out.starts_with("sentry "));
    let run = sentry(&["doctor"]);
    assert!(run.out.lines().count() > 5, "{run:?}");
    assert!(sentry(&["syscalls", "openat"]).exits(0).out.contains("257"));
    assert!(sentry(&["syscalls"]).exits(0).out.lines().count() > 300);
    sentry(&["syscalls", "nonsense"]).exits(125);
    for shell in ["bash", "zsh", "fish"] {
        assert!(sentry(&["completions", shell]).exits(0).out.contains("sentry"));
    }
}

#[test]
fn an_oci_profile_only_takes_away() {
    let project = Project::new();
    let profile = project.write(
        "profile.json",
        r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":1}]}"#,
    );
    let run = Sandbox::new(&project)
        .options([OsStr::new("--seccomp"), profile.as_os_str()])
        .sh("mkdir /tmp/x; unshare -U true; touch /tmp/y && echo made");
    assert_eq!(run.out, "made\n");
    assert!(run.err.matches("not permitted").count() >= 2, "{}", run.err);
}
