//! The only program in the containers of the conformance tests: it says how the world looks from inside.
//!
//! `report [--to FILE] [PATH]...` writes all it can learn as JSON; the tests compare that with the configuration. As a hook it
//! keeps what it was given (`hook FILE`).

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use serde_json::{Value, json};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["report", "--to", file, paths @ ..] => {
            let _ = fs::write(file, report(paths).to_string());
        }
        ["report", paths @ ..] => say(&report(paths).to_string()),
        ["exit", code] => std::process::exit(code.parse().unwrap_or(99)),
        ["wait"] => std::process::exit(wait()),
        ["sleep", seconds] => std::thread::sleep(std::time::Duration::from_secs_f64(seconds.parse().unwrap_or(1.0))),
        ["try", calls @ ..] => say(&calls.iter().map(|call| attempt(call)).collect::<Value>().to_string()),
        ["hook", file, more @ ..] => hook(file, more),
        ["hold-pids"] => hold_pids(),
        _ => {
            eprintln!("oci-probe: report, exit, wait, sleep, try, hook or hold-pids, not {words:?}");
            std::process::exit(2);
        }
    }
}

fn say(text: &str) {
    let mut out = std::io::stdout();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Says `ready`, waits for a signal that says something to a program, and returns its number.
fn wait() -> i32 {
    // SAFETY: the set is ours and initialised by sigfillset.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        // Blocked, it would be kept for us even where it is ignored, and the reader of what we say may be gone.
        libc::sigdelset(&raw mut all, libc::SIGPIPE);
        libc::sigprocmask(libc::SIG_BLOCK, &raw const all, std::ptr::null_mut());
        say("ready\n");
        let mut signal = 0;
        loop {
            libc::sigwait(&raw const all, &raw mut signal);
            if ![libc::SIGCHLD, libc::SIGWINCH, libc::SIGCONT, libc::SIGURG].contains(&signal) {
                return signal;
            }
        }
    }
}

/// Tries a call, `NUMBER[,ARGUMENT]...`: its result, or the negative errno.
fn attempt(call: &str) -> i64 {
    let mut numbers = call.split(',').map(|word| word.parse::<i64>().unwrap_or_default());
    let number = numbers.next().unwrap_or_default();
    let mut next = || numbers.next().unwrap_or_default();
    let (a, b, c, d, e, f) = (next(), next(), next(), next(), next(), next());
    // SAFETY: only numbers are passed; whatever the kernel makes of them happens to this process alone.
    let result = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    if result == -1 { -i64::from(std::io::Error::last_os_error().raw_os_error().unwrap_or(0)) } else { result }
}

/// Keeps what a hook is given: one line of JSON for each call.
fn hook(file: &str, more: &[&str]) {
    let mut state = String::new();
    let _ = std::io::stdin().read_to_string(&mut state);
    let line = json!({
        "word": more.first(), "args": std::env::args().collect::<Vec<_>>(), "env": environment(),
        "state": serde_json::from_str::<Value>(&state).unwrap_or(Value::Null), "said": state,
        "namespaces": namespaces(), "probe_at_root": Path::new("/probe").exists(),
    });
    let out = fs::OpenOptions::new().append(true).create(true).open(file);
    let _ = out.and_then(|mut out| writeln!(out, "{line}"));
    if let Some(seconds) = more.get(1).and_then(|word| word.strip_prefix("sleep=")) {
        std::thread::sleep(std::time::Duration::from_secs_f64(seconds.parse().unwrap_or(1.0)));
    }
    if let Some(code) = more.get(1).and_then(|word| word.strip_prefix("exit=")) {
        std::process::exit(code.parse().unwrap_or(1));
    }
}

/// Keeps a process namespace alive: its first process waits, and its pid is said.
fn hold_pids() {
    // SAFETY: this program has one thread; the child only waits.
    let child = unsafe {
        if libc::unshare(libc::CLONE_NEWPID) != 0 {
            say("refused\n");
            return;
        }
        libc::fork()
    };
    if child == 0 {
        // SAFETY: asks to die with the parent.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        wait();
    } else {
        say(&format!("{child}\n"));
        wait();
    }
}

fn environment() -> Vec<String> {
    std::env::vars_os().map(|(name, value)| format!("{}={}", name.to_string_lossy(), value.to_string_lossy())).collect()
}

