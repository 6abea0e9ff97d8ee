//! Policy files, good and bad.

use std::fs;
use std::time::Duration;

use tempfile::TempDir;

use super::*;

fn facts() -> Facts {
    Facts { cwd: "/work-here".into(), home: "/home/me".into(), real_home: "/home/me".into() }
}

fn bare() -> Policy {
    Policy::bare(vec!["true".into()])
}

/// Reads `files` in a directory of their own, the first one as `--policy`.
fn read(files: &[(&str, &str)]) -> (TempDir, anyhow::Result<Policy>) {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    }
    let mut policy = bare();
    let facts = facts();
    let result = Reader::new(&facts).file(&directory.path().join(files[0].0), Some(profile::DEFAULT), &mut policy);
    (directory, result.map(|()| policy))
}

fn error(text: &str) -> String {
    read(&[("p.toml", text)]).1.unwrap_err().to_string()
}

#[test]
fn every_profile_is_valid_and_says_what_it_should() {
    let facts = facts();
    let profile = |name: &str| {
        let mut policy = bare();
        Reader::new(&facts).profile(name, &mut policy).unwrap();
        policy.validate().unwrap();
        assert_eq!(policy.profile, name);
        policy
    };
    let default = profile("default");
    assert_eq!((default.cwd, default.net, default.limits.pids), (Some(Access::Cow), Net::None, Some(1024)));
    assert_eq!((&default.grants[..], default.tracing_inside), (&[][..], true));

    let dev = profile("dev");
    assert!(dev.grants.iter().all(|grant| grant.optional && grant.access == Access::Read));
    assert!(dev.grants.iter().any(|grant| grant.host == Path::new("/home/me/.cargo")));
    assert!(dev.hide.contains(&"/home/me/.cargo/credentials.toml".into()));
    assert_eq!(dev.limits.pids, Some(1024));

    let judge = profile("judge");
    assert_eq!((judge.surface, judge.bare_proc, judge.tracing_inside), (Surface::Judge, true, false));
    let expected = super::super::Limits {
        memory: Some(256 << 20),
        pids: Some(64),
        cpus: None,
        timeout: Some(Duration::from_secs(10)),
        cpu_time: Some(Duration::from_secs(5)),
        disk: Some(64 << 20),
        max_file: Some(64 << 20),
    };
    assert_eq!((judge.limits, judge.cwd), (expected, Some(Access::Cow)));
}

#[test]
fn everything_can_be_said_in_a_file() {
    let (directory, policy) = read(&[(
        "p.toml",
        r#"
        extends = []
        [files]
        read = ["~/a", "$HOME/b", "c"]
        write = ["/w"]
        cow = ["/cow"]
        write-if-present = ["/maybe"]
        volumes = ["~/v:/v:ro"]
        tmpfs = ["/scratch:1M"]
        hide = ["/w/.env", "**/*.pem"]
        deny = ["keys"]
        log = ["~/.ssh/*"]
        content = { "/etc/motd" = "hello" }
        redirect = { "/etc/hosts" = "hosts" }
        root = "/srv/root"
        system = false
        current-directory = "none"
        cow-store = "memory"
        [environment]
        clear = true
        pass = ["A"]
        set = { B = "1" }
        unset = ["C"]
        [network]
        mode = "all"
        [limits]
        pids = 7
        cpus = 1.5
        timeout = "1.5s"
        memory = "none"
        [process]
        hostname = "box"
        workdir = "/w"
        surface = "compat"
        bare-proc = true
        tracing-inside = false
        seccomp = "s.json"
        "#,
    )]);
    let policy = policy.unwrap();
    let beside = directory.path().canonicalize().unwrap();
    let hosts: Vec<&Path> = policy.grants.iter().map(|grant| grant.host.as_path()).collect();
    let c = beside.join("c");
    let expected = ["/home/me/a", "/home/me/b"].map(Path::new).into_iter().chain([c.as_path()]);
    assert_eq!(hosts, expected.chain(["/w", "/cow", "/maybe", "/home/me/v"].map(Path::new)).collect::<Vec<_>>());
    assert_eq!(policy.grants[6].inside, Path::new("/v"));
    assert!(policy.grants[5].optional);
    assert_eq!(policy.scratch, [Scratch { inside: "/scratch".into(), size: Some(1 << 20) }]);
    let rules: Vec<&str> = policy.patterns.iter().map(|rule| rule.text.as_str()).collect();
    assert_eq!(rules, ["--hide **/*.pem", "--log ~/.ssh/*"]);
    assert_eq!(policy.deny, [beside.join("keys")]);
    let made: Vec<String> = policy.made.iter().map(MadeFile::option).collect();
    let hosts_file = beside.join("hosts");
    assert_eq!(made, ["--file /etc/motd=hello".to_owned(), format!("--redirect /etc/hosts={}", hosts_file.display())]);
    assert_eq!((policy.hide, policy.root), (vec!["/w/.env".into()], Some("/srv/root".into())));
    assert_eq!((policy.system, policy.cwd, policy.cow_store), (false, None, CowStore::Memory));
    assert_eq!(policy.environment.set, [("A".into(), None), ("B".into(), Some("1".into()))]);
    assert!(policy.environment.clear && policy.environment.unset == ["C"]);
    assert_eq!((policy.net, policy.hostname.as_str(), policy.workdir), (Net::All, "box", Some("/w".into())));
    assert_eq!((policy.limits.pids, policy.limits.cpus), (Some(7), Some(1.5)));
    assert_eq!((policy.limits.timeout, policy.limits.memory), (Some(Duration::from_millis(1500)), None));
    assert_eq!((policy.surface, policy.bare_proc, policy.tracing_inside), (Surface::Compat, true, false));
    assert_eq!(policy.seccomp, Some(beside.join("s.json")));
}

