//! How runs end: signals, dead supervisors, terminals.
#![allow(clippy::unwrap_used)] // a panic is how a test fails

use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use sentry_tests::{Project, Sandbox, platform, skip};

/// A guest that writes the time to a file again and again.
const HEARTBEAT: &str = "while :; do date +%s.%N > beat; sleep 0.02; done";

fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < end, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The processes whose parent is `pid`.
fn children(pid: u32) -> Vec<u32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

fn all_below(pid: u32) -> Vec<u32> {
    let direct = children(pid);
    direct.iter().flat_map(|pid| [vec![*pid], all_below(*pid)].concat()).collect()
}

/// With setpriv in between there is none: it becomes sentry itself.
fn start(project: &Project) -> Running {
    let running = run(project, HEARTBEAT);
    wait_for("a heartbeat", || project.has("beat"));
    running
}

/// A sandbox that does not outlive its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn run(project: &Project, script: &str) -> Running {
    let mut command = Sandbox::new(project).options(["-q", "--write", "."]).command(["sh", "-c", script]);
    Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
}

fn send(pid: u32, signal: i32) {
    // SAFETY: a signal to a process of this test.
    assert_eq!(unsafe { libc::kill(i32::try_from(pid).unwrap(), signal) }, 0);
}

/// A zombie is gone as well.
fn is_gone(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "))
}

#[test]
fn when_the_supervisor_dies_the_sandbox_is_gone_at_once() {
    let project = Project::new();
    let mut child = start(&project);
    let supervisor = children(child.0.id())[0];
    let below = all_below(supervisor);
    assert!(below.len() >= 2, "{below:?}");
    send(supervisor, libc::SIGKILL);
    let since = Instant::now();
    wait_for("the end of the sandbox", || below.iter().all(|pid| is_gone(*pid)));
    assert!(since.elapsed() < Duration::from_millis(100), "{:?}", since.elapsed());
    assert_eq!(child.0.wait().unwrap().code(), Some(125));
}

#[test]
fn when_the_monitor_dies_the_sandbox_is_gone_too() {
    let project = Project::new();
    let mut child = start(&project);
    let below = all_below(child.0.id());
    send(child.0.id(), libc::SIGKILL);
    let _ = child.0.wait();
    wait_for("the end of the sandbox", || below.iter().all(|pid| is_gone(*pid)));
}

#[test]
fn signals_reach_the_program() {
    for (signal, name) in [(libc::SIGTERM, "TERM"), (libc::SIGINT, "INT"), (libc::SIGHUP, "HUP")] {
        let project = Project::new();
        let script = format!("trap 'echo got > got; exit 9' {name}; touch ready; while :; do sleep 0.05; done");
        let mut child = run(&project, &script);
        wait_for("the program", || project.has("ready"));
        let below = all_below(child.0.id());
        send(child.0.id(), signal);
        assert_eq!(child.0.wait().unwrap().code(), Some(9), "{name}");
        assert!(project.has("got"));
        wait_for("the end of the sandbox", || below.iter().all(|pid| is_gone(*pid)));

        let project = Project::new();
        let mut child = start(&project);
        send(child.0.id(), signal);
        assert_eq!(child.0.wait().unwrap().code(), Some(128 + signal), "{name} without a trap");
    }
}

#[test]
fn background_processes_end_with_the_program() {
    let project = Project::new();
    let script = format!("({HEARTBEAT}) & sleep 0.3");
    let mut child = run(&project, &script);
    assert!(child.0.wait().unwrap().success());
    let last = project.read("beat");
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(project.read("beat"), last);
}

/// A terminal with a sandboxed shell on it.
struct Shell {
    child: Child,
    master: OwnedFd,
    seen: String,
}

