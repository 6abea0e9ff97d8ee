//! How credentials may change: the kernel's own rules, see credentials(7), capabilities(7), setresuid(2) and capset(2).
//!
//! Nothing here asks for more than the credentials themselves, so that whole sequences of changes can be held against
//! those of the real kernel.

use nix::errno::Errno;

use crate::credentials::{Credentials, EVERY_CAPABILITY, Ids};

const SETGID: u32 = 6;
const SETUID: u32 = 7;
const SETPCAP: u32 = 8;
/// Capabilities about files, which follow the user id that files are accessed with (`CAP_FS_SET`): `CAP_CHOWN` to
/// `CAP_FSETID`, `CAP_LINUX_IMMUTABLE`, `CAP_MKNOD`, `CAP_MAC_OVERRIDE`.
const ABOUT_FILES: u64 = 0b1_1111 | 1 << 9 | 1 << 27 | 1 << 32;

/// Bits of `PR_SET_SECUREBITS`; the lock of each is the bit above it.
const NO_ROOT: u32 = 1 << 0;
const NO_FIXUP: u32 = 1 << 2;
const KEEP: u32 = 1 << 4;
const NO_AMBIENT_RAISE: u32 = 1 << 6;
const ALL_BITS: u32 = 0b0101_0101_0101;
const ALL_LOCKS: u32 = ALL_BITS << 1;
/// Restrictions that programs put on themselves, with their locks: `SECURE_ALL_UNPRIVILEGED`, Linux 6.14.
const UNPRIVILEGED: u32 = 0b1111 << 8;

/// The most supplementary groups (`NGROUPS_MAX`).
pub(super) const MOST_GROUPS: usize = 65536;

/// Three ids as a set*id call gives them; `None` is -1, "leave it".
pub(super) type Three = [Option<u32>; 3];

/// An id as an argument; -1 stands for none.
pub(super) fn given(id: u32) -> Option<u32> {
    (id != u32::MAX).then_some(id)
}

impl Ids {
    fn three(&self) -> [u32; 3] {
        [self.real, self.effective, self.saved]
    }

    /// setuid(2): all three for whoever may, otherwise one of the other two becomes the effective one.
    fn set(&mut self, id: u32, may: bool) -> Result<(), Errno> {
        if may {
            (self.real, self.saved) = (id, id);
        } else if id != self.real && id != self.saved {
            return Err(Errno::EPERM);
        }
        (self.effective, self.file) = (id, id);
        Ok(())
    }

    /// setreuid(2).
    fn set_two(&mut self, real: Option<u32>, effective: Option<u32>, may: bool) -> Result<(), Errno> {
        let old = *self;
        if let Some(real) = real {
            if !may && real != old.real && real != old.effective {
                return Err(Errno::EPERM);
            }
            self.real = real;
        }
        if let Some(effective) = effective {
            if !may && !old.three().contains(&effective) {
                *self = old;
                return Err(Errno::EPERM);
            }
            self.effective = effective;
        }
        if real.is_some() || effective.is_some_and(|effective| effective != old.real) {
            self.saved = self.effective;
        }
        self.file = self.effective;
        Ok(())
    }

    /// setresuid(2). False if nothing was asked for.
    fn set_three(&mut self, ids: Three, may: bool) -> Result<bool, Errno> {
        let old = self.three();
        let same = |index: usize| ids[index].is_none_or(|id| id == old[index]);
        // The kernel does nothing then, and leaves the id for files apart from the effective one.
        if same(0) && same(2) && (ids[1].is_none() || same(1) && self.file == self.effective) {
            return Ok(false);
        }
        if !may && ids.iter().flatten().any(|id| !old.contains(id)) {
            return Err(Errno::EPERM);
        }
        let [real, effective, saved] = ids;
        self.real = real.unwrap_or(self.real);
        self.effective = effective.unwrap_or(self.effective);
        self.saved = saved.unwrap_or(self.saved);
        self.file = self.effective;
        Ok(true)
    }

    /// setfsuid(2): tells what it was, whether it was changed or not.
    fn set_file(&mut self, id: u32, may: bool) -> u32 {
        let old = self.file;
        if id != u32::MAX && (may || id == old || self.three().contains(&id)) {
            self.file = id;
        }
        old
    }
}

