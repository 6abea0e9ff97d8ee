//! Attacks, each tried three ways: natively, where it must succeed or it proves nothing; in the sandbox; and in a sandbox
//! whose supervisor answers CONTINUE to everything, for ring 1 alone must contain them.
#![allow(clippy::unwrap_used)] // a panic is how a test fails

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Stdio};

use sentry_tests::{Outcome, Project, Sandbox, as_user, has_id_range, outcome, site};

const KILLED_BY_SIGSYS: i32 = 128 + libc::SIGSYS;

fn native(project: &Project, arguments: &[&str]) -> Outcome {
    let mut command = as_user(&site().probe);
    command.args(arguments).current_dir(project.path());
    outcome(command)
}

fn guest<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    let mut guest = vec![site().probe.to_str().expect("UTF-8")];
    guest.extend(arguments);
    guest
}

/// What a policy may add to a sandbox that is no more for it.
const MORE: [(&str, &[&str]); 6] = [
    ("", &[]),
    (" with a clock of its own", CLOCK),
    (" --fake-root", &["--fake-root"]),
    (" --fake-root=range", RANGE),
    (" --allow mount", MOUNTING),
    (" with both", &["--fake-root", "--allow", "mount"]),
];
/// Whose programs are patched by the supervisor, so there is nothing to try of one that does not.
const CLOCK: &[&str] = &["--clock", "virtual"];
/// Where there is one.
const RANGE: &[&str] = &["--fake-root=range"];
const MOUNTING: &[&str] = &["--allow", "mount"];

/// Both sandboxes, with the probe's own directory granted, with each of what may be added; but not where somebody mounts for
/// the guest when it is a mount that is tried.
fn boxed(project: &Project, options: &[&str], arguments: &[&str]) -> Vec<(String, Outcome)> {
    let probe = site().probe.parent().expect("a directory");
    let mut outcomes = Vec::new();
    for (name, binary) in [("sentry", &site().sentry), ("always CONTINUE", &site().always_continue)] {
        for (added, more) in MORE {
            let own_mounts = arguments.first() == Some(&"mount") && more.contains(&"mount");
            let no_range = more == RANGE && !has_id_range();
            if no_range {
                eprintln!("SKIPPED: {}: {arguments:?} with a range of ids, for there is none", module_path!());
            }
            // The sentry's rules about paths and a range exclude each other.
            let excluded = more == RANGE && (options.contains(&"--hide") || options.contains(&"--cow"));
            if no_range || excluded || own_mounts || name != "sentry" && more == CLOCK {
                continue;
            }
            let sandbox = Sandbox::new(project).binary(binary).options(["--read"]).options([probe]);
            let outcome = sandbox.options(options).options(more).run(guest(arguments));
            outcomes.push((format!("{name}{added}"), outcome));
        }
    }
    outcomes
}

/// The probe succeeds natively and fails in both sandboxes.
#[track_caller]
fn contained(project: &Project, options: &[&str], arguments: &[&str]) {
    let free = native(project, arguments);
    assert_eq!(free.out.trim(), "escaped", "{arguments:?} proves nothing: {}{}", free.out, free.err);
    contained_inside(project, options, arguments);
}

/// For what an ordinary user cannot do natively either, or what is only there inside.
#[track_caller]
fn contained_inside(project: &Project, options: &[&str], arguments: &[&str]) {
    for (name, outcome) in boxed(project, options, arguments) {
        let killed = outcome.code == KILLED_BY_SIGSYS;
        assert!(outcome.out.trim() == "contained" || killed, "{name}: {arguments:?}: {outcome:?}");
    }
}

