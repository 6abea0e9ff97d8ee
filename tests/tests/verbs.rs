//! The verbs for kept runs do to the run that was meant what was asked for, and to nothing else.
#![allow(clippy::unwrap_used)] // a panic is how a test fails

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
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
        desk.verb(words).exits(125).says("a value is required");
    }
    assert!(desk.is_kept(&id) && !desk.project.has("file"));
    desk.verb(&["discard", &id[..4]]).exits(0);
    assert!(!desk.is_kept(&id));
}

#[test]
fn root_does_not_trust_a_store_of_somebody_else() {
    if !is_root() {
        skip!("only root could be deceived");
    }
    let desk = Desk::new();
    let (id, _) = desk.run("echo 1 > file");
    for words in [&["commit", &id][..], &["diff"], &["ps"], &["discard", &id], &["discard", "--all"]] {
        let mut command = Command::new(&site().sentry);
        command.args(words).current_dir(desk.project.path()).env("XDG_STATE_HOME", desk.state.path());
        outcome(command).exits(125).says("belongs to user id").says("XDG_STATE_HOME");
    }
    assert!(desk.is_kept(&id) && !desk.project.has("file"));
}

#[test]
fn nobody_else_may_be_able_to_write_to_a_store() {
    let desk = Desk::new();
    let (id, _) = desk.run("echo 1 > file");
    let run = desk.runs().join(&id);
    for place in [desk.runs(), run.clone(), run.join("lock"), run.join("run.json")] {
        let mode = fs::metadata(&place).unwrap().permissions().mode() & 0o777;
        fs::set_permissions(&place, fs::Permissions::from_mode(mode | 0o020)).unwrap();
        for words in [&["commit"][..], &["diff"], &["ps"], &["discard", &id]] {
            desk.verb(words).exits(125).says("others may write to").says("chmod go-w");
        }
        fs::set_permissions(&place, fs::Permissions::from_mode(mode)).unwrap();
    }
    desk.verb(&["commit"]).exits(0);
    assert!(desk.project.has("file"));
}

#[test]
fn a_word_that_can_be_two_things_is_asked_about() {
    let desk = Desk::new();
    let (id, _) = desk.run("echo 1 > file");
    let word = &id[..4];
    desk.project.write(word, "mine");
    desk.verb(&["commit", word]).exits(125).says(&format!("./{word}")).says(&id);
    assert!(!desk.project.has("file"));
    desk.verb(&["commit", &format!("./{word}")]).exits(125).says("changed nothing at");
    let done = desk.verb(&["commit", &id]).exits(0);
    assert!(done.out.starts_with(&format!("run {id}, ")) && desk.project.has("file"), "{done:?}");
}

#[test]
fn without_a_name_the_run_is_one_of_this_directory() {
    let desk = Desk::new();
    let other = Project::new();
    desk.host("mkdir sub");
    let (here, _) = desk.run("echo 1 > sub/file");
    let (elsewhere, _) = desk.run_in(&other, "echo 2 > file");
    let at = |project: &Project, sub: &str, words: &[&str]| {
        let mut command = desk.command(words);
        command.current_dir(project.join(sub));
        outcome(command)
    };
    for sub in ["", "sub"] {
        assert!(at(&desk.project, sub, &["diff"]).exits(0).out.starts_with(&format!("run {here}, ")));
    }
    assert!(at(&other, "", &["diff"]).exits(0).out.starts_with(&format!("run {elsewhere}, ")));
    let third = Project::new();
    at(&third, "", &["commit"]).exits(125).says(&here).says(&elsewhere).says("name the run");
    assert!(!desk.project.has("sub/file") && !other.has("file"));
    at(&desk.project, "", &["commit"]).exits(0);
    assert!(desk.project.has("sub/file") && !other.has("file"));
}

