//! `chdir(2)`, `getdents64(2)`: where one is, and what is there. The view bounds both.

use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::libc;
use nix::sys::stat::fstat;
use nix::unistd::{Whence, lseek};

use super::judge::{self, Use};
use super::trace::looked_up;
use crate::args::{DirFd, Fd, PathPtr, Uint, UserPtr};
use crate::guest::Guest;
use crate::reply::{Answer, Reply};
use crate::rules::Effect;
use crate::sys;

crate::syscalls! {
    /// Tells the working directory.
    getcwd(buffer: UserPtr, size: Size) File Judge Allow;
    /// Changes the working directory.
    chdir(path: PathPtr) File Judge Allow {
        TracePaths => Observe(chdir_seen),
        PathCalls => Observe(chdir_seen),
    };
    /// Changes the working directory to an open one.
    fchdir(dir: Fd) File Judge Allow;
    /// Reads entries of a directory, in the old format.
    getdents(dir: Fd, entries: UserPtr, size: Uint) File Compat Allow {
        HiddenNames => Emulate(getdents),
    };
    /// Reads entries of a directory.
    getdents64(dir: Fd, entries: UserPtr, size: Uint) File Judge Allow {
        HiddenNames => Emulate(getdents64),
    };
}

fn chdir_seen(guest: &dyn Guest, path: PathPtr) {
    looked_up(guest, "chdir", DirFd::CWD, path);
}

/// How the kernel lays out an entry: where its name begins behind inode number, offset, length and, in the new format, type.
#[derive(Clone, Copy)]
enum Layout {
    Old = 18,
    New = 19,
}

/// The most that is read at once; programs ask for 32 KiB.
const BATCH: u32 = 64 * 1024;
/// Where the length of an entry stands in it.
const LENGTH: usize = 16;

fn getdents(guest: &dyn Guest, dir: Fd, entries: UserPtr, size: Uint) -> Answer {
    // There is no such number on newer architectures, and then no such call either.
    #[cfg(target_arch = "x86_64")]
    return list(guest, "getdents", libc::SYS_getdents, Layout::Old, dir, entries, size);
    #[cfg(not(target_arch = "x86_64"))]
    return list(guest, "getdents", libc::SYS_getdents64, Layout::Old, dir, entries, size);
}

fn getdents64(guest: &dyn Guest, dir: Fd, entries: UserPtr, size: Uint) -> Answer {
    list(guest, "getdents64", libc::SYS_getdents64, Layout::New, dir, entries, size)
}

/// Reads entries by way of the guest's own open directory, whose position moves on, and leaves out what is hidden.
fn list(
    guest: &dyn Guest,
    call: &'static str,
    number: libc::c_long,
    layout: Layout,
    dir: Fd,
    entries: UserPtr,
    size: Uint,
) -> Answer {
    let dir = guest.duplicate(dir)?;
    let label = guest.label_of(&dir)?;
    judge::object(guest, call, &dir, Use::Read)?;
    let size = usize::try_from(size.0.min(BATCH)).map_err(|_| Errno::EINVAL)?;
    let made =
        if lseek(&dir, 0, Whence::SeekCur)? == 0 { made_names(guest, Path::new(&label), layout) } else { Vec::new() };
    let mut bytes = vec![0; size.checked_sub(made.len()).ok_or(Errno::EINVAL)?];
    if !made.is_empty() {
        let length = sys::entries(number, dir.as_fd(), &mut bytes)?;
        let shown = [made, visible(guest, Path::new(&label), &bytes[..length], layout)].concat();
        guest.write(entries, &shown)?;
        return Ok(Reply::Return(i64::try_from(shown.len()).map_err(|_| Errno::EIO)?));
    }
    loop {
        let length = sys::entries(number, dir.as_fd(), &mut bytes)?;
        let shown = visible(guest, Path::new(&label), &bytes[..length], layout);
        // All of them hidden is not yet the end of the directory.
        if !shown.is_empty() || length == 0 {
            guest.write(entries, &shown)?;
            return Ok(Reply::Return(i64::try_from(shown.len()).map_err(|_| Errno::EIO)?));
        }
    }
}

/// The entries of files in `dir` that only the guest has; they come first.
fn made_names(guest: &dyn Guest, dir: &Path, layout: Layout) -> Vec<u8> {
    let mut entries = Vec::new();
    for file in guest.rules().virtual_files.iter().filter(|file| file.path.parent() == Some(dir)) {
        let name = file.path.file_name().unwrap_or_default().as_bytes();
        // The old format has the type in the last byte, behind the name; both end at a multiple of eight.
        let length = (layout as usize + name.len() + 2).next_multiple_of(8);
        let inode = fstat(&file.contents).map_or(1, |stat| stat.st_ino);
        let mut entry = inode.to_ne_bytes().to_vec();
        // Where to go on from there: at the beginning, for the directory itself knows no place for it.
        entry.extend(0_u64.to_ne_bytes());
        entry.extend(u16::try_from(length).unwrap_or(u16::MAX).to_ne_bytes());
        if matches!(layout, Layout::New) {
            entry.push(libc::DT_REG);
        }
        entry.extend(name);
        entry.resize(length, 0);
        if let (Layout::Old, Some(last)) = (layout, entry.last_mut()) {
            *last = libc::DT_REG;
        }
        entries.extend(entry);
    }
    entries
}

fn visible(guest: &dyn Guest, dir: &Path, entries: &[u8], layout: Layout) -> Vec<u8> {
    let mut shown = Vec::with_capacity(entries.len());
    let rules = guest.rules().in_directory(dir);
    let mut rest = entries;
    while let Some(length) = rest.get(LENGTH..LENGTH + 2) {
        let length = usize::from(u16::from_ne_bytes([length[0], length[1]]));
        let Some((entry, behind)) = rest.split_at_checked(length).filter(|_| length > layout as usize) else { break };
        let name = entry[layout as usize..].split(|byte| *byte == 0).next().unwrap_or_default();
        let hidden = || {
            let rule = rules.decides(name);
            rule.is_some_and(|rule| rule.effect == Some(Effect::Hide))
        };
        if matches!(name, b"." | b"..") || !hidden() {
            shown.extend_from_slice(entry);
        }
        rest = behind;
    }
    shown
}
