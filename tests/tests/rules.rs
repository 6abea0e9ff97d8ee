//! Rules about patterns, names that do not exist yet, made files, the audit log, and what `explain` says of them.

use std::process::Command;

use sentry_tests::{Outcome, Project, Sandbox, as_user, outcome, site};

/// A project with secrets in it.
fn project() -> Project {
    let project = Project::new();
    for (name, content) in [
        (".env", "SECRET-1"),
        ("sub/.env.local", "SECRET-2"),
        ("sub/deep/key.pem", "SECRET-3"),
        ("plain.txt", "open"),
        ("sub/plain.txt", "open too"),
    ] {
        project.write(name, content);
    }
    project
}

fn run(project: &Project, options: &[&str], script: &str) -> Outcome {
    Sandbox::new(project).options(options).sh(script)
}

fn explain(project: &Project, options: &[&str]) -> Outcome {
    let mut command = as_user(&site().sentry);
    command.arg("explain").args(options).current_dir(project.path());
    outcome(command)
}

#[test]
fn a_pattern_hides_what_matches_in_every_kind_of_grant() {
    for access in [&["--write", "."][..], &["--read", "."], &["--cow", "."], &[]] {
        let project = project();
        let options = [access, &["--hide", "**/.env*", "--hide", "*.pem"]].concat();
        let script = "cat .env sub/.env.local sub/deep/key.pem; ls -aR; find . -name '.env*' -o -name '*.pem'; \
                      ls -d .env sub/.env.local; stat .env; cat /proc/self/cwd/.env; cat plain.txt sub/plain.txt; true";
        let run = run(&project, &options, script).exits(0);
        assert!(!run.out.contains("SECRET") && !run.out.contains(".env") && !run.out.contains(".pem"), "{run:?}");
        assert!(run.out.contains("openopen too"), "{run:?}");
        let run = run.says("hidden by --hide **/.env*");
        assert!(run.report["denials_total"].as_u64() > Some(5), "{run:?}");
    }
}

#[test]
fn names_that_match_cannot_come_to_be() {
    let project = project();
    let script = "echo x > new.pem; cp plain.txt sub/a.pem; mv plain.txt b.pem; ln plain.txt c.pem; ln -s plain.txt d.pem; \
                  mkdir e.pem; mkfifo f.pem; mkdir -p ok && mv ok g.pem; python3 -c \"import socket; \
                  s = socket.socket(socket.AF_UNIX); s.bind('h.pem')\"; ls -A; echo x > fine";
    let run = run(&project, &["--write", ".", "--hide", "*.pem"], script).exits(0);
    for name in ["new.pem", "sub/a.pem", "b.pem", "c.pem", "d.pem", "e.pem", "f.pem", "g.pem", "h.pem"] {
        assert!(!project.has(name), "{name}: {run:?}");
    }
    assert!(project.has("plain.txt") && project.has("fine"), "{run:?}");
}

#[test]
fn what_is_denied_is_seen_and_not_used() {
    let project = project();
    let script = "stat -c %s sub/deep/key.pem; cat sub/deep/key.pem; cp sub/deep/key.pem q; mv sub/deep/key.pem q; \
                  ln sub/deep/key.pem q; echo x > sub/deep/key.pem; rm -f sub/deep/key.pem; ls sub/deep; true";
    let run = run(&project, &["--write", ".", "--deny", "*.pem"], script).exits(0);
    assert_eq!(run.out, "8\nkey.pem\n", "{run:?}");
    assert_eq!(project.read("sub/deep/key.pem"), "SECRET-3");
    assert!(!project.has("q"));
}

#[test]
fn the_nearest_rule_wins_in_any_order() {
    let mut options = vec!["--write", ".", "--hide", "*.pem", "--read", "sub/deep/key.pem"];
    for _ in 0..3 {
        let project = project();
        let script = "cat sub/deep/key.pem; echo x > sub/deep/key.pem; true";
        let run = run(&project, &options, script).exits(0).says("allow with --write");
        assert_eq!(run.out, "SECRET-3", "{options:?}: {run:?}");
        assert_eq!(project.read("sub/deep/key.pem"), "SECRET-3");
        options.rotate_left(2);
    }
}

