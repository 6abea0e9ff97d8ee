//! Names and numbers: programs size themselves by the sandbox's limits, and believe in the kernel that the policy names.
#![allow(clippy::unwrap_used)] // a panic is how a test fails

use sentry_tests::{Project, Sandbox, has, skip};

const LIMITED: [&str; 4] = ["--cpus", "1", "--memory", "512M"];

/// What a script prints under `LIMITED`, by words.
#[track_caller]
fn limited(script: &str) -> Vec<String> {
    let project = Project::new();
    let run = Sandbox::new(&project).options(LIMITED).sh(script).exits(0);
    run.out.split_ascii_whitespace().map(str::to_owned).collect()
}

#[test]
fn the_shells_tools_see_the_limits() {
    assert_eq!(limited("nproc; getconf _NPROCESSORS_ONLN; grep -c ^processor /proc/cpuinfo"), ["1", "1", "1"]);
    assert_eq!(limited("grep -c '^cpu[0-9]' /proc/stat; ls -d /sys/devices/system/cpu/cpu[0-9]* | wc -l"), ["1", "1"]);
    // One and the same processor everywhere.
    let one = limited(
        "cat /sys/devices/system/cpu/online /sys/devices/system/cpu/present; \
         awk '/^Cpus_allowed_list/ { print $2 }' /proc/self/status; awk '/^processor/ { print $3 }' /proc/cpuinfo",
    );
    assert!(one.len() == 4 && one.iter().all(|cpu| *cpu == one[0]), "{one:?}");
    assert_eq!(limited("awk '/^(MemTotal|SwapTotal):/ { print $2 }' /proc/meminfo"), ["524288", "0"]);
    if has("free") {
        assert_eq!(limited("free -m | awk '/^Mem:/ { print $2 }'"), ["512"]);
    }
}

#[test]
fn a_sys_that_was_granted_tells_the_same() {
    let project = Project::new();
    for options in [["--read", "/sys"], ["--root", "/"]] {
        let run = Sandbox::new(&project).options(LIMITED).options(options).sh("nproc; getconf _NPROCESSORS_ONLN");
        assert_eq!(run.out, "1\n1\n", "{options:?}: {run:?}");
    }
}

#[test]
fn sysinfo_counts_what_is_in_use() {
    if !has("python3") {
        skip!("python3 is not installed");
    }
    let script = "import os\n\
                  pages = lambda: os.sysconf('SC_AVPHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') >> 20\n\
                  print(os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') >> 20)\n\
                  before = pages()\nused = bytearray(os.urandom(1 << 20) * 200)\n\
                  import time; time.sleep(0.1)\nprint(before, pages())";
    let project = Project::new();
    let run = Sandbox::new(&project).options(LIMITED).run(["python3", "-c", script]).exits(0);
    let numbers: Vec<i64> = run.out.split_ascii_whitespace().map(|word| word.parse().unwrap()).collect();
    let [total, before, after] = numbers[..] else { panic!("{run:?}") };
    assert!(total == 512 && before < 512, "{run:?}");
    assert!((180..260).contains(&(before - after)), "200 MiB were taken: {run:?}");
}

#[test]
fn python_and_node_size_themselves() {
    if has("python3") {
        assert_eq!(limited("python3 -c 'import os; print(os.cpu_count(), len(os.sched_getaffinity(0)))'"), ["1", "1"]);
    } else {
        eprintln!("SKIPPED: numbers: python3 is not installed");
    }
    if !has("node") {
        skip!("node is not installed");
    }
    let script =
        "const os = require('os'); console.log(os.cpus().length, os.totalmem() >> 20, os.freemem() <= os.totalmem())";
    assert_eq!(limited(&format!("node -e \"{script}\"")), ["1", "512", "true"]);
}

#[test]
fn the_jvm_sizes_itself() {
    if !has("java") {
        skip!("java is not installed");
    }
    let project = Project::new();
    let program = "class Size { public static void main(String[] none) { Runtime here = Runtime.getRuntime(); \
                   System.out.println(here.availableProcessors() + \" \" + (here.maxMemory() >> 20)); } }";
    project.write("Size.java", program);
    let flags = "java -XX:+PrintFlagsFinal -version 2>/dev/null | awk '/ MaxHeapSize/ { print $4 / 1048576 }'";
    let run = Sandbox::new(&project).options(LIMITED).sh(flags).exits(0);
    assert_eq!(run.out.trim(), "128", "a quarter of what there is: {run:?}");
    if !has("javac") {
        skip!("only a JRE is installed, so availableProcessors() is not asked");
    }
    let run = Sandbox::new(&project).options(LIMITED).sh("java Size.java").exits(0);
    let [cpus, heap] = run.out.split_ascii_whitespace().collect::<Vec<_>>()[..] else { panic!("{run:?}") };
    assert!(cpus == "1" && heap.parse::<u32>().unwrap() <= 128, "{run:?}");
}

