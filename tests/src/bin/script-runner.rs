//! Runs scripts (see `sentry_tests::script`): `script-runner` reads one after another from its standard input, each ended
//! by an empty line, and answers each with what came of it, also ended by an empty line.
//!
//! Every script is run by a process of its own in a fresh directory far below the working directory, so that `..` leads
//! nowhere. `ro` and `small` in the working directory, if they are there, are a read-only and a small file system; scripts
//! reach them as `$ro` and `$small`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use sentry_tests::script::{Arg, Script, Step};

/// How far below the working directory scripts run.
const DEPTH: usize = 48;
/// Where the kernel writes.
const BUFFER: usize = 70_000;
/// A script that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(3);

fn main() {
    // The channel moves out of the way: scripts may look at the first descriptors.
    let (input, mut output) = (move_up(0), move_up(1));
    // SAFETY: nothing else is open here that anybody owns.
    unsafe {
        libc::close_range(3, 199, 0);
        libc::close_range(202, u32::MAX, 0);
    }
    let base = std::env::current_dir().expect("a working directory");
    let mut lines = BufReader::new(input).lines();
    let mut text = String::new();
    while let Some(Ok(line)) = lines.next() {
        if !line.is_empty() {
            text.push_str(&line);
            text.push('\n');
            continue;
        }
        let answer = match text.parse::<Script>() {
            Ok(script) => apart(&base, &script),
            Err(error) => format!("not a script: {}\n", error.0),
        };
        text.clear();
        if output.write_all(format!("{answer}\n").as_bytes()).is_err() {
            return;
        }
    }
}

fn move_up(fd: i32) -> fs::File {
    // SAFETY: plain calls on descriptors of this process; the new one is owned by nobody else.
    unsafe {
        let moved = libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 200);
        let null = libc::open(c"/dev/null".as_ptr(), libc::O_RDWR);
        libc::dup2(null, fd);
        libc::close(null);
        fs::File::from(OwnedFd::from_raw_fd(moved))
    }
}

/// Runs a script in a child.
fn apart(base: &Path, script: &Script) -> String {
    let mut pipe = [0; 2];
    // SAFETY: the kernel fills two descriptors, which are owned by nobody else.
    let (mut reader, writer) = unsafe {
        assert_eq!(libc::pipe2(pipe.as_mut_ptr(), libc::O_CLOEXEC), 0);
        (fs::File::from_raw_fd(pipe[0]), fs::File::from_raw_fd(pipe[1]))
    };
    // SAFETY: this process has one thread.
    let child = unsafe { libc::fork() };
    if child == 0 {
        drop(reader);
        // Out of the way, at the same number in every world.
        // SAFETY: as in `move_up`.
        let mut writer = unsafe { fs::File::from_raw_fd(libc::fcntl(writer.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 210)) };
        let answer = in_place(base, script);
        let _ = writer.write_all(answer.as_bytes());
        std::process::exit(0);
    }
    drop(writer);
    let mut answer = String::new();
    let (done, ended) = mpsc::channel::<()>();
    let watch = std::thread::spawn(move || {
        if ended.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout) {
            // SAFETY: the child is not reaped before this thread has ended.
            unsafe { libc::kill(child, libc::SIGKILL) };
        }
    });
    let _ = reader.read_to_string(&mut answer);
    drop(done);
    let _ = watch.join();
    let mut status = 0;
    // SAFETY: waits for the child.
    unsafe { libc::waitpid(child, &raw mut status, 0) };
    if status != 0 {
        let _ = writeln!(answer, "ended with status {status:#x}");
    }
    clean_below(&base.join("t"));
    clean_inside(&base.join("small"));
    answer
}

/// Removes what scripts left, but keeps the way down to where they run.
fn clean_below(way: &Path) {
    for entry in fs::read_dir(way).into_iter().flatten().flatten() {
        let is_way = entry.file_name() == "q" && entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_way { clean_below(&entry.path()) } else { clean(&entry.path()) }
    }
}

fn clean_inside(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        clean(&entry.path());
    }
}

