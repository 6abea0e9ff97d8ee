//! Who one is under `--fake-root`: real programs of root, started by an ordinary user.
#![allow(clippy::unwrap_used)] // a panic is how a test fails

use sentry_tests::{Outcome, Project, Sandbox, has, skip};

fn root<S: AsRef<std::ffi::OsStr>>(guest: impl IntoIterator<Item = S>) -> Outcome {
    let project = Project::new();
    Sandbox::new(&project).options(["--fake-root"]).run(guest)
}

/// Runs a shell script as the sandbox's root.
fn sh(script: &str) -> Outcome {
    root(["sh", "-c", script])
}

#[track_caller]
fn prints(outcome: Outcome, expected: &str) {
    let outcome = outcome.exits(0);
    assert_eq!(outcome.out.trim(), expected, "{}", outcome.err);
}

const NOBODY: &str = "uid=65534(nobody) gid=65534(nogroup) groups=65534(nogroup)";
const WWW_DATA: &str = "uid=33(www-data) gid=33(www-data) groups=33(www-data)";

#[test]
fn the_guest_is_root() {
    prints(root(["id"]), "uid=0(root) gid=0(root) groups=0(root)");
    prints(sh("echo $HOME $USER; cd; pwd; whoami; touch ~/x && ls ~"), "/root root\n/root\nroot\nx");
    prints(sh("case :$PATH: in *:/usr/sbin:*) echo found;; esac"), "found");
}

#[test]
fn root_of_the_host_is_root_as_well_and_no_more() {
    if !sentry_tests::is_root() {
        skip!("only root can start it as root");
    }
    let mut command = std::process::Command::new(&sentry_tests::site().sentry);
    let script = "id -u; cat /proc/self/uid_map; setpriv --reuid=33 --clear-groups id -u";
    command.args(["run", "-q", "--fake-root", "--", "sh", "-c", script]).current_dir("/");
    let run = sentry_tests::outcome(command).exits(0);
    let fields: Vec<&str> = run.out.split_whitespace().collect();
    assert_eq!(fields[..2], ["0", "0"], "{run:?}");
    assert_eq!(fields[3..], ["1", "33"], "one id and no more, whatever is said: {run:?}");
}

#[test]
fn programs_make_themselves_somebody_else() {
    if has("su") {
        prints(root(["su", "nobody", "-s", "/bin/sh", "-c", "id"]), NOBODY);
    }
    if !has("setpriv") {
        skip!("there is no setpriv");
    }
    let as_www_data = "setpriv --reuid=33 --regid=33 --clear-groups";
    prints(sh(&format!("{as_www_data} id")), WWW_DATA);
    // What a child inherits, also when its parent is gone.
    prints(sh(&format!("{as_www_data} sh -c '(sleep 0.3; id; echo) & exit'; sleep 0.6")), WWW_DATA);
    // Whoever has dropped it cannot have it back.
    let back = sh(&format!("{as_www_data} setpriv --reuid=0 id; {as_www_data} chroot / true; id -u"));
    prints(back.says("Operation not permitted"), "0");
    prints(sh("setpriv --groups=7,5 --regid=9 id -G"), "9 5 7");
}

#[test]
fn capabilities_are_as_many_as_one_says() {
    if !has("capsh") {
        skip!("there is no capsh (libcap2-bin)");
    }
    let first = |outcome: Outcome| outcome.exits(0).out.lines().next().unwrap_or_default().to_owned();
    assert_eq!(first(sh("capsh --print")), "Current: =ep");
    assert_eq!(first(sh("setpriv --reuid=33 --clear-groups capsh --print")), "Current: =");
    let ambient = "setpriv --reuid=33 --clear-groups --inh-caps=+chown --ambient-caps=+chown capsh --print";
    assert_eq!(first(sh(ambient)), "Current: cap_chown=eip");
    let dropped = sh("capsh --drop=cap_chown -- -c 'capsh --print'").exits(0).out;
    let bounding = dropped.lines().find(|line| line.starts_with("Bounding")).unwrap();
    assert!(!bounding.contains("cap_chown") && bounding.contains("cap_kill"), "{bounding}");
    prints(
        sh("sleep 1 & getpcaps $! 2>&1 | sed 's/[0-9]*//'; getpcaps 999999 2>/dev/null || echo none"),
        ": =ep\nnone",
    );
}