#[test]
fn live_files_show_what_is_in_use() {
    if !has("python3") {
        skip!("python3 is not installed");
    }
    let script = "import os, time\n\
                  def free(): return [int(l.split()[1]) >> 10 for l in open('/proc/meminfo') if l.startswith('MemAvail')][0]\n\
                  def times(): return sum(map(int, open('/proc/stat').readline().split()[1:]))\n\
                  before, began = free(), times()\nused = bytearray(os.urandom(1 << 20) * 200)\ntime.sleep(0.1)\n\
                  print(before - free(), times() > began, open('/proc/stat').read().count('cpu'))";
    let project = Project::new();
    for (files, told) in [("static", (0..1, "False 2")), ("live", (180..260, "True 2"))] {
        let run =
            Sandbox::new(&project).options(LIMITED).options(["--proc-files", files]).run(["python3", "-c", script]);
        let (taken, rest) = run.out.trim().split_once(' ').unwrap_or_else(|| panic!("{run:?}"));
        assert!(told.0.contains(&taken.parse::<i64>().unwrap()) && rest == told.1, "{files}: {run:?}");
    }
    // Whoever comes to the file by another way finds sizes all the same, and nobody can write it.
    let script = "cd /proc; free -m | awk '/^Mem:/ { print $2 }'; grep -c ^processor cpuinfo; \
                  awk '/^MemTotal/ { print $2 }' self/../meminfo; echo x > meminfo";
    let run = Sandbox::new(&project).options(LIMITED).options(["--proc-files", "live"]).sh(script);
    assert_eq!(run.out, "512\n1\n524288\n", "{run:?}");
    assert_ne!(run.code, 0);
}

#[test]
fn without_limits_the_host_shows() {
    let project = Project::new();
    let script = "nproc; awk '/^MemTotal:/ { print $2 }' /proc/meminfo; uname -srv; ls -d /sys 2>/dev/null";
    let run = Sandbox::new(&project).sh(script);
    let mut host = std::process::Command::new("sh");
    host.args(["-c", script]);
    let host = sentry_tests::outcome(host).out;
    // The view has no /sys.
    assert_eq!(format!("{}/sys\n", run.out), host);
}

#[test]
fn the_files_that_tell_cannot_be_changed_or_looked_behind() {
    let project = Project::new();
    let script = "for file in /proc/meminfo /proc/cpuinfo /proc/stat /sys/devices/system/cpu/online; do \
                  echo 1 > $file && echo written; rm -f $file 2>/dev/null && echo removed; \
                  umount $file 2>/dev/null && echo unmounted; done; true";
    let run = Sandbox::new(&project).options(LIMITED).sh(script).exits(0);
    assert_eq!(run.out, "", "{run:?}");
}

#[test]
fn the_kernel_has_another_name() {
    let project = Project::new();
    let named = ["--uname", "4.19.0-9-amd64:#1 SMP Debian 10:00"];
    let script = "uname -r; uname -v; cat /proc/sys/kernel/osrelease /proc/sys/kernel/version; \
                  cut -d' ' -f3 /proc/version; uname -sn";
    let run = Sandbox::new(&project).options(named).options(["--hostname", "box"]).sh(script).exits(0);
    let lines: Vec<&str> = run.out.lines().collect();
    let version = "#1 SMP Debian 10:00";
    assert_eq!(lines, ["4.19.0-9-amd64", version, "4.19.0-9-amd64", version, "4.19.0-9-amd64", "Linux box"]);
    // Where only the release is given, the version stays.
    let run = Sandbox::new(&project).options(["--uname", "9.9.9"]).sh("uname -rv").exits(0);
    let host = std::fs::read_to_string("/proc/sys/kernel/version").unwrap();
    assert_eq!(run.out.trim(), format!("9.9.9 {}", host.trim()));
    Sandbox::new(&project).options(["--uname", "beta"]).sh("true").exits(125).says("6.1.0-13-amd64");
}

#[test]
fn the_host_is_called_the_same_everywhere() {
    let project = Project::new();
    let script = "uname -n; cat /proc/sys/kernel/hostname /etc/hostname; awk '/^127/ { print $3 }' /etc/hosts";
    let run = Sandbox::new(&project).options(["--hostname", "mars"]).sh(script).exits(0);
    assert_eq!(run.out, "mars\nmars\nmars\nmars\n");
    let policy = project.write("policy.toml", "[process]\nhostname = \"venus\"\nuname = \"5.5.5\"\n");
    let run = Sandbox::new(&project).options([std::ffi::OsStr::new("--policy"), policy.as_os_str()]).sh("uname -nr");
    assert_eq!(run.out, "venus 5.5.5\n", "{run:?}");
}