fn text(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn namespaces() -> BTreeMap<&'static str, String> {
    let names = [
        ("pid", "pid"),
        ("network", "net"),
        ("mount", "mnt"),
        ("ipc", "ipc"),
        ("uts", "uts"),
        ("user", "user"),
        ("cgroup", "cgroup"),
        ("time", "time"),
    ];
    let link = |file| fs::read_link(format!("/proc/self/ns/{file}")).unwrap_or_default();
    names.into_iter().map(|(name, file)| (name, link(file).to_string_lossy().into_owned())).collect()
}

fn report(paths: &[&str]) -> Value {
    // The mask can only be read by setting it.
    // SAFETY: no memory is involved in any of these calls.
    let (mask, persona, uid, gid, session, group) = unsafe {
        let mask = libc::umask(0);
        libc::umask(mask);
        let persona = libc::personality(0xffff_ffff);
        (mask, persona, libc::getuid(), libc::getgid(), libc::getsid(0), libc::getpgrp())
    };
    let status: BTreeMap<String, String> = text("/proc/self/status")
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect();
    let names = nix::sys::utsname::uname().ok();
    let name = |take: fn(&nix::sys::utsname::UtsName) -> &std::ffi::OsStr| {
        names.as_ref().map(|names| take(names).to_string_lossy().into_owned())
    };
    let seen: BTreeMap<&str, Value> = paths.iter().map(|path| (*path, look(path))).collect();
    json!({
        "pid": std::process::id(), "uid": uid, "gid": gid, "session": session, "group": group,
        "groups": nix::unistd::getgroups().unwrap_or_default().iter().map(|group| group.as_raw()).collect::<Vec<_>>(),
        "umask": mask, "personality": persona, "status": status,
        "cwd": std::env::current_dir().map(|path| path.to_string_lossy().into_owned()).ok(),
        "env": environment(), "args": std::env::args().collect::<Vec<_>>(), "limits": limits(),
        "oom_score_adj": text("/proc/self/oom_score_adj").trim(),
        "scheduler": scheduler(), "io_priority": attempt(&format!("{},1,0", libc::SYS_ioprio_get)),
        "hostname": name(|names| names.nodename()), "domainname": name(|names| names.domainname()),
        "machine": name(|names| names.machine()),
        "namespaces": namespaces(), "mountinfo": text("/proc/self/mountinfo"), "cgroup": text("/proc/self/cgroup"),
        "uid_map": numbers("/proc/self/uid_map"), "gid_map": numbers("/proc/self/gid_map"),
        "clocks": { "monotonic": clock(libc::CLOCK_MONOTONIC), "boottime": clock(libc::CLOCK_BOOTTIME) },
        "descriptors": descriptors(), "terminal": terminal(), "paths": seen,
        "interfaces": text("/proc/self/net/dev").lines().skip(2).filter_map(|line| line.split_once(':'))
            .map(|(name, _)| name.trim().to_owned()).collect::<Vec<_>>(),
    })
}

fn numbers(path: &str) -> Vec<Vec<u64>> {
    let row = |line: &str| line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    text(path).lines().map(row).collect()
}

fn clock(which: libc::clockid_t) -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the structure is ours.
    unsafe { libc::clock_gettime(which, &raw mut time) };
    #[expect(clippy::cast_precision_loss, reason = "seconds since boot")]
    let seconds = time.tv_sec as f64 + time.tv_nsec as f64 / 1e9;
    seconds
}

fn limits() -> BTreeMap<&'static str, [u64; 2]> {
    use nix::sys::resource::{Resource, getrlimit};
    let all = [
        ("RLIMIT_AS", Resource::RLIMIT_AS),
        ("RLIMIT_CORE", Resource::RLIMIT_CORE),
        ("RLIMIT_CPU", Resource::RLIMIT_CPU),
        ("RLIMIT_DATA", Resource::RLIMIT_DATA),
        ("RLIMIT_FSIZE", Resource::RLIMIT_FSIZE),
        ("RLIMIT_LOCKS", Resource::RLIMIT_LOCKS),
        ("RLIMIT_MEMLOCK", Resource::RLIMIT_MEMLOCK),
        ("RLIMIT_MSGQUEUE", Resource::RLIMIT_MSGQUEUE),
        ("RLIMIT_NICE", Resource::RLIMIT_NICE),
        ("RLIMIT_NOFILE", Resource::RLIMIT_NOFILE),
        ("RLIMIT_NPROC", Resource::RLIMIT_NPROC),
        ("RLIMIT_RSS", Resource::RLIMIT_RSS),
        ("RLIMIT_RTPRIO", Resource::RLIMIT_RTPRIO),
        ("RLIMIT_RTTIME", Resource::RLIMIT_RTTIME),
        ("RLIMIT_SIGPENDING", Resource::RLIMIT_SIGPENDING),
        ("RLIMIT_STACK", Resource::RLIMIT_STACK),
    ];
    let both = |which| getrlimit(which).map(|(soft, hard)| [soft, hard]).unwrap_or_default();
    all.into_iter().map(|(name, which)| (name, both(which))).collect()
}

