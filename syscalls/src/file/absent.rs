//! Names that are missing in a file system in memory, which is where much of a view is.
//!
//! A walk that must not wait (`RESOLVE_CACHED`) gives up on every name that the kernel has not cached. A disk may have to be
//! read for one; but a file system in memory caches all that is there and nothing that is not, so what it has not cached is
//! not there, and no other thread has to take over for it. Every program asks for such names: `/etc/ld.so.preload`, settings
//! in an empty home directory.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, ResolveFlag};
use nix::sys::statfs::{FsType, TMPFS_MAGIC, fstatfs};

use super::resolve::{CACHED, kernels_walk};

/// A thousand names deep in what is missing is nothing to look for here.
const DEPTH: usize = 8;

/// Whether `path`, on which a cached walk gave up, is a plain name that is missing in memory: then no walk finds it, not even
/// the caller's own. Never waits for a disk.
pub(super) fn is_absent(from: Option<BorrowedFd>, path: &[u8]) -> bool {
    let mut end = path.len();
    for _ in 0..DEPTH {
        let slash = path[..end].iter().rposition(|byte| *byte == b'/');
        let name = &path[slash.map_or(0, |slash| slash + 1)..end];
        if matches!(name, b"" | b"." | b"..") {
            return false;
        }
        let above = match slash {
            Some(0) => &b"/"[..],
            Some(slash) => &path[..slash],
            None => b".",
        };
        // Without links: behind one, a name that is missing may be the caller's own (`/proc/self`).
        let cached = CACHED | ResolveFlag::RESOLVE_NO_SYMLINKS;
        match kernels_walk(from, above, OFlag::O_DIRECTORY, cached) {
            Ok(directory) => return is_memory(&directory) && is_missing(&directory, name),
            Err(Errno::EAGAIN) => end = slash.unwrap_or(0),
            Err(_) => return false,
        }
    }
    false
}

fn is_memory(directory: &OwnedFd) -> bool {
    const RAMFS_MAGIC: FsType = FsType(0x8584_58f6);
    fstatfs(directory).is_ok_and(|found| [TMPFS_MAGIC, RAMFS_MAGIC].contains(&found.filesystem_type()))
}

/// One component, on this file system: a name that came into being meanwhile leads nowhere else.
fn is_missing(directory: &OwnedFd, name: &[u8]) -> bool {
    let resolve = ResolveFlag::RESOLVE_NO_XDEV | ResolveFlag::RESOLVE_NO_SYMLINKS;
    kernels_walk(Some(directory.as_fd()), name, OFlag::O_NOFOLLOW, resolve).err() == Some(Errno::ENOENT)
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    /// `/dev/shm` is in memory everywhere.
    fn in_memory() -> tempfile::TempDir {
        tempfile::tempdir_in("/dev/shm").unwrap()
    }

    fn absent(path: &std::path::Path) -> bool {
        is_absent(None, path.as_os_str().as_bytes())
    }

    #[test]
    fn what_is_not_there_is_absent_however_deep() {
        let directory = in_memory();
        for name in ["a", "a/b", "a/b/c"] {
            assert!(absent(&directory.path().join(name)), "{name}");
        }
        let open = std::fs::File::open(directory.path()).unwrap();
        assert!(is_absent(Some(open.as_fd()), b"a"));
        assert!(is_absent(Some(open.as_fd()), b"a/b"));
    }

    #[test]
    fn what_is_there_or_lies_behind_a_link_is_not() {
        let directory = in_memory();
        std::fs::write(directory.path().join("file"), "").unwrap();
        std::os::unix::fs::symlink("/proc", directory.path().join("link")).unwrap();
        std::os::unix::fs::symlink(".", directory.path().join("here")).unwrap();
        for name in ["file", "link", "link/self", "link/none", "here/none", ".", "..", "none/", "none/.."] {
            assert!(!absent(&directory.path().join(name)), "{name}");
        }
    }

    #[test]
    fn no_other_file_system_is_taken_for_memory() {
        for path in ["/proc/none", "/proc/self/none", "/sys/none"] {
            assert!(!is_absent(None, path.as_bytes()), "{path}");
        }
    }
}