/// A process of the host that ends with the test.
struct Victim(Child);

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn files_outside_the_grants_are_out_of_reach() {
    let (project, private) = (Project::new(), Project::new());
    let secret = private.write("secret", "TOKEN");
    contained(&project, &[], &["read", secret.to_str().unwrap()]);
    let new = private.join("new");
    contained(&project, &[], &["write", new.to_str().unwrap()]);
    let _ = std::fs::remove_file(&new);
    contained_inside(&project, &[], &["write", new.to_str().unwrap()]);
    assert!(!new.exists());
    contained_inside(&project, &[], &["read", "/etc/shadow"]);
    contained_inside(&project, &[], &["write", "/usr/owned"]);
}

#[test]
fn sibling_prefixes_are_not_granted() {
    let project = Project::new();
    project.write("grant/ok", "fine");
    let evil = project.write("grant-evil/secret", "TOKEN");
    let grant = project.join("grant");
    let other = Project::new();
    contained(&other, &["--read", grant.to_str().unwrap()], &["read", evil.to_str().unwrap()]);
}

#[test]
fn other_processes_are_out_of_reach() {
    let project = Project::new();
    let mut command = as_user("sleep");
    let victim = Victim(command.arg("1000").stdout(Stdio::null()).spawn().unwrap());
    std::thread::sleep(std::time::Duration::from_millis(200));
    let pid = victim.0.id().to_string();
    for probe in ["kill", "trace", "memory"] {
        contained(&project, &[], &[probe, &pid]);
    }
}

#[test]
fn sockets_of_the_host_are_out_of_reach() {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixListener};
    let (project, outside) = (Project::new(), Project::new());
    let name = format!("sentry-test-{}", std::process::id());
    let _abstract = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    contained(&project, &[], &["abstract-socket", &name]);
    contained_inside(&project, &["--net", "all"], &["abstract-socket", &name]);

    let path = outside.join("socket");
    let _path = UnixListener::bind(&path).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777)).unwrap();
    contained(&project, &[], &["path-socket", path.to_str().unwrap()]);

    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = tcp.local_addr().unwrap().port().to_string();
    contained(&project, &[], &["tcp", &port]);
}

/// Ring 2 enforces this one: a mount cannot tell a socket from a file. So always-CONTINUE is exempt.
#[test]
fn sockets_in_grants_are_not_granted_with_them() {
    use std::os::unix::net::UnixListener;
    let project = Project::new();
    let path = project.join("socket");
    let _listener = UnixListener::bind(&path).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777)).unwrap();
    let socket = path.to_str().unwrap();
    assert_eq!(native(&project, &["path-socket", socket]).out.trim(), "escaped");
    let probe = site().probe.parent().unwrap().to_str().unwrap();
    for access in ["--read", "--write", "--cow"] {
        let run = Sandbox::new(&project).options(["--read", probe, access, "."]).run(guest(&["path-socket", socket]));
        assert_eq!(run.out.trim(), "contained", "{access}: {run:?}");
        if access != "--cow" {
            run.says("socket");
        }
    }
    let granted =
        Sandbox::new(&project).options(["--read", probe, "--write", socket]).run(guest(&["path-socket", socket]));
    assert_eq!(granted.out.trim(), "escaped", "a socket that was granted by name works: {granted:?}");
}

#[test]
fn kernel_interfaces_around_the_filter_are_closed() {
    let project = Project::new();
    contained_inside(&project, &[], &["io-uring"]);
    for probe in ["unshare", "clone", "clone-dirty", "clone3"] {
        contained(&project, &[], &[probe]);
    }
    for probe in
        ["setns", "mount", "new-mount-api", "terminal-input", "beyond-the-table", "dangerous", "socket-families"]
    {
        contained_inside(&project, &[], &[probe]);
    }
}

