//! What the guest is told after what it did, and what is on disk then.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::sync::Arc;

use nix::errno::Errno;
use nix::libc;

use super::capability;
use crate::args::UserPtr;
use crate::credentials::{Credentials, Ids};
use crate::file::trial::{CWD, DONE, Trial, contents};
use crate::reply::Reply;
use crate::table::Feature::FakeRoot;

const CREATE: u64 = (libc::O_CREAT | libc::O_RDWR) as u64;
const KEEP: u64 = u32::MAX as u64;

/// What the stat family tells: type and permissions, owner, group, device.
fn told(trial: &Trial, path: &str) -> (u32, u32, u32, u64) {
    let buffer = trial.guest.put(&[0; 256]);
    let done = trial.errno("lstat", &[trial.path(path), buffer.0]);
    assert_eq!(done, DONE, "{path}");
    let told = in_stat(trial, buffer);
    let done = trial.errno("statx", &[CWD, trial.path(path), libc::AT_SYMLINK_NOFOLLOW as u64, 0x7ff, buffer.0]);
    assert_eq!(done, DONE, "{path}");
    let word = |at: usize| u32::from_ne_bytes(trial.guest.peek(buffer.offset(at as u64), 4).try_into().unwrap());
    let mode = word(std::mem::offset_of!(libc::statx, stx_mode)) & 0xffff;
    let owner = (word(std::mem::offset_of!(libc::statx, stx_uid)), word(std::mem::offset_of!(libc::statx, stx_gid)));
    let major = word(std::mem::offset_of!(libc::statx, stx_rdev_major));
    let minor = word(std::mem::offset_of!(libc::statx, stx_rdev_minor));
    let device = nix::sys::stat::makedev(major.into(), minor.into());
    assert_eq!(told, (mode, owner.0, owner.1, device), "{path}: stat and statx");
    told
}

fn in_stat(trial: &Trial, buffer: UserPtr) -> (u32, u32, u32, u64) {
    let word = |at: usize| u32::from_ne_bytes(trial.guest.peek(buffer.offset(at as u64), 4).try_into().unwrap());
    let device = trial.guest.peek(buffer.offset(std::mem::offset_of!(libc::stat, st_rdev) as u64), 8);
    (
        word(std::mem::offset_of!(libc::stat, st_mode)),
        word(std::mem::offset_of!(libc::stat, st_uid)),
        word(std::mem::offset_of!(libc::stat, st_gid)),
        u64::from_ne_bytes(device.try_into().unwrap()),
    )
}

/// Permissions, owner and group.
fn of(trial: &Trial, path: &str) -> (u32, u32, u32) {
    let (mode, user, group, _) = told(trial, path);
    (mode & 0o7777, user, group)
}

fn be(trial: &Trial, user: u32, group: u32, groups: &[u32]) {
    let of = |id| Ids { real: id, effective: id, saved: id, file: id };
    let nobody = Credentials {
        user: of(user),
        group: of(group),
        groups: groups.to_vec(),
        effective: 0,
        permitted: 0,
        ..Credentials::default()
    };
    let who = if user == 0 { Credentials::default() } else { nobody };
    *trial.guest.credentials.borrow_mut() = Arc::new(who);
}

fn record(trial: &Trial, path: &str) -> Option<String> {
    let file = fs::File::open(trial.root.join(path)).unwrap();
    let mut value = vec![0; 256];
    let bearer = crate::sys::Bearer::File(std::os::fd::AsFd::as_fd(&file));
    let length = crate::sys::attribute(bearer, super::record::NAME, &mut value).ok()?;
    value.truncate(length);
    Some(String::from_utf8(value).unwrap())
}

