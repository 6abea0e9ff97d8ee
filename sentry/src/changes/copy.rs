//! Copying files as they are: holes stay holes, blocks are shared where the file system can, extended attributes and
//! access lists go along. What a copy never takes: marks of overlayfs, `trusted.*`, `security.*`.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use nix::fcntl::copy_file_range;
use nix::sys::stat::fstat;
use nix::unistd::{Whence, ftruncate, lseek};

/// Access lists of POSIX, see acl(5).
const LISTS: [&[u8]; 2] = [b"system.posix_acl_access", b"system.posix_acl_default"];

fn is_taken(name: &[u8]) -> bool {
    LISTS.contains(&name) || name.starts_with(b"user.") && !name.starts_with(b"user.overlay.")
}

/// The extended attributes and access lists that a copy takes along.
pub fn attributes(file: BorrowedFd) -> Result<BTreeMap<CString, Vec<u8>>, Errno> {
    let names = match crate::raw::attribute_names(file) {
        Err(Errno::EOPNOTSUPP) => return Ok(BTreeMap::new()),
        other => other?,
    };
    let mut found = BTreeMap::new();
    for name in names.into_iter().filter(|name| is_taken(name.as_bytes())) {
        match crate::raw::whole_attribute(file, &name) {
            Err(Errno::ENODATA) => {}
            other => {
                found.insert(name, other?);
            }
        }
    }
    Ok(found)
}

/// Gives `to` the attributes of `from` and takes away what it has more. `lists`: access lists too, which name users.
pub fn copy_attributes(from: BorrowedFd, to: BorrowedFd, lists: bool) -> Result<(), Errno> {
    let wanted = attributes(from)?;
    let there = attributes(to)?;
    for name in there.keys().filter(|name| !wanted.contains_key(*name)) {
        crate::raw::remove_attribute(to, name)?;
    }
    for (name, value) in &wanted {
        if !lists && LISTS.contains(&name.as_bytes()) || there.get(name) == Some(value) {
            continue;
        }
        crate::raw::set_attribute(to, name, value)?;
    }
    Ok(())
}

/// Copies all of `from` into the empty file `to`.
pub fn copy_content(from: &OwnedFd, to: &OwnedFd) -> Result<(), Errno> {
    let size = fstat(from)?.st_size;
    if size == 0 || crate::raw::share_blocks(from.as_fd(), to.as_fd()).is_ok() {
        return Ok(());
    }
    ftruncate(to, size)?;
    let mut at = 0;
    while at < size {
        // A file that shrinks meanwhile has no more data, and neither has one that ends with a hole.
        let data = match lseek(from, at, Whence::SeekData) {
            Err(Errno::ENXIO) => break,
            Err(Errno::EINVAL) => at,
            other => other?,
        };
        let end = lseek(from, data, Whence::SeekHole).unwrap_or(size).min(size);
        copy_range(from, to, data, end)?;
        at = end.max(data + 1);
    }
    Ok(())
}

fn copy_range(from: &OwnedFd, to: &OwnedFd, start: i64, end: i64) -> Result<(), Errno> {
    let (mut reading, mut writing) = (start, start);
    while reading < end {
        let length = usize::try_from(end - reading).unwrap_or(usize::MAX).min(1 << 26);
        match copy_file_range(from, Some(&mut reading), to, Some(&mut writing), length) {
            Ok(0) => return Ok(()),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(Errno::EXDEV | Errno::EINVAL | Errno::EOPNOTSUPP | Errno::ENOSYS) => {
                return copy_by_hand(from, to, reading, end);
            }
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

fn copy_by_hand(from: &OwnedFd, to: &OwnedFd, start: i64, end: i64) -> Result<(), Errno> {
    let io = |error: std::io::Error| Errno::from_raw(error.raw_os_error().unwrap_or(nix::libc::EIO));
    let (from, to) = (file(from)?, file(to)?);
    let mut buffer = vec![0u8; 1 << 17];
    let mut at = u64::try_from(start).unwrap_or(0);
    let end = u64::try_from(end).unwrap_or(0);
    while at < end {
        let most = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
        let length = from.read_at(&mut buffer[..most], at).map_err(io)?;
        if length == 0 {
            break;
        }
        to.write_all_at(&buffer[..length], at).map_err(io)?;
        at += length as u64;
    }
    Ok(())
}

fn file(fd: &OwnedFd) -> Result<std::fs::File, Errno> {
    fd.try_clone().map(std::fs::File::from).map_err(|_| Errno::EMFILE)
}

/// Whether two files hold the same bytes. What is a hole in both is not read, however long it is.
pub fn same_content(one: &OwnedFd, other: &OwnedFd) -> Result<bool, Errno> {
    let io = |error: std::io::Error| Errno::from_raw(error.raw_os_error().unwrap_or(nix::libc::EIO));
    let size = fstat(one)?.st_size;
    if size != fstat(other)?.st_size {
        return Ok(false);
    }
    let data = |fd: &OwnedFd, at: i64| match lseek(fd, at, Whence::SeekData) {
        Err(Errno::ENXIO) => Ok(size),
        Err(Errno::EINVAL) => Ok(at),
        other => other,
    };
    let (mut first, mut second) = (vec![0u8; 1 << 16], vec![0u8; 1 << 16]);
    let (reading, comparing) = (file(one)?, file(other)?);
    let mut at = 0;
    while at < size {
        at = data(one, at)?.min(data(other, at)?);
        let length = usize::try_from(size - at).unwrap_or(0).min(first.len());
        let place = u64::try_from(at).unwrap_or(0);
        reading.read_exact_at(&mut first[..length], place).map_err(io)?;
        comparing.read_exact_at(&mut second[..length], place).map_err(io)?;
        if first[..length] != second[..length] {
            return Ok(false);
        }
        at += i64::try_from(length).unwrap_or(0).max(1);
    }
    Ok(true)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn holes_stay_holes() {
        let place = tempfile::tempdir().unwrap();
        let from = std::fs::File::create_new(place.path().join("from")).unwrap();
        from.write_all_at(b"begin", 0).unwrap();
        from.write_all_at(b"middle", 8 << 20).unwrap();
        from.set_len(16 << 20).unwrap();
        let from = OwnedFd::from(std::fs::File::open(place.path().join("from")).unwrap());
        let to = OwnedFd::from(std::fs::File::create_new(place.path().join("to")).unwrap());
        copy_content(&from, &to).unwrap();

        let read = |name: &str| OwnedFd::from(std::fs::File::open(place.path().join(name)).unwrap());
        assert!(same_content(&read("from"), &read("to")).unwrap());
        let metadata = std::fs::metadata(place.path().join("to")).unwrap();
        assert_eq!(metadata.len(), 16 << 20);
        assert!(metadata.blocks() * 512 < 1 << 20, "{}", metadata.blocks());
        std::fs::write(place.path().join("other"), b"begin").unwrap();
        assert!(!same_content(&read("from"), &read("other")).unwrap());
        assert!(!same_content(&read("other"), &read("from")).unwrap());
        // Read byte by byte this would take an hour.
        for name in ["huge", "vast"] {
            std::fs::File::create_new(place.path().join(name)).unwrap().set_len(8 << 40).unwrap();
        }
        assert!(same_content(&read("huge"), &read("vast")).unwrap());
        let vast = std::fs::OpenOptions::new().write(true).open(place.path().join("vast")).unwrap();
        vast.write_all_at(b"x", 7 << 40).unwrap();
        assert!(!same_content(&read("huge"), &read("vast")).unwrap());
    }
}
