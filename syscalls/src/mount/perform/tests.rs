use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;

use super::*;
use crate::fake::FakeGuest;
use crate::pattern::Pattern;
use crate::rules::{Effect, PathRule, Rules};

/// What was asked: the order, its string, and where the descriptors lie.
type Asked = Rc<RefCell<Vec<(Order, Vec<u8>, Vec<PathBuf>)>>>;

struct Listener(Asked);

impl Mounter for Listener {
    fn ask(&self, order: &Order, text: &[u8], files: &[BorrowedFd]) -> Result<(), Errno> {
        use std::os::fd::AsRawFd;
        let place = |file: &BorrowedFd| std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap();
        self.0.borrow_mut().push((*order, text.to_vec(), files.iter().map(place).collect()));
        Ok(())
    }
}

struct Trial {
    guest: FakeGuest,
    asked: Asked,
    dir: tempfile::TempDir,
}

fn trial() -> Trial {
    let dir = tempfile::tempdir().unwrap();
    for name in ["a", "b", "c"] {
        std::fs::create_dir(dir.path().join(name)).unwrap();
    }
    std::fs::write(dir.path().join("file"), "").unwrap();
    std::os::unix::fs::symlink("a", dir.path().join("link")).unwrap();
    let asked = Asked::default();
    let mounter: Option<Box<dyn Mounter>> = Some(Box::new(Listener(Rc::clone(&asked))));
    let mut guest = FakeGuest::in_directory(dir.path());
    guest.mounter = mounter;
    Trial { guest, asked, dir }
}

impl Trial {
    fn mount(&self, source: &str, target: &str, kind: &str, flags: MsFlags, data: &str) -> Result<(), Errno> {
        let put = |text: &str| if text.is_empty() { PathPtr(0) } else { self.guest.put_path(text) };
        let data = put(data);
        let flags = Word(flags.bits());
        mount(&self.guest, put(source), put(target), put(kind), flags, UserPtr(data.0)).map(drop)
    }

    fn last(&self) -> (Order, Vec<u8>, Vec<PathBuf>) {
        self.asked.borrow_mut().pop().unwrap()
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().canonicalize().unwrap().join(name)
    }
}

const NONE: MsFlags = MsFlags::empty();

#[test]
fn flags_say_what_is_meant_in_the_kernels_order() {
    let trial = trial();
    let all = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_MOVE | MsFlags::MS_PRIVATE;
    for (flags, kind) in [
        (all, Kind::Change),
        (MsFlags::MS_BIND | MsFlags::MS_MOVE, Kind::Bind),
        (MsFlags::MS_BIND | MsFlags::MS_REC, Kind::BindAll),
        (MsFlags::MS_PRIVATE | MsFlags::MS_REC, Kind::Propagate),
        (MsFlags::MS_MOVE, Kind::Move),
        (NONE, Kind::Memory),
    ] {
        trial.mount("b", "link", "tmpfs", flags, "").unwrap();
        let (order, _, files) = trial.last();
        assert_eq!(order.kind(), Some(kind), "{flags:?}");
        assert_eq!(files.last(), Some(&trial.at("a")), "links are followed");
        if matches!(kind, Kind::Bind | Kind::BindAll | Kind::Move) {
            assert_eq!(files, [trial.at("b"), trial.at("a")]);
        }
    }
}

#[test]
fn new_file_systems_obey_no_set_id_bits_and_no_devices() {
    let trial = trial();
    trial.mount("mine", "a", "tmpfs", MsFlags::MS_RDONLY | MsFlags::MS_NOEXEC, "size=1m,mode=7700").unwrap();
    let (order, text, _) = trial.last();
    assert_eq!((order.set, order.size, order.mode), (READ_ONLY | NO_EXEC | NO_SUID | NO_DEV, 1 << 20, 0o1700));
    assert_eq!(text, b"mine");
    trial.mount("", "a", "devpts", NONE, "newinstance").unwrap();
    assert_eq!(trial.last().0.set, NO_SUID);
    trial.mount("", "a", "overlay", NONE, "lowerdir=b:c,upperdir=b,workdir=c").unwrap();
    let (order, _, files) = trial.last();
    assert_eq!((order.flags, order.set), (WRITABLE, NO_SUID | NO_DEV));
    assert_eq!(files, ["a", "b", "c", "b", "c"].map(|name| trial.at(name)));
}

#[test]
fn what_is_not_mounted_fails_as_it_does_in_the_kernel() {
    let trial = trial();
    let fails = |source: &str, target: &str, kind: &str, flags, data: &str| {
        trial.mount(source, target, kind, flags, data).unwrap_err()
    };
    assert_eq!(fails("x", "a", "nonesuch", NONE, ""), Errno::ENODEV);
    assert_eq!(fails("x", "a", "", NONE, ""), Errno::EINVAL);
    assert_eq!(fails("x", "nope", "tmpfs", NONE, ""), Errno::ENOENT);
    assert_eq!(fails("", "a", "", MsFlags::MS_BIND, ""), Errno::EINVAL);
    assert_eq!(fails("file", "a", "", MsFlags::MS_BIND, ""), Errno::ENOTDIR);
    assert_eq!(fails("x", "file", "tmpfs", NONE, ""), Errno::ENOTDIR);
    assert_eq!(fails("x", "a", "tmpfs", NONE, "what=ever"), Errno::EINVAL);
    assert_eq!(fails("", "a", "", MsFlags::MS_SHARED | MsFlags::MS_SLAVE, ""), Errno::EINVAL);
    assert_eq!(fails("x", "a", "overlay", NONE, "lowerdir=file"), Errno::ENOTDIR);
    assert_eq!(fails("/proc/self/ns/mnt", "file", "", MsFlags::MS_BIND, ""), Errno::EINVAL);
    assert!(trial.guest.denials().is_empty());
    assert_eq!(fails("/dev/sda1", "a", "ext4", NONE, ""), Errno::EPERM);
    assert_eq!(trial.guest.denials()[0].what, "ext4 on a");
    assert!(trial.asked.borrow().is_empty());
}