/// Files that lie over those of /proc, and calls that are answered where the kernel would, open nothing.
#[test]
fn names_and_numbers_open_nothing() {
    let options = ["--uname", "5.5.5:#1 SMP", "--memory", "1G", "--cpus", "1", "--hostname", "box"];
    let project = Project::new();
    for probe in ["unshare", "clone", "clone-dirty", "clone3"] {
        contained(&project, &options, &[probe]);
    }
    for probe in ["io-uring", "setns", "mount", "new-mount-api", "dangerous", "settings", "init"] {
        contained_inside(&project, &options, &[probe]);
    }
    contained_inside(&project, &options, &["write", "/proc/sys/kernel/osrelease"]);
    contained_inside(&project, &options, &["write", "/proc/meminfo"]);
    contained_inside(&project, &options, &["write", "/sys/devices/system/cpu/online"]);
}

#[test]
fn other_architectures_are_killed() {
    let project = Project::new();
    if cfg!(not(target_arch = "x86_64")) {
        sentry_tests::skip!("int 0x80 and x32 are of x86-64");
    }
    for probe in ["int80", "x32"] {
        for (name, outcome) in boxed(&project, &[], &[probe]) {
            assert_eq!(outcome.code, KILLED_BY_SIGSYS, "{name}: {probe}: {outcome:?}");
        }
    }
}

#[test]
fn cve_2024_21626_leaked_descriptors() {
    let project = Project::new();
    // Sixty-four stray descriptors in the parent, without close-on-exec.
    let mut script = String::from("for n in $(seq 10 73); do eval \"exec $n</\"; done; exec \"$@\"");
    script.push('\n');
    for binary in [&site().sentry, &site().always_continue] {
        let mut command = as_user("bash");
        command.args(["-c", &script, "bash"]).arg(binary).args(["run", "-q", "--read"]);
        command.arg(site().probe.parent().unwrap()).arg("--").args(guest(&["descriptors"])).current_dir(project.path());
        let run = outcome(command);
        assert_eq!(run.out.trim(), "contained", "{run:?}");
    }
    let run = Sandbox::new(&project).options(["--workdir", "/proc/self/fd/3"]).sh("pwd");
    assert_ne!(run.code, 0, "{run:?}");
}

#[test]
fn cve_2019_5736_nothing_of_init_can_be_had() {
    let project = Project::new();
    contained_inside(&project, &[], &["init"]);
    contained_inside(&project, &[], &["kill-init"]);
}

#[test]
fn no_set_id_file_appears_on_the_host() {
    let project = Project::new();
    let directory = project.path().to_str().unwrap();
    assert_eq!(native(&project, &["set-id", directory]).out.trim(), "escaped");
    assert_eq!(native(&project, &["set-id-openat2", directory]).out.trim(), "escaped");
    let fresh = Project::new();
    let directory = fresh.path().to_str().unwrap();
    let probe = site().probe.parent().unwrap().to_str().unwrap();
    for probe_name in ["set-id", "set-id-openat2"] {
        let run = Sandbox::new(&fresh).options(["--read", probe, "--write", "."]).run(guest(&[probe_name, directory]));
        assert_eq!(run.out.trim(), "contained", "{run:?}");
    }
    let ranged = Project::new();
    if has_id_range() {
        // A mode with these bits is taken, and the bits are left out: what counts is below.
        let sandbox = || Sandbox::new(&ranged).options(["--fake-root=range", "--read", probe, "--write", "."]);
        for probe_name in ["set-id", "set-id-openat2"] {
            let directory = ranged.path().to_str().unwrap();
            assert!(!sandbox().run(guest(&[probe_name, directory])).out.is_empty());
        }
        assert!(ranged.has("plain-0"));
    }
    // openat2 is ring 2's; what registers show is the filter's.
    let run = Sandbox::new(&fresh)
        .binary(&site().always_continue)
        .options(["--read", probe, "--write", "."])
        .run(guest(&["set-id", directory]));
    assert_eq!(run.out.trim(), "contained", "{run:?}");
    let entries = |project: &Project| std::fs::read_dir(project.path()).unwrap().flatten();
    for entry in entries(&fresh).chain(entries(&ranged)) {
        let mode = entry.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o6000, 0, "{:?} {mode:o}", entry.path());
    }
}