/// Removes a tree, whatever its permissions.
fn clean(path: &Path) {
    let Ok(metadata) = fs::symlink_metadata(path) else { return };
    if metadata.is_dir() {
        let _ = fs::set_permissions(path, fs::Permissions::from_mode(0o700));
        clean_inside(path);
        let _ = fs::remove_dir(path);
    } else {
        let _ = fs::remove_file(path);
    }
}

/// The tree that every script finds.
fn plant(root: &Path) -> std::io::Result<()> {
    let mode = |name: &str, mode: u32| fs::set_permissions(root.join(name), fs::Permissions::from_mode(mode));
    for name in ["d/e", "nd", "nx", "no", "t", "empty"] {
        fs::create_dir_all(root.join(name))?;
    }
    for (name, text) in [
        ("d/f", "hello"),
        ("d/e/g", ""),
        ("f", "content"),
        ("x", "#!/bin/sh\n"),
        ("n", "secret"),
        ("w", "w"),
        ("r", "r"),
        ("nd/f", "in nd"),
        ("nx/f", "in nx"),
        ("no/f", "in no"),
        ("t/f", "in t"),
    ] {
        fs::write(root.join(name), text)?;
    }
    fs::write(root.join("N".repeat(255)), "long")?;
    for (name, bits) in [("x", 0o755), ("n", 0), ("w", 0o200), ("r", 0o444), ("t", 0o1777)] {
        mode(name, bits)?;
    }
    fs::hard_link(root.join("f"), root.join("h"))?;
    for (name, target) in [
        ("lf", "f"),
        ("ld", "d"),
        ("lde", "ld/e"),
        ("dang", "nowhere"),
        ("ddang", "d/nowhere"),
        ("loop", "loop"),
        ("l1", "l2"),
        ("l2", "l1"),
        ("up", ".."),
        ("ls", "f/"),
        ("lds", "d/"),
        ("ln", "nowhere/"),
        ("dot", "."),
        ("proc", "/proc/self"),
        ("fds", "/proc/self/fd"),
        ("cwd", "/proc/self/cwd"),
        ("null", "/dev/null"),
        ("d/back", "../f"),
        ("t/l", "../f"),
        ("lnd", "nd/f"),
        ("fd0", "/proc/self/fd/0"),
    ] {
        symlink(target, root.join(name))?;
    }
    symlink(root.join("d"), root.join("abs"))?;
    symlink("f", root.join("c0"))?;
    for number in 1..42 {
        symlink(format!("c{}", number - 1), root.join(format!("c{number}")))?;
    }
    for (name, bits) in [("nd", 0), ("nx", 0o600), ("no", 0o500)] {
        mode(name, bits)?;
    }
    Ok(())
}

/// Runs a script in this process.
fn in_place(base: &Path, script: &Script) -> String {
    let mut root = base.join("t");
    for _ in 0..DEPTH {
        root.push("q");
    }
    root.push("w");
    if let Err(error) =
        fs::create_dir_all(&root).and_then(|()| plant(&root)).and_then(|()| std::env::set_current_dir(&root))
    {
        return format!("cannot plant: {error}\n");
    }
    // SAFETY: sets this process's mask.
    unsafe { libc::umask(0o022) };
    let mut threads: Vec<Thread> = Vec::new();
    let mut own = World::new(base, &root);
    let mut answer = String::new();
    for step in &script.0 {
        let result = if step.thread == 0 {
            own.perform(step)
        } else {
            let index = threads.iter().position(|thread| thread.kind == step.thread).unwrap_or_else(|| {
                threads.push(Thread::start(step.thread, own.clone()));
                threads.len() - 1
            });
            threads[index].perform(step, &mut own)
        };
        let _ = writeln!(answer, "{}: {result}", step.call);
    }
    drop(threads);
    let mut tree = BTreeMap::new();
    note(&root, &root, &mut tree);
    for above in root.ancestors().skip(1).take(DEPTH + 1) {
        for entry in fs::read_dir(above).into_iter().flatten().flatten().filter(|entry| entry.file_name() != "q") {
            if entry.path() != root {
                note(&entry.path(), &root, &mut tree);
            }
        }
    }
    note(&base.join("small"), &base.join("small"), &mut tree);
    for (path, what) in tree {
        let _ = writeln!(answer, "{path} {what}");
    }
    answer.replace(&*root.to_string_lossy(), "$").replace(&*base.to_string_lossy(), "(base)")
}