#[test]
fn owners_are_told_as_they_were_given() {
    let trial = Trial::with(FakeRoot);
    trial.write("file", "text");
    fs::create_dir(trial.root.join("dir")).unwrap();
    symlink("file", trial.root.join("link")).unwrap();
    for name in ["file", "dir", "link"] {
        assert_eq!(of(&trial, name).1, 0, "{name}");
        assert_eq!(trial.errno("lchown", &[trial.path(name), 33, 34]), DONE);
        assert_eq!((of(&trial, name).1, of(&trial, name).2), (33, 34), "{name}");
        assert_eq!(trial.errno("fchownat", &[CWD, trial.path(name), 35, KEEP, libc::AT_SYMLINK_NOFOLLOW as u64]), DONE);
        assert_eq!((of(&trial, name).1, of(&trial, name).2), (35, 34), "{name}");
    }
    assert_eq!(record(&trial, "file").as_deref(), Some("1 35 34 - - -"));
    assert_eq!(trial.errno("chown", &[trial.path("link"), 36, 36]), DONE);
    assert_eq!(of(&trial, "file").1, 36, "behind the link");
    assert_eq!(of(&trial, "link").1, 35);

    assert_eq!(trial.errno("rename", &[trial.path("file"), trial.path("new")]), DONE);
    assert_eq!(trial.errno("link", &[trial.path("new"), trial.path("other")]), DONE);
    assert_eq!((of(&trial, "new").1, of(&trial, "other").1), (36, 36));
    assert_eq!(trial.errno("chown", &[trial.path("other"), 0, 0]), DONE);
    assert_eq!(record(&trial, "new"), None, "nothing differs any more");
    assert_eq!(trial.errno("chown", &[trial.path("nothing"), 0, 0]), Errno::ENOENT);
}

#[test]
fn open_files_tell_the_same() {
    let mut trial = Trial::with(FakeRoot);
    trial.write("file", "text");
    let file = trial.opened("openat", &[CWD, trial.path("file"), 0, 0]);
    let buffer = trial.guest.put(&[0; 256]);
    let path = fs::File::open("/dev/null").unwrap();
    trial.guest.files.insert(3, file);
    trial.guest.files.insert(4, path.into());
    assert_eq!(trial.errno("fchown", &[3, 7, 8]), DONE);
    assert_eq!(trial.errno("fchmod", &[3, 0o4711]), DONE);
    assert_eq!(trial.errno("fstat", &[3, buffer.0]), DONE);
    assert_eq!(in_stat(&trial, buffer), (libc::S_IFREG | 0o4711, 7, 8, 0));
    let flags = libc::AT_EMPTY_PATH as u64;
    assert_eq!(trial.errno("newfstatat", &[3, trial.path(""), buffer.0, flags]), DONE);
    assert_eq!(in_stat(&trial, buffer), (libc::S_IFREG | 0o4711, 7, 8, 0));
    assert_eq!(trial.errno("fstat", &[9, buffer.0]), Errno::EBADF);
    assert_eq!(of(&trial, "file"), (0o4711, 7, 8));

    let open = nix::fcntl::OFlag::O_PATH;
    let object = nix::fcntl::open(&trial.root.join("file"), open, nix::sys::stat::Mode::empty()).unwrap();
    trial.guest.files.insert(5, object);
    assert_eq!(trial.errno("fchown", &[5, 1, 1]), Errno::EBADF);
    assert_eq!(trial.errno("fchmod", &[5, 0o777]), Errno::EBADF);
    assert_eq!(trial.errno("fstat", &[5, buffer.0]), DONE);
    assert_eq!(in_stat(&trial, buffer).1, 7);
}

#[test]
fn set_id_bits_are_told_and_never_there() {
    let trial = Trial::with(FakeRoot);
    trial.write("file", "text");
    fs::create_dir(trial.root.join("dir")).unwrap();
    for (name, mode) in [("file", 0o6755), ("file", 0o2644), ("dir", 0o2775), ("dir", 0o6000), ("dir", 0o3777)] {
        assert_eq!(trial.errno("chmod", &[trial.path(name), mode]), DONE);
        assert_eq!(u64::from(of(&trial, name).0), mode, "{name}");
        assert_eq!(trial.mode(name) & 0o6000, 0, "{name}");
    }
    let how = |mode: u64| {
        let bytes: Vec<u8> = [CREATE, mode, 0].iter().flat_map(|word: &u64| word.to_ne_bytes()).collect();
        trial.guest.put(&bytes).0
    };
    assert_eq!(trial.errno("openat", &[CWD, trial.path("a"), CREATE, 0o4755]), DONE);
    assert_eq!(trial.errno("openat2", &[CWD, trial.path("b"), how(0o4755), 24]), DONE);
    assert_eq!(trial.errno("creat", &[trial.path("c"), 0o4755]), DONE);
    assert_eq!(trial.errno("mknod", &[trial.path("d"), 0o104_755, 0]), DONE);
    for name in ["a", "b", "c", "d"] {
        assert_eq!((of(&trial, name).0, trial.mode(name)), (0o4755, 0o755), "{name}");
    }
    assert_eq!(trial.errno("mkdir", &[trial.path("e"), 0o6755]), DONE, "mkdir never gives them");
    assert_eq!(of(&trial, "e").0, 0o755);
    let temporary = (libc::O_TMPFILE | libc::O_RDWR) as u64;
    let mut trial = trial;
    let file = trial.opened("openat", &[CWD, trial.path("."), temporary, 0o4700]);
    trial.guest.files.insert(3, file);
    let buffer = trial.guest.put(&[0; 256]);
    assert_eq!(trial.errno("fstat", &[3, buffer.0]), DONE);
    assert_eq!(in_stat(&trial, buffer).0 & 0o7777, 0o4700);
    assert_eq!(fs::File::from(trial.guest.files.remove(&3).unwrap()).metadata().unwrap().mode() & 0o7777, 0o700);
}

