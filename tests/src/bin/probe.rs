//! A program that attacks: `probe NAME [ARGUMENT]...` tries one thing and says `escaped`, `contained` or `not applicable`.
//!
//! An escape needs proof: a token read, an effect made, a call that took effect. Each probe names the row of the published
//! failures it stands for.

use std::ffi::CString;
use std::io::{Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::sync::atomic::{AtomicBool, Ordering};

/// What came of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Escaped,
    Contained,
    NotApplicable,
}
use Verdict::{Contained, Escaped, NotApplicable};

type Probe = fn(&[String]) -> Verdict;

const PROBES: &[(&str, Probe)] = &[
    ("read", read),
    ("write", write),
    ("kill", kill),
    ("trace", trace),
    ("memory", memory),
    ("abstract-socket", abstract_socket),
    ("path-socket", path_socket),
    ("tcp", tcp),
    ("io-uring", io_uring),
    ("int80", int80),
    ("x32", x32),
    ("unshare", unshare),
    ("clone", clone),
    ("clone-dirty", clone_dirty),
    ("clone3", clone3),
    ("setns", setns),
    ("mount", mount),
    ("new-mount-api", new_mount_api),
    ("terminal-input", terminal_input),
    ("descriptors", descriptors),
    ("init", init),
    ("kill-init", kill_init),
    ("set-id", set_id),
    ("set-id-openat2", set_id_openat2),
    ("capabilities", capabilities),
    ("settings", settings),
    ("stdin-reopened", stdin_reopened),
    ("devices", devices),
    ("socket-families", socket_families),
    ("beyond-the-table", beyond_the_table),
    ("dangerous", dangerous),
    ("flip-create", flip_create),
    ("names", names),
    ("chroot", chroot),
    ("roots", roots),
    ("roots-raced", roots_raced),
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((_, probe)) = arguments.first().and_then(|name| PROBES.iter().find(|(known, _)| known == name)) else {
        eprintln!("probe: name one of {:?}", PROBES.iter().map(|(name, _)| name).collect::<Vec<_>>());
        std::process::exit(2);
    };
    let verdict = match probe(&arguments[1..]) {
        Escaped => "escaped",
        Contained => "contained",
        NotApplicable => "not applicable",
    };
    let _ = writeln!(std::io::stdout(), "{verdict}");
}

fn call(number: libc::c_long, arguments: [u64; 6]) -> Result<i64, i32> {
    let [a, b, c, d, e, f] = arguments;
    // SAFETY: the probes pass valid pointers or numbers; whatever the kernel does happens to this process only.
    let result = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    if result == -1 { Err(std::io::Error::last_os_error().raw_os_error().unwrap_or(0)) } else { Ok(result) }
}

fn escaped_if(condition: bool) -> Verdict {
    if condition { Escaped } else { Contained }
}

fn ignore(_: Result<i64, i32>) {}

fn c(text: &str) -> CString {
    CString::new(text).expect("no NUL")
}

/// Files outside the grants.
fn read(arguments: &[String]) -> Verdict {
    escaped_if(std::fs::read_to_string(&arguments[0]).is_ok_and(|text| text.contains("TOKEN")))
}

/// Files outside the grants. The test looks whether it arrived on the host.
fn write(arguments: &[String]) -> Verdict {
    escaped_if(std::fs::write(&arguments[0], "owned").is_ok())
}

/// Other processes of the same user.
fn kill(arguments: &[String]) -> Verdict {
    let pid: i32 = arguments[0].parse().expect("a pid");
    // SAFETY: signal 0 only asks.
    escaped_if(unsafe { libc::kill(pid, 0) } == 0 && own_namespace_lacks(pid))
}

/// A pid may exist inside by chance; then it is one of ours.
fn own_namespace_lacks(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.contains("sleep"))
}

/// Supervisor memory or descriptors stolen by a same-uid guest: ptrace.
fn trace(arguments: &[String]) -> Verdict {
    let pid = arguments[0].parse::<u64>().expect("a pid");
    escaped_if(call(libc::SYS_ptrace, [0x4206, pid, 0, 0, 0, 0]).is_ok())
}