#[test]
fn what_no_run_made_is_not_removed() {
    let desk = Desk::new();
    let (id, _) = desk.run("echo 1 > file");
    let (damaged, _) = desk.run("echo 2 > file");
    fs::write(desk.runs().join(&damaged).join("run.json"), "{").unwrap();
    let script = format!(
        "cd '{}'; mkdir photos photos.gone 0123abcd.gone; touch photos/x 0123abcd.gone/x; \
                          touch -d '1 hour ago' {damaged}",
        desk.runs().display()
    );
    desk.host(&script);
    let listed = desk.verb(&["ps"]).exits(0).out;
    assert!(listed.lines().any(|line| line.starts_with(&format!("{damaged}  damaged"))), "{listed}");
    desk.verb(&["discard", "--all"]).exits(1);
    assert!(!desk.is_kept(&id) && desk.is_kept(&damaged));
    for other in ["photos/x", "photos.gone", "0123abcd.gone/x"] {
        assert!(desk.runs().join(other).exists(), "{other}");
    }
    desk.verb(&["discard", &damaged]).exits(0);
    assert!(!desk.runs().join(&damaged).exists());
}

#[test]
fn what_a_new_file_may_do_is_said() {
    let desk = Desk::new();
    desk.run(
        "echo 1 > plain; echo 1 > tool; chmod 755 tool; echo 1 > open; chmod 666 open; mkdir wide; chmod 777 wide",
    );
    let diff = desk.verb(&["diff"]).exits(0).out;
    let ends = |ending: &str| diff.lines().any(|line| line.ends_with(ending));
    for ending in ["/plain", "/tool  (executable)", "/open  (mode 666)", "/wide/  (mode 777)"] {
        assert!(ends(ending), "{ending}: {diff}");
    }
}

#[test]
fn what_your_tools_obey_is_taken_over_only_when_it_is_named() {
    let desk = Desk::new();
    desk.host("mkdir -p sub");
    let (_, run) =
        desk.run("mkdir -p sub/.vscode; echo 1 > sub/.vscode/tasks.json; echo 1 > sub/.envrc; echo 1 > file");
    assert!(run.err.contains("sub/.envrc  (your tools obey it)"), "{}", run.err);
    assert!(desk.verb(&["diff"]).exits(0).out.contains("sub/.envrc  (your tools obey it)"));
    let left = "your own tools obey it; name it to take it over";
    assert!(desk.verb(&["commit", "--dry-run"]).exits(1).out.contains(left));
    let commit = desk.verb(&["commit"]).exits(1).out;
    assert!(commit.contains(left), "{commit}");
    assert_eq!(desk.host("ls -A . sub"), ".:\nfile\nsub\n\nsub:\n");
    desk.verb(&["commit", "sub/.envrc"]).exits(0);
    assert_eq!(desk.host("ls -A sub"), ".envrc\n");
    desk.verb(&["commit", "--force"]).exits(0);
    assert_eq!(desk.host("cat sub/.vscode/tasks.json"), "1\n");
}

#[test]
fn a_new_repository_is_taken_over_without_its_live_hooks() {
    if !has("git") {
        skip!("git is not installed");
    }
    let desk = Desk::new();
    desk.run("git init -q new; echo '#!/bin/sh' > new/.git/hooks/pre-commit; chmod 755 new/.git/hooks/pre-commit");
    let commit = desk.verb(&["commit"]).exits(1).out;
    assert!(commit.lines().any(|line| line.starts_with("left ") && line.contains("hooks/pre-commit: ")), "{commit}");
    assert_eq!(
        desk.host("cd new; git status --porcelain; test -e .git/config; ls .git/hooks | grep -v sample || true"),
        ""
    );
}

#[test]
fn large_texts_are_not_compared_for_ever() {
    let desk = Desk::new();
    desk.host("for i in 1 2 3 4 5 6; do yes a | head -c 4000000 > f$i; done; printf 'a\\377b\\nold\\n' > latin");
    desk.run("for i in 1 2 3 4 5 6; do yes 'b\nc' | head -c 4000000 > f$i; done; printf 'a\\377b\\nnew\\n' > latin");
    let begin = Instant::now();
    let patch = desk.verb(&["diff", "-p"]).exits(0).out;
    assert!(begin.elapsed() < Duration::from_secs(30), "{:?}", begin.elapsed());
    assert!(patch.contains("4000000 to 4000000 bytes") && patch.contains("-old\n+new\n"), "{}", patch.len());
}

