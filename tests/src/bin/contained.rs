//! A container as small as can be, supervised as every other: for tests of the supervision alone, without a runtime.
//!
//! `contained [--continue] [--pid] [--ids] [--directory DIR] [--annotation KEY=VALUE].. PROGRAM ARGUMENT..`: the program is
//! root, with every capability, in namespaces of its own, with the host's system directories read-only below a root in
//! memory. With `--continue` whoever supervises it answers CONTINUE to everything; with `--ids` it has the user's range of
//! ids; with `--pid` the keeper's number is printed first.

#![allow(clippy::print_stdout)] // a test reads it

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::Mode;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, chdir, execve, getgid, getuid, pipe, pivot_root, read, sethostname, write};
use sentry::agent::policy::ContainerPolicy;
use sentry::agent::{Container, keeper};
use sentry_tests::listener::AlwaysContinue;
use shim::keeper::{Place, announce, hand_over};
use shim::sys;

const NONE: Option<&str> = None;

struct Wanted {
    continues: bool,
    tells: bool,
    ids: bool,
    directory: PathBuf,
    annotations: BTreeMap<String, String>,
    command: Vec<CString>,
}

fn wanted() -> Wanted {
    let mut wanted = Wanted {
        continues: false,
        tells: false,
        ids: false,
        directory: std::env::temp_dir(),
        annotations: BTreeMap::new(),
        command: Vec::new(),
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--continue" => wanted.continues = true,
            "--pid" => wanted.tells = true,
            "--ids" => wanted.ids = true,
            "--directory" => wanted.directory = arguments.next().expect("a directory").into(),
            "--annotation" => {
                let pair = arguments.next().expect("an annotation");
                let (key, value) = pair.split_once('=').expect("KEY=VALUE");
                wanted.annotations.insert(key.to_owned(), value.to_owned());
            }
            _ => {
                let words = [argument].into_iter().chain(arguments.by_ref());
                wanted.command = words.map(|word| CString::new(word).expect("no NUL")).collect();
            }
        }
    }
    wanted
}

fn main() -> ExitCode {
    let wanted = wanted();
    let policy = match ContainerPolicy::decide(&wanted.annotations) {
        Ok(policy) => policy,
        Err(failure) => {
            eprintln!("{failure}");
            return ExitCode::from(125);
        }
    };
    let container = Container {
        id: "small".into(),
        name: Some("the small one".into()),
        annotations: wanted.annotations.clone(),
        own_name: true,
        memory: Some(64 << 20),
        ..Container::default()
    };
    let socket = wanted.directory.join("keeper.sock");
    let start = if wanted.continues { keeper::start_with::<AlwaysContinue> } else { keeper::start };
    let keeper = start(&container, &policy, &socket).expect("a keeper");
    if wanted.tells {
        println!("{}", keeper.pid);
    }
    let (ids, (mapped, map_done)) = ((getuid(), getgid()), pipe().expect("a pipe"));
    let flags = libc::CLONE_NEWUSER
        | libc::CLONE_NEWNS
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWNET;
    let Some(pid) = sys::clone(flags).expect("namespaces") else {
        drop(map_done);
        read(&mapped, &mut [0]).expect("the id maps");
        build();
        let channel = keeper.channel.as_fd();
        enter(&container, &policy, channel);
        drop(keeper);
        let environment = [c"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", c"LC_ALL=C.UTF-8"];
        let errno = execve(&wanted.command[0], &wanted.command, &environment).expect_err("it returned");
        eprintln!("{}: {errno}", wanted.command[0].to_string_lossy());
        sys::exit_now(127)
    };
    let process = Path::new("/proc").join(pid.to_string());
    if wanted.ids {
        map_range("newuidmap", pid, ids.0.as_raw(), "/etc/subuid");
        map_range("newgidmap", pid, ids.1.as_raw(), "/etc/subgid");
    } else {
        fs::write(process.join("setgroups"), "deny").expect("setgroups");
        fs::write(process.join("uid_map"), format!("0 {} 1", ids.0)).expect("uid_map");
        fs::write(process.join("gid_map"), format!("0 {} 1", ids.1)).expect("gid_map");
    }
    write(&map_done, b"m").expect("the pipe");
    drop(keeper.channel);
    let status = waitpid(Pid::from_raw(pid), None).expect("init");
    let _ = waitpid(keeper.pid, None);
    match status {
        WaitStatus::Exited(_, code) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        WaitStatus::Signaled(_, signal, _) => ExitCode::from(128 + u8::try_from(signal as i32).unwrap_or(0)),
        _ => ExitCode::from(125),
    }
}