/// The same by /proc/pid/mem.
fn memory(arguments: &[String]) -> Verdict {
    escaped_if(std::fs::File::open(format!("/proc/{}/environ", arguments[0])).is_ok_and(|mut file| {
        let mut text = Vec::new();
        file.read_to_end(&mut text).is_ok() && !text.is_empty()
    }))
}

/// Abstract sockets of the host's services.
fn abstract_socket(arguments: &[String]) -> Verdict {
    let address = SocketAddr::from_abstract_name(&arguments[0]).expect("a name");
    escaped_if(UnixStream::connect_addr(&address).is_ok())
}

/// Sockets in grants (docker.sock, D-Bus, agents).
fn path_socket(arguments: &[String]) -> Verdict {
    escaped_if(UnixStream::connect(&arguments[0]).is_ok())
}

/// The host's loopback services.
fn tcp(arguments: &[String]) -> Verdict {
    let port: u16 = arguments[0].parse().expect("a port");
    escaped_if(std::net::TcpStream::connect(("127.0.0.1", port)).is_ok())
}

/// io_uring: opens and connects without syscalls.
fn io_uring(_: &[String]) -> Verdict {
    let parameters = [0u8; 120];
    match call(libc::SYS_io_uring_setup, [4, parameters.as_ptr() as u64, 0, 0, 0, 0]) {
        Ok(_) => Escaped,
        Err(_) => Contained,
    }
}

/// int 0x80: other numbers pass the filter. Contained means killed, so that nothing is printed.
#[cfg(target_arch = "x86_64")]
fn int80(_: &[String]) -> Verdict {
    let result: i64;
    // SAFETY: i386 getpid (20) takes no arguments; int 0x80 may clobber r8 to r11.
    unsafe {
        std::arch::asm!("int 0x80", inlateout("rax") 20i64 => result, out("r8") _, out("r9") _, out("r10") _, out("r11") _);
    }
    escaped_if(result > 0)
}

#[cfg(not(target_arch = "x86_64"))]
fn int80(_: &[String]) -> Verdict {
    NotApplicable
}

/// x32 numbers. Contained means killed.
fn x32(_: &[String]) -> Verdict {
    if cfg!(not(target_arch = "x86_64")) {
        return NotApplicable;
    }
    match call(0x4000_0000 | 39, [0; 6]) {
        Ok(_) => Escaped,
        Err(_) => NotApplicable,
    }
}

const NEW: [u64; 8] = [
    libc::CLONE_NEWUSER as u64,
    libc::CLONE_NEWNS as u64,
    libc::CLONE_NEWPID as u64,
    libc::CLONE_NEWNET as u64,
    libc::CLONE_NEWIPC as u64,
    libc::CLONE_NEWUTS as u64,
    libc::CLONE_NEWCGROUP as u64,
    libc::CLONE_NEWTIME as u64,
];

/// Kernel bugs behind user-namespace capabilities (CVE-2022-0185 and others).
fn unshare(_: &[String]) -> Verdict {
    escaped_if(NEW.iter().any(|flag| call(libc::SYS_unshare, [*flag, 0, 0, 0, 0, 0]).is_ok()))
}

fn cloned(flags: u64) -> bool {
    match call(libc::SYS_clone, [flags | libc::SIGCHLD as u64, 0, 0, 0, 0, 0]) {
        // SAFETY: the child of a fork without handlers ends at once.
        Ok(0) => unsafe { libc::_exit(0) },
        Ok(_) => true,
        Err(_) => false,
    }
}

/// The same by clone.
fn clone(_: &[String]) -> Verdict {
    escaped_if(NEW.iter().take(7).any(|flag| cloned(*flag)))
}

/// Upper 32 bits (CVE-2019-9893): the kernel ignores them, a filter must too.
fn clone_dirty(_: &[String]) -> Verdict {
    escaped_if(cloned(libc::CLONE_NEWUSER as u64 | 0xdead_beef << 32))
}

/// clone3 hides its flags behind a pointer.
fn clone3(_: &[String]) -> Verdict {
    let mut arguments = [0u64; 11];
    arguments[0] = libc::CLONE_NEWUSER as u64;
    arguments[4] = libc::SIGCHLD as u64;
    match call(libc::SYS_clone3, [arguments.as_ptr() as u64, 88, 0, 0, 0, 0]) {
        // SAFETY: as above.
        Ok(0) => unsafe { libc::_exit(0) },
        Ok(_) => Escaped,
        Err(_) => Contained,
    }
}