/// Notes a tree. What may not be looked into is opened up after it was noted.
fn note(path: &Path, root: &Path, tree: &mut BTreeMap<String, String>) {
    let Ok(metadata) = fs::symlink_metadata(path) else { return };
    let above = || path.ancestors().nth(1).map_or(0, |above| above.components().count());
    let name = path.strip_prefix(root).map_or_else(
        |_| format!("{}/{}", above(), path.file_name().unwrap_or_default().display()),
        |path| path.display().to_string(),
    );
    let kind = metadata.file_type();
    let mut what = format!("{:o} {} {}", metadata.mode(), metadata.nlink(), owner(metadata.uid(), metadata.gid()));
    if metadata.mtime() < 1_000_000_000 {
        let _ = write!(what, " time {}.{}", metadata.mtime(), metadata.mtime_nsec());
    }
    if kind.is_symlink() {
        let _ = write!(what, " -> {}", fs::read_link(path).unwrap_or_default().display());
    } else if kind.is_dir() {
        let _ = fs::set_permissions(path, fs::Permissions::from_mode(0o700));
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            note(&entry.path(), root, tree);
        }
    } else if kind.is_file() {
        let _ = fs::set_permissions(path, fs::Permissions::from_mode(0o600));
        let start = fs::File::open(path).map(|file| {
            let mut bytes = Vec::new();
            let _ = file.take(100).read_to_end(&mut bytes);
            bytes
        });
        let _ = write!(what, " {} {:?}", metadata.len(), String::from_utf8_lossy(&start.unwrap_or_default()));
    } else if kind.is_fifo() || kind.is_socket() {
        what.push_str(" special");
    }
    tree.insert(name, what);
}

/// What a thread's calls share.
#[derive(Clone)]
struct World {
    base: PathBuf,
    root: PathBuf,
    slots: Vec<i32>,
}

/// A thread with a working directory of its own.
struct Thread {
    kind: usize,
    steps: mpsc::Sender<(Step, World)>,
    results: mpsc::Receiver<(String, World)>,
}

impl Thread {
    fn start(kind: usize, world: World) -> Self {
        let (steps, to_do) = mpsc::channel::<(Step, World)>();
        let (done, results) = mpsc::channel();
        std::thread::spawn(move || {
            let apart = libc::CLONE_FS | if kind == 2 { libc::CLONE_FILES } else { 0 };
            // SAFETY: concerns this thread only.
            let result = unsafe { libc::unshare(apart) };
            assert_eq!(result, 0);
            // The descriptors of this thread are its own.
            let mut own = world;
            while let Ok((step, mut world)) = to_do.recv() {
                if kind == 2 {
                    world.slots.clone_from(&own.slots);
                }
                let result = world.perform(&step);
                if kind == 2 {
                    own.slots.clone_from(&world.slots);
                }
                if done.send((result, world)).is_err() {
                    return;
                }
            }
        });
        Self { kind, steps, results }
    }

    fn perform(&self, step: &Step, world: &mut World) -> String {
        let _ = self.steps.send((step.clone(), world.clone()));
        match self.results.recv() {
            Ok((result, after)) => {
                if self.kind != 2 {
                    *world = after;
                }
                result
            }
            Err(_) => "the thread died".into(),
        }
    }
}

/// Memory that the kernel reads for one call.
#[derive(Default)]
struct Arena(Vec<Box<[u8]>>);

impl Arena {
    fn put(&mut self, bytes: &[u8]) -> u64 {
        self.0.push(bytes.into());
        self.0.last().map_or(0, |bytes| bytes.as_ptr() as u64)
    }
}

fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

impl World {
    fn new(base: &Path, root: &Path) -> Self {
        Self { base: base.to_owned(), root: root.to_owned(), slots: Vec::new() }
    }

    fn slot(&self, number: usize) -> i32 {
        self.slots.get(number).copied().unwrap_or(77)
    }