#[test]
fn python_sees_what_the_kernel_would_tell() {
    if !has("python3") {
        skip!("there is no python3");
    }
    let script = r#"
import os, resource, signal, threading
def refused(call, *args):
    try:
        call(*args)
        return False
    except PermissionError:
        return True
os.setgroups([5, 4]); assert os.getgroups() == [4, 5]
os.setresgid(7, 8, 9); os.setresuid(0, 1000, 33)
assert (os.getresgid(), os.getresuid()) == ((7, 8, 9), (0, 1000, 33))
assert refused(os.setgroups, []) and refused(os.setresuid, 5, 5, 5)
thread = threading.Thread(target=lambda: seen.append(os.getresuid())); seen = []
thread.start(); thread.join(); assert seen == [(0, 1000, 33)], seen
# A child has what its parent had at the fork, whatever becomes of the parent afterwards.
r, w = os.pipe(); r2, w2 = os.pipe()
if os.fork() == 0:
    os.read(r, 1)
    os.write(w2, repr(os.getresuid()).encode())
    os._exit(0)
os.seteuid(0); os.setresuid(1, 1, 1); os.write(w, b"x")
assert os.read(r2, 99) == b"(0, 1000, 33)"
assert refused(os.setuid, 0) and os.getresuid() == (1, 1, 1)
# By way of vfork, and through an exec.
import subprocess
assert subprocess.check_output(["id", "-u"]) == b"1\n"
# The limit that remembers it is unlimited, whatever is done to it.
unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
assert resource.getrlimit(resource.RLIMIT_RTTIME) == unlimited
resource.setrlimit(resource.RLIMIT_RTTIME, (5, 7))
assert resource.prlimit(0, resource.RLIMIT_RTTIME, (1, 2)) == unlimited
assert resource.getrlimit(resource.RLIMIT_RTTIME) == unlimited and os.getuid() == 1
# Nobody may look into it, and still it is known.
import ctypes
ctypes.CDLL(None).prctl(4, 0); assert os.getuid() == 1 and refused(os.setuid, 0)
print("as told")
"#;
    prints(root(["python3", "-c", script]), "as told");
}

#[test]
fn peers_are_known_by_who_they_say_they_are() {
    if !has("python3") {
        skip!("there is no python3");
    }
    let script = r#"
import os, socket, struct
def peer(s): return struct.unpack("iII", s.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
server = socket.socket(socket.AF_UNIX); server.bind("/tmp/s"); server.listen()
assert peer(server) == (os.getpid(), 0, 0), peer(server)
child = os.fork()
if child == 0:
    os.setgid(34); os.setuid(33)
    s = socket.socket(socket.AF_UNIX); s.connect("/tmp/s"); s.recv(1); os._exit(0)
connection, _ = server.accept()
assert peer(connection) == (child, 33, 34), peer(connection)
assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) == socket.SOCK_STREAM
one, two = socket.socketpair()
assert peer(one) == (os.getpid(), 0, 0), peer(one)
assert peer(socket.socket(socket.AF_UNIX)) == (0, 2**32 - 1, 2**32 - 1)
print("known")
"#;
    prints(root(["python3", "-c", script]), "known");
}

#[test]
fn low_ports_of_its_own_network_are_roots() {
    if !has("python3") {
        skip!("there is no python3");
    }
    let script = "import socket\nfor family, place in (2, ('127.0.0.1', 80)), (10, ('::1', 443)):\n socket.socket(family).bind(place)\nprint('bound')";
    prints(root(["python3", "-c", script]), "bound");
}

/// Everything is called by absolute names from here on, in a root with busybox and little else.
fn in_a_root_of_its_own(script: &str) -> Outcome {
    let make = "mkdir -p /tmp/r/bin /tmp/r/etc /tmp/r/tmp; cp $(command -v busybox) /tmp/r/bin/; \
                for name in sh cat ls ln mkdir mv readlink pwd stat nc; do ln -s busybox /tmp/r/bin/$name; done; \
                echo inside > /tmp/r/etc/hostname; echo outside > /tmp/outside; ";
    sh(&format!("{make} chroot /tmp/r /bin/sh -c '{script}'"))
}

#[test]
fn a_changed_root_is_where_paths_begin_and_end() {
    if !has("busybox") {
        skip!("there is no busybox");
    }
    prints(in_a_root_of_its_own("cat /etc/hostname; ls /.. /"), "inside\n/:\nbin\netc\ntmp\n\n/..:\nbin\netc\ntmp");
    // Absolute links, and `..` at the root.
    let clamped = "ln -s /../tmp/outside /l; cat /l ../../outside /tmp/../../outside || echo clamped";
    prints(in_a_root_of_its_own(clamped), "clamped");
    prints(in_a_root_of_its_own("ln -s /etc /tmp/e; cd /tmp/e; pwd -P; cat ../etc/hostname"), "/etc\ninside");
    prints(in_a_root_of_its_own("mkdir /a /a/b; mv /a/b /c; echo new > /c/x; cat /../c/x; ls /a"), "new");
    prints(in_a_root_of_its_own("echo old > /x; echo new >> /x; readlink -f /tmp/../x; cat /x"), "/x\nold\nnew");
}