#[test]
fn privileges_settings_and_devices_are_gone() {
    let project = Project::new();
    contained_inside(&project, &[], &["settings"]);
    let probe = site().probe.parent().unwrap().to_str().unwrap();
    for binary in [&site().sentry, &site().always_continue] {
        let sandbox = || Sandbox::new(&project).binary(binary).options(["--read", probe]);
        for name in ["capabilities", "devices"] {
            let run = sandbox().run(guest(&[name]));
            assert_eq!(run.out.trim(), "contained", "{name}: {run:?}");
        }
    }
    // Root keeps one, which changes no more than where its paths begin. Only the kernel tells so; the sentry pretends.
    let run = Sandbox::new(&project)
        .binary(&site().always_continue)
        .options(["--fake-root", "--read", probe])
        .run(guest(&["capabilities", "chroot"]));
    assert_eq!(run.out.trim(), "contained", "{run:?}");
    let run = Sandbox::new(&project)
        .binary(&site().always_continue)
        .options(["--fake-root", "--read", probe])
        .run(guest(&["devices"]));
    assert_eq!(run.out.trim(), "contained", "the kernel makes no devices: {run:?}");
}

#[test]
fn only_root_changes_its_root() {
    let project = Project::new();
    for (name, outcome) in boxed(&project, &[], &["chroot"]) {
        let is_root = name.contains("--fake-root") || name.ends_with("with both");
        let expected = if is_root { "escaped" } else { "contained" };
        assert_eq!(outcome.out.trim(), expected, "{name}: {outcome:?}");
    }
}

#[test]
fn changed_roots_lead_nowhere() {
    let probe = site().probe.parent().unwrap().to_str().unwrap();
    let (project, private) = (Project::new(), Project::new());
    let outside = private.write("secret", "TOKEN");
    let hidden = project.write("keys/server.pem", "TOKEN");
    let inside = project.write("plain", "TOKEN");
    let options = ["--fake-root", "--read", probe, "--write", ".", "--hide", "**/*.pem"];
    for arguments in [&["roots"][..], &["roots-raced"]] {
        for (binary, secret, expected) in [
            (&site().sentry, &outside, "contained"),
            (&site().always_continue, &outside, "contained"),
            (&site().sentry, &hidden, "contained"),
            // The controls: what the view shows is found by the same ways.
            (&site().sentry, &inside, "escaped"),
            (&site().always_continue, &inside, "escaped"),
        ] {
            let arguments = [arguments, &[secret.to_str().unwrap(), "3000"]].concat();
            let run = Sandbox::new(&project).binary(binary).options(options).run(guest(&arguments));
            assert_eq!(run.out.trim(), expected, "{binary:?} {arguments:?}: {run:?}");
        }
    }
}

#[test]
fn stdin_cannot_be_reopened_for_writing() {
    let project = Project::new();
    let input = project.write("input", "precious");
    for binary in [None, Some(&site().sentry), Some(&site().always_continue)] {
        std::fs::write(&input, "precious").unwrap();
        let mut command = match binary {
            None => as_user(&site().probe),
            Some(binary) => {
                let mut command = as_user(binary);
                command.args(["run", "-q", "--read"]).arg(site().probe.parent().unwrap()).arg("--").arg(&site().probe);
                command
            }
        };
        command.arg("stdin-reopened").current_dir(project.path()).stdin(std::fs::File::open(&input).unwrap());
        let run = outcome(command);
        let expected = if binary.is_none() { "escaped" } else { "contained" };
        assert_eq!(run.out.trim(), expected, "{binary:?} {run:?}");
        assert_eq!(project.read("input") == "precious", binary.is_some(), "{binary:?}");
    }
    let mut command = Sandbox::new(&project).command(["true"]);
    command.stdin(std::fs::File::open(Path::new("/")).unwrap());
    outcome(command).exits(125).says("standard input");
}

