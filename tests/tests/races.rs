//! Watson 2007: between the look and the act another thread gives a call another meaning. It must never win.
//!
//! `SENTRY_RACES=10000000` sets how often each race is run. The same race against a supervisor that lets every call run
//! must win, or nothing was tried.
#![allow(clippy::unwrap_used)] // a panic is how a test fails

use std::path::Path;

use sentry_tests::{Project, Sandbox, site};

/// How often if the environment does not say.
const TRIES: usize = 100_000;

fn race(kind: &str, binary: &Path) -> String {
    let project = Project::new();
    for (name, content) in
        [("key.pez", "free as can be"), ("key.pem", "SECRET"), ("A/k", "free as can be"), ("B/k", "SECRET")]
    {
        project.write(name, content);
    }
    nix::unistd::mkfifo(&project.join("key.pef"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    project.give(&project.join("key.pef"));
    if kind == "directory" {
        // The program itself could not make these: they lie on the way to a name under a rule.
        std::fs::create_dir_all(project.join("X/B")).unwrap();
        std::fs::rename(project.join("B/k"), project.join("X/B/k")).unwrap();
        std::fs::create_dir(project.join("Y")).unwrap();
        std::os::unix::fs::symlink("../A", project.join("Y/B")).unwrap();
        for name in ["X", "X/B", "Y"] {
            project.give(&project.join(name));
        }
    }
    let tries = std::env::var("SENTRY_RACES").unwrap_or_else(|_| TRIES.to_string());
    let racer = site().racer.to_str().unwrap();
    let options = ["--quiet", "--write", ".", "--read", racer, "--hide", "*.pem", "--hide", "**/B/k"];
    let outcome = Sandbox::new(&project).binary(binary).options(options).run([racer, kind, &tries]).exits(0);
    outcome.out
}

/// Never won against the product, won against the control.
fn is_never_won(kind: &str) {
    let lost = race(kind, &site().sentry);
    let allowed: usize = lost.trim().strip_prefix("lost ").unwrap_or_else(|| panic!("{kind}: {lost}")).parse().unwrap();
    assert!(allowed > 100, "{kind}: the allowed meaning hardly came through, {allowed} times");
    assert_eq!(race(kind, &site().always_continue), "won\n", "{kind}: the control must win, or nothing was tried");
}

macro_rules! races {
    ($($(#[doc = $doc:literal])* $name:ident: $kind:literal;)*) => {$(
        $(#[doc = $doc])*
        #[test]
        fn $name() {
            is_never_won($kind);
        }
    )*};
}

races! {
    /// A path that becomes another between judgement and open.
    paths_of_opens: "open";
    /// The same, when only told about.
    paths_of_stats: "stat";
    /// The same, when moved to a name without a rule.
    paths_of_renames: "rename";
    /// The same, when given a second name without a rule.
    paths_of_links: "link";
    /// A FIFO that becomes a file: no open is continued because it looked like one of a FIFO.
    fifos_and_secrets: "fifo";
    /// A structure in memory that comes to ask for a set-id file.
    structures: "how";
    /// Symbolic links that are exchanged.
    symlinks: "symlink";
    /// Directories that are exchanged.
    directories: "directory";
}
