//! A sandbox's own clock: every program sees it, however it asks, and the host's never moves.
#![allow(clippy::unwrap_used)] // a panic is how a test fails

use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use sentry_tests::{Outcome, Project, Sandbox, has, not_traced, skip};

macro_rules! needs {
    ($($program:literal),+) => {
        $(if !has($program) { skip!("{} is not installed", $program); })+
    };
}

/// The program of this name beside this file, compiled in a project; `None` without a compiler.
fn compiled(project: &Project, flags: &[&str]) -> Option<()> {
    if !has("gcc") {
        return None;
    }
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/programs/clock.c");
    let to = project.join("clock");
    let made = Command::new("gcc").args(["-O2", "-pthread", source, "-o"]).arg(&to).args(flags).status().unwrap();
    assert!(made.success());
    project.give(&to);
    Some(())
}

fn with_clock(project: &Project, clock: &str, guest: &[&str]) -> Outcome {
    Sandbox::new(project).options(["--read", ".", "--clock", clock]).run(guest)
}

/// The clock of the host, against the one that nothing sets.
struct Host(SystemTime, Instant);

impl Host {
    fn look() -> Self {
        Self(SystemTime::now(), Instant::now())
    }

    #[track_caller]
    fn has_not_moved(&self) {
        let by_wall = SystemTime::now().duration_since(self.0).unwrap();
        let by_pendulum = self.1.elapsed();
        assert!(by_wall.abs_diff(by_pendulum) < Duration::from_secs(5), "{by_wall:?}, {by_pendulum:?}");
    }
}

#[test]
fn the_date_can_be_set_inside_and_only_there() {
    let project = Project::new();
    let host = Host::look();
    let set = "date -s '2025-12-01 10:00:00' && date";
    let run = Sandbox::new(&project).options(["--clock", "virtual"]).sh(set).exits(0);
    assert_eq!(run.out.matches("Mon Dec  1 10:00:0").count(), 2, "{run:?}");
    host.has_not_moved();

    let run = Sandbox::new(&project).sh(set).exits(1).says("--clock virtual");
    assert!(run.err.contains("Operation not permitted"), "{run:?}");
    host.has_not_moved();
    let run = Sandbox::new(&project).options(["--clock", "deny"]).sh(set);
    assert_eq!(run.code, 1, "{run:?}");
}

#[test]
fn it_begins_and_runs_as_asked() {
    let project = Project::new();
    let seconds = |clock: &str, script: &str| -> Vec<i64> {
        let run = Sandbox::new(&project).options(["--clock", clock]).sh(script).exits(0);
        run.out.split_whitespace().map(|word| word.parse().unwrap()).collect()
    };
    let host = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let host = i64::try_from(host.as_secs()).unwrap();
    let near = |is: i64, should: i64| (should..should + 30).contains(&is);
    assert!(near(seconds("virtual", "date +%s")[0], host));
    assert!(near(seconds("+3d", "date +%s")[0], host + 3 * 86_400));
    assert!(near(seconds("-1h", "date +%s")[0], host - 3_600));
    assert!(near(seconds("2000-01-01T00:00:00Z", "date +%s")[0], 946_684_800));
    assert!(near(seconds("2000-01-01T02:00:00+02:00", "date +%s")[0], 946_684_800));

    let frozen = seconds("2000-01-01,frozen", "date +%s%N; sleep 0.2; date +%s%N");
    assert_eq!(frozen, [946_684_800_000_000_000; 2]);
    let moved =
        seconds("2000-01-01,frozen", "date -s '2010-01-01 00:00:00 UTC' >/dev/null; date +%s; sleep 1; date +%s");
    assert_eq!(moved, [1_262_304_000; 2]);
    let fast = seconds("2000-01-01,scale=1000", "date +%s; sleep 0.5; date +%s");
    assert!((400..60_000).contains(&(fast[1] - fast[0])), "{fast:?}");

    let up = Sandbox::new(&project).options(["--clock", "virtual,uptime=90d"]).sh("cat /proc/uptime").exits(0);
    assert!(up.out.starts_with("77760"), "{up:?}");
}

