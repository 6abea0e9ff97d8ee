//! What only a tracer can do wrong: signals, stops, births and ends of what it traces, and what it puts in the place of calls.

use std::path::Path;
use std::process::Command;

use sentry_tests::{Outcome, Project, Sandbox, as_user, has, outcome, site, skip};

/// Runs a script with every path answered by the sentry.
fn python(options: &[&str], script: &str) -> Outcome {
    Sandbox::new(&Project::new()).options(options.iter().copied()).run(["python3", "-c", script])
}

const EVERY_PATH: &[&str] = &["--interpose", "full"];

macro_rules! needs_python {
    () => {
        if !has("python3") {
            skip!("python3 is not installed");
        }
    };
}

fn below_a_listener(options: &[&str]) -> Command {
    let mut command = as_user(&site().listened);
    command.arg(&site().sentry_itself).args(["run", "--quiet"]).args(options).current_dir("/");
    command
}

#[test]
fn where_a_listener_is_taken_it_is_the_remedy() {
    let run = outcome(below_a_listener(&["--", "true"])).exits(125);
    run.says("listener").says("--platform ptrace");
    let script = "cat /etc/hostname; ls / | wc -l; exit 3";
    let guest = ["--platform", "ptrace", "--interpose", "full", "--", "sh", "-c", script];
    let run = outcome(below_a_listener(&guest)).exits(3);
    assert!(run.out.starts_with("sandbox\n"), "{run:?}");
    let mut doctor = as_user(&site().listened);
    doctor.arg(&site().sentry_itself).arg("doctor");
    assert!(outcome(doctor).out.contains("sentry run --platform ptrace"));
}

#[test]
fn who_traces_is_refused_and_told() {
    needs_python!();
    let script = "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\n\
                  print(libc.ptrace(0, 0, 0, 0), ctypes.get_errno())";
    let run = python(&[], script).exits(0).says("--platform ptrace");
    assert_eq!(run.out, "-1 1\n");
}

/// `USER_NOTIF` outranks `TRACE`: a listener of the guest's own could let calls run that the sentry must answer. And a guest that
/// asks for a tracer itself has none: `ENOSYS`, as anywhere else.
#[test]
fn a_guests_own_filter_takes_away_and_gives_nothing() {
    needs_python!();
    let script = r#"
import ctypes, os, struct
libc = ctypes.CDLL(None, use_errno=True)
def program(*steps):
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    return struct.pack("HxxxxxxQ", len(steps), ctypes.addressof(code)), code
def load(flags, *steps):
    fprog, code = program(*steps)
    return libc.syscall(317, 1, flags, ctypes.c_char_p(fprog))
TRACE, ALLOW, NOTIFY = 0x7ff00000, 0x7fff0000, 0x7fc00000
libc.prctl(38, 1, 0, 0, 0)
print(load(8, (6, 0, 0, NOTIFY)), ctypes.get_errno())
print(load(9, (6, 0, 0, NOTIFY)), ctypes.get_errno())
# It asks a tracer about getppid (110) and stat-like calls (262, 4).
steps = [(0x20, 0, 0, 0)]
calls = [110, 262, 4]
for left, number in zip(range(len(calls), 0, -1), calls): steps.append((0x15, left, 0, number))
steps += [(6, 0, 0, ALLOW), (6, 0, 0, TRACE | 7)]
print(load(0, *steps))
print(libc.syscall(110), ctypes.get_errno())
try: print(os.stat("/etc/hidden-one"))
except OSError as error: print(error.errno)
print(os.stat("/etc/hostname").st_size)
"#;
    let run = python(&["--hide", "/etc/hidden-*"], script).exits(0);
    assert_eq!(run.out, "-1 16\n-1 16\n0\n-1 38\n2\n8\n", "{run:?}");
}

/// A filter of the guest's that refuses what is put in the place of its calls makes those calls fail, and nothing else.
#[test]
fn a_guest_that_refuses_the_injected_calls_is_given_nothing() {
    needs_python!();
    let script = r#"
import ctypes, os, struct
libc = ctypes.CDLL(None, use_errno=True)
refused = int(os.environ["REFUSED"])
libc.prctl(38, 1, 0, 0, 0)
held = os.open("/etc/hostname", os.O_RDONLY)
os.close(held)
def load(steps):
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    return libc.syscall(317, 1, 0, ctypes.c_char_p(struct.pack("HxxxxxxQ", len(steps), ctypes.addressof(code))))
action = int(os.environ["ACTION"], 0)
assert load([(0x20, 0, 0, 0), (0x15, 0, 1, refused), (6, 0, 0, action), (6, 0, 0, 0x7fff0000)]) == 0
print(libc.open(b"/etc/hostname", 0), os.stat("/etc/hostname").st_size)
"#;
    for refused in ["53", "47"] {
        // ERRNO(EPERM), and TRAP.
        for action in ["0x50001", "0x30000"] {
            let environment = [format!("REFUSED={refused}"), format!("ACTION={action}")];
            let options = EVERY_PATH.iter().copied().chain(environment.iter().flat_map(|one| ["--env", one]));
            let project = Project::new();
            let sandbox = Sandbox::new(&project).options(options);
            assert_eq!(sandbox.run(["python3", "-c", script]).exits(0).out, "-1 8\n", "{environment:?}");
        }
    }
}

