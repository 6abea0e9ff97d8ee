//! The verbs for kept runs do to the run that was meant what was asked for, and to nothing else.
#![allow(clippy::unwrap_used)] // a panic is how a test fails

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use sentry_tests::{Outcome, Project, Sandbox, as_user, has, is_root, outcome, site, skip};

/// A project and a place of its own for what runs keep.
struct Desk {
    project: Project,
    state: Project,
}

impl Desk {
    fn new() -> Self {
        Self { project: Project::new(), state: Project::new() }
    }

    /// Runs `script` with the project as the current directory, and tells the run's name.
    fn run(&self, script: &str) -> (String, Outcome) {
        self.run_in(&self.project, script)
    }

    fn run_in(&self, project: &Project, script: &str) -> (String, Outcome) {
        let state = self.state.path().to_str().unwrap();
        let run = outcome(Sandbox::new(project).env("XDG_STATE_HOME", state).command(["sh", "-c", script])).exits(0);
        let id = run.err.rsplit("sentry discard ").next().unwrap().trim().to_owned();
        assert_eq!(id.len(), 8, "{}", run.err);
        (id, run)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = as_user(&site().sentry);
        command.args(arguments).current_dir(self.project.path()).env("XDG_STATE_HOME", self.state.path());
        command
    }

    fn verb(&self, arguments: &[&str]) -> Outcome {
        outcome(self.command(arguments))
    }

    fn host(&self, script: &str) -> String {
        let mut command = as_user("sh");
        command.args(["-euc", script]).current_dir(self.project.path());
        let done = outcome(command);
        assert_eq!(done.code, 0, "{script}: {done:?}");
        done.out
    }

    fn runs(&self) -> PathBuf {
        self.state.join("sentry/runs")
    }

    fn is_kept(&self, id: &str) -> bool {
        self.runs().join(id).join("run.json").exists()
    }
}

#[test]
fn an_empty_word_means_nothing() {
    let desk = Desk::new();
    let (id, _) = desk.run("echo 1 > file");
    for words in [&["discard", ""][..], &["discard", &id[..3]], &["discard", "."], &["diff", ""], &["diff", "zzzz"]] {
        desk.verb(words).exits(125).says("hexadecimal").says("at least the first 4");
    }
    for words in [&["commit", ""][..], &["commit", &id, ""], &["commit", "--force", "file", ""]] {
        desk.verb(words).exits(125).says("names neither a run nor a file");
    }
    assert!(desk.is_kept(&id) && !desk.project.has("file"));
    desk.verb(&["discard", &id[..4]]).exits(0);
    assert!(!desk.is_kept(&id));
}