    /// A path with what stands for something put in its place.
    fn path(&self, path: &str) -> Vec<u8> {
        let mut path = path.to_owned();
        for (number, fd) in self.slots.iter().enumerate() {
            path = path.replace(&format!("%{number}"), &fd.to_string());
        }
        path = path.replace('%', "7").replace("root$", &format!("root{}", self.root.display()));
        let begins = |name: &str| path == name || path.starts_with(&format!("{name}/"));
        let whole = if begins("$ro") || begins("$small") {
            format!("{}/{}", self.base.display(), &path[1..])
        } else if let Some(rest) = path.strip_prefix('$') {
            format!("{}{rest}", self.root.display())
        } else {
            path
        };
        whole.into_bytes()
    }

    fn register(&self, arg: &Arg, arena: &mut Arena, buffer: u64) -> u64 {
        // SAFETY: asks for ids.
        let user = unsafe { libc::getuid() };
        match arg {
            Arg::Number(number) => *number,
            Arg::Cwd => i64::from(libc::AT_FDCWD).cast_unsigned(),
            Arg::Slot(number) => i64::from(self.slot(*number)).cast_unsigned(),
            Arg::Path(path) => arena.put(&[self.path(path), vec![0]].concat()),
            Arg::Null => 0,
            Arg::Bad => 8,
            Arg::Out => buffer,
            Arg::How(how) => arena.put(&words(how)),
            Arg::Times(times) => arena.put(&words(&times.map(i64::cast_unsigned))),
            Arg::Bytes(text) => arena.put(&[text.as_bytes(), &[0]].concat()),
            Arg::Attribute([size, flags]) => arena.put(&words(&[buffer, u64::from(*size) | u64::from(*flags) << 32])),
            Arg::List(id) => {
                let id = u32::try_from(*id).unwrap_or(user);
                let entries = [(1, 6, u32::MAX), (2, 5, id), (4, 4, u32::MAX), (16, 7, u32::MAX), (32, 4, u32::MAX)];
                let mut bytes = 2_u32.to_ne_bytes().to_vec();
                for (tag, bits, id) in entries {
                    bytes.extend([u16::to_ne_bytes(tag), u16::to_ne_bytes(bits)].concat());
                    bytes.extend(id.to_ne_bytes());
                }
                arena.put(&bytes)
            }
            Arg::Own => user.into(),
        }
    }

    /// Makes the call and tells what came of it.
    fn perform(&mut self, step: &Step) -> String {
        if step.call.ends_with("-path") {
            return self.socket(step);
        }
        let Some(number) = syscalls::abi::Arch::native().number(&step.call) else { return "absent".into() };
        let mut buffer = vec![0_u8; BUFFER];
        let mut arena = Arena::default();
        let mut registers = [0; 6];
        for (register, arg) in registers.iter_mut().zip(&step.args) {
            *register = self.register(arg, &mut arena, buffer.as_mut_ptr() as u64);
        }
        let [a, b, c, d, e, f] = registers;
        // SAFETY: pointers lead into the arena or the buffer, or nowhere on purpose; sizes that scripts give fit the buffer.
        let result = unsafe { libc::syscall(number as libc::c_long, a, b, c, d, e, f) };
        if result < 0 {
            return errno();
        }
        self.describe(&step.call, result, &buffer)
    }