/// Entering namespaces through /proc.
fn setns(_: &[String]) -> Verdict {
    let open = |name: &str| std::fs::File::open(format!("/proc/self/ns/{name}"));
    let worked = ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"].iter().any(|name| {
        use std::os::fd::AsRawFd;
        open(name).is_ok_and(|file| call(libc::SYS_setns, [file.as_raw_fd() as u64, 0, 0, 0, 0, 0]).is_ok())
    });
    escaped_if(worked)
}

/// Mounts, roots.
fn mount(_: &[String]) -> Verdict {
    let (none, tmpfs, tmp) = (c("none"), c("tmpfs"), c("/tmp"));
    let mounted = call(libc::SYS_mount, [none.as_ptr() as u64, tmp.as_ptr() as u64, tmpfs.as_ptr() as u64, 0, 0, 0]);
    let unmounted = ["/proc/sys", "/proc", "/usr", "/"].iter().any(|path| {
        let path = c(path);
        call(libc::SYS_umount2, [path.as_ptr() as u64, libc::MNT_DETACH as u64, 0, 0, 0, 0]).is_ok()
    });
    let pivoted = call(libc::SYS_pivot_root, [tmp.as_ptr() as u64, tmp.as_ptr() as u64, 0, 0, 0, 0]);
    escaped_if(mounted.is_ok() || unmounted || pivoted.is_ok())
}

/// The new mount API (CVE-2021-41133): every call of it is unknown inside.
fn new_mount_api(_: &[String]) -> Verdict {
    let calls = [
        libc::SYS_fsopen,
        libc::SYS_fsconfig,
        libc::SYS_fsmount,
        libc::SYS_fspick,
        libc::SYS_open_tree,
        libc::SYS_move_mount,
        libc::SYS_mount_setattr,
    ];
    escaped_if(calls.iter().any(|number| call(*number, [0; 6]) != Err(libc::ENOSYS)))
}

/// TIOCSTI, TIOCLINUX (CVE-2017-5226): keystrokes for the parent's terminal, also with the upper half dirty.
fn terminal_input(_: &[String]) -> Verdict {
    let byte = b"x".as_ptr() as u64;
    let requests = [libc::TIOCSTI, 0x541c, libc::TIOCSTI | 1 << 32, 0x541c | 0xffff_ffff << 32];
    // A descriptor that is no terminal would say ENOTTY if the request reached it.
    escaped_if(requests.iter().any(|request| call(libc::SYS_ioctl, [0, *request, byte, 0, 0, 0]) != Err(libc::EPERM)))
}

/// runc CVE-2024-21626: a leaked descriptor.
fn descriptors(_: &[String]) -> Verdict {
    let mut open = Vec::new();
    for fd in 0..4096 {
        // SAFETY: F_GETFD only asks.
        if unsafe { libc::fcntl(fd, libc::F_GETFD) } != -1 {
            open.push(fd);
        }
    }
    let directory =
        (0..3).any(|fd| std::fs::metadata(format!("/proc/self/fd/{fd}")).is_ok_and(|metadata| metadata.is_dir()));
    escaped_if(open.iter().any(|fd| *fd > 2) || directory)
}

/// runc CVE-2019-5736: what can be had of pid 1, which is a program of the host.
fn init(_: &[String]) -> Verdict {
    let files = ["mem", "environ", "exe", "root/usr", "cwd", "fd/0", "maps", "ns/user", "map_files"];
    let reached = files.iter().any(|file| {
        let path = format!("/proc/1/{file}");
        std::fs::File::open(&path).is_ok() || std::fs::OpenOptions::new().write(true).open(&path).is_ok()
    });
    let traced = call(libc::SYS_ptrace, [0x4206, 1, 0, 0, 0, 0]).is_ok();
    let pidfd = call(libc::SYS_pidfd_open, [1, 0, 0, 0, 0, 0]);
    let taken = pidfd.is_ok_and(|fd| (0..16).any(|n| call(libc::SYS_pidfd_getfd, [fd as u64, n, 0, 0, 0, 0]).is_ok()));
    escaped_if(reached || traced || taken)
}

