//! `mkdir(2)` and `mknod(2)`: names that come into being other than by an open.

use nix::errno::Errno;
use nix::libc;
use nix::sys::stat::{Mode as Permissions, SFlag, major, minor, mkdirat, mknodat};

use super::SET_ID;
use super::device::{mknod_at_in_container, mknod_in_container};
use super::open::set_id_bits;
use super::pretend::{capability, made, record};
use super::walk::{Parent, Umask, names_stay};
use crate::args::{Device, DirFd, Mode, PathPtr};
use crate::guest::Guest;
use crate::reply::{Answer, Reply};
use crate::table::Verdict::{self, Allow, Fail, Notify};
use crate::table::{Check, Op, Test};

crate::syscalls! {
    /// Makes a directory.
    /// Fails with `EPERM` when set-id bits are asked for.
    mkdir(path: PathPtr, mode: Mode) File Judge Filter(MKDIR) {
        FakeRoot => Emulate(mkdir),
        PathCalls => Emulate(mkdir) when MKDIR_JUDGED,
        ProtectedNames => Emulate(mkdir) when MKDIR_JUDGED,
        Container => Allow,
    };
    /// Makes a directory, relative to a directory.
    /// Fails with `EPERM` when set-id bits are asked for.
    mkdirat(dir: DirFd, path: PathPtr, mode: Mode) File Judge Filter(MKDIRAT) {
        FakeRoot => Emulate(mkdir_at),
        PathCalls => Emulate(mkdir_at) when MKDIRAT_JUDGED,
        ProtectedNames => Emulate(mkdir_at) when MKDIRAT_JUDGED,
        Container => Allow,
    };
    /// Makes a file, FIFO, socket file or whiteout.
    /// Fails with `EPERM` for devices and when set-id bits are asked for.
    /// In a container null, zero, full, random, urandom and tty can be made by its root, everything else but devices by whom the kernel lets.
    /// Limit: in a container that has a user namespace of its own such a device is an empty file with the one in `/dev` mounted on it: its permissions and owner are those of the one in `/dev`, and it is unmounted before it is removed (until then `EBUSY`); in a directory with the sticky bit that all may write, opening it with `O_CREAT` is refused by the kernel.
    /// Limit: under `--fake-root` a device is an empty regular file that is told to be one; only numbers that the sandbox has itself can be opened, and directory listings show a regular file.
    mknod(path: PathPtr, mode: Mode, device: Device) File Default Filter(MKNOD) {
        FakeRoot => Emulate(mknod),
        PathCalls => Emulate(mknod) when MKNOD_JUDGED,
        ProtectedNames => Emulate(mknod) when MKNOD_JUDGED,
        RealDevices => EmulateSlow(mknod_in_container) when MKNOD_REAL,
        Container => EmulateSlow(mknod_in_container) when MKNOD_DEVICES,
    };
    /// Makes a file, FIFO, socket file or whiteout, relative to a directory.
    /// Fails with `EPERM` for devices and when set-id bits are asked for.
    mknodat(dir: DirFd, path: PathPtr, mode: Mode, device: Device) File Default Filter(MKNODAT) {
        FakeRoot => Emulate(mknod_at),
        PathCalls => Emulate(mknod_at) when MKNODAT_JUDGED,
        ProtectedNames => Emulate(mknod_at) when MKNODAT_JUDGED,
        RealDevices => EmulateSlow(mknod_at_in_container) when MKNODAT_REAL,
        Container => EmulateSlow(mknod_at_in_container) when MKNODAT_DEVICES,
    };
}

const fn set_id(mode: usize) -> Check {
    Check { all: if mode == 1 { SET_ID_1 } else { SET_ID_2 }, then: Fail(Errno::EPERM) }
}
const SET_ID_1: &[Test] = &[Test { arg: 1, op: Op::AnyOf(SET_ID) }];
const SET_ID_2: &[Test] = &[Test { arg: 2, op: Op::AnyOf(SET_ID) }];
const PLAIN_1: &[Test] = &[Test { arg: 1, op: Op::Masked { mask: SET_ID, value: 0 } }];
const PLAIN_2: &[Test] = &[Test { arg: 2, op: Op::Masked { mask: SET_ID, value: 0 } }];