#[test]
fn the_real_owner_may_do_what_root_may() {
    let trial = Trial::with(FakeRoot);
    trial.write("file", "text");
    fs::create_dir(trial.root.join("dir")).unwrap();
    for (name, mode, real) in [
        ("file", 0o000, 0o600),
        ("file", 0o444, 0o644),
        ("file", 0o011, 0o711),
        ("dir", 0o055, 0o755),
        ("dir", 0, 0o700),
    ] {
        assert_eq!(trial.errno("chmod", &[trial.path(name), mode]), DONE);
        assert_eq!((u64::from(of(&trial, name).0), trial.mode(name)), (mode, real), "{name} {mode:o}");
    }
    assert_eq!(trial.errno("openat", &[CWD, trial.path("made"), CREATE, 0o400]), DONE);
    assert_eq!((of(&trial, "made").0, trial.mode("made")), (0o400, 0o600));
    assert_eq!(trial.errno("mkdir", &[trial.path("made-dir"), 0o500]), DONE);
    assert_eq!((of(&trial, "made-dir").0, trial.mode("made-dir")), (0o500, 0o700));
}

#[test]
fn who_makes_a_file_owns_it() {
    let trial = Trial::with(FakeRoot);
    fs::create_dir(trial.root.join("own")).unwrap();
    assert_eq!(trial.errno("chmod", &[trial.path("own"), 0o2777]), DONE);
    assert_eq!(trial.errno("chown", &[trial.path("own"), 0, 50]), DONE);
    be(&trial, 33, 34, &[]);
    for dir in ["", "own/"] {
        let at = |name: &str| trial.path(format!("{dir}{name}"));
        assert_eq!(trial.errno("openat", &[CWD, at("file"), CREATE, 0o644]), DONE);
        assert_eq!(trial.errno("mkdir", &[at("dir"), 0o755]), DONE);
        assert_eq!(trial.errno("symlink", &[trial.path("x"), at("link")]), DONE);
        assert_eq!(trial.errno("mknod", &[at("fifo"), 0o010_644, 0]), DONE);
        let group = if dir.is_empty() { 34 } else { 50 };
        let more = if dir.is_empty() { 0 } else { 0o2000 };
        for (name, mode) in [("file", 0o644), ("dir", 0o755 | more), ("link", 0o777), ("fifo", 0o644)] {
            assert_eq!(of(&trial, &format!("{dir}{name}")), (mode, 33, group), "{dir}{name}");
        }
        assert_eq!(trial.errno("openat", &[CWD, at("sets-group"), CREATE, 0o2755]), DONE);
        assert_eq!(of(&trial, &format!("{dir}sets-group")).0, if dir.is_empty() { 0o2755 } else { 0o755 });
    }
    assert_eq!(trial.mode("own/dir"), 0o755);
}

#[test]
fn chown_and_chmod_ask_who_pretends_to_be_whom() {
    let trial = Trial::with(FakeRoot);
    trial.write("roots", "");
    be(&trial, 33, 34, &[35]);
    assert_eq!(trial.errno("openat", &[CWD, trial.path("own"), CREATE, 0o644]), DONE);
    let chown = |name: &str, user: u64, group: u64| trial.errno("chown", &[trial.path(name), user, group]);
    assert_eq!(chown("roots", 33, KEEP), Errno::EPERM);
    assert_eq!(chown("roots", KEEP, 34), Errno::EPERM);
    assert_eq!(chown("roots", KEEP, KEEP), DONE);
    assert_eq!(chown("own", 0, KEEP), Errno::EPERM);
    assert_eq!(chown("own", KEEP, 36), Errno::EPERM);
    assert_eq!(chown("own", 33, 35), DONE);
    assert_eq!(of(&trial, "own"), (0o644, 33, 35));
    assert_eq!(trial.errno("chmod", &[trial.path("roots"), 0o777]), Errno::EPERM);
    assert_eq!(trial.errno("chmod", &[trial.path("own"), 0o2755]), DONE);
    assert_eq!(of(&trial, "own").0, 0o2755);
    be(&trial, 33, 34, &[]);
    assert_eq!(trial.errno("chmod", &[trial.path("own"), 0o6755]), DONE);
    assert_eq!(of(&trial, "own").0, 0o4755, "not one of its groups any more");
    be(&trial, 0, 0, &[]);
    assert_eq!(chown("own", 0, 0), DONE);
    assert_eq!(of(&trial, "own"), (0o755, 0, 0), "set-id bits go with the owner");
}