/// The sandbox's init outlives what is done to it; the test looks at the exit code.
fn kill_init(_: &[String]) -> Verdict {
    for signal in 1..=64 {
        // SAFETY: this process may die of it, no more.
        unsafe { libc::kill(1, signal) };
    }
    std::thread::sleep(std::time::Duration::from_millis(200));
    // Whoever can still say this was not taken down with it.
    Contained
}

/// No set-id file may appear on the host. The test looks at the host's directory.
fn set_id(arguments: &[String]) -> Verdict {
    let directory = &arguments[0];
    let path = |name: &str| c(&format!("{directory}/{name}"));
    let at = libc::AT_FDCWD as u64;
    let mut made = false;
    for (number, mode) in [0o4755u64, 0o2755, 0o6755, 0o4000, 0o4755 | 1 << 40].into_iter().enumerate() {
        let fresh = |call: &str| path(&format!("{call}-{number}"));
        let flags = (libc::O_CREAT | libc::O_WRONLY) as u64;
        let plain = fresh("plain");
        std::fs::write(plain.to_str().expect("UTF-8"), "x").expect("the grant is writable");
        let file = std::fs::File::open(plain.to_str().expect("UTF-8")).expect("it is readable");
        use std::os::fd::AsRawFd;
        let fd = file.as_raw_fd() as u64;
        let temporary = (libc::O_TMPFILE | libc::O_RDWR) as u64;
        let attempts = [
            call(libc::SYS_openat, [at, fresh("openat").as_ptr() as u64, flags, mode, 0, 0]),
            call(libc::SYS_openat, [at, path(".").as_ptr() as u64, temporary, mode, 0, 0]),
            call(libc::SYS_mknodat, [at, fresh("mknodat").as_ptr() as u64, mode | u64::from(libc::S_IFREG), 0, 0, 0]),
            call(libc::SYS_fchmod, [fd, mode, 0, 0, 0, 0]),
            call(libc::SYS_fchmodat, [at, plain.as_ptr() as u64, mode, 0, 0, 0]),
            call(libc::SYS_fchmodat2, [at, plain.as_ptr() as u64, mode, 0, 0, 0]),
            #[cfg(target_arch = "x86_64")]
            call(libc::SYS_open, [fresh("open").as_ptr() as u64, flags, mode, 0, 0, 0]),
            #[cfg(target_arch = "x86_64")]
            call(libc::SYS_creat, [fresh("creat").as_ptr() as u64, mode, 0, 0, 0, 0]),
            #[cfg(target_arch = "x86_64")]
            call(libc::SYS_chmod, [plain.as_ptr() as u64, mode, 0, 0, 0, 0]),
        ];
        made |= attempts.iter().any(Result::is_ok);
    }
    escaped_if(made)
}

/// openat2 hides its mode in memory. The test looks at the host's directory.
fn set_id_openat2(arguments: &[String]) -> Verdict {
    let path = c(&format!("{}/openat2", arguments[0]));
    let how = [(libc::O_CREAT | libc::O_WRONLY) as u64, 0o4755, 0];
    let at = libc::AT_FDCWD as u64;
    escaped_if(call(libc::SYS_openat2, [at, path.as_ptr() as u64, how.as_ptr() as u64, 24, 0, 0]).is_ok())
}

/// No capability in any set but, if it is named, `chroot`; no_new_privs, a filter.
fn capabilities(arguments: &[String]) -> Verdict {
    let status = std::fs::read_to_string("/proc/self/status").expect("a /proc");
    let allowed = if arguments.first().is_some_and(|name| name == "chroot") { 1 << 18 } else { 0 };
    let within = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"].iter().all(|set| {
        let value = status.lines().find_map(|line| line.strip_prefix(set)?.strip_prefix(":\t"));
        value.and_then(|value| u64::from_str_radix(value, 16).ok()).is_some_and(|value| value & !allowed == 0)
    });
    escaped_if(!within || !status.contains("NoNewPrivs:\t1") || !status.contains("Seccomp:\t2"))
}

/// runc CVE-2025-31133 and others: settings of the machine through /proc.
fn settings(_: &[String]) -> Verdict {
    let files = [
        "/proc/sys/kernel/core_pattern",
        "/proc/sysrq-trigger",
        "/proc/sys/vm/overcommit_memory",
        "/proc/sys/kernel/domainname",
    ];
    let written = files.iter().any(|file| std::fs::OpenOptions::new().write(true).open(file).is_ok());
    let secret = ["/proc/kcore", "/proc/keys", "/proc/timer_list"];
    escaped_if(written || secret.iter().any(|file| std::fs::File::open(file).is_ok()))
}

