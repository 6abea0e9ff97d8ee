//! Root over a range of the user's own ids (`--fake-root=range`): real programs of root, whose ids are the kernel's.
#![allow(clippy::unwrap_used)] // a panic is how a test fails

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use sentry_tests::{Outcome, Project, Sandbox, has, has_id_range, is_root, site, skip};

fn root<S: AsRef<std::ffi::OsStr>>(project: &Project, options: &[&str], guest: impl IntoIterator<Item = S>) -> Outcome {
    Sandbox::new(project).options(["--fake-root=range"]).options(options).run(guest)
}

/// Runs a shell script as the sandbox's root.
fn sh(project: &Project, options: &[&str], script: &str) -> Outcome {
    root(project, options, ["sh", "-c", script])
}

#[track_caller]
fn prints(outcome: Outcome, expected: &str) {
    let outcome = outcome.exits(0);
    assert_eq!(outcome.out.trim(), expected, "{}", outcome.err);
}

macro_rules! needs_a_range {
    () => {
        if !has_id_range() {
            skip!("there is no range of ids for the test's user, or no newuidmap (package uidmap)");
        }
    };
}

#[test]
fn the_guest_is_root_among_others() {
    needs_a_range!();
    let project = Project::new();
    prints(root(&project, &[], ["id"]), "uid=0(root) gid=0(root) groups=0(root)");
    let map = sh(&project, &[], "cat /proc/self/uid_map /proc/self/gid_map").exits(0);
    let fields: Vec<&str> = map.out.split_whitespace().collect();
    assert_eq!(fields, ["0", "0", "1", "1", "1", "65535"].repeat(2), "nothing of the host's numbers is told");
    prints(
        sh(&project, &[], "touch /tmp/a; chown 33:34 /tmp/a; chmod 640 /tmp/a; stat -c %u:%g:%a /tmp/a"),
        "33:34:640",
    );
    if has("su") {
        let nobody = "uid=65534(nobody) gid=65534(nogroup) groups=65534(nogroup)";
        prints(root(&project, &[], ["su", "nobody", "-s", "/bin/sh", "-c", "id"]), nobody);
    }
    if !has("setpriv") {
        skip!("there is no setpriv");
    }
    // Unlike pretended users these are kept apart by the kernel, and there is no way back.
    let script = "echo secret > /tmp/a; chmod 600 /tmp/a; setpriv --reuid=33 --regid=33 --clear-groups sh -c \
                  'id -u; cat /tmp/a; kill $PPID; setpriv --reuid=0 id; chown 33 /tmp/a; chroot / true; echo end'";
    let run = sh(&project, &[], script);
    assert_eq!(run.out.trim(), "33\nend", "{run:?}");
    assert!(run.err.matches("ermission denied").count() + run.err.matches("not permitted").count() >= 4, "{run:?}");
}

#[test]
fn owners_are_real_and_set_id_bits_are_left_out() {
    needs_a_range!();
    let project = Project::new();
    let script = "umask 022; touch a b c; mkdir d; chown 33:34 a; chmod 4755 a; chmod 2711 d; chmod u+s,g+s b; chmod 1777 c; \
                  chmod 6755 /dev/null; install -m 4755 -o 5 a e; setpriv --reuid=33 --regid=34 --clear-groups chmod 4700 a; \
                  setpriv --reuid=35 --regid=35 --clear-groups chmod 4777 a; stat -c %n:%u:%g:%a a b c d e";
    if !has("setpriv") {
        skip!("there is no setpriv");
    }
    let run = sh(&project, &["--write", "."], script).exits(0);
    assert_eq!(run.out.trim(), "a:33:34:700\nb:0:0:644\nc:0:0:1777\nd:0:0:711\ne:5:0:755", "{run:?}");
    // The one that is another user's, and the device of the host.
    assert_eq!(run.err.matches("not permitted").count(), 2, "{run:?}");
    let owner = |name: &str| std::fs::metadata(project.join(name)).unwrap();
    let user = owner("b").uid();
    assert!(user != 0 && owner("a").uid() != user && owner("a").uid() > 65_535, "{:?}", owner("a"));
    for entry in std::fs::read_dir(project.path()).unwrap().flatten() {
        let mode = entry.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o6000, 0, "{:?} {mode:o}", entry.path());
    }
    // How they are removed by a user who has no right to it outside.
    prints(sh(&project, &["--write", "."], "rm -r a b c d e; ls"), "");
}