/// The lowest number, the flag that was asked for, and nothing left behind.
#[test]
fn descriptors_are_as_an_open_gives_them() {
    needs_python!();
    let script = r#"
import ctypes, fcntl, os
libc = ctypes.CDLL(None)
def flag(fd): return fcntl.fcntl(fd, fcntl.F_GETFD)
plain, closing = libc.open(b"/etc/hostname", 0), libc.open(b"/etc/hostname", os.O_CLOEXEC)
print(plain, flag(plain), closing, flag(closing))
os.close(0)
print(libc.open(b"/etc/hostname", 0), sorted(map(int, os.listdir("/proc/self/fd")))[:5])
stack = ctypes.create_string_buffer(1 << 16)
before = bytes(stack)
print(bytes(stack) == before, os.read(0, 100))
"#;
    let run = python(EVERY_PATH, script).exits(0);
    assert_eq!(run.out, "3 0 4 1\n0 [0, 1, 2, 3, 4]\nTrue b'sandbox\\n'\n", "{run:?}");
}

#[test]
fn an_open_without_two_free_numbers_has_no_effect() {
    needs_python!();
    let script = r#"
import os, resource
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
held = []
try:
    while True: held.append(os.dup(0))
except OSError: pass
os.close(held[0])
try: os.open("new", os.O_CREAT | os.O_WRONLY)
except OSError as error: print(error.errno, os.path.exists("new"))
os.close(held[1])
print(os.open("new", os.O_CREAT | os.O_WRONLY) == held[0])
"#;
    assert_eq!(python(EVERY_PATH, script).exits(0).out, "24 False\nTrue\n");
}

/// Signals arrive in the midst of injected calls all the time: none is lost, and no call is made twice or half.
#[test]
fn signals_neither_get_lost_nor_in_the_way() {
    needs_python!();
    let script = r#"
import os, signal, time
count = 0
def tick(*_):
    global count
    count += 1
signal.signal(signal.SIGALRM, tick)
signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
opened = wrong = 0
end = time.monotonic() + 2
while time.monotonic() < end:
    fd = os.open("/etc/hostname", os.O_RDONLY)
    wrong += fd != 3 or os.read(fd, 100) != b"sandbox\n"
    os.close(fd)
    opened += 1
signal.setitimer(signal.ITIMER_REAL, 0)
print(wrong, opened > 1000, count > 500)
# Every queued signal counts.
reader, writer = os.pipe()
os.set_blocking(writer, False)
signal.set_wakeup_fd(writer)
signal.signal(signal.SIGRTMIN, lambda *_: None)
child = os.fork()
if child == 0:
    for _ in range(300):
        os.kill(os.getppid(), signal.SIGRTMIN)
        time.sleep(0.0003)
    os._exit(0)
while os.waitpid(child, os.WNOHANG) == (0, 0): os.close(os.open("/etc/hostname", os.O_RDONLY))
print(os.read(reader, 1000).count(signal.SIGRTMIN))
"#;
    assert_eq!(python(EVERY_PATH, script).exits(0).out, "0 True True\n300\n");
}

/// A process that is stopped stays so, wherever it was, and goes on when it is told.
#[test]
fn stops_are_stops() {
    needs_python!();
    let script = r#"
import os, signal, time
child = os.fork()
if child == 0:
    while True: os.close(os.open("/etc/hostname", os.O_RDONLY)); os.stat("/etc")
def used(): return open(f"/proc/{child}/stat").read().split()[13:15]
for _ in range(300):
    os.kill(child, signal.SIGSTOP)
    assert os.WIFSTOPPED(os.waitpid(child, os.WUNTRACED)[1])
    os.kill(child, signal.SIGCONT)
    assert os.WIFCONTINUED(os.waitpid(child, os.WCONTINUED)[1])
os.kill(child, signal.SIGSTOP)
os.waitpid(child, os.WUNTRACED)
before = used()
time.sleep(0.1)
print(before == used())
os.kill(child, signal.SIGKILL)
print(os.WTERMSIG(os.waitpid(child, 0)[1]))
reader, writer = os.pipe()
child = os.fork()
if child == 0:
    signal.signal(signal.SIGINT, lambda *_: os._exit(7))
    os.write(writer, b"x")
    os.read(os.pipe()[0], 1)
os.read(reader, 1)
time.sleep(0.05)
os.kill(child, signal.SIGINT)
print(os.WEXITSTATUS(os.waitpid(child, 0)[1]))
"#;
    assert_eq!(python(EVERY_PATH, script).exits(0).out, "True\n9\n7\n");
}