/// A file passed for reading, reopened for writing. The test looks at the file.
fn stdin_reopened(_: &[String]) -> Verdict {
    escaped_if(
        std::fs::OpenOptions::new()
            .write(true)
            .open("/proc/self/fd/0")
            .is_ok_and(|mut file| file.write_all(b"owned").is_ok())
            && std::fs::metadata("/proc/self/fd/0").is_ok_and(|metadata| metadata.is_file()),
    )
}

/// Device nodes of the host.
fn devices(_: &[String]) -> Verdict {
    let mut made = false;
    for (name, kind, major, minor) in
        [("blk", libc::S_IFBLK, 8, 0), ("mem", libc::S_IFCHR, 1, 1), ("kmsg", libc::S_IFCHR, 1, 11)]
    {
        let path = c(&format!("/tmp/{name}"));
        let arguments =
            [libc::AT_FDCWD as u64, path.as_ptr() as u64, u64::from(kind | 0o666), libc::makedev(major, minor), 0, 0];
        made |= call(libc::SYS_mknodat, arguments).is_ok();
    }
    let harmless =
        ["null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts", "shm", "fd", "stdin", "stdout", "stderr"];
    let others = std::fs::read_dir("/dev").expect("a /dev").flatten();
    escaped_if(
        made || others.into_iter().any(|entry| !harmless.contains(&entry.file_name().to_string_lossy().as_ref())),
    )
}

/// nft CVE-2024-1086 and others: families that ordinary programs do not need, and MPTCP.
fn socket_families(_: &[String]) -> Verdict {
    let allowed = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6];
    for family in 0..64 {
        for kind in [libc::SOCK_STREAM, libc::SOCK_DGRAM, libc::SOCK_RAW, libc::SOCK_SEQPACKET] {
            for protocol in [0, 262, 132, 12, 1] {
                let ordinary = allowed.contains(&family) && kind != libc::SOCK_RAW && protocol == 0;
                let netlink = family == libc::AF_NETLINK && protocol == 0;
                if ordinary || netlink {
                    continue;
                }
                // UNIX sockets ignore a protocol of 1 (PF_UNIX).
                if family == libc::AF_UNIX && (protocol == 1 || kind == libc::SOCK_RAW && protocol == 0) {
                    continue;
                }
                let dirty = u64::from(family.unsigned_abs()) | 0xffff << 32;
                if let Ok(fd) = call(libc::SYS_socket, [dirty, kind as u64, protocol as u64, 0, 0, 0]) {
                    eprintln!("socket({family}, {kind}, {protocol}) = {fd}");
                    return Escaped;
                }
            }
        }
    }
    Contained
}

/// Numbers that the table does not have.
fn beyond_the_table(_: &[String]) -> Verdict {
    escaped_if((470..1000).any(|number| call(number, [0; 6]) != Err(libc::ENOSYS)))
}

/// What only an administrator should do.
fn dangerous(_: &[String]) -> Verdict {
    let calls = [
        libc::SYS_bpf,
        libc::SYS_perf_event_open,
        libc::SYS_userfaultfd,
        libc::SYS_keyctl,
        libc::SYS_add_key,
        libc::SYS_request_key,
        libc::SYS_kexec_load,
        libc::SYS_init_module,
        libc::SYS_finit_module,
        libc::SYS_delete_module,
        libc::SYS_swapon,
        libc::SYS_acct,
        libc::SYS_quotactl,
        libc::SYS_fanotify_init,
        libc::SYS_open_by_handle_at,
        libc::SYS_memfd_secret,
        libc::SYS_vhangup,
        libc::SYS_syslog,
    ];
    let refused = [libc::ENOSYS, libc::EPERM, libc::EACCES];
    let through = calls.iter().find(|number| !call(**number, [0; 6]).is_err_and(|errno| refused.contains(&errno)));
    if let Some(number) = through {
        eprintln!("syscall {number} went through");
    }
    escaped_if(through.is_some())
}

