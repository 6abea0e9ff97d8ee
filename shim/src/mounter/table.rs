//! The mount table, and the copies of parts of the view that were made whole.
//!
//! What lies beneath `/proc` in the view is locked to it, so a bind of it takes all along. To the guest that is one mount,
//! as it asked for one, and it goes by one unmount.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;

use crate::mountinfo::unescaped;
use crate::sys;

/// One line of `mountinfo`, see proc_pid_mountinfo(5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mount {
    pub(super) id: u64,
    pub(super) parent: u64,
    pub(super) device: u64,
    /// Mounts made in it are made elsewhere too.
    pub(super) shared: bool,
    /// It is left out of copies.
    pub(super) unbindable: bool,
}

/// The table of this process's mount namespace, by a procfs that knows it.
pub(super) fn read(proc: &OwnedFd) -> Result<Vec<Mount>, Errno> {
    Ok(text(proc)?.split(|byte| *byte == b'\n').filter_map(parse).collect())
}

fn text(proc: &OwnedFd) -> Result<Vec<u8>, Errno> {
    let flags = libc::O_RDONLY | libc::O_CLOEXEC;
    let file = sys::open_at(Some(proc.as_fd()), c"self/mountinfo", flags, 0, 0)?;
    let mut text = Vec::new();
    let mut chunk = vec![0; 64 * 1024];
    loop {
        match nix::unistd::read(&file, &mut chunk)? {
            0 => break,
            length => text.extend_from_slice(&chunk[..length]),
        }
    }
    Ok(text)
}

/// The same with the place of each, as this process's root sees it.
pub(super) fn places(proc: &OwnedFd) -> Result<Vec<(Mount, Vec<u8>)>, Errno> {
    let place = |line: &[u8]| Some(unescaped(line.split(|byte| *byte == b' ').nth(4)?));
    let text = text(proc)?;
    Ok(text.split(|byte| *byte == b'\n').filter_map(|line| Some((parse(line)?, place(line)?))).collect())
}

fn parse(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ').map(|field| std::str::from_utf8(field).ok());
    let mut number = || fields.next()??.parse().ok();
    let (id, parent) = (number()?, number()?);
    let (major, minor) = fields.next()??.split_once(':')?;
    let device = libc::makedev(major.parse().ok()?, minor.parse().ok()?);
    // Root, place and options; then optional fields, up to a dash.
    let optional: Vec<_> = fields.skip(3).map_while(|field| field.filter(|field| *field != "-")).collect();
    let shared = optional.iter().any(|field| field.starts_with("shared:"));
    Some(Mount { id, parent, device, shared, unbindable: optional.contains(&"unbindable") })
}

/// How many mounts lie beneath the mount `top`.
fn beneath(table: &[Mount], top: u64) -> usize {
    let mut found = vec![top];
    let mut next = 0;
    while let Some(&above) = found.get(next) {
        found.extend(table.iter().filter(|mount| mount.parent == above && mount.id != above).map(|mount| mount.id));
        next += 1;
    }
    found.len() - 1
}

/// A copy that was made whole.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Copy {
    id: u64,
    device: u64,
    beneath: usize,
}

impl Copy {
    /// The copy that `top` is the top of, attached by now; `None` if nothing came along.
    pub(super) fn at(top: BorrowedFd, table: &[Mount]) -> Option<Self> {
        let id = sys::mount_id(top).ok()?;
        let device = table.iter().find(|mount| mount.id == id)?.device;
        let beneath = beneath(table, id);
        (beneath > 0).then_some(Self { id, device, beneath })
    }

    /// Whether its top is mounted still.
    pub(super) fn is_among(&self, table: &[Mount]) -> bool {
        table.iter().any(|mount| mount.id == self.id && mount.device == self.device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_read_and_counted() {
        let text = b"1 1 0:1 / / rw - tmpfs none rw\n\
                     5 1 0:44 /x /mnt/a\\040b rw,noatime shared:2 - tmpfs none rw\n\
                     7 5 0:45 / /mnt/c rw - proc none rw\n8 7 0:45 / /mnt/c rw - proc none rw\nnonsense\n";
        let table: Vec<Mount> = text.split(|byte| *byte == b'\n').filter_map(parse).collect();
        assert_eq!(table.len(), 4);
        assert_eq!((table[1].device, table[1].shared, table[2].shared), (libc::makedev(0, 44), true, false));
        assert_eq!(unescaped(b"/mnt/a\\040b"), b"/mnt/a b");
        assert_eq!([1, 5, 7, 8, 9].map(|id| beneath(&table, id)), [3, 2, 1, 0, 0]);
    }
}