impl Credentials {
    fn has(&self, bits: u32) -> bool {
        self.secure_bits & bits != 0
    }

    /// What becomes of capabilities when user ids change to or from 0 (`cap_emulate_setxuid`).
    fn follow_user(&mut self, old: Ids) {
        if self.has(NO_FIXUP) {
            return;
        }
        if old.three().contains(&0) && !self.user.three().contains(&0) {
            if !self.has(KEEP) {
                (self.permitted, self.effective) = (0, 0);
            }
            self.ambient = 0;
        }
        if old.effective == 0 && self.user.effective != 0 {
            self.effective = 0;
        }
        if old.effective != 0 && self.user.effective == 0 {
            self.effective = self.permitted;
        }
    }

    /// setuid(2)
    pub(super) fn set_user(&mut self, id: u32) -> Result<(), Errno> {
        let old = self.user;
        let id = given(id).ok_or(Errno::EINVAL)?;
        self.user.set(id, self.can(SETUID))?;
        self.follow_user(old);
        Ok(())
    }

    /// setreuid(2)
    pub(super) fn set_users(&mut self, real: Option<u32>, effective: Option<u32>) -> Result<(), Errno> {
        let old = self.user;
        self.user.set_two(real, effective, self.can(SETUID))?;
        self.follow_user(old);
        Ok(())
    }

    /// setresuid(2)
    pub(super) fn set_three_users(&mut self, ids: Three) -> Result<(), Errno> {
        let old = self.user;
        if self.user.set_three(ids, self.can(SETUID))? {
            self.follow_user(old);
        }
        Ok(())
    }

    /// setfsuid(2)
    pub(super) fn set_file_user(&mut self, id: u32) -> u32 {
        let old = self.user.set_file(id, self.can(SETUID));
        if !self.has(NO_FIXUP) {
            if old == 0 && self.user.file != 0 {
                self.effective &= !ABOUT_FILES;
            }
            if old != 0 && self.user.file == 0 {
                self.effective |= self.permitted & ABOUT_FILES;
            }
        }
        old
    }

    /// What they are once the process has executed an ordinary program (`cap_bprm_creds_from_file`). The bits that make
    /// programs set-id and capabilities of files have no effect in a sandbox.
    pub fn after_exec(&self) -> Self {
        let mut new = self.clone();
        let root = |id: u32| id == 0 && !self.has(NO_ROOT);
        let all = root(self.user.real) || root(self.user.effective);
        new.permitted = self.ambient | if all { self.bounding | self.inheritable } else { 0 };
        new.effective = if root(self.user.effective) { new.permitted } else { self.ambient };
        for ids in [&mut new.user, &mut new.group] {
            (ids.saved, ids.file) = (ids.effective, ids.effective);
        }
        new.secure_bits &= !KEEP;
        new
    }

    /// setgid(2)
    pub(super) fn set_group(&mut self, id: u32) -> Result<(), Errno> {
        let id = given(id).ok_or(Errno::EINVAL)?;
        self.group.set(id, self.can(SETGID))
    }

    /// setregid(2)
    pub(super) fn set_two_groups(&mut self, real: Option<u32>, effective: Option<u32>) -> Result<(), Errno> {
        self.group.set_two(real, effective, self.can(SETGID))
    }

    /// setresgid(2)
    pub(super) fn set_three_groups(&mut self, ids: Three) -> Result<(), Errno> {
        self.group.set_three(ids, self.can(SETGID)).map(drop)
    }

    /// setfsgid(2)
    pub(super) fn set_file_group(&mut self, id: u32) -> u32 {
        self.group.set_file(id, self.can(SETGID))
    }

    /// Whether setgroups(2) may be called at all: the kernel asks before it looks at the arguments.
    pub(super) fn may_set_groups(&self) -> Result<(), Errno> {
        if self.can(SETGID) { Ok(()) } else { Err(Errno::EPERM) }
    }