const MKDIR: &[Check] = &[set_id(1)];
const MKDIR_JUDGED: &[Check] = &[set_id(1), Check { all: PLAIN_1, then: Notify }];
const MKDIRAT: &[Check] = &[set_id(2)];
const MKDIRAT_JUDGED: &[Check] = &[set_id(2), Check { all: PLAIN_2, then: Notify }];

const fn of_type(mode: usize, kind: u32) -> Test {
    Test { arg: mode, op: Op::Masked { mask: libc::S_IFMT as u64, value: kind as u64 } }
}

/// What `mknod` may make, by the type in its mode; no type at all means a regular file. The device number counts for
/// devices only, and the one that is harmless is 0:0, an overlay's mark for a deleted name.
macro_rules! node_checks {
    ($mode:literal, $then:ident) => {
        &[
            set_id($mode),
            Check { all: &[of_type($mode, 0)], then: $then },
            Check { all: &[of_type($mode, libc::S_IFREG)], then: $then },
            Check { all: &[of_type($mode, libc::S_IFIFO)], then: $then },
            Check { all: &[of_type($mode, libc::S_IFSOCK)], then: $then },
            Check { all: &[of_type($mode, libc::S_IFCHR), Test { arg: $mode + 1, op: Op::Equal(0) }], then: $then },
            Check { all: &[], then: REFUSED },
        ]
    };
}
/// What a container may make without being asked: everything but devices, and of those the overlay's mark and these.
macro_rules! device_checks {
    ($mode:literal $(, $harmless:literal)*) => {
        &[
            Check { all: &[of_type($mode, libc::S_IFCHR), Test { arg: $mode + 1, op: Op::Equal(0) }], then: Allow },
            $(
                Check {
                    all: &[of_type($mode, libc::S_IFCHR), Test { arg: $mode + 1, op: Op::Equal($harmless) }],
                    then: Allow,
                },
            )*
            Check { all: &[of_type($mode, libc::S_IFCHR)], then: Notify },
            Check { all: &[of_type($mode, libc::S_IFBLK)], then: Notify },
        ]
    };
}
const REFUSED: Verdict = Fail(Errno::EPERM);
const MKNOD: &[Check] = node_checks!(1, Allow);
const MKNOD_JUDGED: &[Check] = node_checks!(1, Notify);
const MKNODAT: &[Check] = node_checks!(2, Allow);
const MKNODAT_JUDGED: &[Check] = node_checks!(2, Notify);
const MKNOD_DEVICES: &[Check] = device_checks!(1);
const MKNODAT_DEVICES: &[Check] = device_checks!(2);
const MKNOD_REAL: &[Check] = device_checks!(1, 0x103, 0x105, 0x107, 0x108, 0x109, 0x500);
const MKNODAT_REAL: &[Check] = device_checks!(2, 0x103, 0x105, 0x107, 0x108, 0x109, 0x500);

fn mkdir(guest: &dyn Guest, path: PathPtr, mode: Mode) -> Answer {
    make_directory(guest, "mkdir", DirFd::CWD, path, mode)
}

fn mkdir_at(guest: &dyn Guest, dir: DirFd, path: PathPtr, mode: Mode) -> Answer {
    make_directory(guest, "mkdirat", dir, path, mode)
}

fn mknod(guest: &dyn Guest, path: PathPtr, mode: Mode, device: Device) -> Answer {
    make_node(guest, "mknod", DirFd::CWD, path, mode, device)
}

fn mknod_at(guest: &dyn Guest, dir: DirFd, path: PathPtr, mode: Mode, device: Device) -> Answer {
    make_node(guest, "mknodat", dir, path, mode, device)
}

