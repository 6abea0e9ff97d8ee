//! The command line as a whole: what is typed, and what comes of it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::*;
use crate::policy::view::Facts;
use crate::policy::{Access, CowStore, Net, Sink};

fn facts() -> Facts {
    Facts { cwd: "/srv/p".into(), home: "/home/me".into(), real_home: "/home/me".into() }
}

/// What `sentry ARGS` says: exit code, standard output, standard error, and the policy that it would run.
fn sentry(args: &[&[u8]]) -> (u8, String, String, Option<Policy>) {
    let args = [&b"sentry"[..]].iter().chain(args).map(|arg| OsStr::from_bytes(arg).to_owned()).collect();
    let (mut out, mut err, mut policy) = (Vec::new(), Vec::new(), None);
    let code = start(args, &mut out, &mut err, |asked| {
        policy = Some(asked);
        7
    });
    (code, String::from_utf8_lossy(&out).into_owned(), String::from_utf8_lossy(&err).into_owned(), policy)
}

fn words(line: &str) -> Vec<&[u8]> {
    line.split_whitespace().map(str::as_bytes).collect()
}

/// The one line of complaint about `sentry LINE`.
fn complaint(line: &str) -> String {
    let (code, out, err, policy) = sentry(&words(line));
    assert_eq!((code, out.as_str(), policy), (FAILED, "", None), "sentry {line}");
    assert!(
        err.starts_with("sentry: ") && err.contains("; ") && err.matches('\n').count() == 1,
        "sentry {line}: {err}"
    );
    err
}

/// The policy of `sentry run LINE` for a user in `/srv/p`.
fn asked(line: &str) -> anyhow::Result<Policy> {
    let args = ["sentry", "run"].into_iter().chain(line.split_whitespace());
    let cli = Cli::try_parse_from(args).map_err(|error| anyhow::anyhow!("{error}"))?;
    match cli.verb {
        Verb::Run(options) => run::policy(*options, &facts()),
        other => panic!("{other:?}"),
    }
}

fn grants(policy: &Policy) -> Vec<(&Path, &Path, Access)> {
    policy.grants.iter().map(|grant| (grant.host.as_path(), grant.inside.as_path(), grant.access)).collect()
}

#[test]
fn the_command_comes_after_two_dashes_only() {
    let (code, _, _, policy) = sentry(&words("run -- ls --help -r /etc"));
    assert_eq!((code, policy.unwrap().command), (7, ["ls", "--help", "-r", "/etc"].map(Into::into).to_vec()));
    assert_eq!(sentry(&words("-- ls")).3.unwrap().command, ["ls"]);
    let policy = sentry(&words("--net all -- ls -- x")).3.unwrap();
    assert_eq!((policy.net, policy.command.len()), (Net::All, 3));

    assert_eq!(complaint("run ls -l"), "sentry: 'ls' must come after --; write sentry run -- ls -l\n");
    assert!(complaint("ls -l").contains("write sentry run -- ls"));
    assert!(complaint("run -r a b -- ls").contains("'b' belongs to no option"));
    assert!(complaint("run").contains("write sentry run -- COMMAND"));
    assert!(complaint("run --").contains("write sentry run -- COMMAND"));
    assert!(complaint("run -q").contains("nothing to run"));
}

#[test]
fn mistakes_are_told_in_one_line_with_a_remedy() {
    for (line, expected) in [
        ("run --raed x -- ls", "found; a similar argument exists: '--read'\n"),
        ("--bogus -- ls", "'--bogus'"),
        ("docter", "did you mean sentry doctor?"),
        ("run --net example.com -- ls", "--net all"),
        ("run --memory lots -- ls", "512M"),
        ("run --memory 4k -- ls", "1M or more"),
        ("run --timeout 0 -- ls", "none for no limit"),
        ("run --cow-store tape -- ls", "disk, memory"),
        ("run --hide **/* -- ls", "matches everything"),
        ("run --deny [x -- ls", "never closed"),
        ("run --cow ./*.d -- ls", "name the directory itself"),
        ("run --log *.pem -- ls", "add --audit FILE"),
        ("run --write / -- ls", "--root /"),
        ("run --file motd -- ls", "PATH=TEXT"),
        ("run --file *.txt=x -- ls", "one name"),
        ("run --redirect a -- ls", "PATH=HOST"),
        ("run --file a=x --hide a -- ls", "both"),
        ("run --file a=x --read a -- ls", "both"),
        ("explain --path a --syscall b", "cannot be used with"),
        ("run --volume x -- ls", "HOST:BOX"),
        ("run --read / -- ls", "--root /"),
        ("run --profile strict -- ls", "default, dev, judge"),
        ("run --policy /no/such -- ls", "no such file"),
        ("run --hostname a/b -- ls", "host name"),
        ("run --env =x -- ls", "variable"),
        ("run --json 99999999999 -- ls", "descriptor"),
        ("run --trace all -- ls", "denied"),
        ("run --quiet --quiet -- ls", "multiple times"),
        ("run --share-net --net none -- ls", "cannot be used with"),
        ("run --dev-bind /dev /dev -- ls", "devices"),
        ("run --read", "value is required"),
        ("syscalls opem", "sentry syscalls lists them"),
        ("syscalls opena", "open"),
        ("completions tcsh", "bash"),
        ("man /no/such", "directory that exists"),
    ] {
        let complaint = complaint(line);
        assert!(complaint.contains(expected), "sentry {line}: {complaint}");
    }
}

