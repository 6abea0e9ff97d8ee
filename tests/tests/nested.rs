//! Sandboxes within sandboxes: namespaces that are asked for, and `sentry run` inside of `sentry run`.
#![allow(clippy::unwrap_used)] // a panic is how a test fails

use std::path::Path;

use sentry_tests::{Outcome, Project, Sandbox, has, site, skip};

fn binaries() -> &'static Path {
    site().sentry.parent().unwrap()
}

/// Runs a script in a sandbox that has the product in it, as `$SENTRY`.
fn within(project: &Project, options: &[&str], script: &str) -> Outcome {
    let path = format!("SENTRY={}", site().sentry.display());
    let sandbox = Sandbox::new(project).options(["--read", binaries().to_str().unwrap(), "--env", &path]);
    sandbox.options(options.iter().copied()).sh(script)
}

#[test]
fn it_is_refused_with_the_reason_and_the_option() {
    let project = Project::new();
    within(&project, &[], "$SENTRY run -- true").exits(125).says("inside a sandbox of sentry").says("--nested");
    let run = within(&project, &[], "$SENTRY doctor").exits(1);
    assert!(run.out.contains("inside a sandbox of sentry") && run.out.contains("sentry run --nested"), "{run:?}");
    // A surface without signalfd and Landlock has nothing to hold it by.
    within(&project, &["--profile", "judge"], "$SENTRY run -- true").exits(125).says("--nested");
    within(&project, &["--profile", "judge"], "$SENTRY run --nested -- true").exits(125).says("judge");
    // Outside there is a whole one to be had.
    Sandbox::new(&project).options(["--nested"]).sh("true").exits(125).says("no sandbox around");
}

#[test]
fn the_small_one_works_and_says_what_it_lacks() {
    let project = Project::new();
    let run = within(&project, &[], "$SENTRY run --nested -- sh -c 'echo hello > $TMPDIR/x && cat $TMPDIR/x; exit 3'");
    assert_eq!(run.out, "hello\n", "{run:?}");
    let run = run.exits(3).says("without namespaces").says("without a supervisor").says("--write .");
    // Only the outer one can show what was missing.
    assert_eq!(run.err.matches("--trace denied").count(), 1, "{run:?}");
    assert_eq!(
        within(&project, &[], "$SENTRY run -q --nested -- true; ls -A /tmp | grep nested").out,
        "",
        "nothing is left behind"
    );
}

#[test]
fn three_levels_deep() {
    let project = Project::new();
    let dir = binaries().display();
    let script = format!(
        "$SENTRY run -q --nested --read {dir} -- {0} run -q --nested -- sh -c 'echo deep; exit 7'",
        site().sentry.display()
    );
    let run = within(&project, &[], &script).exits(7);
    assert_eq!(run.out, "deep\n", "{run:?}");
}

#[test]
fn ends_are_told_as_ever() {
    let project = Project::new();
    for (options, guest, code) in [
        ("", "kill -TERM $$", 143),
        ("--timeout 300ms", "sleep 20", 124),
        ("--timeout 300ms", "sleep 20 & setsid sleep 20 & wait", 124),
    ] {
        within(&project, &[], &format!("$SENTRY run -q --nested {options} -- sh -c '{guest}'")).exits(code);
    }
    within(&project, &[], "$SENTRY run -q --nested -- /no/such/program").exits(127);
    within(&project, &[], "$SENTRY run -q --nested -- /etc/passwd").exits(126);
    let run = within(&project, &[], "$SENTRY run -q --nested --json 3 -- sh -c 'exit 5' 3>&1; true");
    let report: serde_json::Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!((&report["cause"], &report["exit_code"]), (&"exited".into(), &5.into()), "{report}");
    assert!(!report["protections"]["lost"].as_array().unwrap().is_empty(), "{report}");
}

#[test]
fn nobody_outlives_it() {
    let project = Project::new();
    let script = "$SENTRY run -q --nested -- sh -c '(setsid sleep 77 &) ; (sleep 77 &); :'; cat /proc/[0-9]*/comm | grep -c sleep";
    assert_eq!(within(&project, &[], script).out, "0\n");
}

/// What the outer sandbox may, the inner one may not: each line that is printed is an escape.
#[test]
fn grants_of_the_outer_one_are_not_the_inner_ones() {
    let project = Project::new();
    project.write("secret", "secret");
    project.write("sub/file", "sub");
    let attacks = "cat secret; cat < secret; echo x > secret; echo x > new; rm -f secret; mv sub moved; ln secret link; \
                   mkdir made; ls .; cp /bin/true here; head -c 1 /proc/1/environ; kill -0 $OUTER && echo signalled; \
                   cat /proc/$OUTER/environ; readlink /proc/$OUTER/fd/*; cat /proc/$OUTER/root/secret; echo > /tmp/mine; \
                   prlimit --pid $OUTER --nofile=1 && echo limited; : > /dev/shm/mine && echo shared";
    project.write("attacks.sh", attacks);
    let script = "export OUTER=$$; cp attacks.sh /tmp; \
                  $SENTRY run -q --nested --env OUTER --read /tmp/attacks.sh --workdir / -- sh /tmp/attacks.sh 2>/dev/null";
    // Named on the command line, the current directory is not granted: it would be readable.
    project.write("nested.toml", "extends = [\"default\"]\n[files]\ncurrent-directory = \"none\"\n");
    let script = script.replace("--env OUTER", "--policy nested.toml --env OUTER");
    let run = within(&project, &["--write", "."], &script);
    assert_eq!(run.out, "", "{run:?}");
    assert_eq!((project.read("secret"), project.read("sub/file")), ("secret".into(), "sub".into()));
    for name in ["new", "moved", "link", "made", "here"] {
        assert!(!project.has(name), "{name}");
    }
    // The control: without the inner one these work.
    let run = within(&project, &["--write", "."], "cat secret; echo x > new; kill -0 $$ && echo signalled");
    assert_eq!(run.out, "secretsignalled\n");
    assert!(project.has("new"));
}