    /// setgroups(2); the kernel keeps them in order.
    pub(super) fn set_supplementary(&mut self, mut groups: Vec<u32>) -> Result<(), Errno> {
        self.may_set_groups()?;
        if groups.contains(&u32::MAX) {
            return Err(Errno::EINVAL);
        }
        groups.sort_unstable();
        self.groups = groups;
        Ok(())
    }

    /// capset(2): effective, permitted, inheritable.
    pub(super) fn set_capabilities(&mut self, sets: [u64; 3]) -> Result<(), Errno> {
        let [effective, permitted, inheritable] = sets.map(|set| set & EVERY_CAPABILITY);
        let within = |set: u64, of: u64| set & !of == 0;
        let inherits = self.can(SETPCAP) || within(inheritable, self.inheritable | self.permitted);
        if !inherits
            || !within(inheritable, self.inheritable | self.bounding)
            || !within(permitted, self.permitted)
            || !within(effective, permitted)
        {
            return Err(Errno::EPERM);
        }
        (self.effective, self.permitted, self.inheritable) = (effective, permitted, inheritable);
        self.ambient &= permitted & inheritable;
        Ok(())
    }

    /// `PR_CAPBSET_READ`
    pub(super) fn is_bounded_by(&self, capability: u64) -> Result<bool, Errno> {
        Ok(self.bounding & bit(capability)? != 0)
    }

    /// `PR_CAPBSET_DROP`
    pub(super) fn drop_from_bounding(&mut self, capability: u64) -> Result<(), Errno> {
        if !self.can(SETPCAP) {
            return Err(Errno::EPERM);
        }
        self.bounding &= !bit(capability)?;
        Ok(())
    }

    /// `PR_CAP_AMBIENT_IS_SET`
    pub(super) fn is_ambient(&self, capability: u64) -> Result<bool, Errno> {
        Ok(self.ambient & bit(capability)? != 0)
    }

    /// `PR_CAP_AMBIENT_RAISE`
    pub(super) fn raise_ambient(&mut self, capability: u64) -> Result<(), Errno> {
        let bit = bit(capability)?;
        if self.permitted & self.inheritable & bit == 0 || self.has(NO_AMBIENT_RAISE) {
            return Err(Errno::EPERM);
        }
        self.ambient |= bit;
        Ok(())
    }

    /// `PR_CAP_AMBIENT_LOWER`
    pub(super) fn lower_ambient(&mut self, capability: u64) -> Result<(), Errno> {
        self.ambient &= !bit(capability)?;
        Ok(())
    }

    /// `PR_SET_KEEPCAPS`
    pub(super) fn keep_capabilities(&mut self, keep: u64) -> Result<(), Errno> {
        if keep > 1 {
            return Err(Errno::EINVAL);
        }
        if self.has(KEEP << 1) {
            return Err(Errno::EPERM);
        }
        self.secure_bits = if keep == 1 { self.secure_bits | KEEP } else { self.secure_bits & !KEEP };
        Ok(())
    }

    /// `PR_GET_KEEPCAPS`
    pub(super) fn keeps_capabilities(&self) -> bool {
        self.has(KEEP)
    }

    /// `PR_SET_SECUREBITS`
    pub(super) fn set_secure_bits(&mut self, bits: u64) -> Result<(), Errno> {
        let bits = u32::try_from(bits).map_err(|_| Errno::EPERM)?;
        let (locked, changed) = (self.secure_bits & ALL_LOCKS, self.secure_bits ^ bits);
        if (locked >> 1) & changed != 0 || locked & !bits != 0 || bits & !(ALL_LOCKS | ALL_BITS) != 0 {
            return Err(Errno::EPERM);
        }
        // Without the capability not even what it is already can be set, as ever.
        if !self.can(SETPCAP) && (changed == 0 || changed & !UNPRIVILEGED != 0) {
            return Err(Errno::EPERM);
        }
        self.secure_bits = bits;
        Ok(())
    }
}

/// The bit of a capability. `EINVAL` if there is none with this number.
fn bit(capability: u64) -> Result<u64, Errno> {
    let bit = u32::try_from(capability).ok().and_then(|number| 1_u64.checked_shl(number)).unwrap_or(0);
    if bit & EVERY_CAPABILITY == 0 { Err(Errno::EINVAL) } else { Ok(bit) }
}