fn make_directory(guest: &dyn Guest, call: &'static str, at: DirFd, path: PathPtr, mode: Mode) -> Answer {
    let path = guest.read_path(path)?;
    let _names = names_stay();
    let parent = Parent::find(guest, at, path.as_bytes())?;
    parent.may_be_made(guest, call)?;
    let _umask = Umask::of(guest)?;
    let name = parent.as_given()?;
    made::as_root(guest, &[&parent.dir], || mkdirat(&parent.dir, name.as_c_str(), permissions(mode)))?;
    made::name(guest, &parent, 0, None)?;
    Ok(Reply::Return(0))
}

fn make_node(guest: &dyn Guest, call: &'static str, at: DirFd, path: PathPtr, mode: Mode, device: Device) -> Answer {
    let path = guest.read_path(path)?;
    let kind = SFlag::from_bits_truncate(mode.0) & SFlag::S_IFMT;
    if guest.rules().fake_root {
        return make_pretended_node(guest, call, at, path.as_bytes(), mode.0, device);
    }
    let device = match kind {
        SFlag::S_IFBLK => return Err(Errno::EPERM),
        SFlag::S_IFCHR if device.0 != 0 => return Err(Errno::EPERM),
        _ => 0,
    };
    let _names = names_stay();
    let parent = Parent::find(guest, at, path.as_bytes())?;
    parent.may_be_made(guest, call)?;
    let _umask = Umask::of(guest)?;
    mknodat(&parent.dir, parent.as_given()?.as_c_str(), kind, permissions(mode), device)?;
    Ok(Reply::Return(0))
}

/// The same where devices are made of regular files that are said to be devices. The device 0:0 is none: it is an overlay's
/// mark for a deleted name, and harmless.
fn make_pretended_node(
    guest: &dyn Guest,
    call: &'static str,
    at: DirFd,
    path: &[u8],
    mode: u32,
    device: Device,
) -> Answer {
    let kind = SFlag::from_bits_truncate(mode) & SFlag::S_IFMT;
    let number = u64::from(device.0);
    let (major, minor) = (major(number), minor(number));
    let pretended = match kind {
        SFlag::S_IFDIR => return Err(Errno::EPERM),
        SFlag::S_IFCHR if device.0 == 0 => None,
        SFlag::S_IFCHR | SFlag::S_IFBLK => {
            let numbers = u32::try_from(major).ok().zip(u32::try_from(minor).ok()).ok_or(Errno::EINVAL)?;
            Some(record::Device { block: kind == SFlag::S_IFBLK, major: numbers.0, minor: numbers.1 })
        }
        kind if kind.is_empty() || kind == SFlag::S_IFREG || kind == SFlag::S_IFIFO || kind == SFlag::S_IFSOCK => None,
        _ => return Err(Errno::EINVAL),
    };
    if pretended.is_some() && !guest.credentials()?.can(capability::MKNOD) {
        return Err(Errno::EPERM);
    }
    let kind = if pretended.is_some() { SFlag::S_IFREG } else { kind };
    let _names = names_stay();
    let parent = Parent::find(guest, at, path)?;
    parent.may_be_made(guest, call)?;
    let _umask = Umask::of(guest)?;
    let name = parent.as_given()?;
    let make = || mknodat(&parent.dir, name.as_c_str(), kind, permissions(Mode(mode)), 0);
    made::as_root(guest, &[&parent.dir], make)?;
    if kind != SFlag::S_IFCHR {
        made::name(guest, &parent, mode, pretended)?;
    }
    Ok(Reply::Return(0))
}

