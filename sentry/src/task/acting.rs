//! To be the caller for a while: with a range of ids (`--fake-root=range`) the kernel decides who may do what, so what the
//! supervisor does in a task's stead it does as that task's user, with its groups, and with no capability that it has not.
//!
//! Ids and capabilities belong to the thread in the kernel; the C library, which changes those of all threads, is not asked.
//! Both namespaces map the same ids, so a task's numbers are the supervisor's. A thread that cannot go back ends the
//! supervisor, and the sandbox with it.

use nix::errno::Errno;
use shim::capabilities;
use syscalls::guest::Guest;
use syscalls::reply::Answer;

use super::Task;
use crate::platform::Platform;
use crate::raw;

/// Who the caller is.
#[derive(Debug, PartialEq, Eq)]
struct Caller {
    user: u32,
    group: u32,
    groups: Vec<u32>,
    capabilities: u64,
}

impl Caller {
    /// As proc_pid_status(5) tells it. `EPERM` for a caller whose files are another user's than what it does otherwise, as
    /// file servers are: nobody else can tell which of both is meant.
    fn of(status: &str) -> Result<Self, Errno> {
        let line = |key| status.lines().find_map(|line| line.strip_prefix(key)).ok_or(Errno::ESRCH);
        let numbers = |key| -> Result<Vec<u32>, Errno> {
            let numbers = line(key)?.split_ascii_whitespace().map(|number| number.parse::<u32>());
            numbers.collect::<Result<_, _>>().map_err(|_| Errno::ESRCH)
        };
        let effective = |key| match numbers(key)?[..] {
            [_, effective, _, files] if effective == files => Ok(effective),
            [_, _, _, _] => Err(Errno::EPERM),
            _ => Err(Errno::ESRCH),
        };
        let capabilities = u64::from_str_radix(line("CapEff:")?.trim(), 16).map_err(|_| Errno::ESRCH)?;
        Ok(Self { user: effective("Uid:")?, group: effective("Gid:")?, groups: numbers("Groups:")?, capabilities })
    }
}

/// Who a thread of the supervisor is while it acts for nobody: root, or, in a container without one, whoever made it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resting {
    /// Its user.
    pub user: u32,
    /// Its group.
    pub group: u32,
    /// Its supplementary groups. Where the kernel lets nobody change them, the guest has the same.
    pub groups: Vec<u32>,
}

/// A thread that is its caller.
struct Acting<'a>(&'a Resting);

impl<'a> Acting<'a> {
    fn begin(resting: &'a Resting, caller: &Caller) -> Result<Self, Errno> {
        let acting = Self(resting);
        capabilities::change_ids()?;
        if caller.groups != resting.groups {
            raw::set_own_groups(&caller.groups)?;
        }
        raw::set_own_effective_group(caller.group)?;
        raw::set_own_effective_user(caller.user)?;
        capabilities::act_with(caller.capabilities)?;
        Ok(acting)
    }

    fn end(&self) -> Result<(), Errno> {
        // The real id is still ours, so this needs no capability.
        raw::set_own_effective_user(self.0.user)?;
        capabilities::change_ids()?;
        raw::set_own_effective_group(self.0.group)?;
        if nix::unistd::getgroups()?.iter().map(|group| group.as_raw()).ne(self.0.groups.iter().copied()) {
            raw::set_own_groups(&self.0.groups)?;
        }
        capabilities::rest()
    }
}

impl Drop for Acting<'_> {
    fn drop(&mut self) {
        if self.end().is_err() {
            shim::sys::exit_now(125);
        }
    }
}

impl<P: Platform> Task<'_, P> {
    pub(super) fn act_as_caller(&self, act: &mut dyn FnMut() -> Answer) -> Answer {
        let caller = Caller::of(&self.status()?)?;
        // A thread that is started now, to answer others, must not be the caller too.
        let follows = self.may_wait();
        self.wait_or_leave()?;
        self.acting.set(Some(follows));
        let acting = Acting::begin(&self.shared.resting, &caller);
        let answer = acting.map(|_acting| act());
        self.acting.set(None);
        answer?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_is_told_by_its_status() {
        let status = "Name:\tx\nUid:\t0\t33\t0\t33\nGid:\t0\t34\t0\t34\nGroups:\t4 20 \nCapEff:\t000000000000000a\n";
        let caller = Caller { user: 33, group: 34, groups: vec![4, 20], capabilities: 10 };
        assert_eq!(Caller::of(status), Ok(caller));
        assert_eq!(Caller::of(&status.replace("0\t33\t0\t33", "0\t0\t0\t33")), Err(Errno::EPERM));
        assert_eq!(Caller::of(&status.replace("CapEff", "CapEfg")), Err(Errno::ESRCH));
        assert_eq!(Caller::of(&status.replace("4 20 ", "")).map(|caller| caller.groups), Ok(vec![]));
    }
}