#[test]
fn a_part_of_a_grant_can_be_read_only_by_a_pattern() {
    let project = project();
    let options = ["--write", ".", "--read", "./**", "--write", "./sub/**"];
    let script = "echo x > top; mv plain.txt sub/; rm plain.txt; chmod 777 plain.txt; touch plain.txt; \
                  truncate -s 0 plain.txt; echo y > sub/new; rm sub/plain.txt; mv sub/new moved; cat plain.txt; true";
    let run = run(&project, &options, script).exits(0);
    assert_eq!((run.out.as_str(), project.read("plain.txt").as_str()), ("open", "open"));
    assert!(!project.has("top") && !project.has("moved") && project.has("sub/new") && !project.has("sub/plain.txt"));
}

/// Rule 15, for patterns: a directory on the way to a match stays where it is, and none is put in its place.
#[test]
fn moving_a_directory_frees_nothing() {
    let project = project();
    project.write(".git/hooks/pre-commit", "mine");
    project.give(&project.join(".git"));
    let script = "mv .git old; mkdir -p evil/hooks; echo owned > evil/hooks/pre-commit; mv evil .git; \
                  echo owned > .git/hooks/pre-commit; echo owned > .git/hooks/post-commit; \
                  mv .git/hooks h; cd .git && mv hooks ../h; cat hooks/pre-commit";
    let run = run(&project, &["--write", ".", "--read", "**/.git/hooks/**"], script).exits(0);
    assert_eq!(run.out, "mine", "{run:?}");
    assert_eq!(project.read(".git/hooks/pre-commit"), "mine");
    assert!(!project.has("old") && !project.has("h") && !project.has(".git/hooks/post-commit"));
}

#[test]
fn metadata_of_an_open_file_is_judged_as_its_path_is() {
    let project = project();
    let script = r#"
import os
fd = os.open("plain.txt", os.O_RDONLY)
for act in (lambda: os.fchmod(fd, 0o600), lambda: os.utime(fd, (1, 1)), lambda: os.setxattr(fd, "user.a", b"b"),
            lambda: os.open("/proc/self/fd/%d" % fd, os.O_WRONLY), lambda: os.open("/dev/fd/%d" % fd, os.O_RDWR)):
    try:
        act()
        print("done")
    except OSError as error:
        print(error.errno)
"#;
    let run =
        Sandbox::new(&project).options(["--write", ".", "--read", "*.txt"]).run(["python3", "-c", script]).exits(0);
    assert_eq!(run.out, "30\n".repeat(5), "EROFS each time: {run:?}");
}

#[test]
fn files_can_be_made_up() {
    let project = project();
    let outside = Project::new();
    let host = outside.write("host.txt", "from outside");
    let redirect = |name: &str| format!("{name}={}", host.display());
    let (here, there) = (redirect("red.txt"), redirect("/etc/there"));
    let options = [
        "--write",
        ".",
        "--file",
        "virtual.txt=made up",
        "--file",
        "plain.txt=text:/covered",
        "--file",
        "/etc/passwd=me:x:1:1::/:/bin/sh",
        "--file",
        "copy.txt=./sub/plain.txt",
        "--redirect",
        &here,
        "--redirect",
        &there,
    ];
    let script = "cat virtual.txt plain.txt /etc/passwd copy.txt red.txt /etc/there; echo; ls; \
                  for f in virtual.txt plain.txt copy.txt red.txt /etc/there; do echo evil > $f; done 2>/dev/null; \
                  rm -f virtual.txt 2>/dev/null; mv sub/plain.txt virtual.txt 2>/dev/null; \
                  exec 7< virtual.txt; echo evil 2>/dev/null > /proc/self/fd/7; cat virtual.txt; true";
    let run = run(&project, &options, script).exits(0);
    let wanted = "made up/coveredme:x:1:1::/:/bin/shopen toofrom outsidefrom outside\n\
                  copy.txt\nplain.txt\nred.txt\nsub\nvirtual.txt\nmade up";
    assert_eq!(run.out, wanted, "{run:?}");
    assert_eq!(std::fs::read_to_string(&host).unwrap(), "from outside");
    assert_eq!((project.read("plain.txt").as_str(), project.read("sub/plain.txt").as_str()), ("open", "open too"));
    for name in ["virtual.txt", "copy.txt", "red.txt"] {
        assert!(!project.has(name), "{name} came to be on the host");
    }
}

