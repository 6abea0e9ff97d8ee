//! Limits end what they should, and the report says which, and how it was enforced.
#![allow(clippy::unwrap_used)] // a panic is how a test fails

use sentry_tests::{Outcome, Project, Sandbox, has, skip};

#[track_caller]
fn hit(run: &Outcome, name: &str) {
    let limit = run.report["limits"].as_array().unwrap().iter().find(|limit| limit["name"] == name);
    assert_eq!(limit.unwrap()["hit"], true, "{:?}", run.report);
}

#[test]
fn memory_bombs_end() {
    if !has("python3") {
        skip!("python3 is not installed");
    }
    let project = Project::new();
    let bomb = "x=[]\nwhile True: x.append(bytearray(1<<20))";
    let run = Sandbox::new(&project).options(["--memory", "100M"]).run(["python3", "-c", bomb]).exits(137);
    hit(&run, "memory");
    run.because("memory").says("100 MiB");
    // Several processes count together.
    let forks = "import os,time\nfor n in range(8):\n  if os.fork()==0:\n    x=bytearray(40<<20)\n    time.sleep(9)\ntime.sleep(9)";
    Sandbox::new(&project).options(["--memory", "200M"]).run(["python3", "-c", forks]).exits(137).because("memory");
    // One piece that is far too large is refused at once.
    Sandbox::new(&project).options(["--memory", "100M"]).run(["python3", "-c", "bytearray(1<<31)"]).exits(1);
}

#[test]
fn fork_bombs_end() {
    let project = Project::new();
    let run = Sandbox::new(&project).options(["--pids", "40", "--timeout", "20s"]).run([
        "bash",
        "-c",
        "for n in $(seq 60); do sleep 3 & done; exit 5",
    ]);
    assert_ne!(run.code, 0);
    hit(&run, "pids");
    run.because("pids");
    let bomb =
        Sandbox::new(&project).options(["--pids", "40", "--timeout", "3s"]).run(["bash", "-c", ":(){ :|:& };:; wait"]);
    assert!(["pids", "timeout", "exited"].contains(&bomb.report["cause"].as_str().unwrap()), "{bomb:?}");
}

#[test]
fn the_limit_on_processes_is_exact() {
    if !has("python3") {
        skip!("python3 is not installed");
    }
    let project = Project::new();
    let count = "import os,time\nn=0\ntry:\n  while n<100:\n    if os.fork()==0: time.sleep(5); os._exit(0)\n    n+=1\nexcept OSError: print(n)";
    let run = Sandbox::new(&project).options(["--pids", "20"]).run(["python3", "-c", count]);
    assert_eq!(run.out, "19\n", "the program itself and 19 children: {run:?}");
}

#[test]
fn time_is_limited() {
    let project = Project::new();
    Sandbox::new(&project).options(["--timeout", "500ms"]).run(["sleep", "20"]).exits(124).because("timeout");
    let run =
        Sandbox::new(&project).options(["--cpu-time", "1s"]).sh("while :; do :; done").exits(124).because("timeout");
    hit(&run, "cpu-time");
    // A program that catches every signal ends all the same.
    let deaf = "trap '' TERM INT HUP XCPU; while :; do :; done";
    Sandbox::new(&project).options(["--timeout", "500ms"]).sh(deaf).exits(124);
}

#[test]
fn disk_is_limited() {
    let project = Project::new();
    let fill = "head -c 300M /dev/zero > big; sleep 5";
    let run = Sandbox::new(&project).options(["--disk", "20M"]).sh(fill).exits(137).because("disk");
    hit(&run, "disk");
    let run = Sandbox::new(&project).options(["--disk", "20M"]).sh("head -c 30M /dev/zero > /tmp/big");
    assert_eq!(run.code, 1, "{run:?}");
    let run =
        Sandbox::new(&project).options(["--disk", "20M", "--cow-store", "memory"]).sh("head -c 30M /dev/zero > big");
    assert_eq!(run.code, 1, "{run:?}");
    let run = Sandbox::new(&project)
        .options(["--max-file", "1M"])
        .sh("trap '' XFSZ; head -c 2M /dev/zero > big; wc -c < big");
    assert_eq!(run.out.trim(), "1048576", "{run:?}");
}

#[test]
fn processors_are_limited() {
    let project = Project::new();
    let run = Sandbox::new(&project).options(["--cpus", "1"]).sh("nproc; taskset -p -c 0-63 $$ 2>&1; nproc");
    let lines: Vec<&str> = run.out.lines().collect();
    assert_eq!((lines.first(), lines.last()), (Some(&"1"), Some(&"1")), "{run:?}");
}

#[test]
fn mechanisms_are_named() {
    let project = Project::new();
    let run = Sandbox::new(&project).options(["--memory", "1G", "--pids", "50", "--timeout", "9s"]).sh("true").exits(0);
    for limit in run.report["limits"].as_array().unwrap() {
        assert!(!limit["mechanisms"].as_array().unwrap().is_empty(), "{limit:?}");
        assert_eq!(limit["hit"], false);
    }
    assert_eq!(run.report["limits"].as_array().unwrap().len(), 3);
}