#[test]
fn bytes_that_are_not_text_work_and_are_harmless_in_messages() {
    let (_, _, _, policy) = sentry(&[b"run", b"--read", b"/\xff", b"-e", b"K=\xfe", b"--", b"ls", b"\xfd"]);
    let policy = policy.unwrap();
    assert_eq!(policy.grants[0].host.as_os_str().as_bytes(), b"/\xff");
    assert_eq!(policy.environment.set, [("K".into(), Some(OsStr::from_bytes(b"\xfe").to_owned()))]);
    assert_eq!(policy.command[1].as_bytes(), b"\xfd");

    let (code, _, err, _) = sentry(&[b"run", b"--\x1b[2J", b"--", b"ls"]);
    assert!(code == FAILED && !err.contains('\x1b'), "{err:?}");
    let (code, _, err, _) = sentry(&[b"run", b"\xff", b"--", b"ls"]);
    assert!(code == FAILED && err.starts_with("sentry: "), "{err:?}");
}

#[test]
fn without_options_the_default_profile_holds() {
    let policy = asked("-- ls").unwrap();
    assert_eq!((policy.profile.as_str(), policy.cwd, policy.net), ("default", Some(Access::Cow), Net::None));
    assert_eq!((policy.limits.pids, policy.limits.memory), (Some(1024), None));
    assert_eq!((policy.grants.len(), policy.quiet, policy.allow_degraded), (0, false, false));
}

#[test]
fn every_option_arrives() {
    let policy = asked(
        "-r a -w /b --cow ../c -v d:/e:ro --tmpfs /f:1M --tmpfs /g --hide /b/h -e K=V -e L --env-all --workdir /b \
         --net all --hostname box --memory 512M --pids none --cpus 1.5 --timeout 1m30s --cpu-time 5 --disk 1G \
         --max-file 1k --cow-store memory --root /r --seccomp s.json --trace denied --json 3 --meta m -q \
         --allow-degraded -- ls",
    );
    let policy = policy.unwrap();
    let path = Path::new;
    assert_eq!(
        grants(&policy),
        [
            (path("/srv/p/a"), path("/srv/p/a"), Access::Read),
            (path("/b"), path("/b"), Access::Write),
            (path("/srv/c"), path("/srv/c"), Access::Cow),
            (path("/srv/p/d"), path("/e"), Access::Read),
        ]
    );
    assert_eq!((policy.scratch[0].size, policy.scratch[1].size), (Some(1 << 20), None));
    assert_eq!((policy.hide, policy.workdir), (vec![PathBuf::from("/b/h")], Some("/b".into())));
    assert_eq!(policy.environment.set, [("K".into(), Some("V".into())), ("L".into(), None)]);
    assert!(policy.environment.inherit_all && policy.trace_denied && policy.quiet && policy.allow_degraded);
    assert_eq!((policy.net, policy.hostname.as_str(), policy.cow_store), (Net::All, "box", CowStore::Memory));
    assert_eq!((policy.limits.memory, policy.limits.pids, policy.limits.cpus), (Some(512 << 20), None, Some(1.5)));
    assert_eq!((policy.limits.timeout, policy.limits.cpu_time), (seconds(90), seconds(5)));
    assert_eq!((policy.limits.disk, policy.limits.max_file), (Some(1 << 30), Some(1024)));
    assert_eq!((policy.root, policy.seccomp), (Some("/r".into()), Some("/srv/p/s.json".into())));
    assert_eq!((policy.json, policy.meta), (Some(Sink::Descriptor(3)), Some("/srv/p/m".into())));
    assert_eq!(asked("--json ./3 -- ls").unwrap().json, Some(Sink::File("/srv/p/3".into())));
}

fn seconds(seconds: u64) -> Option<Duration> {
    Some(Duration::from_secs(seconds))
}

#[test]
fn options_win_over_profiles() {
    let policy = asked("--profile judge --memory 1G --timeout none -- ls").unwrap();
    assert_eq!((policy.limits.memory, policy.limits.timeout, policy.limits.pids), (Some(1 << 30), None, Some(64)));
    let policy = asked("--profile dev --read /home/me/.cargo/credentials.toml -- ls").unwrap();
    assert!(!policy.hide.contains(&"/home/me/.cargo/credentials.toml".into()));
    assert!(policy.hide.contains(&"/home/me/.cargo/credentials".into()));
}