/// Garfinkel 2003, Watson 2007: the name changes while it is judged. `flip-create FREE PROTECTED TRIES`, names of equal
/// length: a second thread writes one over the other while the first creates files by that name.
fn flip_create(arguments: &[String]) -> Verdict {
    let (free, protected) = (arguments[0].as_bytes(), arguments[1].as_bytes());
    let tries: u64 = arguments[2].parse().expect("a number");
    assert_eq!(free.len(), protected.len());
    let mut name = [free, b"\0"].concat();
    let shared = name.as_mut_ptr() as usize;
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut turn = false;
            while !stop.load(Ordering::Relaxed) {
                let from = if turn { free } else { protected };
                turn = !turn;
                for (at, byte) in from.iter().enumerate() {
                    // SAFETY: within the buffer, which outlives the scope; the race with the kernel's reads is the point.
                    unsafe { std::ptr::write_volatile((shared as *mut u8).add(at), *byte) };
                }
            }
        });
        let flags = (libc::O_CREAT | libc::O_WRONLY) as u64;
        let mut verdict = Contained;
        for _ in 0..tries {
            if let Ok(fd) = call(libc::SYS_openat, [libc::AT_FDCWD as u64, shared as u64, flags, 0o644, 0, 0]) {
                let _ = call(libc::SYS_close, [fd as u64, 0, 0, 0, 0, 0]);
            }
            if std::fs::symlink_metadata(&arguments[1]).is_ok() {
                verdict = Escaped;
                break;
            }
        }
        stop.store(true, Ordering::Relaxed);
        verdict
    })
}

/// CVE-2026-25725, renameat2 EXCHANGE, and ancestors: every way to make `DIR/.git/hooks/x`, which must not come to be.
fn names(arguments: &[String]) -> Verdict {
    type Attempt<'a> = (&'a str, Box<dyn Fn() + 'a>);
    let directory = std::path::Path::new(&arguments[0]);
    let target = directory.join(".git/hooks/x");
    let (target_c, other) = (c(target.to_str().expect("UTF-8")), directory.join("other"));
    std::fs::write(&other, "x").expect("the grant is writable");
    let other_c = c(other.to_str().expect("UTF-8"));
    let at = libc::AT_FDCWD as u64;
    let (target_p, other_p) = (target_c.as_ptr() as u64, other_c.as_ptr() as u64);
    let exists = || std::fs::symlink_metadata(&target).is_ok();
    let attempts: Vec<Attempt> = vec![
        ("open", Box::new(|| drop(std::fs::write(&target, "x")))),
        ("mkdir", Box::new(|| drop(std::fs::create_dir(&target)))),
        ("rename", Box::new(|| drop(std::fs::rename(&other, &target)))),
        ("link", Box::new(|| drop(std::fs::hard_link(&other, &target)))),
        ("symlink", Box::new(|| drop(std::os::unix::fs::symlink("/etc", &target)))),
        (
            "mknod",
            Box::new(|| ignore(call(libc::SYS_mknodat, [at, target_p, u64::from(libc::S_IFIFO | 0o644), 0, 0, 0]))),
        ),
        ("exchange", Box::new(|| ignore(call(libc::SYS_renameat2, [at, other_p, at, target_p, 2, 0])))),
        ("no replace", Box::new(|| ignore(call(libc::SYS_renameat2, [at, other_p, at, target_p, 1, 0])))),
        ("bind", Box::new(|| drop(std::os::unix::net::UnixListener::bind(&target)))),
        (
            "openat2",
            Box::new(|| {
                let how = [(libc::O_CREAT | libc::O_WRONLY) as u64, 0o644, 0];
                let _ = call(libc::SYS_openat2, [at, target_p, how.as_ptr() as u64, 24, 0, 0]);
            }),
        ),
        (
            "moving .git away and back",
            Box::new(|| {
                let away = directory.join("away");
                if std::fs::rename(directory.join(".git"), &away).is_ok() {
                    let _ = std::fs::write(away.join("hooks/x"), "x");
                    let _ = std::fs::rename(&away, directory.join(".git"));
                }
            }),
        ),
        (
            "moving another directory there",
            Box::new(|| {
                let made = directory.join("made");
                let _ = std::fs::create_dir_all(made.join("hooks"));
                let _ = std::fs::write(made.join("hooks/x"), "x");
                let _ = std::fs::rename(directory.join(".git"), directory.join("old"));
                let _ = std::fs::rename(&made, directory.join(".git"));
            }),
        ),
        (
            "a link for a parent",
            Box::new(|| {
                let _ = std::fs::remove_dir_all(directory.join(".git/hooks"));
                let made = directory.join("elsewhere");
                let _ = std::fs::create_dir_all(&made);
                let _ = std::fs::write(made.join("x"), "x");
                let _ = std::os::unix::fs::symlink(&made, directory.join(".git/hooks"));
            }),
        ),
    ];
    for (name, attempt) in attempts {
        attempt();
        if exists() {
            eprintln!("{name} made {}", target.display());
            return Escaped;
        }
        if !other.exists() {
            let _ = std::fs::write(&other, "x");
        }
    }
    Contained
}