impl Shell {
    fn start(project: &Project, guest: &[&str]) -> Self {
        let size = libc::winsize { ws_row: 33, ws_col: 111, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = nix::pty::openpty(Some(&size), None).unwrap();
        let end = || Stdio::from(pty.slave.try_clone().unwrap());
        // script(1) would do it too: a session of its own whose terminal this is.
        let mut command = sentry_tests::as_user("setsid");
        command.args(["--ctty", "--wait"]).arg(&sentry_tests::site().sentry).args(["run", "--quiet", "--"]).args(guest);
        command.current_dir(project.path()).stdin(end()).stdout(end()).stderr(end()).env("PS1", "$ ");
        let child = command.spawn().unwrap();
        Self { child, master: pty.master, seen: String::new() }
    }

    fn types(&mut self, keys: &str) {
        nix::unistd::write(&self.master, keys.as_bytes()).unwrap();
    }

    /// Reads until `text` has been shown since the last call.
    fn shows(&mut self, text: &str) {
        let end = Instant::now() + Duration::from_secs(10);
        while !self.seen.contains(text) {
            assert!(Instant::now() < end, "{text:?} was never shown: {:?}", self.seen);
            let mut waiting = [nix::poll::PollFd::new(self.master.as_fd(), nix::poll::PollFlags::POLLIN)];
            nix::poll::poll(&mut waiting, 100u16).unwrap();
            if waiting[0].any() == Some(true) {
                let mut buffer = [0; 4096];
                let Ok(length) = nix::unistd::read(&self.master, &mut buffer) else { continue };
                self.seen.push_str(&String::from_utf8_lossy(&buffer[..length]));
            }
        }
        let at = self.seen.find(text).unwrap() + text.len();
        self.seen.drain(..at);
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_shell_inside_has_a_terminal_of_its_own() {
    let project = Project::new();
    let mut shell = Shell::start(&project, &["bash", "--norc", "--noprofile", "-i"]);
    shell.types("tty; stty size\n");
    shell.shows("/dev/pts/0");
    shell.shows("33 111");
    // Ctrl-C ends the program, not the shell.
    shell.types("sleep 100\n");
    std::thread::sleep(Duration::from_millis(300));
    shell.types("\x03");
    shell.types("echo code=$?\n");
    shell.shows("code=130");
    // Job control.
    shell.types("sleep 50\n");
    std::thread::sleep(Duration::from_millis(300));
    shell.types("\x1a");
    shell.shows("Stopped");
    shell.types("fg\n");
    shell.shows("sleep 50");
    std::thread::sleep(Duration::from_millis(200));
    shell.types("\x03");
    // The window grows.
    let size = libc::winsize { ws_row: 44, ws_col: 99, ws_xpixel: 0, ws_ypixel: 0 };
    shim::sys::set_window_size(shell.master.as_fd(), &size).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    shell.types("stty size\n");
    shell.shows("44 99");
    shell.types("exit 7\n");
    wait_for("the shell's end", || shell.child.try_wait().unwrap().is_some());
    assert_eq!(shell.child.wait().unwrap().code(), Some(7));
    let settings = nix::sys::termios::tcgetattr(&shell.master).unwrap();
    assert!(settings.local_flags.contains(nix::sys::termios::LocalFlags::ICANON), "the terminal was left in raw mode");
}

#[test]
fn a_program_that_stops_gives_the_terminal_back() {
    let project = Project::new();
    // A shell outside, whose job is the sandbox.
    let pty = nix::pty::openpty(None, None).unwrap();
    let end = || Stdio::from(pty.slave.try_clone().unwrap());
    let mut command = sentry_tests::as_user("setsid");
    command.args(["--ctty", "--wait", "bash", "--norc", "--noprofile", "-i"]).current_dir(project.path());
    let child = command.stdin(end()).stdout(end()).stderr(end()).env("PS1", "outer> ").spawn().unwrap();
    let mut shell = Shell { child, master: pty.master, seen: String::new() };
    shell.shows("outer> ");
    shell.types(&format!("{} run -q -- sleep 60\n", sentry_tests::site().sentry.display()));
    std::thread::sleep(Duration::from_millis(600));
    shell.types("\x1a");
    shell.shows("Stopped");
    shell.shows("outer> ");
    shell.types("fg\n");
    shell.shows("run -q -- sleep 60");
    std::thread::sleep(Duration::from_millis(300));
    shell.types("\x03");
    shell.shows("outer> ");
    shell.types("echo code=$?; exit\n");
    shell.shows("code=130");
}

#[test]
fn the_thread_that_answers_is_made_for_the_first_call() {
    if platform::on_ptrace() {
        skip!("--platform ptrace: whoever traces is there from the beginning");
    }
    let project = Project::new();
    let script = "sleep 1; hostname other; sleep 20";
    let mut command = Sandbox::new(&project).options(["-q", "--read", "."]).command(["sh", "-c", script]);
    let child = Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    let threads = |pid: u32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status.lines().find_map(|line| line.strip_prefix("Threads:")?.trim().parse::<u32>().ok()).unwrap_or(0)
    };
    // The supervisor, init, the shell and what it runs.
    wait_for("the program", || all_below(child.0.id()).len() >= 4);
    let supervisor = children(child.0.id())[0];
    assert_eq!(threads(supervisor), 1, "nobody has called yet");
    wait_for("the first call", || threads(supervisor) == 2);
}