#[test]
fn archives_keep_their_owners() {
    needs_a_range!();
    let project = Project::new();
    let script = "cd /tmp; mkdir t; touch t/a t/b; chown 33:34 t/a; chown 65535:1 t/b; chmod 4711 t/b; tar -cf t.tar t; rm -r t; \
                  tar -xpf t.tar; stat -c %u:%g:%a t/a t/b";
    prints(sh(&project, &[], script), "33:34:644\n65535:1:711");
}

#[test]
fn roots_may_be_changed_and_modes_within() {
    needs_a_range!();
    if !has("python3") {
        skip!("there is no python3");
    }
    let script = "import os\nos.mkdir('/tmp/r')\nopen('/tmp/r/f', 'w')\nopen('/tmp/f', 'w')\nos.chroot('/tmp/r')\nos.chdir('/')\n\
                  os.chmod('/f', 0o4751)\nos.chmod('../../f', 0o4753)\nprint(oct(os.stat('/f').st_mode))\n\
                  try: os.chmod('/tmp/f', 0o4700)\nexcept FileNotFoundError: print('none')";
    prints(root(&Project::new(), &[], ["python3", "-c", script]), "0o100753\nnone");
}

/// Where the sentry connects for a program the peer learns who the program is, and the socket's permissions count.
#[test]
fn connections_are_made_as_their_user() {
    needs_a_range!();
    if !has("python3") {
        skip!("there is no python3");
    }
    let script = r#"
import os, socket, struct
server = socket.socket(socket.AF_UNIX); server.bind("s"); os.chmod("s", 0o777); server.listen(5)
def child(act):
    if os.fork() == 0:
        os.setgroups([7]); os.setgid(34); os.setuid(33)
        try: act()
        except OSError as error: print(error.strerror, flush=True)
        os._exit(0)
    os.wait()
child(lambda: socket.socket(socket.AF_UNIX).connect("s"))
print(struct.unpack("3i", server.accept()[0].getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1:], flush=True)
os.chmod("s", 0o700)
child(lambda: socket.socket(socket.AF_UNIX).connect("s"))
os.chown("s", 0, 7); os.chmod("s", 0o770)
child(lambda: socket.socket(socket.AF_UNIX).connect("s"))
print(struct.unpack("3i", server.accept()[0].getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1:], flush=True)
socket.socket(socket.AF_UNIX).connect("s")
print(struct.unpack("3i", server.accept()[0].getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1:], flush=True)
"#;
    let run = root(&Project::new(), &["--write", "."], ["python3", "-c", script]);
    prints(run, "(33, 34)\nPermission denied\n(33, 34)\n(0, 0)");
}

/// A process of root works in a directory that nobody else may enter: the sentry, which might, leads nobody there.
#[test]
fn processes_are_no_way_into_what_is_closed() {
    needs_a_range!();
    if !has("python3") {
        skip!("there is no python3");
    }
    let script = r#"
import os, socket, sys
def connect(path):
    try:
        with socket.socket(socket.AF_UNIX) as client: client.connect(path); return 'reached'
    except OSError as error: return error.strerror
def apart(act, user):
    child = os.fork()
    if child == 0:
        os.setgroups([]); os.setresgid(user, user, user); os.setresuid(user, user, user)
        print(user, act(), flush=True); os._exit(0)
    os.waitpid(child, 0)
os.makedirs('closed/open'); os.chmod('closed', 0o700); os.chmod('closed/open', 0o777); os.chdir('closed/open')
server = socket.socket(socket.AF_UNIX); server.bind('s'); os.chmod('s', 0o777); server.listen(9)
place = '/proc/%d/cwd/s' % os.getpid()
for _ in range(2):
    for user in (33, 0): apart(lambda: connect(place), user)
def own():
    os.chdir('/tmp'); os.mkdir('own'); os.chdir('own')
    mine = socket.socket(socket.AF_UNIX); mine.bind('s'); mine.listen(1); return connect('/proc/%d/cwd/s' % os.getpid())
apart(own, 33)
"#;
    let run = root(&Project::new(), &["--write", "."], ["python3", "-c", script]);
    let told = "33 Permission denied\n0 reached\n";
    prints(run, &[told, told, "33 reached"].concat());
}

