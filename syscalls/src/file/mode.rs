//! `chmod(2)` and `umask(2)`: permissions, of which the set-id bits are never given.
//!
//! A set-id file made inside would be obeyed outside. The mode is a register in all of these, so the filter can tell. Under
//! `--fake-root` they are written down and told ([`pretend`]).

use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;
use nix::sys::stat::{
    FchmodatFlags, Mode as Permissions, SFlag, fchmod as kernels_fchmod, fchmodat as kernels_fchmodat, fstat,
};

use super::SET_ID;
use super::judge::{self, Use};
use super::named::{EMPTY_PATH, NO_FOLLOW, Named};
use super::object::kind;
use super::open::set_id_bits;
use super::{pretend, reopen};
use crate::args::{DirFd, Fd, Flags, Mode, PathPtr};
use crate::guest::Guest;
use crate::reply::{Answer, Reply};
use crate::sys;
use crate::table::Verdict::{Fail, Notify};
use crate::table::{Check, Op, Test};

crate::syscalls! {
    /// Changes the permissions of a file.
    /// Fails with `EPERM` for set-id bits.
    /// Limit: set-group-id cannot be given to directories either; new files there do not inherit the group.
    /// Limit: under `--fake-root=range` set-id bits are left out and the rest is done as the caller's user; `EPERM` for a caller whose user for files is another than its effective one.
    /// Limit: under `--fake-root` all bits are told as they were set, by the pretended owner or root, but set-id bits are never on disk; they stay when the file is written to, and setting an access list changes none that are only pretended.
    chmod(path: PathPtr, mode: Mode) File Default Filter(SECOND) {
        FakeRoot => Emulate(chmod),
        RealIds => Emulate(chmod) when SECOND_STRIPPED,
        PathCalls => Emulate(chmod) when SECOND_JUDGED,
        Container => Allow,
    };
    /// Changes the permissions of an open file.
    /// Fails with `EPERM` for set-id bits.
    /// Limit: as for `chmod`.
    fchmod(file: Fd, mode: Mode) File Default Filter(SECOND) {
        FakeRoot => Emulate(fchmod),
        RealIds => Emulate(fchmod) when SECOND_STRIPPED,
        PathRules => Emulate(fchmod) when SECOND_JUDGED,
        Container => Allow,
    };
    /// Changes the permissions of a file, relative to a directory.
    /// Fails with `EPERM` for set-id bits.
    /// Limit: as for `chmod`.
    fchmodat(dir: DirFd, path: PathPtr, mode: Mode) File Default Filter(THIRD) {
        FakeRoot => Emulate(fchmodat),
        RealIds => Emulate(fchmodat) when THIRD_STRIPPED,
        PathCalls => Emulate(fchmodat) when THIRD_JUDGED,
        Container => Allow,
    };
    /// Changes the permissions of a file or link, relative to a directory.
    /// Fails with `EPERM` for set-id bits.
    /// Limit: as for `chmod`.
    fchmodat2(dir: DirFd, path: PathPtr, mode: Mode, flags: Flags) File Default Filter(THIRD) {
        FakeRoot => Emulate(fchmodat2),
        RealIds => Emulate(fchmodat2) when THIRD_STRIPPED,
        PathCalls => Emulate(fchmodat2) when THIRD_JUDGED,
        Container => Allow,
    };
    /// Sets which permissions new files do not get.
    umask(mode: Mode) File Judge Allow;
}

const SECOND: &[Check] = &[Check { all: &[Test { arg: 1, op: Op::AnyOf(SET_ID) }], then: Fail(Errno::EPERM) }];
const THIRD: &[Check] = &[Check { all: &[Test { arg: 2, op: Op::AnyOf(SET_ID) }], then: Fail(Errno::EPERM) }];
const SECOND_STRIPPED: &[Check] = &[Check { all: &[Test { arg: 1, op: Op::AnyOf(SET_ID) }], then: Notify }];
const THIRD_STRIPPED: &[Check] = &[Check { all: &[Test { arg: 2, op: Op::AnyOf(SET_ID) }], then: Notify }];
const SECOND_JUDGED: &[Check] = &[
    Check { all: &[Test { arg: 1, op: Op::AnyOf(SET_ID) }], then: Fail(Errno::EPERM) },
    Check { all: &[], then: Notify },
];
const THIRD_JUDGED: &[Check] = &[
    Check { all: &[Test { arg: 2, op: Op::AnyOf(SET_ID) }], then: Fail(Errno::EPERM) },
    Check { all: &[], then: Notify },
];