#[test]
fn a_file_without_extends_begins_with_the_default_profile() {
    let policy = read(&[("p.toml", "[limits]\ntimeout = 5")]).1.unwrap();
    assert_eq!((policy.limits.pids, policy.limits.timeout), (Some(1024), Some(Duration::from_secs(5))));
    assert_eq!(policy.profile, "default");
}

#[test]
fn files_extend_files_but_not_themselves() {
    let base = ("base.toml", "extends = [\"judge\"]\n[limits]\npids = 3");
    let policy = read(&[("p.toml", "extends = [\"./base.toml\"]\n[limits]\nmemory = \"none\""), base]).1.unwrap();
    assert_eq!((policy.limits.pids, policy.limits.memory, policy.bare_proc), (Some(3), None, true));
    assert_eq!(policy.profile, "judge");

    let round = read(&[("a.toml", "extends = [\"./b.toml\"]"), ("b.toml", "extends = [\"./a.toml\"]")]).1;
    let message = round.unwrap_err().to_string();
    assert!(message.contains("a.toml extends itself"), "{message}");
}

#[test]
fn mistakes_are_pointed_at() {
    let message = error("[files]\nraed = [\"/x\"]\n");
    assert!(message.contains("p.toml: ") && message.contains("line 2") && message.contains("^^^^"), "{message}");
    assert!(message.contains("unknown field `raed`"), "{message}");

    let message = error("[limits]\nmemory = \"lots\"\n");
    assert!(message.contains("'lots' is not a size") && message.contains('^'), "{message}");
    for (text, expected) in [
        ("[network]\nmode = \"some\"", "expected `none` or `all`"),
        ("extends = [\"strict\"]", "there is no profile \"strict\""),
        ("[files]\nread = [\"~you/x\"]", "another home"),
        ("[files]\nread = [\"$XDG/x\"]", "only $HOME"),
        ("[files]\nread = [\"\"]", "a path is empty"),
        ("[files]\nread = [\"/a\\u0000b\"]", "zero byte"),
        ("[files]\nhide = [\"**/*\"]", "matches everything"),
        ("[files]\ndeny = [\"$XDG/*\"]", "only $HOME"),
        ("[files", "line 1"),
    ] {
        let message = error(text);
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn a_file_that_others_can_write_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("p.toml");
    fs::write(&path, "").unwrap();
    for (mode, trusted) in [(0o644, true), (0o600, true), (0o664, false), (0o646, false)] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let result = Reader::new(&facts()).file(&path, None, &mut bare());
        assert_eq!(result.is_ok(), trusted, "{mode:o}");
        if let Err(error) = result {
            assert!(error.to_string().contains("chmod go-w"), "{error}");
        }
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let facts = facts();
    let mut reader = Reader::new(&facts);
    let message = reader.file(Path::new("/no/such.toml"), None, &mut bare()).unwrap_err().to_string();
    assert!(message.contains("/no/such.toml") && message.contains("no such file"), "{message}");
    assert!(reader.file(Path::new("/etc"), None, &mut bare()).unwrap_err().to_string().contains("directory"));
}