#[test]
fn absent_names_can_be_protected() {
    let probe = site().probe.parent().unwrap().to_str().unwrap();
    let project = Project::new();
    std::fs::create_dir_all(project.join(".git/hooks")).unwrap();
    project.give(&project.join(".git"));
    project.give(&project.join(".git/hooks"));
    let directory = project.path().to_str().unwrap();
    let options = ["--read", probe, "--write", ".", "--hide", ".git/hooks/x"];
    let run = Sandbox::new(&project).options(options).run(guest(&["names", directory]));
    assert_eq!(run.out.trim(), "contained", "{run:?}");
    assert!(!project.has(".git/hooks/x"));
    // The control: with a supervisor that judges nothing the same attempts succeed, so they are real.
    let run = Sandbox::new(&project).binary(&site().always_continue).options(options).run(guest(&["names", directory]));
    assert_eq!(run.out.trim(), "escaped", "{run:?}");
}

/// Rule 15: a name is protected with its ancestors, also when what protects it is a mount.
#[test]
fn a_moved_ancestor_frees_nothing() {
    for option in ["--read", "--hide"] {
        let project = Project::new();
        project.write(".git/hooks/pre-commit", "mine");
        project.give(&project.join(".git"));
        let script = "mv .git old; mkdir -p .git/hooks; echo owned > .git/hooks/pre-commit; true";
        Sandbox::new(&project).options(["--write", ".", option, ".git/hooks/pre-commit"]).sh(script).exits(0);
        assert_eq!(project.read(".git/hooks/pre-commit"), "mine", "{option}");
    }
}

#[test]
fn a_flipped_name_never_wins() {
    let probe = site().probe.parent().unwrap().to_str().unwrap();
    let project = Project::new();
    let (free, protected) = (project.join("free"), project.join("hide"));
    let arguments = ["flip-create", free.to_str().unwrap(), protected.to_str().unwrap(), "100000"];
    let options = ["--read", probe, "--write", ".", "--hide", "hide"];
    let run = Sandbox::new(&project).options(options).run(guest(&arguments));
    assert_eq!(run.out.trim(), "contained", "{run:?}");
    assert!(!protected.exists());
    let run = Sandbox::new(&project).binary(&site().always_continue).options(options).run(guest(&arguments));
    assert_eq!(run.out.trim(), "escaped", "the control must win, or the race is void: {run:?}");
}

#[test]
fn hidden_files_stay_hidden() {
    let project = Project::new();
    let secret = project.write("keys/server.pem", "TOKEN");
    let secret = secret.to_str().unwrap();
    for access in ["--write", "--read", "--cow"] {
        contained(&project, &[access, ".", "--hide", "keys/server.pem"], &["read", secret]);
        contained(&project, &[access, ".", "--hide", "keys"], &["read", secret]);
    }
}

#[test]
fn grants_that_are_loops_or_missing_are_errors() {
    let project = Project::new();
    std::os::unix::fs::symlink("loop", project.join("loop")).unwrap();
    Sandbox::new(&project).options(["--read", "loop"]).sh("true").exits(125).says("loop");
    Sandbox::new(&project).options(["--read", "missing"]).sh("true").exits(125).says("create it first");
}

#[test]
fn a_set_user_id_sentry_refuses() {
    if !sentry_tests::is_root() {
        sentry_tests::skip!("only root can give a file to another user and set its bits");
    }
    let copy = format!("/tmp/sentry-tests-{}/set-id", std::process::id());
    std::fs::copy(&site().sentry, &copy).unwrap();
    std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o4755)).unwrap();
    let project = Project::new();
    let mut command = as_user(&copy);
    command.args(["run", "--", "true"]).current_dir(project.path());
    let run = outcome(command).exits(125);
    let _ = std::fs::remove_file(&copy);
    assert!(run.err.contains("set-user-id"), "{}", run.err);
    let _ = std::io::stderr().flush();
}
