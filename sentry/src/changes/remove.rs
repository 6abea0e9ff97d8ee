//! Removing what a run kept, as deep and as closed as its guest made it, and nothing that no run made.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat, renameat};
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, fchmodat, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::record::{LOCK, is_id};
use super::root::names;

/// The last part of the name of a run that is being removed.
const GONE: &str = "gone";

const LIST: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// Removes a run's directory. It gets another name first: half of a run must never look like a run.
pub fn remove(place: &Path) -> std::io::Result<()> {
    let mut name = place.as_os_str().to_owned();
    name.push(".");
    name.push(GONE);
    let gone = PathBuf::from(name);
    match fs::rename(place, &gone) {
        Ok(()) => finish(&gone),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Removes what those left behind that were killed while they removed a run.
pub fn sweep(base: &Path) {
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let place = entry.path();
        let ours = place.file_stem().and_then(OsStr::to_str).is_some_and(is_id);
        if !ours || place.extension() != Some(OsStr::new(GONE)) || !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        let _ = if place.join(LOCK).symlink_metadata().is_ok() { finish(&place) } else { fs::remove_dir(&place) };
    }
}

/// Removes all in a run's directory, last of all the lock, which says that it is ours.
fn finish(gone: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(gone)?.flatten().filter(|entry| entry.file_name() != LOCK) {
        if entry.file_type()?.is_dir() { remove_tree(&entry.path())? } else { fs::remove_file(entry.path())? }
    }
    match fs::remove_file(gone.join(LOCK)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::remove_dir(gone)
}

/// Removes a directory, also what overlayfs or the guest left without permissions, however deep it is.
///
/// What lies deeper is moved up first: neither a descriptor for each level is needed nor a name longer than the kernel
/// takes.
pub fn remove_tree(place: &Path) -> std::io::Result<()> {
    let top = match fs::symlink_metadata(place) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    if !top.is_dir() {
        return fs::remove_file(place);
    }
    {
        use std::os::unix::fs::PermissionsExt;
        if top.permissions().mode() & 0o700 != 0o700 {
            fs::set_permissions(place, fs::Permissions::from_mode(0o700))?;
        }
    }
    let root = open(place, LIST, Mode::empty())?;
    let mut count = 0u64;
    // Each round removes every directory that is in the root by then and moves what is in those up.
    loop {
        let names = names(&root)?;
        if names.is_empty() {
            return fs::remove_dir(place);
        }
        for name in names {
            if !is_directory(&root, &name)? {
                unlinkat(&root, name.as_os_str(), UnlinkatFlags::NoRemoveDir)?;
                continue;
            }
            fchmodat(&root, name.as_os_str(), Mode::S_IRWXU, FchmodatFlags::FollowSymlink)?;
            let directory = openat(&root, name.as_os_str(), LIST, Mode::empty())?;
            empty(&root, &directory, &mut count)?;
            unlinkat(&root, name.as_os_str(), UnlinkatFlags::RemoveDir)?;
        }
    }
}

/// Removes the files in `directory`, and moves the directories in it to `root`.
fn empty(root: &OwnedFd, directory: &OwnedFd, count: &mut u64) -> Result<(), Errno> {
    for name in names(directory)? {
        if !is_directory(directory, &name)? {
            unlinkat(directory, name.as_os_str(), UnlinkatFlags::NoRemoveDir)?;
            continue;
        }
        // A directory that gets another parent must be writable itself.
        fchmodat(directory, name.as_os_str(), Mode::S_IRWXU, FchmodatFlags::FollowSymlink)?;
        loop {
            *count += 1;
            match renameat(directory, name.as_os_str(), root, format!("sentry-removed-{count}").as_str()) {
                Err(Errno::ENOTEMPTY | Errno::EEXIST | Errno::ENOTDIR) => {}
                other => break other?,
            }
        }
    }
    Ok(())
}

fn is_directory(directory: &OwnedFd, name: &OsString) -> Result<bool, Errno> {
    let stat = fstatat(directory, name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW)?;
    Ok(SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFDIR)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn no_tree_is_too_deep_to_be_removed() {
        let place = tempfile::tempdir().unwrap();
        let top = place.path().join("top");
        fs::create_dir(&top).unwrap();
        let mut at = open(&top, LIST, Mode::empty()).unwrap();
        for level in 0..3000 {
            nix::sys::stat::mkdirat(&at, "d", Mode::S_IRWXU).unwrap();
            nix::fcntl::openat(&at, "f", OFlag::O_CREAT | OFlag::O_WRONLY, Mode::empty()).unwrap();
            let next = openat(&at, "d", LIST, Mode::empty()).unwrap();
            if level % 7 == 0 {
                nix::sys::stat::fchmod(&at, Mode::empty()).unwrap();
            }
            at = next;
        }
        std::os::unix::fs::symlink("/", top.parent().unwrap().join("link")).unwrap();
        remove_tree(&top).unwrap();
        remove_tree(&top.parent().unwrap().join("link")).unwrap();
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
    }

    #[test]
    fn only_what_a_run_left_behind_is_swept() {
        let place = tempfile::tempdir().unwrap();
        for name in ["0123abcd.gone", "0123abce.gone", "photos.gone", "0123abcf", "01234567.gone"] {
            fs::create_dir_all(place.path().join(name).join("x")).unwrap();
        }
        fs::write(place.path().join("0123abcd.gone").join(LOCK), "").unwrap();
        fs::remove_dir(place.path().join("0123abce.gone/x")).unwrap();
        sweep(place.path());
        let mut left: Vec<_> = fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["01234567.gone", "0123abcf", "photos.gone"]);
    }
}