#[test]
fn every_way_of_reading_agrees() {
    let project = Project::new();
    for flags in [&[][..], &["-static"]] {
        if compiled(&project, flags).is_none() {
            skip!("gcc is not installed");
        }
        for clock in ["virtual", "-1h", "2000-01-01T00:00:00Z", "2000-01-01,frozen", "2000-01-01,scale=0.5"] {
            assert_eq!(with_clock(&project, clock, &["./clock", "agree"]).exits(0).out, "ok\n", "{clock} {flags:?}");
        }
        assert_eq!(with_clock(&project, "virtual", &["./clock", "set"]).exits(0).out, "ok\n", "{flags:?}");
        assert_eq!(with_clock(&project, "virtual", &["./clock", "steer"]).exits(0).out, "ok\n", "{flags:?}");
    }
}

#[test]
fn timers_and_sleeps_go_by_it() {
    let project = Project::new();
    if compiled(&project, &[]).is_none() {
        skip!("gcc is not installed");
    }
    let host = Host::look();
    assert_eq!(with_clock(&project, "virtual", &["./clock", "wait"]).exits(0).out, "ok\n");
    host.has_not_moved();
}

/// Threads, children and new programs of four processes, while another sets the clock 20,000 times.
#[test]
fn a_new_time_is_seen_at_once() {
    let project = Project::new();
    for flags in [&[][..], &["-static"]] {
        if compiled(&project, flags).is_none() {
            skip!("gcc is not installed");
        }
        assert_eq!(with_clock(&project, "virtual", &["./clock", "race", "20000"]).exits(0).out, "ok\n", "{flags:?}");
    }
}

#[test]
fn programs_killed_at_their_exec_leave_nobody_waiting() {
    let project = Project::new();
    if compiled(&project, &[]).is_none() {
        skip!("gcc is not installed");
    }
    assert_eq!(with_clock(&project, "virtual", &["./clock", "storm"]).exits(0).out, "ok\n");
    let by_thread = with_clock(&project, "2000-01-01", &["./clock", "thread"]).exits(0);
    assert_eq!(by_thread.out, "2000\n", "an exec by another thread than the first");
}

/// Without a descriptor to spare there is no page to read, and no need for one.
#[test]
fn programs_at_their_limit_of_descriptors_see_it_too() {
    let project = Project::new();
    if compiled(&project, &["-static"]).is_none() {
        skip!("gcc is not installed");
    }
    let run = Sandbox::new(&project).options(["--read", ".", "--clock", "2000-01-01"]);
    assert_eq!(run.sh("ulimit -n 3; exec ./clock year").exits(0).out, "2000\n");
}

#[test]
fn debuggers_work_and_their_programs_see_it() {
    not_traced!("debuggers");
    needs!("gdb", "strace", "gcc");
    let project = Project::new();
    compiled(&project, &["-g"]).unwrap();
    let run = with_clock(&project, "2000-01-01", &["gdb", "-nx", "-batch", "-ex", "run year", "./clock"]);
    assert!(run.out.contains("\n2000\n") && run.out.contains("exited normally"), "{run:?}");
    for guest in ["./clock year", "sh -c './clock year'", "sh -c 'for i in 1 2 3 4 5 6 7 8; do ./clock year; done'"] {
        let traced = format!("strace -f -o /dev/null {guest}");
        let run = Sandbox::new(&project).options(["--read", ".", "--clock", "2000-01-01"]).sh(&traced).exits(0);
        assert!(run.out.lines().all(|year| year == "2000") && !run.out.is_empty(), "{guest}: {run:?}");
    }
}

#[test]
fn python_sees_and_sets_it() {
    needs!("python3");
    let script = "import time, datetime\n\
        print(datetime.datetime.now(datetime.timezone.utc).year)\n\
        time.clock_settime(time.CLOCK_REALTIME, 1e9)\n\
        print(int(time.time()) - 10**9 < 5, datetime.datetime.now(datetime.timezone.utc).year)";
    let run = Sandbox::new(&Project::new()).options(["--clock", "2030-01-01"]).run(["python3", "-c", script]).exits(0);
    assert_eq!(run.out, "2030\nTrue 2001\n");
}