fn change_root(to: &std::ffi::CStr) -> bool {
    call(libc::SYS_chroot, [to.as_ptr() as u64, 0, 0, 0, 0, 0]).is_ok()
}

/// Another root.
fn chroot(_: &[String]) -> Verdict {
    escaped_if(change_root(c"/"))
}

/// The ways out of a changed root: up from a directory that was open before, and from beside a nested one. Where they end
/// must be the root of the view. `roots SECRET`, a path of the host.
fn roots(arguments: &[String]) -> Verdict {
    use std::os::fd::AsRawFd;
    let seen = |path: &str| std::fs::read_to_string(path).is_ok_and(|text| text.contains("TOKEN"));
    let secret = &arguments[0];
    std::fs::create_dir_all("/tmp/jail/inner").expect("a private /tmp");
    let outside = std::fs::File::open("/").expect("the root");
    let up = || {
        for _ in 0..100 {
            let _ = std::env::set_current_dir("..");
        }
    };
    // Into a root, and up from a directory that lies outside of it.
    let entered = change_root(c"/tmp/jail");
    ignore(call(libc::SYS_fchdir, [outside.as_raw_fd() as u64, 0, 0, 0, 0, 0]));
    up();
    let mut escaped = seen(secret) || seen(secret.trim_start_matches('/'));
    ignore(call(libc::SYS_chroot, [c".".as_ptr() as u64, 0, 0, 0, 0, 0]));
    escaped |= seen(secret) || seen(&format!("/../../..{secret}"));
    // Into a root within a root, staying outside of it.
    let nested = change_root(c"/tmp/jail") && change_root(c"/inner");
    up();
    ignore(call(libc::SYS_chroot, [c".".as_ptr() as u64, 0, 0, 0, 0, 0]));
    escaped |= seen(secret) || seen(secret.trim_start_matches('/'));
    if !entered || !nested {
        return NotApplicable;
    }
    escaped_if(escaped)
}

/// Roots change while paths are walked. `roots-raced SECRET TRIES`
fn roots_raced(arguments: &[String]) -> Verdict {
    use std::os::fd::AsRawFd;
    let secret = &arguments[0];
    let tries: u64 = arguments[1].parse().expect("a number");
    std::fs::create_dir_all("/tmp/jail/a").expect("a private /tmp");
    let outside = std::fs::File::open("/").expect("the root");
    let stop = AtomicBool::new(false);
    let mut won = 0;
    let changed = std::sync::atomic::AtomicU64::new(0);
    // However little one of the threads may run: both do so often.
    let enough = |tried| tried >= tries && changed.load(Ordering::Relaxed) >= tries / 10;
    let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
    // Threads share root and working directory.
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                changed.fetch_add(u64::from(change_root(c"/tmp/jail")), Ordering::Relaxed);
                ignore(call(libc::SYS_fchdir, [outside.as_raw_fd() as u64, 0, 0, 0, 0, 0]));
                changed.fetch_add(u64::from(change_root(c".")), Ordering::Relaxed);
            }
        });
        let mut tried = 0;
        while !enough(tried) && std::time::Instant::now() < end {
            tried += 1;
            for path in [secret.as_str(), &format!("/a/../../..{secret}"), &format!("../../../..{secret}")] {
                won += u64::from(std::fs::read_to_string(path).is_ok_and(|text| text.contains("TOKEN")));
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    if changed.load(Ordering::Relaxed) < tries / 10 {
        return NotApplicable;
    }
    escaped_if(won > 0)
}
