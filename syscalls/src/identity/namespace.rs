//! Pretended user namespaces (`--userns emulate`), see user_namespaces(7).
//!
//! A program that makes a user namespace mostly wants to be root in it, for itself. So its credentials say what they would
//! say there: nobody with every capability at first, and whoever its id map makes of it once that is written. The map is
//! a file in memory that stands in the place of `/proc/self/uid_map`; it is read when somebody asks who the process is.
//! The kernel knows nothing of it, and every other kind of namespace is refused: a program must not take itself for isolated
//! when it is not.

use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::libc;

use super::change;
use crate::args::Flags;
use crate::credentials::{Credentials, EVERY_CAPABILITY, Ids, Unmapped};
use crate::guest::Guest;
use crate::reply::{Answer, Reply};

/// What an id is shown as that the namespace does not map (`/proc/sys/kernel/overflowuid`).
const NOBODY: u32 = 65534;

/// Whether these flags ask for a user namespace and for no other.
pub(crate) fn is_user_only(flags: Flags) -> bool {
    const KINDS: u32 = 0x7E02_0080;
    flags.0 & KINDS == libc::CLONE_NEWUSER.cast_unsigned()
}

/// `unshare(CLONE_NEWUSER)`, for a guest whose policy lets it pretend.
pub(crate) fn unshare(guest: &dyn Guest) -> Answer {
    change(guest, |credentials| {
        let [user, group] = [credentials.user.effective, credentials.group.effective];
        *credentials = Credentials {
            user_map: Some(Unmapped { outer: user, map: None }),
            group_map: Some(Unmapped { outer: group, map: None }),
            user: all(NOBODY),
            group: all(NOBODY),
            groups: credentials.groups.iter().map(|_| NOBODY).collect(),
            inheritable: 0,
            ambient: 0,
            effective: EVERY_CAPABILITY,
            permitted: EVERY_CAPABILITY,
            bounding: EVERY_CAPABILITY,
            secure_bits: 0,
        };
        Ok(())
    })?;
    Ok(Reply::Return(0))
}

fn all(id: u32) -> Ids {
    Ids { real: id, effective: id, saved: id, file: id }
}

/// What stands in the place of a file that maps ids, when `object` is the caller's own and is opened to be written.
/// `None`: it is another file, or the caller is in no pretended namespace.
pub(crate) fn map_file(guest: &dyn Guest, object: &OwnedFd) -> Result<Option<OwnedFd>, Errno> {
    let label = guest.label_of(object)?;
    let Some((process, name)) = label.to_str().and_then(|label| label.strip_prefix("/proc/")?.split_once('/')) else {
        return Ok(None);
    };
    let own = || Ok::<_, Errno>(process == guest.own_ids()?.0.to_string());
    let kind = match name {
        "uid_map" => Some(Kind::User),
        "gid_map" => Some(Kind::Group),
        "setgroups" => None,
        _ => return Ok(None),
    };
    let credentials = guest.credentials()?;
    let pretends = credentials.user_map.is_some() || credentials.group_map.is_some();
    if !pretends || !own()? {
        return Ok(None);
    }
    let Some(kind) = kind else {
        // Nothing depends on what is written there: groups are pretended in any case.
        return guest.new_map().map(|(_, file)| Some(file));
    };
    let (number, file) = guest.new_map()?;
    change(guest, |credentials| {
        let place = match kind {
            Kind::User => &mut credentials.user_map,
            Kind::Group => &mut credentials.group_map,
        };
        // Like the kernel's, it is written once.
        let unmapped = place.as_mut().filter(|unmapped| unmapped.map.is_none()).ok_or(Errno::EPERM)?;
        unmapped.map = Some(number);
        Ok(())
    })?;
    Ok(Some(file))
}

enum Kind {
    User,
    Group,
}

impl Credentials {
    /// These credentials with what the maps of their namespace say by now; `read` gives the text of a map.
    pub fn mapped(mut self, read: impl Fn(u32) -> Option<String>) -> Self {
        let inside = |place: &mut Option<Unmapped>| {
            let unmapped = place.as_ref()?;
            let inside = shown(&read(unmapped.map?)?, unmapped.outer)?;
            *place = None;
            Some(inside)
        };
        if let Some(user) = inside(&mut self.user_map) {
            self.user = all(user);
        }
        if let Some(group) = inside(&mut self.group_map) {
            self.group = all(group);
        }
        self
    }
}

/// What `outer` is called inside, by a map of lines `INSIDE OUTSIDE COUNT`. `None`: nothing is written yet, or no line is
/// about it.
fn shown(map: &str, outer: u32) -> Option<u32> {
    map.lines().find_map(|line| {
        let mut numbers = line.split_ascii_whitespace().map(|number| number.parse::<u32>().ok());
        let (inside, outside, count) = (numbers.next()??, numbers.next()??, numbers.next()??);
        let offset = outer.checked_sub(outside).filter(|offset| *offset < count)?;
        inside.checked_add(offset)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::FakeGuest;

    #[test]
    fn whoever_makes_a_namespace_is_nobody_until_its_map_is_written() {
        let guest = FakeGuest::default();
        guest.pretend(Credentials::ordinary(1001, 100)).expect("pretends");
        unshare(&guest).expect("unshares");
        let nobody = (*guest.credentials().expect("has some")).clone();
        assert_eq!((nobody.user, nobody.group, nobody.effective), (all(NOBODY), all(NOBODY), EVERY_CAPABILITY));

        let mut opened = nobody.clone();
        opened.user_map = Some(Unmapped { outer: 1001, map: Some(7) });
        assert_eq!(opened.clone().mapped(|_| Some(String::new())), opened, "nothing is written yet");
        let root = opened.mapped(|number| (number == 7).then(|| "         0       1001          1\n".to_owned()));
        assert_eq!((root.user, root.group, root.user_map), (all(0), all(NOBODY), None));
    }

    #[test]
    fn a_map_is_about_its_own_ids() {
        assert_eq!(shown("0 1001 1", 1001), Some(0));
        assert_eq!(shown("5 1000 10\n", 1001), Some(6));
        assert_eq!(shown("0 0 1\n1000 1001 1\n", 1001), Some(1000));
        for nonsense in ["", "0", "0 1001", "0 1001 0", "0 1002 9", "x 1001 1", "-1 1001 1", "4294967295 1000 2"] {
            assert_eq!(shown(nonsense, 1001), None, "{nonsense}");
        }
    }

    #[test]
    fn only_a_user_namespace_alone_is_pretended() {
        let flags = |flags: i32| Flags(flags.cast_unsigned());
        assert!(is_user_only(flags(libc::CLONE_NEWUSER)));
        assert!(is_user_only(flags(libc::CLONE_NEWUSER | libc::CLONE_FS)));
        for other in [libc::CLONE_NEWNS, libc::CLONE_NEWPID, libc::CLONE_NEWNET, 0x80] {
            assert!(!is_user_only(flags(other)) && !is_user_only(flags(other | libc::CLONE_NEWUSER)));
        }
    }
}