/// Threads that are in the midst of calls, answered by the tracer, by workers or by injected calls, when their process ends or
/// runs another program.
#[test]
fn ends_come_at_any_time() {
    needs_python!();
    let script = r#"
import os, random, signal, threading, time
def spin():
    while True:
        try:
            os.stat("/etc/hostname")
            os.close(os.open("/etc/hostname", os.O_RDONLY))
            os.close(os.open(f"f{threading.get_ident()}", os.O_CREAT | os.O_WRONLY))
        except OSError: pass
def threads():
    for _ in range(4): threading.Thread(target=spin, daemon=True).start()
killed = ran = 0
for _ in range(60):
    child = os.fork()
    if child == 0:
        threads()
        spin()
    time.sleep(random.random() * 0.03)
    os.kill(child, signal.SIGKILL)
    killed += os.WTERMSIG(os.waitpid(child, 0)[1]) == 9
for turn in range(30):
    child = os.fork()
    if child == 0:
        threads()
        time.sleep(random.random() * 0.02)
        if turn % 2: os.execv("/bin/true", ["true"])
        threading.Thread(target=lambda: os.execv("/bin/true", ["true"])).start()
        time.sleep(20)
    ran += os.waitpid(child, 0)[1] == 0
os.mkfifo("/tmp/fifo")
for _ in range(100):
    child = os.fork()
    if child == 0: os.open("/tmp/fifo", os.O_RDONLY)
    time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    killed += os.WTERMSIG(os.waitpid(child, 0)[1]) == 9
print(killed, ran, os.stat("/etc/hostname").st_size)
"#;
    assert_eq!(python(EVERY_PATH, script).exits(0).out, "160 30 8\n");
}

/// Whatever is born is traced before its first call, also if it asks not to be.
#[test]
fn nobody_is_born_untraced() {
    needs_python!();
    let script = r#"
import ctypes, os, subprocess
libc = ctypes.CDLL(None)
UNTRACED = 0x00800000
child = libc.syscall(56, UNTRACED | 17, 0, 0, 0, 0)
if child == 0:
    try: os._exit(os.stat("/etc/hostname").st_size)
    except OSError as error: os._exit(100 + error.errno)
print(os.WEXITSTATUS(os.waitpid(child, 0)[1]))
children = []
for _ in range(300):
    child = os.fork()
    if child == 0: os._exit(os.stat("/etc/hostname").st_size)
    children.append(child)
print({os.WEXITSTATUS(os.waitpid(child, 0)[1]) for child in children})
print({subprocess.call(["stat", "-c", "%s", "/etc/hostname"], stdout=subprocess.DEVNULL) for _ in range(50)})
print({os.waitpid(os.posix_spawn("/bin/true", ["true"], os.environ), 0)[1] for _ in range(50)})
"#;
    let run = python(EVERY_PATH, script).exits(0);
    assert_eq!(run.out, "8\n{8}\n{0}\n{0}\n", "{run:?}");
}

/// The first program begins only when init cannot be looked into any more (CVE-2019-5736).
#[test]
fn init_is_out_of_reach_before_the_program_begins() {
    needs_python!();
    let script = "import os\n\
                  for name in ('mem', 'exe', 'fd', 'environ'):\n\
                  \x20   try: print(os.listdir('/proc/1/fd') if name == 'fd' else os.open(f'/proc/1/{name}', os.O_RDONLY))\n\
                  \x20   except OSError as error: print(error.errno)";
    for _ in 0..5 {
        assert_eq!(python(&[], script).exits(0).out, "13\n13\n13\n13\n");
    }
}

#[test]
fn the_sandbox_ends_with_whoever_traces_it() {
    let project = Project::new();
    let mut command = Sandbox::new(&project).command(["sh", "-c", "while :; do test -e /etc/hostname; done"]);
    let mut child = command.spawn().unwrap();
    let supervisor = (0..200).find_map(|_| {
        std::thread::sleep(std::time::Duration::from_millis(20));
        descendants(child.id())
            .into_iter()
            .find(|pid| Path::new(&format!("/proc/{pid}/task")).exists() && threads(*pid) >= 2)
    });
    let supervisor = supervisor.expect("the supervisor has two threads");
    let below = descendants(supervisor);
    assert!(below.len() >= 2, "init and the guest: {below:?}");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(supervisor.cast_signed()), nix::sys::signal::Signal::SIGKILL)
        .unwrap();
    child.wait().unwrap();
    let ended = (0..100).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(5));
        below.iter().all(|pid| !Path::new(&format!("/proc/{pid}")).exists())
    });
    assert!(ended, "{below:?}");
}

fn threads(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count)
}

fn descendants(of: u32) -> Vec<u32> {
    let text = std::fs::read_to_string(format!("/proc/{of}/task/{of}/children")).unwrap_or_default();
    let children: Vec<u32> = text.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect();
    children.iter().flat_map(|pid| std::iter::once(*pid).chain(descendants(*pid))).collect()
}