fn permissions(mode: Mode) -> Permissions {
    Permissions::from_bits_truncate(mode.0) - set_id_bits()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::file::trial::{CWD, DONE, Trial, verdict};
    use crate::table::Feature::ProtectedNames;

    #[test]
    fn nodes_are_files_fifos_sockets_and_whiteouts() {
        let device = 0x103;
        for (features, allowed) in [(&[][..], Allow), (&[ProtectedNames], Notify)] {
            for (mode, device, wanted) in [
                (0o644, device, allowed),
                (libc::S_IFREG | 0o644, 0, allowed),
                (libc::S_IFIFO, device, allowed),
                (libc::S_IFSOCK, 0, allowed),
                (libc::S_IFCHR, 0, allowed),
                (libc::S_IFCHR, device, REFUSED),
                (libc::S_IFBLK, 0, REFUSED),
                (libc::S_IFBLK, device, REFUSED),
                (libc::S_IFDIR, 0, REFUSED),
                (libc::S_IFREG | 0o4755, 0, REFUSED),
                (0o2755, 0, REFUSED),
            ] {
                let mode = u64::from(mode) | 0xffff_0000_0000_0000;
                assert_eq!(verdict("mknod", features, &[1, mode, device]), wanted, "{mode:o} {device}");
                assert_eq!(verdict("mknodat", features, &[CWD, 1, mode, device]), wanted, "{mode:o} {device}");
            }
            assert_eq!(verdict("mkdir", features, &[1, 0o1777]), allowed);
            assert_eq!(verdict("mkdirat", features, &[CWD, 1, 0o2777]), REFUSED);
        }
    }

    #[test]
    fn directories_may_lie_on_the_way_to_a_protected_name_but_not_be_it() {
        let trial = Trial::new(&[".git/hooks"]);
        symlink(".git", trial.root.join("alias")).unwrap();
        assert_eq!(trial.errno("mkdir", &[trial.path(".git"), 0o777]), DONE);
        assert_eq!(trial.mode(".git"), 0o755);
        for path in [".git/hooks", ".git/hooks/", "alias/hooks", ".git/../.git/hooks"] {
            assert_eq!(trial.errno("mkdirat", &[CWD, trial.path(path), 0o777]), Errno::EACCES, "{path}");
            assert_eq!(trial.errno("mknod", &[trial.path(path), 0o644, 0]), Errno::EACCES, "{path}");
        }
        assert!(!trial.exists(".git/hooks"));
        assert_eq!(trial.denied()[0], ("mkdirat", ".git/hooks".into()));
        assert_eq!(trial.errno("mkdir", &[trial.path("new/"), 0o777]), DONE);
    }

    #[test]
    fn a_directory_may_look_deleted() {
        let trial = Trial::new(&["d (deleted)/hidden"]);
        fs::create_dir(trial.root.join("d (deleted)")).unwrap();
        assert_eq!(trial.errno("mkdir", &[trial.path("d (deleted)/a"), 0o777]), DONE);
        assert_eq!(trial.errno("mkdir", &[trial.path("d (deleted)/hidden"), 0o777]), Errno::EACCES);
        let mut trial = Trial::new(&["hidden"]);
        let gone = trial.root.join("gone");
        fs::create_dir(&gone).unwrap();
        trial.guest.files.insert(3, fs::File::open(&gone).unwrap().into());
        fs::remove_dir(&gone).unwrap();
        assert_eq!(trial.errno("mkdirat", &[3, trial.path("a"), 0o777]), Errno::ENOENT);
    }

    #[test]
    fn errors_are_the_kernels_own() {
        let trial = Trial::new(&["hidden"]);
        fs::create_dir(trial.root.join("d")).unwrap();
        for (path, wanted) in [("d", Errno::EEXIST), (".", Errno::EEXIST), ("..", Errno::EEXIST), ("/", Errno::EEXIST)]
        {
            assert_eq!(trial.errno("mkdir", &[trial.path(path), 0o777]), wanted, "{path}");
        }
        assert_eq!(trial.errno("mkdir", &[trial.path(""), 0o777]), Errno::ENOENT);
        assert_eq!(trial.errno("mknod", &[trial.path("f/"), 0o644, 0]), Errno::ENOENT);
        assert_eq!(trial.errno("mknod", &[trial.path("dev"), u64::from(libc::S_IFCHR), 0x103]), Errno::EPERM);
        assert_eq!(trial.errno("mknod", &[trial.path("fifo"), u64::from(libc::S_IFIFO | 0o4666), 0]), DONE);
        assert_eq!(trial.mode("fifo"), 0o644);
    }
}
