//! Programs that ask for namespaces are refused in a way that they know, or are root in one for themselves.
#![allow(clippy::unwrap_used)] // a panic is how a test fails

use sentry_tests::{Outcome, Project, Sandbox, has, skip};

fn sh(options: &[&str], script: &str) -> Outcome {
    let project = Project::new();
    Sandbox::new(&project).options(options).sh(script)
}

const EMULATE: &[&str] = &["--userns", "emulate"];

#[test]
fn by_default_every_namespace_is_refused_and_told() {
    let run = sh(&[], "unshare -Ur id").exits(1).says("Operation not permitted");
    run.says("unshare new namespaces: user").says("--userns emulate");
    sh(&[], "unshare -m true").exits(1).says("unshare new namespaces: mount");
    if !has("bwrap") {
        skip!("bubblewrap is not installed");
    }
    sh(&[], "bwrap --dev-bind / / true").exits(1).says("No permissions to create new namespace");
}

#[test]
fn a_program_may_believe_that_it_is_root_in_a_namespace() {
    let script = "unshare -Ur sh -c 'id -u; id -g; sh -c \"id -u\"; unshare -Ur id -u'; unshare -U id -u; id -u";
    let run = sh(EMULATE, script).exits(0);
    let lines: Vec<&str> = run.out.lines().collect();
    let own = lines.last().unwrap().to_string();
    assert_eq!(lines, ["0", "0", "0", "0", "65534", &own]);
    assert_ne!(own, "0");
}

#[test]
fn what_it_believes_gives_it_nothing() {
    sh(EMULATE, "unshare -Ur mount -t tmpfs none /tmp").exits(32).says("mount tmpfs on /tmp");
    sh(EMULATE, "unshare -Urm true").exits(1).says("unshare new namespaces: user, mount");
    sh(EMULATE, "unshare -Ur chroot / true").exits(125).says("chroot to /");
    sh(EMULATE, "unshare -Ur touch /usr/x").exits(1).says("Read-only file system");
    // The map of somebody else, and a second one of its own, are the kernel's to refuse.
    sh(EMULATE, "! sh -c 'echo 0 1 1 > /proc/1/uid_map'").exits(0);
    sh(EMULATE, "! unshare -Ur sh -c 'echo 7 7 7 > /proc/self/uid_map'").exits(0);
}

#[test]
fn whoever_is_root_already_can_be_it_again() {
    let run = sh(&["--fake-root", "--userns", "emulate"], "unshare -Ur id -u; id -u").exits(0);
    assert_eq!(run.out, "0\n0\n");
}