#[test]
fn devices_are_empty_files_that_say_otherwise() {
    let trial = Trial::with(FakeRoot);
    let number = |major, minor| nix::sys::stat::makedev(major, minor);
    for (name, kind, device) in
        [("null", libc::S_IFCHR, (1, 3)), ("sda", libc::S_IFBLK, (8, 0)), ("console", libc::S_IFCHR, (5, 1))]
    {
        let mode = u64::from(kind | 0o620);
        assert_eq!(trial.errno("mknod", &[trial.path(name), mode, number(device.0, device.1)]), DONE);
        assert_eq!(told(&trial, name), (kind | 0o600, 0, 0, number(device.0, device.1)), "{name}");
        let real = trial.root.join(name).metadata().unwrap();
        assert!(real.is_file() && real.len() == 0 && real.mode() & 0o7777 == 0o600);
    }
    assert_eq!(trial.errno("mknod", &[trial.path("null"), u64::from(libc::S_IFCHR), 0x103]), Errno::EEXIST);
    for flags in [libc::O_RDWR, libc::O_RDONLY, libc::O_WRONLY | libc::O_TRUNC] {
        assert_eq!(trial.errno("openat", &[CWD, trial.path("sda"), flags as u64, 0]), Errno::ENXIO);
        assert_eq!(trial.errno("openat", &[CWD, trial.path("console"), flags as u64, 0]), Errno::ENXIO);
    }
    assert_eq!(trial.errno("truncate", &[trial.path("null"), 5]), Errno::EINVAL);
    let null = trial.opened("openat", &[CWD, trial.path("null"), libc::O_RDWR as u64, 0]);
    assert!(fs::File::from(null.try_clone().unwrap()).metadata().unwrap().file_type().is_char_device());
    assert_eq!(contents(null), "");
    assert_eq!(trial.errno("rename", &[trial.path("sda"), trial.path("sdb")]), DONE);
    assert_eq!(told(&trial, "sdb").0 & libc::S_IFMT, libc::S_IFBLK);

    be(&trial, 33, 33, &[]);
    assert_eq!(trial.errno("mknod", &[trial.path("x"), u64::from(libc::S_IFCHR), 0x103]), Errno::EPERM);
    assert!(!trial.exists("x"));
}

#[test]
fn a_record_from_elsewhere_makes_no_device_of_a_file_with_contents() {
    let trial = Trial::with(FakeRoot);
    trial.write("file", "text");
    let path = trial.root.join("file");
    let set = |value: &str| {
        let file = fs::File::open(&path).unwrap();
        let bearer = crate::sys::Bearer::File(std::os::fd::AsFd::as_fd(&file));
        crate::sys::set_attribute(bearer, super::record::NAME, value.as_bytes(), 0).unwrap();
    };
    set("1 5 6 - c1:3 -");
    assert_eq!(told(&trial, "file"), (libc::S_IFREG | 0o644, 5, 6, 0));
    assert_eq!(contents(trial.opened("openat", &[CWD, trial.path("file"), 0, 0])), "text");
    set("1 5 6 - c1:3");
    assert_eq!(told(&trial, "file"), (libc::S_IFREG | 0o644, 0, 0, 0), "damaged");
}

/// Lists the attributes of a path.
fn listed(trial: &Trial, path: &str) -> Vec<String> {
    let buffer = trial.guest.put(&[0; 4096]);
    let Ok(Reply::Return(length)) = trial.call("listxattr", &[trial.path(path), buffer.0, 4096]) else {
        panic!("{path} lists nothing")
    };
    let Ok(Reply::Return(asked)) = trial.call("listxattr", &[trial.path(path), 0, 0]) else { panic!("{path}") };
    assert_eq!(length, asked);
    let bytes = trial.guest.peek(buffer, usize::try_from(length).unwrap());
    let mut names: Vec<String> =
        bytes.split(|byte| *byte == 0).map(|name| String::from_utf8(name.to_vec()).unwrap()).collect();
    names.pop();
    names.sort();
    names
}

