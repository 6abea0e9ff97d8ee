use std::fs;
use std::os::unix::fs::symlink;

use super::*;
use crate::args::PathPtr;
use crate::fake::FakeGuest;
use crate::file::trial::{CWD, DONE, Trial, contents, verdict};
use crate::table::Feature::{PathCalls, ProtectedNames, TracePaths};

const CREATE: u64 = (libc::O_CREAT | libc::O_WRONLY) as u64;
const EXCLUSIVE: u64 = (libc::O_CREAT | libc::O_EXCL | libc::O_WRONLY) as u64;

fn create(trial: &Trial, path: &str) -> Errno {
    trial.errno("openat", &[CWD, trial.path(path), CREATE, 0o644])
}

#[test]
fn set_id_files_are_refused_and_plain_opens_are_not() {
    let rubbish = 0xffff_ffff_0000_0000;
    for features in [&[][..], &[ProtectedNames], &[TracePaths]] {
        for flags in [CREATE, TEMPORARY, CREATE | rubbish] {
            for mode in [0o4755, 0o2755, 0o6000, 0o4755 | rubbish] {
                assert_eq!(verdict("open", features, &[1, flags, mode]), Fail(Errno::EPERM));
                assert_eq!(verdict("openat", features, &[CWD, 1, flags, mode]), Fail(Errno::EPERM));
            }
        }
    }
    assert_eq!(verdict("creat", &[], &[1, 0o4755]), Fail(Errno::EPERM));
    assert_eq!(verdict("creat", &[ProtectedNames], &[1, 0o4755]), Fail(Errno::EPERM));
    assert_eq!(verdict("open", &[], &[1, 0, 0o6755]), Allow, "without O_CREAT the mode means nothing");
    assert_eq!(verdict("openat", &[ProtectedNames], &[CWD, 1, 0, u64::MAX]), Allow);
    assert_eq!(verdict("openat", &[ProtectedNames], &[CWD, 1, CREATE, 0o644]), Notify);
    assert_eq!(verdict("openat", &[ProtectedNames], &[CWD, 1, CREATE | O_PATH, 0o644]), Allow);
    assert_eq!(verdict("openat", &[TracePaths], &[CWD, 1, 0, 0]), Notify);
    assert_eq!(verdict("openat", &[TracePaths], &[CWD, 1, CREATE, 0]), Allow);
    assert_eq!(TEMPORARY | libc::O_DIRECTORY as u64, libc::O_TMPFILE as u64);
    assert_eq!(CREATES, libc::O_CREAT as u64);
}

#[test]
fn files_are_created_with_the_guests_umask() {
    let mut trial = Trial::new(&["hidden"]);
    trial.guest.umask = 0o027;
    let file = trial.opened("openat", &[CWD, trial.path("a"), CREATE, 0o666]);
    assert_eq!(fstat(&file).unwrap().st_size, 0);
    assert_eq!(trial.mode("a"), 0o640);
    assert_eq!(create(&trial, "a"), DONE, "it exists now");
    assert_eq!(trial.errno("open", &[trial.path("a"), EXCLUSIVE, 0o644]), Errno::EEXIST);
    trial.write("a", "old");
    drop(trial.opened("creat", &[trial.path("a"), 0o644]));
    assert_eq!(fs::read(trial.root.join("a")).unwrap(), b"");
}