/// Policy, nice value, priority, flags, runtime, deadline and period.
fn scheduler() -> Value {
    // struct sched_attr: size, policy, flags, nice, priority, runtime, deadline, period.
    let mut bytes = [0_u8; 48];
    // SAFETY: the kernel writes at most the 48 bytes that are told.
    let result = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, bytes.as_mut_ptr(), 48, 0) };
    if result != 0 {
        return Value::Null;
    }
    let four = |at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let eight = |at: usize| u64::from(four(at)) | u64::from(four(at + 4)) << 32;
    json!({
        "policy": four(4), "flags": eight(8), "nice": four(16).cast_signed(), "priority": four(20),
        "runtime": eight(24), "deadline": eight(32), "period": eight(40),
    })
}

fn descriptors() -> BTreeMap<String, String> {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else { return BTreeMap::new() };
    let all: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    // The directory's own descriptor is closed by now, and its link cannot be read any more.
    let link = |path: &Path| Some((path.file_name()?.to_str()?.to_owned(), fs::read_link(path).ok()?));
    all.iter().filter_map(|path| link(path)).map(|(number, to)| (number, to.to_string_lossy().into_owned())).collect()
}

fn terminal() -> Value {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the structure is ours, the others are questions about descriptors.
    let (sized, is) = unsafe {
        let sized = libc::ioctl(0, libc::TIOCGWINSZ, &raw mut size) == 0;
        (sized, [0, 1, 2].map(|number| libc::isatty(number) == 1))
    };
    let controlling = fs::OpenOptions::new().read(true).open("/dev/tty").is_ok();
    json!({ "is": is, "rows": sized.then_some(size.ws_row), "columns": sized.then_some(size.ws_col), "controlling": controlling })
}

/// All that can be learnt about a path without changing it for good.
fn look(path: &str) -> Value {
    let Ok(meta) = fs::symlink_metadata(path) else { return json!({ "type": "absent" }) };
    let kind = meta.file_type();
    let name = if kind.is_dir() {
        "directory"
    } else if kind.is_symlink() {
        "link"
    } else if kind.is_char_device() {
        "c"
    } else if kind.is_block_device() {
        "b"
    } else if kind.is_fifo() {
        "p"
    } else if kind.is_file() {
        "file"
    } else {
        "socket"
    };
    let known = |error: std::io::Error| error.raw_os_error().unwrap_or(-1);
    let mut content = Vec::new();
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let read = match fs::OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(_) if kind.is_dir() => 0,
        Ok(file) if kind.is_file() => file.take(4096).read_to_end(&mut content).err().map_or(0, known),
        Ok(_) => 0,
        Err(error) => known(error),
    };
    let write = if kind.is_dir() {
        let inside = Path::new(path).join(".oci-probe");
        let made = fs::File::create_new(&inside);
        let _ = fs::remove_file(&inside);
        made.err().map_or(0, known)
    } else {
        fs::OpenOptions::new().write(true).custom_flags(flags).open(path).err().map_or(0, known)
    };
    let mut entries: Vec<String> = fs::read_dir(path)
        .map(|all| all.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
        .unwrap_or_default();
    entries.sort();
    json!({
        "type": name, "mode": meta.mode() & 0o7777, "uid": meta.uid(), "gid": meta.gid(), "inode": meta.ino(), "device": meta.dev(),
        "major": libc::major(meta.rdev()), "minor": libc::minor(meta.rdev()),
        "link": fs::read_link(path).ok(), "read": read, "write": write, "content": String::from_utf8_lossy(&content),
        "entries": entries, "fs": file_system(path),
    })
}

fn file_system(path: &str) -> i64 {
    let Ok(path) = CString::new(Path::new(path).as_os_str().as_bytes()) else { return 0 };
    // SAFETY: the path ends with NUL, the structure is ours.
    unsafe {
        let mut seen: libc::statfs = std::mem::zeroed();
        if libc::statfs(path.as_ptr(), &raw mut seen) == 0 { seen.f_type } else { 0 }
    }
}
