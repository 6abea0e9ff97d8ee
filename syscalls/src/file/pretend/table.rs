//! What is said of objects that cannot bear an attribute: symbolic links, FIFOs, sockets, and files on which the real user
//! may set none. It is kept in memory, for the length of the run.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;

use super::record::Record;

/// How many objects there is room for; one takes about 100 bytes.
const MOST: usize = 65_536;

/// An object: its device and inode.
pub(crate) type Key = (u64, u64);
/// When it came to be, in seconds and a fraction: inodes are used again.
pub(crate) type Birth = (i64, i64);

/// The records of one sandbox.
#[derive(Debug, Default)]
pub struct Table {
    records: Mutex<HashMap<Key, (Birth, Record)>>,
    /// How many there are. Most sandboxes have none, and should not pay for asking.
    count: AtomicUsize,
}

impl Table {
    /// Whether nothing is said of any object.
    pub(crate) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    /// What is said of an object, if it is still the one that it was said of.
    pub(crate) fn get(&self, key: Key, birth: impl FnOnce() -> Birth) -> Option<Record> {
        if self.is_empty() {
            return None;
        }
        let (born, record) = self.records().get(&key).cloned()?;
        (born == birth()).then_some(record)
    }

    /// Remembers what is said of an object. `ENOSPC` when there is no room.
    pub(crate) fn put(&self, key: Key, birth: Birth, record: Record) -> Result<(), Errno> {
        let mut records = self.records();
        if records.len() >= MOST && !records.contains_key(&key) {
            return Err(Errno::ENOSPC);
        }
        records.insert(key, (birth, record));
        self.count.store(records.len(), Ordering::Release);
        Ok(())
    }

    /// Forgets an object.
    pub(crate) fn forget(&self, key: Key) {
        if self.is_empty() {
            return;
        }
        let mut records = self.records();
        records.remove(&key);
        self.count.store(records.len(), Ordering::Release);
    }

    fn records(&self) -> MutexGuard<'_, HashMap<Key, (Birth, Record)>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(user: u32) -> Record {
        Record { user, group: 0, mode: None, device: None, capability: None }
    }

    #[test]
    fn an_inode_that_is_used_again_is_another_object() {
        let table = Table::default();
        assert_eq!(table.get((1, 2), || (5, 0)), None);
        assert_eq!(table.put((1, 2), (5, 0), of(33)), Ok(()));
        assert_eq!(table.get((1, 2), || (5, 0)), Some(of(33)));
        assert_eq!(table.get((1, 2), || (5, 1)), None);
        assert_eq!(table.get((2, 2), || (5, 0)), None);
        table.forget((1, 2));
        assert!(table.is_empty());
    }

    #[test]
    fn there_is_an_end_to_it() {
        let table = Table::default();
        for inode in 0..MOST as u64 {
            assert_eq!(table.put((1, inode), (0, 0), of(1)), Ok(()));
        }
        assert_eq!(table.put((2, 0), (0, 0), of(1)), Err(Errno::ENOSPC));
        assert_eq!(table.put((1, 0), (0, 0), of(2)), Ok(()), "what is known may change");
        table.forget((1, 1));
        assert_eq!(table.put((2, 0), (0, 0), of(1)), Ok(()));
    }
}
