//! Owners of files, as the guest numbers them and as the sentry does.
//!
//! Both act as the same user of the host, but in two user namespaces, one inside the other: where the guest is, that user
//! has the guest's id, and where the sentry is, it is 0 (user_namespaces(7)). Every other id is missing in both, and the
//! kernel shows 65534 for it. The sentry cannot move into the guest's namespace instead: its threads would then count
//! against the guest's limit on processes, which is counted per user *and* namespace. So whatever carries an id across is
//! translated here: the answers of the stat family, the arguments of the chown family, and access control lists.

use std::ffi::CStr;
use std::mem::offset_of;

/// The guest's user, wherever the sentry names it.
const OURS: u32 = 0;
/// "Leave as it is" in a chown, "nobody in particular" in an access control list.
const NONE: u32 = u32::MAX;
/// Any id that the sentry's namespace does not have: what the kernel says of it, it would say of the guest's.
const UNMAPPED: u32 = 1;

/// The ids that the guest's own files have for the guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    /// The user.
    pub user: u32,
    /// The group.
    pub group: u32,
}

/// An id that the kernel told the sentry, for the guest.
fn shown(id: u32, guests: u32) -> u32 {
    if id == OURS { guests } else { id }
}

/// An id that the guest gave, for the kernel to be told by the sentry.
fn given(id: u32, guests: u32) -> u32 {
    match id {
        NONE => NONE,
        id if id == guests => OURS,
        OURS => UNMAPPED,
        id => id,
    }
}

impl Owner {
    /// The arguments of a chown.
    pub(crate) fn given(self, user: u32, group: u32) -> (u32, u32) {
        (given(user, self.user), given(group, self.group))
    }

    /// Translates the owner in a `struct stat`.
    pub(crate) fn show_in_stat(self, stat: &mut [u8; size_of::<libc::stat>()]) {
        replace(stat, offset_of!(libc::stat, st_uid), |id| shown(id, self.user));
        replace(stat, offset_of!(libc::stat, st_gid), |id| shown(id, self.group));
    }

    /// Translates the owner in a `struct statx`.
    pub(crate) fn show_in_statx(self, statx: &mut [u8; size_of::<libc::statx>()]) {
        replace(statx, offset_of!(libc::statx, stx_uid), |id| shown(id, self.user));
        replace(statx, offset_of!(libc::statx, stx_gid), |id| shown(id, self.group));
    }

    /// Translates the value of the attribute `name` as it was read.
    pub(crate) fn show_in_attribute(self, name: &CStr, value: &mut [u8]) {
        in_list(name, value, |id| shown(id, self.user), |id| shown(id, self.group));
    }

    /// Translates the value of the attribute `name` before it is set.
    pub(crate) fn give_in_attribute(self, name: &CStr, value: &mut [u8]) {
        in_list(name, value, |id| given(id, self.user), |id| given(id, self.group));
    }
}

/// Replaces the `u32` at `at`, if it is there.
fn replace(bytes: &mut [u8], at: usize, by: impl Fn(u32) -> u32) {
    if let Some(Ok(place)) = bytes.get_mut(at..at + 4).map(<&mut [u8; 4]>::try_from) {
        *place = by(u32::from_ne_bytes(*place)).to_ne_bytes();
    }
}

/// `struct posix_acl_xattr_header`: a version.
const HEADER: usize = 4;
/// `struct posix_acl_xattr_entry`: a tag and permissions of two bytes each, an id of four.
const ENTRY: usize = 8;
/// Tags of entries whose id counts: `ACL_USER` and `ACL_GROUP`.
const USER: u16 = 0x02;
const GROUP: u16 = 0x08;