#[test]
fn rules_are_about_names_of_the_view_in_every_root() {
    if !has("busybox") {
        skip!("there is no busybox");
    }
    let project = Project::new();
    project.write("secrets/key.pem", "TOKEN");
    let script = "mkdir bin; cp $(command -v busybox) bin/; ln -s busybox bin/cat; ln -s busybox bin/sh; \
                  chroot . /bin/sh -c 'cat /secrets/key.pem /../secrets/key.pem; echo x > /new.pem; cat /other' 2>/dev/null; \
                  true";
    project.write("other", "plain");
    let run = Sandbox::new(&project).options(["--fake-root", "--write", ".", "--hide", "**/*.pem"]).sh(script);
    prints(run, "plain");
    assert!(!project.has("new.pem"));
}

#[test]
fn a_copy_of_the_whole_host_has_a_root_at_home() {
    let project = Project::new();
    let run =
        Sandbox::new(&project).options(["--fake-root", "--cow", "/"]).sh("cd; pwd; echo x > ~/x; cat ~/x; id -un");
    prints(run, "/root\nx\nroot");
}

#[test]
fn daemons_find_what_they_ask_for() {
    if !has("sshd") || !has("ssh-keygen") {
        skip!("there is no sshd");
    }
    let script = "ssh-keygen -q -t ed25519 -N '' -f /tmp/key; mkdir -p /run/sshd; /usr/sbin/sshd -t -h /tmp/key -f /dev/null; echo $?";
    prints(sh(script), "0");
}

#[test]
fn the_limit_must_be_free() {
    let project = Project::new();
    let script = format!("ulimit -R 1000000; exec {} run --fake-root -- true", sentry_tests::site().sentry.display());
    let mut command = sentry_tests::as_user("bash");
    command.args(["-c", &script]).current_dir(project.path());
    sentry_tests::outcome(command).exits(125).says("RLIMIT_RTTIME");
}

#[test]
fn a_policy_file_may_say_so() {
    let project = Project::new();
    let policy = Project::new();
    let file = policy.write("root.toml", "[process]\nfake-root = true\n");
    let run = Sandbox::new(&project).options(["--policy", file.to_str().unwrap()]).run(["id", "-u"]);
    prints(run, "0");
}

#[test]
fn a_server_serves_as_somebody_else() {
    if !has("nginx") || !has("python3") {
        skip!("there is no nginx");
    }
    let script = r#"
mkdir /tmp/n; cd /tmp/n; echo hello > x
for kind in client_body proxy fastcgi uwsgi scgi; do places="$places ${kind}_temp_path /tmp/n/$kind;"; done
echo "user www-data; pid /tmp/n/pid; error_log stderr; events {} \
  http { access_log off; $places server { listen 80; root /tmp/n; } }" > conf
nginx -c /tmp/n/conf || exit 1
python3 -c 'import urllib.request as r; print(r.urlopen("http://127.0.0.1/x").read().decode().strip())'
stat -c %U proxy; kill $(cat pid)
"#;
    prints(sh(script), "hello\nwww-data");
}

#[test]
fn a_database_refuses_root_and_knows_its_peers() {
    if !has("initdb") || !has("psql") {
        skip!("there is no PostgreSQL");
    }
    let script = r#"
initdb -D /tmp/pg 2>&1 | grep -o 'cannot be run as root'
mkdir /tmp/pg; chown nobody /tmp/pg
as() { su "$1" -s /bin/sh -c "$2"; }
as nobody 'initdb -A peer -D /tmp/pg/d' > /tmp/log 2>&1 || cat /tmp/log
as nobody 'pg_ctl -D /tmp/pg/d -l /tmp/pg/log -w -o "-k /tmp" start' > /dev/null
as nobody 'psql -h /tmp -d postgres -Atc "select current_user"'
psql -h /tmp -U nobody -d postgres -c 'select 1' 2>&1 | grep -o 'Peer authentication failed'
as www-data 'psql -h /tmp -U nobody -d postgres -c "select 1"' 2>&1 | grep -o 'Peer authentication failed'
as nobody 'pg_ctl -D /tmp/pg/d -m fast stop' | tail -1
"#;
    let failed = "Peer authentication failed";
    prints(sh(script), &format!("cannot be run as root\nnobody\n{failed}\n{failed}\nserver stopped"));
}

#[test]
fn proc_tells_who_a_process_became() {
    let script =
        "su nobody -s /bin/sh -c 'grep -E \"^(Uid|CapEff)\" /proc/self/status /proc/$$/status; ps -o user= -p $$'";
    let told = "Uid:\t65534\t65534\t65534\t65534";
    let none = "CapEff:\t0000000000000000";
    let run = sh(script).exits(0);
    let lines: Vec<&str> =
        run.out.lines().map(|line| line.split_once("status:").map_or(line, |(_, line)| line)).collect();
    assert_eq!(lines, [told, none, told, none, "nobody"], "{}", run.err);
    prints(sh("grep -E '^CapEff' /proc/1/status"), "CapEff:\t000001ffffffffff");
}