#[test]
fn a_policy_within_reach_of_the_program_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("p.toml");
    std::fs::write(&file, "[limits]\npids = 3\n").unwrap();
    std::os::unix::fs::symlink(directory.path(), directory.path().join("link")).unwrap();
    let (here, file) = (directory.path().display(), file.display());

    assert_eq!(asked(&format!("--policy {file} --read {here} -- ls")).unwrap().limits.pids, Some(3));
    assert_eq!(asked(&format!("--policy {file} --cow {here} -- ls")).unwrap().limits.pids, Some(3));
    for grant in [format!("--write {here}"), format!("--volume {here}:/x"), format!("--write {here}/link")] {
        let error = asked(&format!("--policy {file} {grant} -- ls")).unwrap_err().to_string();
        assert!(error.contains("could be rewritten") && error.contains("--read"), "{error}");
        assert!(asked(&format!("--policy {file} {grant} --read {file} -- ls")).is_ok());
    }
}

#[test]
fn a_script_for_bubblewrap_keeps_working() {
    let policy = asked(
        "--ro-bind /usr /usr --symlink usr/lib /lib --bind /srv/data /data --ro-bind-try /opt /opt --tmpfs /x --dir /run/y --proc /proc \
         --dev /dev --setenv A 1 --unsetenv TERM --chdir /data --unshare-all --unshare-user-try --die-with-parent \
         --new-session --hostname b --cap-drop ALL -- sh -c true",
    );
    let policy = policy.unwrap();
    let path = Path::new;
    assert_eq!(
        grants(&policy),
        [(path("/opt"), path("/opt"), Access::Read), (path("/srv/data"), path("/data"), Access::Write),]
    );
    assert_eq!(policy.grants.iter().map(|grant| grant.optional).collect::<Vec<_>>(), [true, false]);
    assert_eq!((policy.workdir, policy.net), (Some("/data".into()), Net::None));
    assert_eq!(
        policy.scratch.iter().map(|each| each.inside.as_path()).collect::<Vec<_>>(),
        [path("/x"), path("/run/y")]
    );
    assert_eq!(policy.environment.set, [("A".into(), Some("1".into()))]);
    assert_eq!(policy.environment.unset, ["TERM"]);

    assert_eq!(asked("--ro-bind / / --unshare-all --share-net -- ls").unwrap().net, Net::All);
    assert_eq!(asked("--ro-bind / / -- ls").unwrap().root, Some("/".into()));
    assert!(asked("--clearenv --setenv A 1 -- ls").unwrap().environment.clear);
}

#[test]
fn pages_go_to_standard_output() {
    for line in ["--help", "-h", "run --help", "doctor --help", "--version", "completions bash", "man", "syscalls"] {
        let (code, out, err, policy) = sentry(&words(line));
        assert_eq!((code, err.as_str(), policy), (0, "", None), "sentry {line}");
        assert!(out.contains("sentry") || line == "syscalls", "sentry {line}: {out}");
    }
    // One help, not a short and a long one.
    for verb in ["", "run ", "doctor ", "syscalls ", "completions "] {
        assert_eq!(sentry(&words(&format!("{verb}-h"))), sentry(&words(&format!("{verb}--help"))), "sentry {verb}");
    }
    let (code, out, err, _) = sentry(&[]);
    assert!(code == FAILED && out.is_empty() && err.contains("Examples:"), "{err}");

    let (_, out, ..) = sentry(&words("syscalls openat2"));
    assert!(out.starts_with("openat2("), "{out}");
    let all = sentry(&words("syscalls")).1;
    assert!(all.lines().count() > 300 && all.contains("\nopenat2 "), "{all}");
    assert_eq!(sentry(&words("syscalls --markdown")).1, ::syscalls::page::markdown());

    let directory = tempfile::tempdir().unwrap();
    assert_eq!(sentry(&[b"man", directory.path().as_os_str().as_bytes()]).0, 0);
    let page = std::fs::read_to_string(directory.path().join("sentry-run.1")).unwrap();
    assert!(page.contains("copy of a directory") && !page.contains("ro\\-bind"), "{page}");
}

/// The help is a text that people read: every change of it is looked at. `make docs` rewrites it.
#[test]
fn the_help_is_as_it_was() {
    let mut command = command().term_width(100);
    command.build();
    let mut text = format!("$ sentry --help\n{}", command.render_help());
    for verb in ["run", "doctor", "syscalls", "completions", "man"] {
        let verb = command.find_subcommand_mut(verb).unwrap();
        let name = verb.get_name().to_owned();
        text += &format!("\n$ sentry {name} --help\n{}", verb.render_help());
    }
    let text = text.lines().map(|line| format!("{}\n", line.trim_end())).collect::<String>();

    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/cli/help.txt");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    let expected = std::fs::read_to_string(path).unwrap_or_default();
    assert!(text == expected, "the help changed; look at it, then `make docs`\n{text}");
}