#[test]
fn root_is_root_inside_only() {
    needs_a_range!();
    let (project, other) = (Project::new(), Project::new());
    let file = other.write("file", "precious");
    let secret = other.write("secret", "TOKEN");
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o000)).unwrap();
    let place = other.path().to_str().unwrap();
    let script = format!(
        "mount -t tmpfs none /tmp; chmod 777 {place}/file; chown 33 {place}/file; echo x > {place}/file; rm -f {place}/file; \
         touch {place}/new; mknod /tmp/d c 1 3; mknod /tmp/z b 8 0; hostname other; cat {place}/file"
    );
    let run = sh(&project, &["--read", place], &script);
    assert_eq!(run.out.trim(), "precious", "{run:?}");
    assert!(!other.has("new"));
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o644);
    assert!(run.err.matches("ead-only").count() >= 5, "{run:?}");
    assert!(run.err.matches("not permitted").count() >= 2, "{run:?}");

    // What is the host's root's stays so, though it has a name here.
    let read =
        sh(&project, &["--read", "/etc/shadow"], "cat /etc/shadow; chmod 666 /etc/shadow; stat -c %u /etc/shadow");
    assert!(read.out.trim() == "65534" && read.err.contains("ermission denied"), "{read:?}");
    // Neither does it look behind what is covered.
    let denied =
        sh(&project, &["--deny", "/usr/share/doc"], "ls /usr/share/doc; cat /proc/keys; stat -c %u /usr/share/doc");
    assert!(denied.out.trim() == "65534" && denied.err.matches("ermission denied").count() == 2, "{denied:?}");
    let status = sh(&project, &[], "grep -E '^(CapPrm|CapBnd|NoNewPrivs)' /proc/self/status").exits(0);
    let fields: Vec<&str> = status.out.split_whitespace().collect();
    let capabilities = u64::from_str_radix(fields[1], 16).unwrap();
    // Not to mount, to trace, to configure a network, to make devices or load modules.
    for number in [12, 16, 17, 19, 21, 22, 24, 25, 27] {
        assert_eq!(capabilities & 1 << number, 0, "{status:?}");
    }
    assert_eq!((fields[3], fields[5]), (fields[1], "1"), "{status:?}");
}

/// The limit on processes is one for each user of the kernel's, and here there are many users.
#[test]
fn many_users_are_held_by_one_limit() {
    needs_a_range!();
    if !has("python3") {
        skip!("there is no python3");
    }
    let script = "import os, time\nmade = 0\nfor user in range(1, 600):\n    try: child = os.fork()\n    except OSError: break\n    \
                  if child == 0:\n        os.setgid(user); os.setuid(user); time.sleep(30); os._exit(0)\n    made += 1\nprint(made)";
    let run = root(&Project::new(), &["--pids", "50"], ["python3", "-c", script]);
    let made: u32 = run.out.trim().parse().unwrap_or(0);
    assert!(made < 200, "{run:?}");
}

#[test]
fn what_cannot_go_together_is_said_at_the_start() {
    needs_a_range!();
    let project = Project::new();
    project.write("a.pem", "x");
    for options in [
        &["--cow", "."][..],
        &["--hide", "**/*.pem"],
        &["--interpose", "full"],
        &["--audit", "log"],
        &["--allow", "mount"],
        &["--userns", "emulate"],
        &["--clock", "virtual"],
    ] {
        let run = root(&project, options, ["true"]).exits(125);
        assert!(
            run.err.contains("--fake-root=range") && run.err.contains("--fake-root=pretend"),
            "{options:?}: {run:?}"
        );
    }
    if is_root() {
        let mut command = std::process::Command::new(&site().sentry);
        command.args(["run", "-q", "--fake-root=range", "--", "true"]).current_dir("/");
        sentry_tests::outcome(command).exits(125).says("--fake-root=pretend");
    }
}