/// The attacks of the escape tests, on the sandbox around.
#[test]
fn attacks_are_contained_by_the_small_one() {
    let project = Project::new();
    let secret = project.write("secret", "TOKEN");
    project.write("nested.toml", "extends = [\"default\"]\n[files]\ncurrent-directory = \"none\"\n");
    let probe = site().probe.display();
    let (secret, new) = (secret.display(), project.join("new"));
    let new = new.display();
    let nested =
        format!("$SENTRY run -q --nested --policy nested.toml --workdir / --read {} -- {probe}", binaries().display());
    let attack = |probe: &str| {
        let script = format!("sleep 99 & VICTIM=$!; {nested} {probe}; kill $VICTIM");
        let run = within(&project, &["--write", "."], &script);
        assert_eq!(run.out.trim(), "contained", "{probe}: {run:?}");
    };
    for probe in ["kill $VICTIM", "trace $VICTIM", "memory $VICTIM", "kill-init", "init", "descriptors"] {
        attack(probe);
    }
    for probe in ["unshare", "clone", "clone-dirty", "clone3", "io-uring", "setns", "mount", "new-mount-api"] {
        attack(probe);
    }
    for probe in ["terminal-input", "beyond-the-table", "dangerous", "socket-families", "capabilities", "settings"] {
        attack(probe);
    }
    attack(&format!("read {secret}"));
    attack(&format!("write {new}"));
    assert!(!project.has("new"));
    // The control: they work on the same sandbox from its own inside.
    for probe in ["kill $VICTIM", "memory $VICTIM", &format!("read {secret}"), &format!("write {new}")] {
        let script =
            format!("sleep 99 & VICTIM=$!; sleep 0.2; {} {probe}; kill $VICTIM 2>/dev/null", site().probe.display());
        let run = within(&project, &["--write", "."], &script);
        assert_eq!(run.out.trim(), "escaped", "{probe}: {run:?}");
    }
}

#[test]
fn what_is_granted_can_be_used() {
    let project = Project::new();
    let script = "$SENTRY run -q --nested --write . -- sh -c \
                  'mkdir a && echo 1 > a/x && mv a/x y && ln y z && rm z && cat y && ls && : > y && rmdir a'";
    let run = within(&project, &["--write", "."], script).exits(0);
    assert_eq!(run.out, "1\na\ny\n");
    assert!(project.has("y"));
    let script = "$SENTRY run -q --nested --read . -- sh -c 'echo x > y || cat y; ls'";
    assert_eq!(within(&project, &["--write", "."], script).out, "y\n");
}

#[test]
fn there_is_no_network_but_when_granted() {
    if !has("python3") {
        skip!("python3 is not installed");
    }
    let project = Project::new();
    let script = "import socket\nlisten = socket.create_server(('127.0.0.1', 0))\nsocket.create_connection(listen.getsockname())\nprint('connected')";
    project.write("net.py", script);
    let run = within(&project, &[], "$SENTRY run -q --nested -- python3 net.py 2>/dev/null");
    assert_eq!(run.out, "", "{run:?}");
    let run = within(&project, &[], "$SENTRY run -q --nested --net all -- python3 net.py");
    assert_eq!(run.out, "connected\n", "{run:?}");
}

#[test]
fn what_cannot_be_held_is_an_error_or_said() {
    let project = Project::new();
    project.write("sub/file", "x");
    for option in ["--cow sub", "--hide '*.pem'", "--write . --deny sub", "--write . --read sub", "--uname 5.5.5"] {
        let script = |more: &str| format!("$SENTRY run {more} --nested {option} -- true");
        within(&project, &["--write", "."], &script("")).exits(125).says("cannot hold").says("--allow-degraded");
        within(&project, &["--write", "."], &script("--allow-degraded")).exits(0).says("sentry: without");
    }
}

#[test]
fn who_asks_for_namespaces_is_refused_and_named() {
    let project = Project::new();
    for (program, guest) in [
        ("unshare", &["unshare", "-Ur", "id"][..]),
        ("unshare", &["unshare", "-m", "true"]),
        ("unshare", &["unshare", "--time", "true"]),
        ("bwrap", &["bwrap", "--dev-bind", "/", "/", "true"]),
    ] {
        if !has(program) {
            eprintln!("SKIPPED: nested: {program} is not installed");
            continue;
        }
        let run = Sandbox::new(&project).options(["--timeout", "20s"]).run(guest);
        assert!(run.code == 1, "{guest:?}: {run:?}");
        let denial = &run.report["denials"][0];
        assert!(denial["what"].as_str().unwrap().contains("new namespaces: "), "{guest:?}: {run:?}");
        let remedy = denial["remedy"].as_str().unwrap();
        assert!(remedy.contains("switch the program's own off") || remedy.contains("--userns emulate"), "{run:?}");
    }
    // What only asks what there is finds that there is none.
    let run =
        Sandbox::new(&project).sh("cat /proc/sys/user/max_user_namespaces; test -e /proc/self/ns/user && echo there");
    assert_eq!(run.out, "0\nthere\n");
}
