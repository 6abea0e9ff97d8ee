//! Under `--fake-root` a copy of somebody else's directory is root's to change, and the original is not.
#![allow(clippy::unwrap_used)] // a panic is how a test fails

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use sentry_tests::{Outcome, Project, as_user, is_root, outcome, site, skip};

/// A directory of root's, which the ordinary user may only read, and a place for what runs keep.
struct Foreign {
    tree: Project,
    state: Project,
}

impl Foreign {
    fn new() -> Self {
        let (tree, state) = (Project::new(), Project::new());
        for name in ["etc/deep", "closed"] {
            fs::create_dir_all(tree.join(name)).unwrap();
        }
        for (name, text) in [("etc/list", "one\n"), ("etc/other", "two\n"), ("etc/secret", "key\n"), ("closed/in", "x")]
        {
            fs::write(tree.join(name), text).unwrap();
        }
        fs::write(tree.join("etc/lock"), "").unwrap();
        symlink("list", tree.join("etc/link")).unwrap();
        for (name, mode) in [("etc/secret", 0o600), ("etc/lock", 0o600), ("closed", 0o700)] {
            fs::set_permissions(tree.join(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        std::os::unix::fs::chown(tree.path(), Some(0), Some(0)).unwrap();
        Self { tree, state }
    }

    fn run(&self, options: &[&str], script: &str) -> Outcome {
        let mut command = as_user(&site().sentry);
        let tree = self.tree.path().to_str().unwrap();
        command.args(["run", "--fake-root", "--cow", tree, "--workdir", tree]).args(options);
        command.args(["--", "sh", "-euc", script]).current_dir("/").env("XDG_STATE_HOME", self.state.path());
        outcome(command)
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(self.tree.join("etc")).unwrap().flatten().collect();
        names.sort_by_key(std::fs::DirEntry::file_name);
        names.iter().map(|entry| entry.file_name().into_string().unwrap()).collect()
    }
}

#[test]
fn root_changes_what_it_copies() {
    if !is_root() {
        skip!("only root can make files of another user");
    }
    let foreign = Foreign::new();
    let before = foreign.names();
    let script = "cd etc; echo more >> list; mv other else; ln list again; chown 7:8 list; chmod 4711 list; rm link
        ln -s else link; mv link link2; mkdir new; touch new/file deep/file; truncate -s 1 else; echo held > lock
        stat -c '%u:%g %a %n' list again deep; cat list lock; cat secret 2>&1 || true; ls ../closed; touch ../closed/own";
    let run = foreign.run(&[], script).exits(0).says("1 directories in").says("empty, for you cannot read them");
    let expected = "7:8 4711 list\n7:8 4711 again\n0:0 755 deep\none\nmore\nheld\ncat: secret: Permission denied\n";
    assert_eq!(run.out, expected);
    run.says("changed").says("pretended owner 7:8 mode 4711").says("etc/else").says("closed/own");
    assert_eq!(foreign.names(), before);
    for (name, text) in [("etc/list", "one\n"), ("etc/other", "two\n"), ("closed/in", "x"), ("etc/lock", "")] {
        assert_eq!(foreign.tree.read(name), text);
    }

    let mut ps = as_user(&site().sentry);
    ps.args(["ps"]).env("XDG_STATE_HOME", foreign.state.path());
    let id = outcome(ps).out.lines().nth(1).unwrap().split(' ').next().unwrap().to_owned();
    let again = foreign.run(&["--resume", &id], "stat -c '%u:%g %a' etc/list; cat etc/lock; ls closed").exits(0);
    assert_eq!(again.out, "7:8 4711\nheld\nown\n");
}

#[test]
fn a_name_like_that_of_a_copy_in_the_making_is_left_alone() {
    if !is_root() {
        skip!("only root can make files of another user");
    }
    let foreign = Foreign::new();
    let script = "cd etc; for n in 0 1 2; do echo mine > .sentry-copy-$n; done; echo more >> list; cat list .sentry-copy-*; ls -A | grep -c sentry-copy";
    let run = foreign.run(&[], script).exits(0);
    assert_eq!(run.out, "one\nmore\nmine\nmine\nmine\n3\n");
}

#[test]
fn what_was_not_touched_is_no_change() {
    if !is_root() {
        skip!("only root can make files of another user");
    }
    let foreign = Foreign::new();
    let run = foreign.run(&[], "ls -lR . > /dev/null; cat etc/list").exits(0);
    assert_eq!(run.out, "one\n");
    assert!(!run.err.contains("changed") && !run.err.contains("deleted"), "{}", run.err);
}

#[test]
fn whoever_gave_up_being_root_changes_nothing_of_others() {
    if !is_root() {
        skip!("only root can make files of another user");
    }
    let foreign = Foreign::new();
    let run = foreign.run(&[], "su nobody -s /bin/sh -c 'echo x >> etc/list' 2>&1 || true; cat etc/list").exits(0);
    assert!(run.out.contains("Permission denied") && run.out.ends_with("one\n"), "{}", run.out);
}