#[test]
fn close_on_exec_is_as_the_guest_asked() {
    let trial = Trial::new(&[]);
    for (flags, wanted) in [(CREATE, false), (CREATE | libc::O_CLOEXEC as u64, true)] {
        match trial.call("open", &[trial.path("a"), flags, 0o644]) {
            Ok(Reply::Inject { cloexec, .. }) => assert_eq!(cloexec, wanted),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn protected_names_stay_absent_on_every_way_to_them() {
    let trial = Trial::new(&["w/.env", "w/.git/hooks"]);
    fs::create_dir_all(trial.root.join("w/sub/.git")).unwrap();
    fs::create_dir(trial.root.join("w/.git")).unwrap();
    symlink("../w", trial.root.join("w/sub/up")).unwrap();
    symlink(".env", trial.root.join("w/innocent")).unwrap();
    symlink("innocent", trial.root.join("w/more")).unwrap();
    symlink(trial.root.join("w/.env"), trial.root.join("far")).unwrap();
    let absolute = trial.root.join("w/.env").into_os_string().into_string().unwrap();
    // This thread's own, as every trial's.
    nix::unistd::chdir(&trial.root).unwrap();
    for path in [
        "w/.env",
        "w/sub/../.env",
        "./w//.env",
        "w/innocent",
        "w/more",
        "far",
        "/proc/thread-self/cwd/w/.env",
        "w/.git/hooks",
        &absolute,
    ] {
        assert_eq!(create(&trial, path), Errno::EACCES, "{path}");
    }
    assert!(!trial.exists("w/.env") && !trial.exists("w/.git/hooks"));
    assert!(trial.denied().iter().all(|(call, what)| *call == "openat" && what.starts_with("w/.")));
    assert_eq!(trial.denied().len(), 9);
    assert_eq!(create(&trial, "w/sub/up/x"), Errno::ENOENT, "the link leads to w/sub/w, which is not there");
}

#[test]
fn neighbours_of_protected_names_are_free() {
    let trial = Trial::new(&["w/.env", "w/.git/hooks"]);
    fs::create_dir_all(trial.root.join("w/.gitignored")).unwrap();
    fs::create_dir_all(trial.root.join("w-evil")).unwrap();
    for path in ["w/.env2", "w/.en", "w-evil/.env", "w/.gitignored/hooks", "w/.git"] {
        assert_eq!(create(&trial, path), DONE, "{path}");
    }
    assert!(trial.denied().is_empty());
}

#[test]
fn links_are_followed_as_the_kernel_would() {
    let trial = Trial::new(&["hidden"]);
    trial.write("file", "text");
    symlink("file", trial.root.join("link")).unwrap();
    symlink("new", trial.root.join("dangling")).unwrap();
    symlink("loop", trial.root.join("loop")).unwrap();
    let update = (libc::O_CREAT | libc::O_RDWR) as u64;
    assert_eq!(contents(trial.opened("openat", &[CWD, trial.path("link"), update, 0o644])), "text");
    assert_eq!(create(&trial, "dangling"), DONE);
    assert!(trial.exists("new"));
    assert_eq!(create(&trial, "loop"), Errno::ELOOP);
    let no_follow = CREATE | libc::O_NOFOLLOW as u64;
    assert_eq!(trial.errno("openat", &[CWD, trial.path("link"), no_follow, 0o644]), Errno::ELOOP);
    symlink("absent", trial.root.join("dead")).unwrap();
    assert_eq!(trial.errno("openat", &[CWD, trial.path("dead"), EXCLUSIVE, 0o644]), Errno::EEXIST);
    assert!(!trial.exists("absent"));
}

/// The same calls by the kernel, in the same tree.
#[test]
fn errors_are_the_kernels_own() {
    let trial = Trial::new(&["hidden"]);
    trial.write("file", "");
    fs::create_dir(trial.root.join("dir")).unwrap();
    let root = fs::File::open(&trial.root).unwrap();
    let long = "x".repeat(300);
    for path in ["", "dir", "dir/", ".", "..", "/", "new/", "file/", "file/x", "no/x", "dir/..", &long] {
        for flags in [CREATE, EXCLUSIVE, CREATE | libc::O_DIRECTORY as u64] {
            let native = openat(
                &root,
                path,
                OFlag::from_bits_retain(i32::try_from(flags).unwrap()),
                Permissions::from_bits_truncate(0o644),
            );
            let ours = trial.errno("openat", &[CWD, trial.path(path), flags, 0o644]);
            assert_eq!(ours, native.err().unwrap_or(DONE), "{path} {flags:o}");
        }
    }
    assert_eq!(trial.errno("openat", &[CWD, 8, CREATE, 0o644]), Errno::EFAULT);
    assert_eq!(trial.errno("openat", &[77, trial.path("a"), CREATE, 0o644]), Errno::EBADF);
}

#[test]
fn objects_that_would_answer_to_the_supervisor_are_not_opened() {
    let mut trial = Trial::new(&["hidden"]);
    let (reader, writer) = nix::unistd::pipe().unwrap();
    trial.guest.files.insert(2, writer);
    trial.write("file", "text");
    trial.guest.files.insert(5, fs::File::open(trial.root.join("file")).unwrap().into());

    assert_eq!(create(&trial, "/dev/null"), DONE);
    assert_eq!(create(&trial, "/dev/tty"), Errno::ENXIO, "none of its descriptors is a terminal");
    assert_eq!(create(&trial, "/proc/self/oom_score_adj"), DONE);
    // Of somebody else's process, by its mode for everyone to read: the supervisor would be let in, the guest not.
    let other = Somebody::new();
    assert_eq!(
        trial.errno("openat", &[CWD, trial.path(format!("/proc/{}/maps", other.process())), 0, 0]),
        Errno::EACCES
    );
    drop(other);
    let mut pipe = fs::File::from(trial.opened("openat", &[CWD, trial.path("/dev/stderr"), CREATE, 0o644]));
    std::io::Write::write_all(&mut pipe, b"through").unwrap();
    drop((pipe, trial.guest.files.remove(&2)));
    assert_eq!(contents(reader), "through");
    let update = (libc::O_CREAT | libc::O_RDWR) as u64;
    assert_eq!(contents(trial.opened("openat", &[CWD, trial.path("/dev/fd/5"), update, 0])), "text");
    let own = fs::File::open(&trial.root).unwrap();
    let own = nix::fcntl::fcntl(own, nix::fcntl::FcntlArg::F_DUPFD_CLOEXEC(100)).unwrap();
    let own = trial.path(format!("/dev/fd/{own}"));
    assert_eq!(trial.errno("openat", &[CWD, own, 0, 0]), Errno::ENOENT, "not the supervisor's own");
    let socket = std::os::unix::net::UnixListener::bind(trial.root.join("socket")).unwrap();
    assert_eq!(create(&trial, "socket"), Errno::ENXIO);
    drop(socket);

    let terminal = nix::pty::openpty(None, None).unwrap();
    trial.guest.files.insert(0, terminal.slave);
    let tty = trial.opened("openat", &[CWD, trial.path("/dev/tty"), CREATE, 0]);
    assert_eq!(fstat(&tty).unwrap().st_rdev, fstat(&trial.guest.files[&0]).unwrap().st_rdev);
    drop(trial.opened("openat", &[CWD, trial.path("/dev/stdin"), update, 0]));
}

/// A process of another user: a child if these tests run as root, otherwise pid 1.
struct Somebody(Option<std::process::Child>);

impl Somebody {
    fn new() -> Self {
        use std::os::unix::process::CommandExt;
        let root = nix::unistd::geteuid().is_root();
        Self(root.then(|| std::process::Command::new("sleep").arg("60").uid(65534).spawn().unwrap()))
    }

    fn process(&self) -> u32 {
        self.0.as_ref().map_or(1, std::process::Child::id)
    }
}

impl Drop for Somebody {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

#[test]
fn a_fifo_is_waited_for() {
    let trial = Trial::new(&["hidden"]);
    let path = trial.root.join("fifo");
    nix::unistd::mkfifo(&path, Permissions::from_bits_truncate(0o600)).unwrap();
    let reader = std::thread::spawn(|| fs::read(path).unwrap());
    let mut fifo = fs::File::from(trial.opened("openat", &[CWD, trial.path("fifo"), CREATE, 0]));
    std::io::Write::write_all(&mut fifo, b"through").unwrap();
    drop(fifo);
    assert_eq!(reader.join().unwrap(), b"through");
}

/// Watson 2007: another thread gives the path another meaning between the judgement and the act.
#[test]
fn flipping_a_directory_wins_no_protected_name() {
    let trial = Trial::new(&["b/x"]);
    fs::create_dir(trial.root.join("a")).unwrap();
    fs::create_dir(trial.root.join("b")).unwrap();
    symlink("a", trial.root.join("flip")).unwrap();
    symlink("b", trial.root.join("flop")).unwrap();
    let (flip, flop) = (trial.root.join("flip"), trial.root.join("flop"));
    let stop = std::sync::atomic::AtomicBool::new(false);
    let (mut made, mut refused) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let exchange = nix::fcntl::RenameFlags::RENAME_EXCHANGE;
                nix::fcntl::renameat2(AT_FDCWD, &flip, AT_FDCWD, &flop, exchange).unwrap();
            }
        });
        let path = trial.path("flip/x");
        for round in 0.. {
            match trial.errno("openat", &[CWD, path, CREATE, 0o644]) {
                DONE => made += 1,
                Errno::EACCES => refused += 1,
                other => panic!("{other}"),
            }
            // Both meanings must have been met, or nothing was tried.
            if trial.exists("b/x") || round > 3000 && made > 100 && refused > 100 {
                break;
            }
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert!(!trial.exists("b/x"), "after {made} and {refused} tries");
}

#[test]
fn hostile_bytes_are_errnos() {
    let guest = FakeGuest::default();
    let endless = guest.put(&[b'/'; 4096]);
    let path = PathPtr(endless.0);
    let open = |flags: u32| judged(&guest, "open", DirFd(-7), path, Flags(flags), Mode(u32::MAX)).unwrap_err();
    assert_eq!(open(0o101), Errno::ENAMETOOLONG);
    // With O_PATH among them the kernel drops the flags that contradict it, so the path is what it trips over.
    assert_eq!(open(u32::MAX), Errno::ENAMETOOLONG);
}

#[test]
fn plain_flags_go_together_for_the_kernel_too() {
    for subset in 0..=PLAIN {
        if subset & !PLAIN == 0 {
            let mode = Permissions::from_bits_truncate(0o777);
            let result = openat(AT_FDCWD, "", OFlag::from_bits_retain(subset), mode);
            assert_eq!(result.unwrap_err(), Errno::ENOENT, "{subset:o}");
        }
    }
    let trial = Trial::with(PathCalls);
    let together = (libc::O_CREAT | libc::O_DIRECTORY) as u64;
    assert_eq!(trial.errno("openat", &[CWD, trial.path("x"), together, 0o644]), Errno::EINVAL);
}

#[test]
fn who_may_have_no_more_descriptors_makes_and_empties_nothing() {
    let mut trial = Trial::with(PathCalls);
    trial.write("old", "text");
    trial.guest.full = true;
    let (wronly, rdwr) = (libc::O_WRONLY | libc::O_TRUNC, libc::O_RDWR | libc::O_TMPFILE);
    for (path, flags) in [("new", CREATE), ("new", EXCLUSIVE), ("old", wronly as u64), (".", rdwr as u64)] {
        assert_eq!(trial.errno("openat", &[CWD, trial.path(path), flags, 0o644]), Errno::EMFILE, "{path} {flags:o}");
    }
    assert!(!trial.exists("new"));
    assert_eq!(fs::read(trial.root.join("old")).unwrap(), b"text");
    trial.guest.full = false;
    assert_eq!(create(&trial, "new"), DONE);
}
