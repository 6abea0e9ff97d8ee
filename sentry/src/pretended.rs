//! All credentials that processes of the sandbox pretend to have (`--fake-root`), and which of them a process has.
//!
//! Each different set is kept once, under a number, for the rest of the run. The number of a process's own is kept by the
//! kernel, as its soft limit `RLIMIT_RTTIME`: fork copies it, exec keeps it, and it outlives the parent that it came from,
//! just as credentials do; nothing has to be seen of a fork. The limit itself means nothing here, for no process of the
//! sandbox can become a real-time task, and the filter keeps the guest from reading or setting it.
//!
//! These numbers are no secret and no boundary: credentials that are pretended grant nothing (see
//! [`credentials`](syscalls::credentials)).

use std::sync::{Arc, Mutex, PoisonError};

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
}

#[derive(Debug, Default)]
struct Table {
    entries: Vec<Arc<Credentials>>,
    numbers: HashMap<Arc<Credentials>, usize>,
    groups: usize,
    root: Arc<Credentials>,
}

impl Pretended {
    /// What a process with this limit pretends to be. One that never came from us, as init's may be, is root's.
    pub fn of_limit(&self, limit: u64) -> Arc<Credentials> {
        let table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let number = limit.checked_sub(FIRST).and_then(|number| usize::try_from(number).ok());
        Arc::clone(number.and_then(|number| table.entries.get(number)).unwrap_or(&table.root))
    }

    /// The limit of a process that pretends to be this. `ENOMEM` when there are too many different ones.
    pub fn limit_for(&self, credentials: Credentials) -> Result<u64, Errno> {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if credentials == *table.root {
            return Ok(ROOT);
        }
        if let Some(number) = table.numbers.get(&credentials) {
            return Ok(FIRST + *number as u64);
        }
        let (number, groups) = (table.entries.len(), table.groups + credentials.groups.len());
        if number >= MOST || groups > MOST_GROUPS {
            return Err(Errno::ENOMEM);
        }
        let entry = Arc::new(credentials);
        table.groups = groups;
        table.entries.push(Arc::clone(&entry));
        table.numbers.insert(entry, number);
        Ok(FIRST + number as u64)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn somebody(user: u32) -> Credentials {
        let mut somebody = Credentials { permitted: 0, effective: 0, ..Credentials::default() };
        somebody.user.real = user;
        somebody
    }

    #[test]
    fn each_is_kept_once() {
        let table = Pretended::default();
        assert_eq!(table.limit_for(Credentials::default()), Ok(ROOT));
        assert_eq!(*table.of_limit(ROOT), Credentials::default());
        let limits: Vec<u64> = [33, 34, 33].map(|user| table.limit_for(somebody(user)).unwrap()).to_vec();
        assert_eq!(limits, [FIRST, FIRST + 1, FIRST]);
        assert_eq!(*table.of_limit(FIRST + 1), somebody(34));
        for unknown in [0, 1, FIRST - 1, FIRST + 2, ROOT - 1] {
            assert_eq!(*table.of_limit(unknown), Credentials::default(), "{unknown}");
        }
    }

    #[test]
    fn there_is_an_end_to_it() {
        let table = Pretended::default();
        for user in 1..=u32::try_from(MOST).unwrap() {
            table.limit_for(somebody(user)).unwrap();
        }
        assert_eq!(table.limit_for(somebody(0)), Err(Errno::ENOMEM));
        assert!(table.limit_for(somebody(7)).is_ok(), "known already");

        let table = Pretended::default();
        let crowd = |last: u32| Credentials { groups: (1..=65535).chain([last]).collect(), ..Credentials::default() };
        for last in 0..64 {
            table.limit_for(crowd(last)).unwrap();
        }
        assert_eq!(table.limit_for(crowd(64)), Err(Errno::ENOMEM));
    }
}