#[test]
fn attributes_are_those_of_the_guest() {
    let mut trial = Trial::with(FakeRoot);
    trial.write("file", "text");
    let file = trial.path("file");
    let (ours, caps, plain) =
        (trial.path("user.sentry.owner"), trial.path("security.capability"), trial.path("user.x"));
    let mut value = [0_u8; 20];
    (value[0], value[3], value[5]) = (1, 2, 4);
    let value = trial.guest.put(&value).0;
    let buffer = trial.guest.put(&[0; 64]).0;

    assert_eq!(trial.errno("chown", &[file, 3, 3]), DONE);
    assert_eq!(trial.errno("getxattr", &[file, ours, buffer, 64]), Errno::ENODATA);
    assert_eq!(trial.errno("setxattr", &[file, ours, value, 20, 0]), Errno::EPERM);
    assert_eq!(trial.errno("removexattr", &[file, ours]), Errno::ENODATA);
    assert!(listed(&trial, "file").is_empty());

    assert_eq!(trial.errno("getxattr", &[file, caps, buffer, 64]), Errno::ENODATA);
    assert_eq!(trial.errno("setxattr", &[file, caps, value, 19, 0]), Errno::EINVAL);
    assert_eq!(trial.errno("setxattr", &[file, caps, value, 20, 2]), Errno::ENODATA);
    assert_eq!(trial.errno("setxattr", &[file, caps, value, 20, 1]), DONE);
    assert_eq!(trial.errno("setxattr", &[file, caps, value, 20, 1]), Errno::EEXIST);
    assert_eq!(trial.errno("setxattr", &[file, plain, value, 2, 0]), DONE);
    assert_eq!(listed(&trial, "file"), ["security.capability", "user.x"]);
    assert!(matches!(trial.call("getxattr", &[file, caps, buffer, 64]), Ok(Reply::Return(20))));
    assert_eq!(trial.guest.peek(UserPtr(buffer), 20), trial.guest.peek(UserPtr(value), 20));
    assert_eq!(trial.errno("getxattr", &[file, caps, buffer, 19]), Errno::ERANGE);

    let open = fs::File::open(trial.root.join("file")).unwrap();
    trial.guest.files.insert(3, open.into());
    assert!(matches!(trial.call("fgetxattr", &[3, caps, buffer, 64]), Ok(Reply::Return(20))));
    assert!(matches!(trial.call("fgetxattr", &[3, plain, buffer, 64]), Ok(Reply::Return(2))));
    assert!(matches!(trial.call("flistxattr", &[3, buffer, 64]), Ok(Reply::Return(27))));
    assert_eq!(trial.errno("fsetxattr", &[3, ours, value, 20, 0]), Errno::EPERM);
    assert_eq!(trial.errno("fremovexattr", &[3, plain]), DONE);
    assert_eq!(trial.errno("fremovexattr", &[3, caps]), DONE);
    assert_eq!(trial.errno("fremovexattr", &[3, caps]), Errno::ENODATA);
    assert!(listed(&trial, "file").is_empty());

    assert_eq!(trial.errno("setxattr", &[file, caps, value, 20, 0]), DONE);
    assert_eq!(trial.errno("chown", &[file, 4, KEEP]), DONE);
    assert_eq!(trial.errno("getxattr", &[file, caps, buffer, 64]), Errno::ENODATA, "gone with the owner");
    be(&trial, 3, 3, &[]);
    assert_eq!(trial.errno("setxattr", &[file, caps, value, 20, 0]), Errno::EPERM);
}