#[test]
fn readers_do_not_get_in_each_others_way() {
    if !has("flock") {
        skip!("flock is not installed");
    }
    let desk = Desk::new();
    let (id, _) = desk.run("echo 1 > 'two  blanks'");
    let lock = desk.runs().join(&id).join("lock");
    let hold = |how: &str, seconds: &str| {
        let child = as_user("flock").arg(how).arg(&lock).args(["sleep", seconds]).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(300));
        child
    };
    let mut reader = hold("-s", "6");
    let begin = Instant::now();
    assert!(desk.verb(&["diff"]).exits(0).out.contains("two  blanks'\n"));
    assert!(begin.elapsed() < Duration::from_secs(2));
    desk.verb(&["discard", &id]).exits(125).says("is being worked on by another");
    reader.wait().unwrap();
    let mut writer = hold("-x", "1");
    desk.verb(&["commit", &id]).exits(0);
    writer.wait().unwrap();
    assert!(desk.project.has("two  blanks"));
}

#[test]
fn a_copy_that_cannot_be_opened_has_no_number_of_changes() {
    let desk = Desk::new();
    let (id, _) = desk.run("echo 1 > file");
    fs::rename(desk.runs().join(&id).join("0"), desk.runs().join(&id).join("away")).unwrap();
    let listed = desk.verb(&["ps"]).exits(0).out;
    let line = listed.lines().find(|line| line.starts_with(&id)).unwrap();
    assert_eq!(line.split_whitespace().filter(|word| *word == "?").count(), 1, "{listed}");
}

#[test]
fn a_run_goes_on_with_the_copies_of_another() {
    let desk = Desk::new();
    desk.host("echo host > old; mkdir d; echo 1 > d/one");
    let (id, _) = desk.run("echo changed > old; rm d/one; echo 2 > d/two; chmod 600 d/two");

    let again = |options: &[&str], script: &str| {
        let words = [&["run", "--resume", &id[..4]], options, &["--", "sh", "-c", script]].concat();
        desk.verb(&words)
    };
    let run = again(&[], "cat old d/two; ls d; echo 3 > d/three").exits(0).says(&id);
    assert_eq!(run.out, "changed\n2\ntwo\n");
    again(&["--cow-store", "memory"], "true").exits(125).says("on disk");
    assert!(desk.is_kept(&id), "a start that failed takes nothing away");

    let elsewhere = Project::new();
    let mut command = desk.command(&["run", "--resume", &id, "--", "true"]);
    command.current_dir(elsewhere.path());
    outcome(command).exits(125).says("would use none").says("go there");
    assert!(desk.is_kept(&id));

    assert_eq!(desk.host("cat old; ls d"), "host\none\n", "the host has seen nothing of it");
    desk.verb(&["commit", &id]).exits(0);
    assert_eq!(desk.host("cat old; ls d"), "changed\nthree\ntwo\n");
    again(&[], "true").exits(125).says("no kept run is called");
}

#[test]
fn a_run_that_undoes_everything_leaves_nothing() {
    let desk = Desk::new();
    let (id, _) = desk.run("echo 1 > file");
    desk.verb(&["run", "--resume", &id, "--", "rm", "file"]).exits(0);
    assert!(!desk.is_kept(&id) && !desk.project.has("file"));
}

#[test]
fn a_mark_that_a_program_sets_hides_no_conflict() {
    if !has("setfattr") {
        skip!("setfattr is not installed");
    }
    let desk = Desk::new();
    desk.host("mkdir d e; echo old > d/one; echo old > e/one");
    let (id, _) = desk.run(
        "setfattr -n user.sentry.closed -v y d; echo guest > d/one
         rm -r e; mkdir e; setfattr -n user.sentry.closed -v y e; echo guest > e/one",
    );
    std::thread::sleep(Duration::from_millis(50));
    desk.host("echo host > d/one; echo host > e/one");
    desk.verb(&["commit", &id]).exits(1);
    assert_eq!(desk.host("cat d/one e/one"), "host\nhost\n");
}