#[test]
fn decisions_are_logged_a_line_each() {
    let project = project();
    let log = site().home.join(format!("audit-{}.jsonl", std::process::id()));
    let options = ["--write", ".", "--hide", ".env", "--audit", log.to_str().unwrap()];
    let name = "a\n{\"seq\":0}\u{1b}[2J";
    let script = format!("cat .env; echo x > '{name}'; cat '{name}'; true");
    run(&project, &options, &script).exits(0);
    let text = std::fs::read_to_string(&log).unwrap();
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(!text.contains('\u{1b}'));
    for (number, line) in lines.iter().enumerate() {
        assert_eq!(line["seq"], number, "a line is missing or forged");
    }
    let secret = project.join(".env");
    let refused = lines.iter().find(|line| line["path"] == secret.to_str().unwrap()).expect("the refusal");
    assert_eq!((&refused["verdict"], &refused["syscall"]), (&"refused".into(), &"openat".into()));
    assert!(refused["rule"].as_str().unwrap().contains("--hide") && refused["tid"].as_i64() > Some(0), "{refused}");
    assert!(
        lines.iter().any(|line| line["path"] == project.join(name).to_str().unwrap() && line["verdict"] == "allowed")
    );

    let only = [&options[..], &["--log", "plain*"]].concat();
    run(&project, &only, "cat .env plain.txt sub/.env.local; true").exits(0);
    let text = std::fs::read_to_string(&log).unwrap();
    let _ = std::fs::remove_file(&log);
    assert_eq!(text.lines().count(), 2, "the refusal and the named file: {text}");
}

#[test]
fn explain_says_who_enforces_what() {
    let project = project();
    project.write(".git/hooks/x", "");
    let options =
        ["--write", ".", "--hide", "**/.env*", "--read", ".git/hooks", "--hide", "absent", "--file", "/etc/motd=x"];
    let all = explain(&project, &options).exits(0).out;
    let row = |rule: &str| all.lines().find(|line| line.starts_with(rule)).unwrap_or_else(|| panic!("{rule}: {all}"));
    assert!(row("--hide **/.env*").contains("sentry") && row("--hide **/.env*").contains("every path call"));
    assert!(row(&format!("--write {}", project.path().display())).contains("nothing per call"));
    assert!(row(&format!("--read {}", project.join(".git/hooks").display())).contains("rename"));
    assert!(row(&format!("--hide {}", project.join("absent").display())).contains("making and moving names"));
    assert!(row("--file /etc/motd=x").contains("view"));

    let path = |path: &str| explain(&project, &[&options[..], &["--path", path]].concat()).exits(0).out;
    assert!(path("sub/.env.local").contains("nothing; it does not exist") && path(".env").contains("--hide **/.env*"));
    assert!(path("plain.txt").contains("changes reach the host"));
    assert!(path("/srv/elsewhere").contains("allow with --read /srv/elsewhere"));
    assert!(path("absent").contains("must not come into being"));
    assert!(path("/usr/bin/env").contains("the default view"));

    let call = |options: &[&str]| explain(&project, options).exits(0).out;
    assert!(call(&["--syscall", "openat", "--interpose", "full"]).contains("under this policy: emulate"));
    assert!(call(&["--syscall", "openat"]).contains("under this policy: filter"));
    assert!(explain(&project, &["--syscall", "opena"]).exits(125).err.contains("openat"));
    assert!(explain(&project, &["--hide", "*"]).exits(125).err.contains("matches everything"));
}

#[test]
fn a_policy_file_says_the_same() {
    let project = project();
    let policy = Project::new();
    let file = policy.write(
        "p.toml",
        "[files]\nhide = [\"**/.env*\"]\ndeny = [\"*.pem\"]\ncurrent-directory = \"write\"\n[files.content]\n\"/etc/motd\" = \"hi\"\n",
    );
    let options = ["--policy", file.to_str().unwrap()];
    let run = run(&project, &options, "cat /etc/motd; cat .env sub/deep/key.pem; ls sub/deep; true").exits(0);
    assert_eq!(run.out, "hikey.pem\n", "{run:?}");
}