#[test]
fn access_is_told_as_linux_would() {
    let trial = Trial::with(FakeRoot);
    trial.write("file", "");
    trial.write("script", "");
    fs::create_dir(trial.root.join("dir")).unwrap();
    for (name, mode) in [("file", 0o640), ("script", 0o510), ("dir", 0o700)] {
        assert_eq!(trial.errno("chmod", &[trial.path(name), mode]), DONE);
        assert_eq!(trial.errno("chown", &[trial.path(name), 5, 6]), DONE);
    }
    let may = |name: &str| -> String {
        let one = |(bit, letter)| {
            let done = trial.errno("access", &[trial.path(name), bit]) == DONE;
            let effective = trial.errno("faccessat2", &[CWD, trial.path(name), bit, libc::AT_EACCESS as u64]) == DONE;
            assert_eq!(done, effective, "{name} {letter}");
            if done { letter } else { '-' }
        };
        [(4, 'r'), (2, 'w'), (1, 'x')].map(one).iter().collect()
    };
    assert_eq!((may("file"), may("script"), may("dir")), ("rw-".into(), "rwx".into(), "rwx".into()), "root");
    be(&trial, 5, 9, &[]);
    assert_eq!((may("file"), may("script"), may("dir")), ("rw-".into(), "r-x".into(), "rwx".into()), "the owner");
    be(&trial, 8, 9, &[6]);
    assert_eq!((may("file"), may("script"), may("dir")), ("r--".into(), "--x".into(), "---".into()), "its group");
    be(&trial, 8, 9, &[]);
    assert_eq!((may("file"), may("script"), may("dir")), ("---".into(), "---".into(), "---".into()), "others");
    assert_eq!(trial.errno("access", &[trial.path("file"), 0]), DONE);
}

#[test]
fn what_is_remembered_goes_with_the_last_name() {
    let trial = Trial::with(FakeRoot);
    let make = |name: &str| {
        symlink("x", trial.root.join(name)).unwrap();
        assert_eq!(trial.errno("lchown", &[trial.path(name), 5, 5]), DONE);
    };
    make("a");
    assert_eq!(trial.errno("link", &[trial.path("a"), trial.path("b")]), DONE);
    assert_eq!(trial.errno("unlink", &[trial.path("a")]), DONE);
    assert_eq!(of(&trial, "b").1, 5);
    assert_eq!(trial.errno("rename", &[trial.path("b"), trial.path("c")]), DONE);
    assert_eq!(of(&trial, "c").1, 5);
    trial.write("file", "");
    assert_eq!(trial.errno("rename", &[trial.path("file"), trial.path("c")]), DONE);
    assert!(trial.guest.remembered.is_empty());
    make("d");
    assert_eq!(trial.errno("unlinkat", &[CWD, trial.path("d"), 0]), DONE);
    assert!(trial.guest.remembered.is_empty());
}

/// Two at once: neither change may be lost.
#[test]
fn changes_of_one_file_come_one_after_the_other() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    fs::write(&path, "").unwrap();
    std::thread::scope(|scope| {
        let one = |call: &'static str, last: [u64; 2]| {
            let path = path.clone();
            move || {
                let trial = Trial::with(FakeRoot);
                for round in 0..200 {
                    let arguments = last.map(|value| if value == 0 { 1 + round } else { value });
                    assert_eq!(trial.errno(call, &[trial.path(&path), arguments[0], arguments[1]]), DONE);
                }
            }
        };
        scope.spawn(one("chown", [0, KEEP]));
        scope.spawn(one("chown", [KEEP, 0]));
        let modes = path.clone();
        scope.spawn(move || {
            let trial = Trial::with(FakeRoot);
            for round in 0..200 {
                let mode = if round % 2 == 0 { 0o1711 } else { 0o1070 };
                assert_eq!(trial.errno("chmod", &[trial.path(&modes), mode]), DONE);
            }
        });
    });
    let trial = Trial::with(FakeRoot);
    assert_eq!(of(&trial, path.to_str().unwrap()), (0o1070, 200, 200));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o1770);
    assert!(Credentials::default().can(capability::SETFCAP));
}

#[test]
fn links_have_no_attributes_of_the_users() {
    let trial = Trial::with(FakeRoot);
    trial.write("file", "");
    symlink("file", trial.root.join("link")).unwrap();
    let (link, name, value) = (trial.path("link"), trial.path("user.x"), trial.path("y"));
    let buffer = trial.guest.put(&[0; 64]).0;
    assert_eq!(trial.errno("lsetxattr", &[link, name, value, 1, 0]), Errno::EPERM);
    assert_eq!(trial.errno("lgetxattr", &[link, name, buffer, 64]), Errno::ENODATA);
    assert_eq!(trial.errno("lremovexattr", &[link, name]), Errno::EPERM);
    assert!(matches!(trial.call("llistxattr", &[link, buffer, 64]), Ok(Reply::Return(0))));
    assert_eq!(trial.errno("setxattr", &[link, name, value, 1, 0]), DONE);
    assert_eq!(listed(&trial, "file"), ["user.x"]);
}