    fn describe(&mut self, call: &str, result: i64, buffer: &[u8]) -> String {
        let length = usize::try_from(result).unwrap_or(0).min(buffer.len());
        match call {
            "open" | "openat" | "openat2" | "creat" => {
                let fd = i32::try_from(result).unwrap_or(-1);
                self.slots.push(fd);
                // SAFETY: asks about a descriptor.
                let (flags, close) = unsafe { (libc::fcntl(fd, libc::F_GETFL), libc::fcntl(fd, libc::F_GETFD)) };
                // A limit that `open` tells of.
                format!("fd {fd} {:#x} {close}", flags & !libc::O_NOFOLLOW)
            }
            "stat" | "lstat" | "newfstatat" | "fstat" => {
                // SAFETY: the buffer is longer than the structure, for which any bytes are valid.
                let stat: libc::stat = unsafe { std::ptr::read_unaligned(buffer.as_ptr().cast()) };
                let libc::stat { st_mode, mut st_nlink, st_uid, st_gid, st_size, st_rdev, .. } = stat;
                // The root of procfs has one for each process.
                if stat.st_ino == 1 && st_size == 0 {
                    st_nlink = 0;
                }
                format!("{st_mode:o} {st_nlink} {} {st_size} {st_rdev}", owner(st_uid, st_gid))
            }
            "statx" => {
                // SAFETY: as above.
                let stat: libc::statx = unsafe { std::ptr::read_unaligned(buffer.as_ptr().cast()) };
                let libc::statx { stx_mask, stx_mode, mut stx_nlink, stx_uid, stx_gid, stx_size, .. } = stat;
                if stat.stx_ino == 1 && stx_size == 0 {
                    stx_nlink = 0;
                }
                format!("{stx_mask:x} {stx_mode:o} {stx_nlink} {} {stx_size}", owner(stx_uid, stx_gid))
            }
            "statfs" => {
                // SAFETY: as above.
                let stat: libc::statfs = unsafe { std::ptr::read_unaligned(buffer.as_ptr().cast()) };
                format!("{:x} {}", stat.f_type, stat.f_namelen)
            }
            "readlink" | "readlinkat" => {
                let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
                // Each world has namespaces of its own: `mnt:[4026531832]`.
                let text = text.split_once(":[40").map_or(text.clone(), |(kind, _)| format!("{kind}:[]"));
                // SAFETY: asks for ids.
                let (process, thread) = unsafe { (libc::getpid(), libc::gettid()) };
                let this = [("itself", process.to_string()), ("this thread", format!("{process}/task/{thread}"))];
                this.into_iter().find(|(_, own)| *own == text).map_or(text, |(name, _)| name.to_owned())
            }
            "getcwd" => {
                String::from_utf8_lossy(buffer.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
            }
            "getxattr" | "lgetxattr" | "fgetxattr" | "getxattrat" => {
                format!("{result} {:?}", &buffer[..length.min(200)])
            }
            "listxattr" | "llistxattr" | "listxattrat" => {
                let mut names: Vec<_> =
                    buffer[..length].split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
                names.sort_unstable();
                format!("{result} {names:?}")
            }
            "getdents64" => {
                let mut names = Vec::new();
                let mut rest = &buffer[..length];
                while rest.len() > 19 {
                    let size = usize::from(u16::from_ne_bytes([rest[16], rest[17]]));
                    let name = rest[19..].split(|byte| *byte == 0).next().unwrap_or_default();
                    names.push(format!("{}/{}", String::from_utf8_lossy(name), rest[18]));
                    rest = &rest[size..];
                }
                names.sort_unstable();
                format!("{names:?}")
            }
            _ => result.to_string(),
        }
    }

    /// `bind-path` and `connect-path`: about a new socket.
    fn socket(&mut self, step: &Step) -> String {
        let Some(Arg::Path(path)) = step.args.first() else { return "no path".into() };
        let path = self.path(path);
        let mut address = 1_u16.to_ne_bytes().to_vec();
        address.extend(&path);
        address.truncate(2 + 108);
        // SAFETY: the address is as long as is said.
        let result = unsafe {
            let socket = libc::socket(libc::AF_UNIX, libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC, 0);
            let length = libc::socklen_t::try_from(address.len()).unwrap_or(0);
            let act = if step.call == "bind-path" { libc::bind } else { libc::connect };
            let result = act(socket, address.as_ptr().cast(), length);
            let result = if result < 0 { Err(errno()) } else { Ok(()) };
            if step.call == "bind-path" && result.is_ok() {
                libc::listen(socket, 5);
                self.slots.push(socket);
            } else {
                libc::close(socket);
            }
            result
        };
        result.map_or_else(|errno| errno, |()| "done".into())
    }
}

/// Owners that are not the caller are one in a sandbox, where they have no ids.
fn owner(user: u32, group: u32) -> &'static str {
    // SAFETY: asks for ids.
    let (own_user, own_group) = unsafe { (libc::getuid(), libc::getgid()) };
    match (user == own_user, group == own_group) {
        (true, true) => "own",
        (true, false) => "own, of another group",
        (false, true) => "of the own group",
        (false, false) => "another's",
    }
}

fn errno() -> String {
    let errno = nix::errno::Errno::last();
    format!("{errno:?}")
}