/// What the user's own tools run or obey is not for the program to change, unless the user says so.
#[test]
fn hooks_and_settings_stay_as_they_are() {
    let project = project();
    project.write(".git/hooks/pre-commit", "mine");
    project.write(".git/config", "[core]");
    for name in [".git", ".git/hooks"] {
        project.give(&project.join(name));
    }
    let script = "echo evil > .git/hooks/pre-commit; echo evil > .git/hooks/post-commit; echo evil >> .git/config; \
                  mv .git old; rm -rf .git/hooks; echo evil > .git/c && mv .git/c .git/config; echo fine > .git/index; true";
    run(&project, &["--write", "."], script).exits(0);
    assert_eq!((project.read(".git/hooks/pre-commit"), project.read(".git/config")), ("mine".into(), "[core]".into()));
    assert!(!project.has(".git/hooks/post-commit") && !project.has("old") && project.has(".git/index"));
    let fresh = Project::new();
    let options = ["--write", ".", "--hide", "*.pem"];
    let made = run(&fresh, &options, "git init -q . && git config user.name me").exits(0);
    assert!(fresh.has(".git/hooks") && fresh.has(".git/config"), "{made:?}");
    run(&project, &["--write", ".", "--write", ".git/config"], "echo more > .git/config").exits(0);
    assert_eq!(project.read(".git/config"), "more\n");
    // What is not there cannot be mounted read-only; that it was made is said.
    let run = run(&project, &["--write", "."], "echo ../evil > .git/commondir; touch .envrc").exits(0);
    for name in [".git/commondir", ".envrc"] {
        let full = project.join(name).display().to_string();
        assert!(run.err.contains(&format!("{full} was made, and your tools obey it")), "{run:?}");
    }
    assert!(!run.err.contains(".vscode"), "{run:?}");
}

/// A link in the place of what is protected shows nothing that was not granted.
#[test]
fn a_link_in_the_place_of_hooks_grants_nothing() {
    let (project, elsewhere) = (project(), Project::new());
    elsewhere.write("secret", "SECRET");
    std::fs::create_dir(project.join(".git")).unwrap();
    std::os::unix::fs::symlink(elsewhere.path(), project.join(".git/hooks")).unwrap();
    let secret = elsewhere.join("secret");
    let run = run(&project, &["--write", "."], &format!("cat .git/hooks/secret {}; true", secret.display())).exits(0);
    assert!(!run.out.contains("SECRET"), "{run:?}");
    assert!(run.err.contains("is not protected: a link"), "{run:?}");
}

/// The rules hold by ring 2 alone: with a supervisor that continues every call the same attempt must succeed.
#[test]
fn the_control_reads_what_is_hidden() {
    let project = project();
    let options = ["--write", ".", "--hide", "**/.env*"];
    let run = Sandbox::new(&project).binary(&site().always_continue).options(options).sh("cat .env");
    assert_eq!(run.out, "SECRET-1", "{run:?}");
}

#[test]
fn a_cow_directory_may_be_reached_by_a_link_and_a_mount_point_is_told() {
    let project = project();
    let link = site().home.join(format!("link-{}", std::process::id()));
    let made = Command::new("ln").arg("-sfn").arg(project.path()).arg(&link).status().unwrap();
    assert!(made.success());
    let options = ["--cow", link.to_str().unwrap()];
    let run = run(&project, &options, "echo changed > plain.txt; cat plain.txt");
    let _ = std::fs::remove_file(&link);
    assert_eq!((run.out.trim(), project.read("plain.txt").as_str()), ("changed", "open"), "{run:?}");
}

/// A pattern that is written by way of a link is about where the link leads.
#[test]
fn a_pattern_may_be_written_by_way_of_a_link() {
    let project = project();
    std::os::unix::fs::symlink("sub", project.join("link")).unwrap();
    for (options, wanted) in [
        (&["--write", ".", "--hide", "./link/deep/*.pem"][..], "No such file"),
        (&["--write", ".", "--deny", "./link/deep/**"], "Permission denied"),
    ] {
        let run = run(&project, options, "cat link/deep/key.pem sub/deep/key.pem");
        assert!(!run.out.contains("SECRET") && run.err.matches(wanted).count() == 2, "{options:?}: {run:?}");
    }
    let home = Project::new();
    std::os::unix::fs::symlink(project.path(), home.join("home")).unwrap();
    let link = home.join("home");
    let options = ["--read", "~/sub", "--hide", "~/sub/deep/*.pem"];
    let run = Sandbox::new(&project)
        .options(options)
        .env("HOME", link.to_str().unwrap())
        .sh("cat ~/sub/plain.txt ~/sub/deep/key.pem");
    assert_eq!(run.out, "open too", "{run:?}");
}