/// Translates the ids in an access control list, acl(5); its numbers are little-endian on every machine.
fn in_list(name: &CStr, value: &mut [u8], user: impl Fn(u32) -> u32, group: impl Fn(u32) -> u32) {
    if !matches!(name.to_bytes(), b"system.posix_acl_access" | b"system.posix_acl_default") {
        return;
    }
    for entry in value.get_mut(HEADER..).unwrap_or_default().chunks_exact_mut(ENTRY) {
        match u16::from_le_bytes([entry[0], entry[1]]) {
            USER => replace(entry, 4, |id| user(u32::from_le(id)).to_le()),
            GROUP => replace(entry, 4, |id| group(u32::from_le(id)).to_le()),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUEST: Owner = Owner { user: 1000, group: 100 };
    const ACCESS: &CStr = c"system.posix_acl_access";

    #[test]
    fn own_files_are_the_guests_and_nobody_elses_are() {
        let mut stat = [0; size_of::<libc::stat>()];
        GUEST.show_in_stat(&mut stat);
        let id = |at: usize| u32::from_ne_bytes(std::array::from_fn(|index| stat[at + index]));
        assert_eq!((id(offset_of!(libc::stat, st_uid)), id(offset_of!(libc::stat, st_gid))), (1000, 100));
        assert_eq!(stat.iter().filter(|byte| **byte != 0).count(), 3);

        let mut statx = [0; size_of::<libc::statx>()];
        let (user, group) = (offset_of!(libc::statx, stx_uid), offset_of!(libc::statx, stx_gid));
        statx[group..group + 4].copy_from_slice(&65534_u32.to_ne_bytes());
        GUEST.show_in_statx(&mut statx);
        assert_eq!(statx[user..user + 4], 1000_u32.to_ne_bytes());
        assert_eq!(statx[group..group + 4], 65534_u32.to_ne_bytes());
    }

    #[test]
    fn a_chown_to_the_guest_is_one_to_us_and_no_other() {
        assert_eq!(GUEST.given(1000, 100), (OURS, OURS));
        assert_eq!(GUEST.given(NONE, NONE), (NONE, NONE));
        assert_eq!(GUEST.given(100, 1000), (100, 1000), "not mapped here either");
        assert_eq!(GUEST.given(0, 0), (UNMAPPED, UNMAPPED), "not the guest's root, for there is none");
        assert_eq!(Owner { user: 0, group: 0 }.given(0, 0), (OURS, OURS));
    }

    fn list(entries: &[(u16, u32)]) -> Vec<u8> {
        let mut bytes = 2_u32.to_le_bytes().to_vec();
        for (tag, id) in entries {
            bytes.extend([tag.to_le_bytes(), 7_u16.to_le_bytes()].concat());
            bytes.extend(id.to_le_bytes());
        }
        bytes
    }

    #[test]
    fn lists_name_users_and_groups_as_the_guest_knows_them() {
        let (object, other) = (0x01, 0x20);
        let theirs = list(&[(object, NONE), (USER, 1000), (USER, 0), (GROUP, 100), (GROUP, 1000), (other, NONE)]);
        let ours = list(&[(object, NONE), (USER, OURS), (USER, UNMAPPED), (GROUP, OURS), (GROUP, 1000), (other, NONE)]);
        let mut value = theirs.clone();
        GUEST.give_in_attribute(ACCESS, &mut value);
        assert_eq!(value, ours);

        let mut value = list(&[(USER, OURS), (USER, NONE), (GROUP, OURS), (other, 0)]);
        GUEST.show_in_attribute(c"system.posix_acl_default", &mut value);
        assert_eq!(value, list(&[(USER, 1000), (USER, NONE), (GROUP, 100), (other, 0)]));

        let mut value = theirs.clone();
        GUEST.give_in_attribute(c"user.posix_acl_access", &mut value);
        assert_eq!(value, theirs, "any other attribute is bytes");
    }

    #[test]
    fn a_list_cut_anywhere_is_no_mishap() {
        let whole = list(&[(USER, 1000), (GROUP, 100)]);
        for length in 0..whole.len() {
            let mut value = whole[..length].to_vec();
            GUEST.give_in_attribute(ACCESS, &mut value);
            GUEST.show_in_attribute(ACCESS, &mut value);
            assert_eq!(value, whole[..length]);
        }
    }
}