#[test]
fn node_sees_it() {
    needs!("node");
    let run = ["node", "-e", "console.log(new Date().getUTCFullYear())"];
    assert_eq!(Sandbox::new(&Project::new()).options(["--clock", "2030-01-01"]).run(run).exits(0).out, "2030\n");
}

#[test]
fn a_jvm_sees_it() {
    needs!("java", "javac");
    let project = Project::new();
    project.write(
        "Year.java",
        "public class Year { public static void main(String[] a) {\n\
         System.out.println(java.time.ZonedDateTime.now(java.time.ZoneOffset.UTC).getYear()); } }",
    );
    let run = with_clock(&project, "2030-01-01", &["java", "Year.java"]).exits(0);
    assert_eq!(run.out, "2030\n");
}

/// Go's runtime resolves the vDSO by symbol version, and calls it on a stack of its own.
#[test]
fn a_static_go_program_sees_it() {
    needs!("go");
    let project = Project::new();
    let source = project.write(
        "year.go",
        "package main\nimport (\"fmt\"; \"time\")\n\
         func main() { c := make(chan int); go func() { c <- time.Now().UTC().Year() }(); fmt.Println(<-c, time.Now().UTC().Year()) }\n",
    );
    let home = tempfile::tempdir().unwrap();
    let built = Command::new("go")
        .args(["build", "-o", project.join("year").to_str().unwrap(), source.to_str().unwrap()])
        .env("CGO_ENABLED", "0")
        .env("HOME", home.path())
        .env("GOFLAGS", "-mod=mod")
        .current_dir(project.path())
        .status()
        .unwrap();
    assert!(built.success());
    project.give(&project.join("year"));
    assert_eq!(with_clock(&project, "2030-01-01", &["./year"]).exits(0).out, "2030 2030\n");
}

#[test]
fn it_can_stand_in_a_policy_file() {
    let project = Project::new();
    let policy = project.write("policy.toml", "[process]\nclock = \"2030-01-01,frozen\"\n");
    let run = Sandbox::new(&project).options(["--policy", policy.to_str().unwrap()]).sh("date +%Y").exits(0);
    assert_eq!(run.out, "2030\n");
    let wrong = Sandbox::new(&project).options(["--clock", "yesterday"]).sh("true");
    assert_eq!(wrong.code, 125, "{wrong:?}");
    assert!(wrong.err.contains("2000-01-01T00:00:00Z"), "{wrong:?}");
}

/// The page that tells the time is read-only for every program, by whatever way it comes to a descriptor of it.
#[test]
fn the_page_cannot_be_changed_from_inside() {
    needs!("python3");
    let script = "import ctypes, mmap, os\n\
        libc = ctypes.CDLL(None, use_errno=True)\n\
        fd = libc.syscall(228, 0x5AC10C10, 0)\n\
        assert fd > 2, fd\n\
        def refused(what):\n\
        \x20   try: what()\n\
        \x20   except OSError: return True\n\
        \x20   return False\n\
        print(refused(lambda: os.write(fd, b'x')), refused(lambda: os.ftruncate(fd, 0)),\n\
        \x20   refused(lambda: mmap.mmap(fd, 4096, mmap.MAP_SHARED, mmap.PROT_WRITE)),\n\
        \x20   refused(lambda: os.ftruncate(os.open(f'/proc/self/fd/{fd}', os.O_RDWR), 0)),\n\
        \x20   refused(lambda: os.write(os.open(f'/proc/self/fd/{fd}', os.O_RDWR), b'x')))";
    if cfg!(not(target_arch = "x86_64")) {
        skip!("there is no page on this architecture");
    }
    let run = Sandbox::new(&Project::new()).options(["--clock", "virtual"]).run(["python3", "-c", script]).exits(0);
    assert_eq!(run.out, "True True True True True\n");
}