/// Has the user's own range of ids mapped behind root.
fn map_range(program: &str, pid: i32, own: u32, file: &str) {
    let text = fs::read_to_string(file).expect(file);
    let user = std::env::var("USER").expect("USER");
    let line = text.lines().find_map(|line| line.strip_prefix(&user)?.strip_prefix(':')).expect("a range");
    let (first, count) = line.split_once(':').expect("FIRST:COUNT");
    let numbers = [pid.to_string(), "0".into(), own.to_string(), "1".into(), "1".into(), first.into(), count.into()];
    assert!(std::process::Command::new(program).args(numbers).status().expect(program).success());
}

/// Makes the container's tree.
fn build() {
    let private = MsFlags::MS_PRIVATE | MsFlags::MS_REC;
    mount(NONE, "/", NONE, private, NONE).expect("private mounts");
    let root = Path::new("/tmp");
    mount(Some("tmpfs"), root, Some("tmpfs"), MsFlags::empty(), NONE).expect("a root");
    let within = |name: &str| root.join(name);
    for name in ["proc", "dev", "tmp", "etc", "mnt", "old", "ro", "var"] {
        fs::create_dir(within(name)).expect(name);
    }
    for name in ["usr", "bin", "sbin", "lib", "lib64"] {
        let host = Path::new("/").join(name);
        match fs::read_link(&host) {
            Ok(target) => std::os::unix::fs::symlink(target, within(name)).expect(name),
            Err(_) if host.is_dir() => {
                fs::create_dir(within(name)).expect(name);
                show(&host, &within(name), true);
            }
            Err(_) => {}
        }
    }
    show(&within("var"), &within("ro"), true);
    mount(Some("proc"), &within("proc"), Some("proc"), MsFlags::empty(), NONE).expect("a procfs");
    for name in ["null", "zero", "full", "random", "urandom", "tty"] {
        let at = within("dev").join(name);
        fs::write(&at, "").expect(name);
        show(&Path::new("/dev").join(name), &at, false);
    }
    // Covered, as runtimes cover it.
    show(&within("dev/null"), &within("proc/timer_list"), false);
    pivot_root(root, &within("old")).expect("pivot_root");
    chdir("/").expect("chdir");
    umount2("/old", MntFlags::MNT_DETACH).expect("the old root");
    sethostname("small").expect("a name");
}

fn show(from: &Path, at: &Path, read_only: bool) {
    mount(Some(from), at, NONE, MsFlags::MS_BIND | MsFlags::MS_REC, NONE)
        .unwrap_or_else(|errno| panic!("{errno} {at:?}"));
    if read_only {
        let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        // What the host has restricted must stay so.
        for more in [MsFlags::empty(), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, MsFlags::MS_NODEV] {
            if mount(NONE, at, NONE, flags | more, NONE).is_ok() {
                return;
            }
        }
        panic!("{} cannot be made read-only", at.display());
    }
}

/// Comes under supervision.
fn enter(container: &Container, policy: &ContainerPolicy, channel: BorrowedFd) {
    let look = |path: &str, flags: OFlag| -> OwnedFd {
        open(path, flags | OFlag::O_CLOEXEC, Mode::empty()).unwrap_or_else(|errno: Errno| panic!("{path}: {errno}"))
    };
    let users = look("/proc/self/ns/user", OFlag::O_RDONLY);
    let mounts = look("/proc/self/ns/mnt", OFlag::O_RDONLY);
    let root = look("/", OFlag::O_PATH | OFlag::O_DIRECTORY);
    let init = sys::open_process(std::process::id().cast_signed()).expect("a pidfd");
    let place = Place { users: users.as_fd(), mounts: mounts.as_fd(), root: root.as_fd(), init: init.as_fd() };
    announce(channel, &place).expect("announced");
    let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | 1 << 5;
    let listener = sys::load_filter(&policy.filter(container), flags).expect("a filter").expect("a listener");
    if let Err(failure) = hand_over(channel, listener) {
        eprintln!("{failure}");
        sys::exit_now(125);
    }
}
