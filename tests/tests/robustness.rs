//! What a guest does to the supervisor that answers everybody: it fills tables, holds leases, lets calls wait, and gives
//! itself odd names. Its own calls may fail; nobody else's may wait for them, and no call has half of an effect.

use std::fs;
use std::os::unix::fs::MetadataExt;

use sentry_tests::{Outcome, Project, Sandbox, as_user, has, not_traced, outcome, site, skip};

/// Patterns bring every open to the supervisor.
const PATTERN: [&str; 4] = ["--write", ".", "--hide", "**/.env*"];

/// Runs a Python program under a pattern.
fn python(project: &Project, script: &str) -> Outcome {
    Sandbox::new(project).options(PATTERN).run(["python3", "-c", script])
}

#[test]
fn an_open_beyond_the_limit_on_descriptors_has_no_effect() {
    let project = Project::new();
    project.write("old", "text");
    let script = r#"
import ctypes, os, resource
def attempts():
    for name, flags in (("new", os.O_CREAT | os.O_EXCL | os.O_WRONLY), ("old", os.O_WRONLY | os.O_TRUNC), (".", os.O_TMPFILE | os.O_RDWR)):
        try: print(os.open(name, flags, 0o644) >= 0)
        except OSError as error: print(error.errno)
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
held = []
try:
    while True: held.append(os.dup(0))
except OSError: pass
attempts()
ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)
attempts()
ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)
os.close(held[0])
print(os.path.exists("new"), os.stat("old").st_size)
"#;
    let run = python(&project, script).exits(0);
    assert_eq!(run.out, format!("{}False 4\n", "24\n".repeat(6)), "{run:?}");
}

#[test]
fn an_open_takes_the_last_descriptor_that_is_free() {
    not_traced!("the last descriptor");
    let project = Project::new();
    project.write("old", "text");
    let script = r#"
import os, resource
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
held = []
try:
    while True: held.append(os.dup(0))
except OSError: pass
os.close(held[0])
print(os.open("new", os.O_CREAT | os.O_WRONLY) == held[0])
resource.setrlimit(resource.RLIMIT_NOFILE, (40, 64))
os.close(20)
print(os.open("old", os.O_WRONLY | os.O_TRUNC))
"#;
    let run = python(&project, script).exits(0);
    assert_eq!(run.out, "True\n20\n", "{run:?}");
}

#[test]
fn a_task_may_have_any_name() {
    let project = Project::new();
    let script = r#"
import ctypes, os, socket
ctypes.CDLL(None).prctl(15, b"\xff\xfe\n:", 0, 0, 0)
os.mkdir("d")
os.close(os.open("f", os.O_CREAT | os.O_WRONLY))
print(int(os.readlink("/proc/self")) == os.getpid(), len(open("/proc/self/status", errors="replace").readline()) > 5)
socket.socket(socket.AF_UNIX).bind("s")
"#;
    let run = python(&project, script).exits(0);
    assert_eq!(run.out, "True True\n", "{run:?}");
    assert!(project.has("d") && project.has("f") && project.has("s"));
}

/// The threads of the user that owns `project`, all of which count against its limit.
fn threads_of_user(project: &Project) -> usize {
    let user = fs::metadata(project.path()).expect("the project").uid();
    let processes = fs::read_dir("/proc").expect("/proc").flatten();
    let own = processes.filter(|process| process.metadata().is_ok_and(|metadata| metadata.uid() == user));
    own.map(|process| fs::read_dir(process.path().join("task")).map_or(0, Iterator::count)).sum()
}

#[test]
fn without_another_thread_no_call_waits_and_all_are_answered() {
    if !has("prlimit") {
        skip!("there is no prlimit to lower the limit on processes with");
    }
    let project = Project::new();
    let script = r#"
import os, signal, sys, time
os.mkfifo("fifo")
wait, go = os.pipe()
for _ in range(6):
    if os.fork() == 0:
        os.read(wait, 1)
        os.open("fifo", os.O_RDONLY)
        os._exit(0)
try:
    for _ in range(300):
        if os.fork() == 0:
            time.sleep(60)
except OSError: pass
for _ in range(6):
    os.write(go, b"x")
    time.sleep(0.05)
    os.stat("fifo")
print("answered", flush=True)
os.kill(-1, signal.SIGKILL)
"#;
    let limit = threads_of_user(&project) + 60;
    let mut command = as_user("prlimit");
    command.arg(format!("--nproc={limit}")).arg(&site().sentry).args(["run", "--timeout", "20s", "--quiet"]);
    command.args(PATTERN).args(["--", "python3", "-c", script]).current_dir(project.path());
    let run = outcome(command);
    assert_eq!(run.out, "answered\n", "{run:?}");
}

#[test]
fn opens_that_wait_for_their_other_end_hold_nobody_up() {
    let project = Project::new();
    let script = r#"
import os, signal, time
os.mkfifo("fifo")
for _ in range(150):
    if os.fork() == 0:
        while True:
            try: os.open("fifo", os.O_RDONLY)
            except OSError: pass
time.sleep(0.5)
began = time.time()
for _ in range(20): os.stat("fifo")
print(time.time() - began, flush=True)
os.kill(-1, signal.SIGKILL)
"#;
    let run = python(&project, script);
    let took: f64 = run.out.trim().parse().unwrap_or_else(|_| panic!("{run:?}"));
    // With the line for places as long as anybody likes it takes more than five seconds.
    assert!(took < 2.0, "20 calls took {took} s");
}

