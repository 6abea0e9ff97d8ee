//! All credentials that processes of the sandbox pretend to have (`--fake-root`), and which of them a process has.
//!
//! Each different set is kept once, under a number, for the rest of the run. The number of a process's own is kept by the
//! kernel, as its soft limit `RLIMIT_RTTIME`: fork copies it, exec keeps it, and it outlives the parent that it came from,
//! just as credentials do; nothing has to be seen of a fork. The limit itself means nothing here, for no process of the
//! sandbox can become a real-time task, and the filter keeps the guest from reading or setting it.
//!
//! Only an exec changes credentials without a word to us. Where it would, the number also stands for the program that they
//! were set in: a process that has another by now has executed it since.
//!
//! These numbers are no secret and no boundary: credentials that are pretended grant nothing (see
//! [`credentials`](syscalls::credentials)).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hashbrown::HashMap;
use nix::errno::Errno;
use nix::libc;
use syscalls::credentials::Credentials;

/// The limit of a process that is root as at the start.
const ROOT: u64 = libc::RLIM_INFINITY;
/// The limit for the first entry; each unit would be a microsecond of real-time work.
const FIRST: u64 = 1 << 40;
/// Different credentials at most.
const MOST: usize = 65536;
/// Supplementary groups of all of them together at most.
const MOST_GROUPS: usize = 1 << 22;

/// The table.
#[derive(Debug, Default)]
pub struct Pretended {
    table: Mutex<Table>,
    limits: Mutex<()>,
}

/// What tells one execution of a program from another; the same for everything that is forked from it.
pub type Image = u64;

/// What a number stands for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Known {
    /// The credentials as they were set.
    pub credentials: Arc<Credentials>,
    /// In which program, if executing another changes them.
    pub set_in: Option<Image>,
}

#[derive(Debug, Default)]
struct Table {
    entries: Vec<Known>,
    numbers: HashMap<Known, usize>,
    groups: usize,
    root: Known,
}

impl Pretended {
    /// What a process with this limit pretends to be. One that never came from us, as init's may be, is root's.
    pub fn of_limit(&self, limit: u64) -> Known {
        let table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let number = limit.checked_sub(FIRST).and_then(|number| usize::try_from(number).ok());
        number.and_then(|number| table.entries.get(number)).unwrap_or(&table.root).clone()
    }

    /// The limit of a process that pretends to be this from now on, in the program that `image` tells. `ENOMEM` when there
    /// are too many different ones.
    pub fn limit_for(
        &self,
        credentials: Credentials,
        image: impl FnOnce() -> Result<Image, Errno>,
    ) -> Result<u64, Errno> {
        let set_in = if credentials.after_exec() == credentials { None } else { Some(image()?) };
        let known = Known { credentials: Arc::new(credentials), set_in };
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if known == table.root {
            return Ok(ROOT);
        }
        if let Some(number) = table.numbers.get(&known) {
            return Ok(FIRST + *number as u64);
        }
        let (number, groups) = (table.entries.len(), table.groups + known.credentials.groups.len());
        if number >= MOST || groups > MOST_GROUPS {
            return Err(Errno::ENOMEM);
        }
        table.groups = groups;
        table.entries.push(known.clone());
        table.numbers.insert(known, number);
        Ok(FIRST + number as u64)
    }

    /// Alone with the limits of all processes: held while one is looked at and set.
    pub fn alone(&self) -> MutexGuard<'_, ()> {
        self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use syscalls::credentials::Ids;

    use super::*;

    fn somebody(user: u32) -> Credentials {
        let user = Ids { real: user, effective: user, saved: user, file: user };
        Credentials { user, permitted: 0, effective: 0, ..Credentials::default() }
    }

    fn nowhere() -> Result<Image, Errno> {
        panic!("it does not matter")
    }

    #[test]
    fn each_is_kept_once() {
        let table = Pretended::default();
        assert_eq!(table.limit_for(Credentials::default(), nowhere), Ok(ROOT));
        assert_eq!(*table.of_limit(ROOT).credentials, Credentials::default());
        let limits: Vec<u64> = [33, 34, 33].map(|user| table.limit_for(somebody(user), nowhere).unwrap()).to_vec();
        assert_eq!(limits, [FIRST, FIRST + 1, FIRST]);
        assert_eq!(*table.of_limit(FIRST + 1).credentials, somebody(34));
        for unknown in [0, 1, FIRST - 1, FIRST + 2, ROOT - 1] {
            assert_eq!(table.of_limit(unknown), Known::default(), "{unknown}");
        }
    }

    #[test]
    fn what_an_exec_changes_belongs_to_a_program() {
        let table = Pretended::default();
        let kept = || Credentials { permitted: 1, ..somebody(33) };
        let limits: Vec<u64> = [5, 6, 5].map(|image| table.limit_for(kept(), || Ok(image)).unwrap()).to_vec();
        assert_eq!(limits, [FIRST, FIRST + 1, FIRST]);
        assert_eq!(table.of_limit(FIRST + 1), Known { credentials: Arc::new(kept()), set_in: Some(6) });
        assert_eq!(table.limit_for(kept(), || Err(Errno::ESRCH)), Err(Errno::ESRCH));
    }

    #[test]
    fn there_is_an_end_to_it() {
        let table = Pretended::default();
        for user in 1..=u32::try_from(MOST).unwrap() {
            table.limit_for(somebody(user), nowhere).unwrap();
        }
        assert_eq!(table.limit_for(somebody(70000), nowhere), Err(Errno::ENOMEM));
        assert!(table.limit_for(somebody(7), nowhere).is_ok(), "known already");

        let table = Pretended::default();
        let crowd = |last: u32| Credentials { groups: (1..=65535).chain([last]).collect(), ..Credentials::default() };
        for last in 0..64 {
            table.limit_for(crowd(last), nowhere).unwrap();
        }
        assert_eq!(table.limit_for(crowd(64), nowhere), Err(Errno::ENOMEM));
    }
}