/// What is hidden stays so beneath whatever other patterns match.
#[test]
fn no_pattern_opens_a_hidden_directory() {
    let project = project();
    project.write("secrets/k", "SECRET-4");
    project.write("build/.env.d/x", "SECRET-5");
    project.give(&project.join("build"));
    let options =
        ["--write", ".", "--read", "./**", "--write", "./build/**", "--hide", "**/secrets", "--hide", "**/.env*"];
    let script = "cat secrets/k build/.env.d/x; echo changed > build/.env.d/x; echo fine > build/new; true";
    let run = run(&project, &options, script).exits(0);
    assert!(!run.out.contains("SECRET"), "{run:?}");
    assert_eq!((project.read("build/.env.d/x").as_str(), project.read("build/new").as_str()), ("SECRET-5", "fine\n"));
}

/// A program outside replaces a hidden file, as editors do, and the kernel takes the cover away: the rule stays.
#[test]
fn a_hidden_file_that_the_host_replaces_stays_hidden() {
    let project = project();
    let script = "while [ ! -e go ]; do sleep 0.01; done; cat .env; ls -A";
    let mut guest = Sandbox::new(&project).options(["--write", ".", "--hide", ".env"]).command(["sh", "-c", script]);
    let child = guest.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(300));
    project.write("new", "SECRET-6");
    std::fs::rename(project.join("new"), project.join(".env")).unwrap();
    project.write("go", "");
    let output = child.wait_with_output().unwrap();
    let out = String::from_utf8_lossy(&output.stdout);
    assert!(!out.contains("SECRET") && !out.contains(".env") && out.contains("plain.txt"), "{output:?}");
}

#[test]
fn another_root_can_be_brought() {
    let project = Project::new();
    for directory in ["bin", "proc", "dev", "tmp", "var/tmp"] {
        std::fs::create_dir_all(project.join(directory)).unwrap();
    }
    std::fs::copy(&site().probe, project.join("bin/probe")).unwrap();
    project.write("etc/secret.pem", "TOKEN");
    let mut command = as_user(&site().sentry);
    command.args(["run", "--hide", "*.pem", "--root"]).arg(project.path()).args([
        "--",
        "/bin/probe",
        "read",
        "/etc/secret.pem",
    ]);
    let run = {
        command.current_dir("/");
        outcome(command)
    };
    assert_eq!(run.out.trim(), "escaped", "an unanchored pattern leaves the system's directories alone: {run:?}");
    let mut command = as_user(&site().sentry);
    command.args(["run", "--hide", "/etc/*.pem", "--root"]).arg(project.path()).args([
        "--",
        "/bin/probe",
        "read",
        "/etc/secret.pem",
    ]);
    let run = {
        command.current_dir("/");
        outcome(command)
    };
    assert_eq!(run.out.trim(), "contained", "{run:?}");
    let mut command = as_user(&site().sentry);
    command.args(["run", "--root", "/", "--", "sh", "-c", "ls /; echo x > /sentry-was-here"]);
    let run = {
        command.current_dir(site().home.as_path());
        outcome(command)
    };
    assert!(run.out.contains("usr") && !std::path::Path::new("/sentry-was-here").exists(), "{run:?}");
}

#[test]
fn a_read_only_file_that_the_host_replaces_is_told() {
    let project = project();
    let script = "while [ ! -e go ]; do sleep 0.01; done";
    let options = ["--write", ".", "--read", "plain.txt"];
    let mut guest = Sandbox::new(&project).options(options).command(["sh", "-c", script]);
    let child = guest.stderr(std::process::Stdio::piped()).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(300));
    project.write("new", "other");
    std::fs::rename(project.join("new"), project.join("plain.txt")).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(100));
    project.write("go", "");
    let output = child.wait_with_output().unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(err.matches("a program outside replaced").count(), 1, "{err}");
}