#[test]
fn a_place_to_unmount_is_named_and_never_the_root() {
    let trial = trial();
    let unmount = |path: &str, flags| umount2(&trial.guest, trial.guest.put_path(path), Flags(flags)).map(drop);
    unmount("link", 2).unwrap();
    let (order, text, files) = trial.last();
    assert_eq!((order.flags, text, files.len()), (2, trial.at("a").into_os_string().into_encoded_bytes(), 0));
    unmount("link", 8).unwrap();
    assert_eq!(trial.last().1, trial.at("link").into_os_string().into_encoded_bytes());
    for (path, flags) in [("/", 0), ("/..", 2), ("a", 16), ("a", 2 | 4), ("a", 1 | 4)] {
        assert_eq!(unmount(path, flags), Err(Errno::EINVAL), "{path} {flags}");
    }
    assert_eq!(unmount("nope", 0), Err(Errno::ENOENT));
    assert!(trial.asked.borrow().is_empty());
}

#[test]
fn what_a_rule_speaks_of_gets_no_second_name() {
    let mut trial = trial();
    let rule = |text: PathBuf, effect| PathRule {
        pattern: Pattern::new(&text).unwrap(),
        effect: Some(effect),
        log: false,
        anchored: true,
        text: "--hide X".into(),
    };
    let paths = vec![rule(trial.at("b/x"), Effect::Hide), rule(trial.at("c"), Effect::Hide)];
    trial.guest.rules = Rules { paths, ..Rules::default() };
    assert_eq!(trial.mount("b", "a", "", MsFlags::MS_BIND, ""), Err(Errno::EPERM));
    assert_eq!(trial.mount("x", "a", "overlay", NONE, "lowerdir=a:b"), Err(Errno::EPERM));
    let denials = trial.guest.denials();
    assert!(denials.len() == 2 && denials[0].remedy.starts_with("--hide X is about names there"), "{denials:?}");
    assert_eq!(trial.mount("c", "a", "", MsFlags::MS_BIND, ""), Err(Errno::ENOENT), "it does not exist");
    assert_eq!(trial.mount("x", "c", "tmpfs", NONE, ""), Err(Errno::ENOENT));
    trial.mount("a", "b", "", MsFlags::MS_BIND, "").unwrap();
}

#[test]
fn memory_that_is_not_there_is_a_fault_and_nobody_mounts_without_leave() {
    let trial = trial();
    let good = trial.guest.put_path("a");
    let wild = PathPtr(8);
    for (source, target, kind, data) in
        [(wild, good, good, 0), (good, wild, good, 0), (good, good, wild, 0), (good, good, good, 8)]
    {
        let answer = mount(&trial.guest, source, target, kind, Word(0), UserPtr(data));
        assert_eq!(answer.map(drop), Err(Errno::EFAULT));
    }
    let plain = FakeGuest::default();
    let place = plain.put_path("/tmp");
    assert_eq!(mount(&plain, place, place, place, Word(0), UserPtr(0)).map(drop), Err(Errno::EPERM));
    assert_eq!(umount2(&plain, place, Flags(0)).map(drop), Err(Errno::EPERM));
}

#[test]
fn options_are_copied_up_to_the_end_of_what_is_there() {
    let trial = trial();
    let data = trial.guest.put_at_end(b"size=64k");
    let target = trial.guest.put_path("a");
    let kind = trial.guest.put_path("tmpfs");
    mount(&trial.guest, PathPtr(0), target, kind, Word(0), data).unwrap();
    assert_eq!(trial.last().0.size, 64 << 10);
}

#[test]
fn a_container_has_mounted_what_its_policy_names_for_its_root() {
    let mut trial = trial();
    trial.guest.rules.container =
        Some(crate::rules::Contained { mounts: vec!["tmpfs", "remount"], ..crate::rules::Contained::default() });
    trial.mount("x", "a", "tmpfs", NONE, "").unwrap();
    trial.mount("x", "a", "ramfs", NONE, "").unwrap();
    trial.mount("", "a", "", MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY, "").unwrap();
    trial.mount("", "a", "", MsFlags::MS_PRIVATE, "").unwrap();
    let done = trial.asked.borrow().len();
    for (kind, flags) in [("", MsFlags::MS_BIND), ("", MsFlags::MS_MOVE), ("proc", NONE), ("ext4", NONE)] {
        assert_eq!(trial.mount("b", "a", kind, flags, ""), Err(Errno::EPERM), "{kind} {flags:?}");
    }
    assert_eq!(trial.mount("b", "a", "nonsense", NONE, ""), Err(Errno::ENODEV));
    let told: Vec<_> = trial.guest.denials().into_iter().map(|denial| denial.what).collect();
    assert_eq!(told, ["b on a", "b on a", "proc on a", "ext4 on a"]);
    assert_eq!(trial.guest.deeds.borrow().len(), 4);
    trial.guest.root = false;
    assert_eq!(trial.mount("x", "a", "tmpfs", NONE, ""), Err(Errno::EPERM));
    assert_eq!(trial.asked.borrow().len(), done);
}
