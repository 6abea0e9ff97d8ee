//! `chmod(2)` and `umask(2)`: permissions, of which the set-id bits are never given.
//!
//! A set-id file made inside would be obeyed outside. The mode is a register in all of these, so the filter can tell.

use nix::errno::Errno;

use super::SET_ID;
use crate::table::Verdict::Fail;
use crate::table::{Check, Op, Test};

crate::syscalls! {
    /// Changes the permissions of a file.
    /// Fails with `EPERM` for set-id bits.
    /// Limit: set-group-id cannot be given to directories either; new files there do not inherit the group.
    chmod(path: PathPtr, mode: Mode) File Default Filter(SECOND);
    /// Changes the permissions of an open file.
    /// Fails with `EPERM` for set-id bits.
    /// Limit: as for `chmod`.
    fchmod(file: Fd, mode: Mode) File Default Filter(SECOND);
    /// Changes the permissions of a file, relative to a directory.
    /// Fails with `EPERM` for set-id bits.
    /// Limit: as for `chmod`.
    fchmodat(dir: DirFd, path: PathPtr, mode: Mode) File Default Filter(THIRD);
    /// Changes the permissions of a file or link, relative to a directory.
    /// Fails with `EPERM` for set-id bits.
    /// Limit: as for `chmod`.
    fchmodat2(dir: DirFd, path: PathPtr, mode: Mode, flags: Flags) File Default Filter(THIRD);
    /// Sets which permissions new files do not get.
    umask(mode: Mode) File Judge Allow;
}

const SECOND: &[Check] = &[Check { all: &[Test { arg: 1, op: Op::AnyOf(SET_ID) }], then: Fail(Errno::EPERM) }];
const THIRD: &[Check] = &[Check { all: &[Test { arg: 2, op: Op::AnyOf(SET_ID) }], then: Fail(Errno::EPERM) }];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::trial::{CWD, verdict};
    use crate::table::Verdict::Allow;

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
