//! Directories of other owners beneath a copy-on-write directory, made anew in the upper one (`--fake-root`).
//!
//! Where a directory exists in both layers, overlayfs asks the upper one who may change it. So a directory of somebody
//! else's, which the real user could only read, is root's inside as soon as there is an empty one of the same name above:
//! files come, go and are renamed there as root would have it. What is in it still shows through.
//!
//! What the real user cannot look into is empty for root inside, rather than closed: package tools keep such directories
//! for themselves. It is marked, so that nobody takes what it hides for deleted.

use std::ffi::CString;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{FileStat, Mode, fchmod, fstatat, futimens, mkdirat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchown};
use shim::failure::{Failure, Step};

use super::root::Root;
use super::scan::OPAQUE;

/// Directories at most; each takes a block of the disk.
pub const MOST: usize = 200_000;

/// Marks a directory above one that nobody could look into.
pub const CLOSED: &std::ffi::CStr = c"user.sentry.closed";

/// What was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Made {
    /// Directories.
    pub directories: usize,
    /// Those of them that cannot be looked into below, and are empty.
    pub closed: usize,
    /// There were more than are made.
    pub too_many: bool,
}

/// Makes in `upper` every directory of `host` that does not belong to `user`, with what leads there. By root, what is made
/// is given to `owner`.
pub fn make(host: &Root, upper: &Root, user: u32, owner: Option<(u32, u32)>) -> Result<Made, Failure> {
    let mut result = Made::default();
    let mut made: Vec<(PathBuf, FileStat)> = Vec::new();
    let mut queue = vec![PathBuf::new()];
    while let Some(directory) = queue.pop() {
        let entries = host.list(&directory).and_then(Dir::from_fd);
        let Ok(mut entries) = entries else { continue };
        let mut found = Vec::new();
        for entry in entries.iter().flatten() {
            let name = entry.file_name().to_bytes();
            if entry.file_type() == Some(Type::Directory) && name != b"." && name != b".." {
                found.push(entry.file_name().to_owned());
            }
        }
        for name in found {
            let Ok(stat) = fstatat(entries.as_fd(), name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW) else { continue };
            let within = directory.join(std::ffi::OsStr::from_bytes(name.as_bytes()));
            if stat.st_uid != user {
                if made.len() >= MOST {
                    result.too_many = true;
                    return finish(upper, &made, owner, result);
                }
                let Some(open) = look_into(host, &within) else { continue };
                make_with_parents(host, upper, &within, &stat, &mut made).step(|| step(&within))?;
                if matches!(open, Open::Not) {
                    close(upper, &within).step(|| step(&within))?;
                    result.closed += 1;
                    continue;
                }
            }
            queue.push(within);
        }
    }
    finish(upper, &made, owner, result)
}

fn step(path: &Path) -> String {
    format!("make {} root's in the copy", path.display())
}

enum Open {
    Yes,
    Not,
}

/// Whether a directory can be looked into. `None`: it is better left alone, for it has an access list, which names ids that
/// the sandbox does not know.
fn look_into(host: &Root, path: &Path) -> Option<Open> {
    match host.list(path) {
        Err(Errno::EACCES) => Some(Open::Not),
        Err(_) => None,
        Ok(open) => crate::raw::attribute(open.as_fd(), c"system.posix_acl_access").is_none().then_some(Open::Yes),
    }
}

/// Hides what cannot be seen anyway.
fn close(upper: &Root, path: &Path) -> Result<(), Errno> {
    let directory = upper.list(path)?;
    crate::raw::set_attribute(directory.as_fd(), OPAQUE, b"y")?;
    crate::raw::set_attribute(directory.as_fd(), CLOSED, b"y")
}

fn make_with_parents(
    host: &Root,
    upper: &Root,
    path: &Path,
    stat: &FileStat,
    made: &mut Vec<(PathBuf, FileStat)>,
) -> Result<(), Errno> {
    if let Some(above) = path.parent().filter(|above| !above.as_os_str().is_empty())
        && upper.look(above)?.is_none()
    {
        let found = host.find(above)?.ok_or(Errno::ENOENT)?;
        make_with_parents(host, upper, above, &nix::sys::stat::fstat(&found)?, made)?;
    }
    let name = path.file_name().ok_or(Errno::EINVAL)?;
    let name = CString::new(name.as_bytes()).map_err(|_| Errno::EINVAL)?;
    let parent = upper.list(path.parent().unwrap_or(Path::new("")))?;
    match mkdirat(&parent, name.as_c_str(), Mode::S_IRWXU) {
        Ok(()) => made.push((path.to_owned(), *stat)),
        Err(Errno::EEXIST) => {}
        Err(errno) => return Err(errno),
    }
    Ok(())
}

/// Gives each the permissions and times of the one below; the deepest first, for each that was made has touched its parent.
fn finish(
    upper: &Root,
    made: &[(PathBuf, FileStat)],
    owner: Option<(u32, u32)>,
    mut result: Made,
) -> Result<Made, Failure> {
    for (path, stat) in made.iter().rev() {
        let finished = (|| {
            let directory = upper.list(path)?;
            if let Some((uid, gid)) = owner {
                fchown(&directory, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
            }
            fchmod(&directory, Mode::from_bits_truncate(stat.st_mode & 0o1777))?;
            let time = |seconds, nanoseconds| TimeSpec::new(seconds, nanoseconds);
            let (read, written) = (time(stat.st_atime, stat.st_atime_nsec), time(stat.st_mtime, stat.st_mtime_nsec));
            futimens(&directory, &read, &written)
        })();
        finished.step(|| step(path))?;
    }
    result.directories = made.len();
    Ok(result)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use super::*;

    #[test]
    fn what_belongs_to_others_is_made_with_what_leads_there() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: only root can make files of others");
            return;
        }
        let (host, upper) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir_all(host.path().join("own/theirs/deep")).unwrap();
        fs::create_dir_all(host.path().join("own/other")).unwrap();
        fs::write(host.path().join("own/theirs/file"), "x").unwrap();
        for name in ["own", "own/other", "own/theirs/deep"] {
            std::os::unix::fs::chown(host.path().join(name), Some(77), None).unwrap();
        }
        fs::set_permissions(host.path().join("own/theirs"), fs::Permissions::from_mode(0o2755)).unwrap();

        let [below, above] = [&host, &upper].map(|place| Root::open(place.path(), false).unwrap());
        let made = make(&below, &above, 77, Some((77, 77))).unwrap();
        assert_eq!(made, Made { directories: 2, ..Made::default() });
        let [old, new] = [&host, &upper].map(|place| fs::metadata(place.path().join("own/theirs")).unwrap());
        assert_eq!((new.uid(), new.mode() & 0o7777), (77, 0o755));
        assert_eq!((new.mtime(), new.mtime_nsec()), (old.mtime(), old.mtime_nsec()));
        for name in ["own/theirs/file", "own/theirs/deep", "own/other"] {
            assert!(!upper.path().join(name).exists(), "{name}");
        }
    }
}