fn chmod(guest: &dyn Guest, path: PathPtr, mode: Mode) -> Answer {
    set_mode(guest, &Named::copy(guest, "chmod", DirFd::CWD, path)?, mode)
}

fn fchmodat(guest: &dyn Guest, dir: DirFd, path: PathPtr, mode: Mode) -> Answer {
    set_mode(guest, &Named::copy(guest, "fchmodat", dir, path)?, mode)
}

fn fchmodat2(guest: &dyn Guest, dir: DirFd, path: PathPtr, mode: Mode, flags: Flags) -> Answer {
    set_mode(guest, &Named::with_flags(guest, "fchmodat2", dir, path, flags, NO_FOLLOW | EMPTY_PATH)?, mode)
}

fn set_mode(guest: &dyn Guest, named: &Named, mode: Mode) -> Answer {
    guest.as_itself(&mut || set_mode_of(guest, named, mode))
}

fn set_mode_of(guest: &dyn Guest, named: &Named, mode: Mode) -> Answer {
    let object = named.object(Use::Change)?;
    // Links have no permissions of their own; the entry below would lead on to nowhere.
    if kind(&fstat(&object)?) == SFlag::S_IFLNK {
        sys::set_mode_of_link(object.as_fd(), permissions(mode).bits())?;
        return Ok(Reply::Return(0));
    }
    if guest.rules().fake_root {
        pretend::change::mode(guest, &object, mode.0)?;
        return Ok(Reply::Return(0));
    }
    let entry = object.as_raw_fd().to_string();
    kernels_fchmodat(guest.descriptors()?, entry.as_str(), permissions(mode), FchmodatFlags::FollowSymlink)?;
    Ok(Reply::Return(0))
}

fn fchmod(guest: &dyn Guest, file: Fd, mode: Mode) -> Answer {
    let file = guest.duplicate(file)?;
    judge::object(guest, "fchmod", &file, Use::Change)?;
    reopen::may_copy(guest, &file)?;
    if guest.rules().fake_root {
        pretend::is_open(&file)?;
        pretend::change::mode(guest, &file, mode.0)?;
        return Ok(Reply::Return(0));
    }
    guest.as_itself(&mut || {
        kernels_fchmod(&file, permissions(mode))?;
        Ok(Reply::Return(0))
    })
}

fn permissions(mode: Mode) -> Permissions {
    Permissions::from_bits_truncate(mode.0) - set_id_bits()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::trial::{CWD, verdict};
    use crate::table::Verdict::Allow;

    #[test]
    fn with_real_ids_only_set_id_bits_are_the_sentrys() {
        use crate::table::Feature::RealIds;
        assert_eq!(verdict("chmod", &[RealIds], &[1, 0o4755]), Notify);
        assert_eq!(verdict("fchmodat2", &[RealIds], &[CWD, 1, 0o2755, 0]), Notify);
        assert_eq!(verdict("fchmod", &[RealIds], &[3, 0o1777]), Allow);
        assert_eq!(verdict("mkdir", &[RealIds], &[1, 0o2755]), Fail(Errno::EPERM));
        for call in
            ["getuid", "setresuid", "setgroups", "capset", "newfstatat", "statx", "fchownat", "openat", "rename"]
        {
            assert_eq!(verdict(call, &[RealIds], &[]), Allow, "{call} costs nothing");
        }
        assert_eq!(verdict("openat2", &[RealIds], &[]), Fail(Errno::ENOSYS));
    }

    #[test]
    fn no_call_gives_set_id_bits() {
        for mode in [0o4755, 0o2755, 0o6000, 0o4000 | 0xffff_ffff_0000_0000] {
            assert_eq!(verdict("chmod", &[], &[1, mode]), Fail(Errno::EPERM));
            assert_eq!(verdict("fchmod", &[], &[3, mode]), Fail(Errno::EPERM));
            assert_eq!(verdict("fchmodat", &[], &[CWD, 1, mode]), Fail(Errno::EPERM));
            assert_eq!(verdict("fchmodat2", &[], &[CWD, 1, mode, 0]), Fail(Errno::EPERM));
        }
        assert_eq!(verdict("chmod", &[], &[1, 0o1777 | 0x6000_0000_0000_0000]), Allow);
    }
}
