//! Who one is, under `--fake-root`: users, groups and supplementary groups.

use nix::errno::Errno;

use super::change::{MOST_GROUPS, Three, given};
use super::{change, success};
use crate::args::{Id, Int, UserPtr};
use crate::credentials::Ids;
use crate::guest::Guest;
use crate::reply::{Answer, Reply};

fn id(id: u32) -> Answer {
    Ok(Reply::Return(id.into()))
}

pub(super) fn getuid(guest: &dyn Guest) -> Answer {
    id(guest.credentials()?.user.real)
}

pub(super) fn geteuid(guest: &dyn Guest) -> Answer {
    id(guest.credentials()?.user.effective)
}

pub(super) fn getgid(guest: &dyn Guest) -> Answer {
    id(guest.credentials()?.group.real)
}

pub(super) fn getegid(guest: &dyn Guest) -> Answer {
    id(guest.credentials()?.group.effective)
}

/// Writes three ids one after the other, as the kernel does.
fn tell(guest: &dyn Guest, ids: Ids, [real, effective, saved]: [UserPtr; 3]) -> Answer {
    for (place, id) in [(real, ids.real), (effective, ids.effective), (saved, ids.saved)] {
        guest.write(place, &id.to_ne_bytes())?;
    }
    Ok(Reply::Return(0))
}

pub(super) fn getresuid(guest: &dyn Guest, real: UserPtr, effective: UserPtr, saved: UserPtr) -> Answer {
    tell(guest, guest.credentials()?.user, [real, effective, saved])
}

pub(super) fn getresgid(guest: &dyn Guest, real: UserPtr, effective: UserPtr, saved: UserPtr) -> Answer {
    tell(guest, guest.credentials()?.group, [real, effective, saved])
}

pub(super) fn getgroups(guest: &dyn Guest, count: Int, groups: UserPtr) -> Answer {
    let credentials = guest.credentials()?;
    let room = usize::try_from(count.0).map_err(|_| Errno::EINVAL)?;
    if room > 0 {
        if credentials.groups.len() > room {
            return Err(Errno::EINVAL);
        }
        let bytes: Vec<u8> = credentials.groups.iter().flat_map(|group| group.to_ne_bytes()).collect();
        guest.write(groups, &bytes)?;
    }
    Ok(Reply::Return(i64::try_from(credentials.groups.len()).map_err(|_| Errno::EIO)?))
}

pub(super) fn setgroups(guest: &dyn Guest, count: Int, groups: UserPtr) -> Answer {
    guest.credentials()?.may_set_groups()?;
    let count = usize::try_from(count.0).ok().filter(|count| *count <= MOST_GROUPS).ok_or(Errno::EINVAL)?;
    let mut bytes = vec![0; count * size_of::<u32>()];
    if count > 0 {
        guest.read(groups, &mut bytes)?;
    }
    let groups = bytes.chunks_exact(4).map(|id| u32::from_ne_bytes([id[0], id[1], id[2], id[3]])).collect();
    success(change(guest, |credentials| credentials.set_supplementary(groups)))
}

pub(super) fn setuid(guest: &dyn Guest, user: Id) -> Answer {
    success(change(guest, |credentials| credentials.set_user(user.0)))
}

pub(super) fn setgid(guest: &dyn Guest, group: Id) -> Answer {
    success(change(guest, |credentials| credentials.set_group(group.0)))
}

pub(super) fn setreuid(guest: &dyn Guest, real: Id, effective: Id) -> Answer {
    success(change(guest, |credentials| credentials.set_users(given(real.0), given(effective.0))))
}

pub(super) fn setregid(guest: &dyn Guest, real: Id, effective: Id) -> Answer {
    success(change(guest, |credentials| credentials.set_two_groups(given(real.0), given(effective.0))))
}

fn three(ids: [Id; 3]) -> Three {
    ids.map(|id| given(id.0))
}

pub(super) fn setresuid(guest: &dyn Guest, real: Id, effective: Id, saved: Id) -> Answer {
    success(change(guest, |credentials| credentials.set_three_users(three([real, effective, saved]))))
}

pub(super) fn setresgid(guest: &dyn Guest, real: Id, effective: Id, saved: Id) -> Answer {
    success(change(guest, |credentials| credentials.set_three_groups(three([real, effective, saved]))))
}

pub(super) fn setfsuid(guest: &dyn Guest, user: Id) -> Answer {
    id(change(guest, |credentials| Ok(credentials.set_file_user(user.0)))?)
}

pub(super) fn setfsgid(guest: &dyn Guest, group: Id) -> Answer {
    id(change(guest, |credentials| Ok(credentials.set_file_group(group.0)))?)
}
