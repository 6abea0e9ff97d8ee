use super::*;

fn parse(args: &[&str]) -> Result<Policy, u8> {
    let mut made = None;
    let args = std::iter::once("sentry").chain(args.iter().copied()).map(OsString::from);
    let code = main_with(args, |policy| {
        made = Some(policy);
        0
    });
    made.ok_or(code)
}

#[test]
fn the_help_is_as_it_was() {
    let mut text = String::new();
    let mut command = Cli::command();
    text.push_str(&command.render_long_help().to_string());
    for verb in command.get_subcommands_mut().filter(|verb| !verb.is_hide_set()) {
        text.push_str(&format!("\n==== {} ====\n\n{}", verb.get_name(), verb.render_long_help()));
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/cli/help.txt");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    assert!(text == std::fs::read_to_string(path).unwrap_or_default(), "cli/help.txt is not the help; run `make docs`");
}

#[test]
fn the_verb_may_be_left_out() {
    let policy = parse(&["--", "ls", "-l"]).unwrap();
    assert_eq!(policy.command, ["ls", "-l"]);
}

#[test]
fn the_command_must_stand_apart() {
    assert_eq!(parse(&["run", "ls"]), Err(FAILED));
    assert_eq!(parse(&["run", "--", ""]).unwrap().command, [""]);
    // What comes after is the command's, whatever it looks like.
    assert_eq!(parse(&["run", "--", "ls", "--write", "/"]).unwrap().grants, []);
}

#[test]
fn options_reach_the_policy() {
    let policy = parse(&[
        "run", "-r", "/srv", "-w", "/data", "-v", "/a:/b:ro", "--tmpfs", "/scratch:1M", "--net", "all", "-e", "A=b=c",
        "--memory", "1G", "--timeout", "1.5s", "--json", "3", "--hide", "/data/x", "-q", "--", "true",
    ])
    .unwrap();
    assert_eq!(policy.grants.len(), 3);
    assert_eq!(policy.scratch[0].size, Some(1 << 20));
    assert_eq!(policy.net, crate::policy::Net::All);
    assert_eq!(policy.environment.set, [("A".into(), Some("b=c".into()))]);
    assert_eq!(policy.limits.memory, Some(1 << 30));
    assert_eq!(policy.limits.pids, Some(1024));
    assert_eq!(policy.json, Some(crate::policy::Sink::Descriptor(3)));
    assert!(policy.quiet);
}

#[test]
fn bubblewraps_spellings_are_understood() {
    let policy = parse(&[
        "run", "--ro-bind", "/usr", "/usr", "--symlink", "usr/bin", "/bin", "--bind", "/srv", "/srv", "--proc", "/proc",
        "--dev", "/dev", "--unshare-all", "--share-net", "--die-with-parent", "--setenv", "K", "V", "--chdir", "/srv",
        "--new-session", "--", "true",
    ])
    .unwrap();
    assert_eq!(policy.grants.len(), 1);
    assert_eq!(policy.net, crate::policy::Net::All);
    assert_eq!(policy.workdir.as_deref(), Some(std::path::Path::new("/srv")));
    for refused in [
        &["--dev-bind", "/dev", "/dev"][..],
        &["--cap-add", "ALL"],
        &["--proc", "/p"],
        &["--uid", "4242"],
        &["--symlink", "/a", "/b"],
    ] {
        let args = [&["run"], refused, &["--", "true"]].concat();
        assert_eq!(parse(&args), Err(FAILED), "{refused:?}");
    }
}

#[test]
fn wrong_options_are_refused() {
    for wrong in [
        &["--no-such-option"][..],
        &["--net", "example.com"],
        &["--hide", "*.pem"],
        &["--memory", "lots"],
        &["--profile", "strict"],
        &["--read", "/proc/1"],
        &["--volume", "/a"],
        &["--hostname", "a b"],
        &["--policy", "/nonexistent.toml"],
    ] {
        let args = [&["run"], wrong, &["--", "true"]].concat();
        // Some are found when the view is arranged, which the monitor does.
        let facts = crate::host::user_facts().unwrap();
        let refused = parse(&args).map_or(true, |policy| crate::policy::view::arrange(&policy, &facts).is_err());
        assert!(refused, "{wrong:?}");
    }
    assert_eq!(parse(&["frobnicate"]), Err(FAILED));
    assert_eq!(parse(&["run"]), Err(FAILED));
    assert_eq!(parse(&[]), Err(FAILED));
}
