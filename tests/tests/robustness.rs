//! What a guest does to the supervisor that answers everybody: it fills tables, holds leases, lets calls wait, and gives
//! itself odd names. Its own calls may fail; nobody else's may wait for them, and no call has half of an effect.

use sentry_tests::{Outcome, Project, Sandbox};

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
print(os.open("new", os.O_CREAT | os.O_WRONLY) == held[0])
resource.setrlimit(resource.RLIMIT_NOFILE, (40, 64))
os.close(20)
print(os.open("old", os.O_WRONLY | os.O_TRUNC))
"#;
    let run = python(&project, script).exits(0);
    assert_eq!(run.out, format!("{}False 4\nTrue\n20\n", "24\n".repeat(6)), "{run:?}");
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