#[test]
fn a_lease_holds_up_only_those_who_open_the_file() {
    let project = Project::new();
    let script = r#"
import fcntl, os, signal, time
signal.signal(signal.SIGIO, signal.SIG_IGN)
leased = os.open("leased", os.O_RDWR | os.O_CREAT)
os.write(leased, b"text")
fcntl.fcntl(leased, fcntl.F_SETLEASE, fcntl.F_WRLCK)
readers = []
for act in (lambda: os.read(os.open("leased", os.O_RDONLY), 9), lambda: os.truncate("leased", 2)):
    pid = os.fork()
    if pid == 0:
        act()
        os._exit(7)
    readers.append(pid)
time.sleep(0.3)
began = time.time()
os.stat("leased")
print("stat", time.time() - began < 1, [os.waitpid(pid, os.WNOHANG)[0] for pid in readers])
fcntl.fcntl(leased, fcntl.F_SETLEASE, fcntl.F_UNLCK)
print([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in readers], os.stat("leased").st_size)
"#;
    let run = python(&project, script).exits(0);
    assert_eq!(run.out, "stat True [0, 0]\n[7, 7] 2\n", "{run:?}");
}

#[test]
fn a_file_that_is_copied_before_it_changes_holds_nobody_up() {
    const SIZE: usize = 128 << 20;
    let project = Project::new();
    for name in ["opened", "changed", "moved", "linked"] {
        project.write(name, vec![7; SIZE]);
    }
    let script = r#"
import os, time
open("small", "w")
def look():
    began = time.time()
    os.stat("small")
    try: os.mkdir("small")
    except FileExistsError: pass
    return time.time() - began
for act in (lambda: os.open("opened", os.O_WRONLY), lambda: os.chmod("changed", 0o600),
            lambda: os.rename("moved", "there"), lambda: os.link("linked", "second")):
    pid = os.fork()
    began = time.time()
    if pid == 0:
        act()
        os._exit(0)
    longest = 0
    while os.waitpid(pid, os.WNOHANG)[0] == 0:
        longest = max(longest, look())
        time.sleep(0.002)
    print(time.time() - began, longest)
"#;
    let number = |text: &str| text.parse::<f64>().expect("a number");
    let mut held_up = vec![true; 4];
    // A busy machine may stop whoever looks for as long as a copy takes, but not at each try.
    for _ in 0..4 {
        let options = ["--cow", ".", "--hide", "**/.env*"];
        let run = Sandbox::new(&project).options(options).run(["python3", "-c", script]).exits(0);
        let times: Vec<_> = run.out.lines().filter_map(|line| line.split_once(' ')).collect();
        assert_eq!(times.len(), 4, "{run:?}");
        for (held_up, (took, longest)) in held_up.iter_mut().zip(times) {
            *held_up &= number(longest) * 2.0 > number(took);
        }
        if !held_up.contains(&true) {
            return;
        }
    }
    panic!("open, chmod, rename, link hold others up: {held_up:?}");
}

#[test]
fn a_process_that_may_not_be_looked_into_keeps_its_descriptors_to_itself() {
    let project = Project::new();
    let script = r#"
import ctypes, os, subprocess, sys, time
libc = ctypes.CDLL(None)
entries = ("maps", "fdinfo", "fdinfo/0", "task/%d/fdinfo", "task/%d/fdinfo/0", "fd", "map_files")
def tried(process):
    for entry in entries:
        path = "/proc/%d/" % process + (entry % process if "%" in entry else entry)
        for look in (lambda: os.listdir(path) if entry[-1] != "0" else None, lambda: open(path).read(1) if entry[-1] in "0s" else None):
            try:
                if look() is not None: yield entry
            except OSError as error: pass
def run(child):
    reader, writer = os.pipe()
    there = subprocess.Popen(["python3", "-c", child, str(writer)], pass_fds=[writer])
    os.read(reader, 1)
    print(sorted(set(tried(there.pid))))
    there.kill()
ready = "import ctypes, os, sys, time; ctypes.CDLL(None).prctl(4, %d, 0, 0, 0); os.write(int(sys.argv[1]), b'x'); time.sleep(60)"
run(ready % 1)
run(ready % 0)
print(sorted(set(tried(1))))
libc.prctl(4, 0, 0, 0, 0)
print(sorted(set(tried(os.getpid())) - {"fd", "map_files"}))
"#;
    let native = {
        let mut command = as_user("python3");
        command.args(["-c", script]).current_dir(project.path());
        outcome(command).exits(0)
    };
    let lines = |run: &Outcome| run.out.lines().map(str::to_owned).collect::<Vec<_>>();
    let run = python(&project, script).exits(0);
    let (native, inside) = (lines(&native), lines(&run));
    assert!(native[0].contains("'fdinfo/0'") && native[0].contains("'maps'"), "{native:?}");
    assert_eq!(inside, [native[0].as_str(), "[]", "[]", native[3].as_str()], "native: {native:?}; {run:?}");
}
