//! `link(2)` and `symlink(2)`: second names, and names that stand for others.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, ResolveFlag};
use nix::libc;
use nix::sys::stat::fstat;
use nix::unistd::{linkat as kernels_linkat, symlinkat as kernels_symlinkat};

use super::judge::{self, Use};
use super::pretend::made;
use super::reopen;
use super::walk::{Parent, Start, names_stay};
use crate::args::{DirFd, Fd, Flags, PathPtr};
use crate::guest::Guest;
use crate::reply::{Answer, Reply};

crate::syscalls! {
    /// Gives a file a second name.
    link(from: PathPtr, to: PathPtr) File Default Allow {
        PathCalls => Emulate(link),
        ProtectedNames => Emulate(link),
    };
    /// Gives a file a second name, relative to directories.
    /// Limit: answered by the sentry, `AT_EMPTY_PATH` does not ask whether the caller itself opened the file.
    linkat(from_dir: DirFd, from: PathPtr, to_dir: DirFd, to: PathPtr, flags: Flags) File Default Allow {
        PathCalls => Emulate(link_at),
        ProtectedNames => Emulate(link_at),
    };
    /// Makes a symbolic link.
    symlink(target: PathPtr, path: PathPtr) File Default Allow {
        PathCalls => Emulate(symlink),
        ProtectedNames => Emulate(symlink),
    };
    /// Makes a symbolic link, relative to a directory.
    symlinkat(target: PathPtr, dir: DirFd, path: PathPtr) File Default Allow {
        PathCalls => Emulate(symlink_at),
        ProtectedNames => Emulate(symlink_at),
    };
}

fn link(guest: &dyn Guest, from: PathPtr, to: PathPtr) -> Answer {
    make_link(guest, "link", (DirFd::CWD, from), (DirFd::CWD, to), Flags(0))
}

fn link_at(guest: &dyn Guest, from_dir: DirFd, from: PathPtr, to_dir: DirFd, to: PathPtr, flags: Flags) -> Answer {
    make_link(guest, "linkat", (from_dir, from), (to_dir, to), flags)
}

fn symlink(guest: &dyn Guest, target: PathPtr, path: PathPtr) -> Answer {
    make_symlink(guest, "symlink", target, DirFd::CWD, path)
}

fn symlink_at(guest: &dyn Guest, target: PathPtr, dir: DirFd, path: PathPtr) -> Answer {
    make_symlink(guest, "symlinkat", target, dir, path)
}

fn make_link(
    guest: &dyn Guest,
    call: &'static str,
    from: (DirFd, PathPtr),
    to: (DirFd, PathPtr),
    flags: Flags,
) -> Answer {
    const KNOWN: u32 = (libc::AT_SYMLINK_FOLLOW | libc::AT_EMPTY_PATH).cast_unsigned();
    if flags.0 & !KNOWN != 0 {
        return Err(Errno::EINVAL);
    }
    let (from, to) = ((from.0, guest.read_path(from.1)?), (to.0, guest.read_path(to.1)));

    let mut names = names_stay();
    let mut source = find(guest, call, from.0, from.1.as_bytes(), flags)?;
    if source.is_copied_first(guest)? {
        // Nobody may move names meanwhile; see the same in a rename.
        drop(names);
        source.copy_now(guest);
        names = names_stay();
        source = find(guest, call, from.0, from.1.as_bytes(), flags)?;
    }
    let _names = names;
    let target = match to.1.and_then(|target| Parent::find(guest, to.0, target.as_bytes())) {
        // What is wrong with the first name is told before what is wrong with the second.
        Err(errno) => return Err(source.missing(guest).unwrap_or(errno)),
        found => found?,
    };
    target.may_be_replaced(guest, call)?;
    let name = target.as_given()?;
    match source {
        Source::Name(parent) => {
            let own = parent.as_given()?;
            made::as_root(guest, &[&target.dir], || {
                kernels_linkat(&parent.dir, own.as_c_str(), &target.dir, name.as_c_str(), AtFlags::empty())
            })?;
        }
        Source::Object(object) => {
            // Only through a descriptor's entry can an object without a name be given one.
            let entry = object.as_raw_fd().to_string();
            let follow = AtFlags::AT_SYMLINK_FOLLOW;
            kernels_linkat(guest.descriptors()?, entry.as_str(), &target.dir, name.as_c_str(), follow)?;
        }
    }
    Ok(Reply::Return(0))
}

/// What is to be linked.
enum Source {
    Name(Parent),
    Object(OwnedFd),
}

impl Source {
    fn is_copied_first(&self, guest: &dyn Guest) -> Result<bool, Errno> {
        match self {
            Self::Name(parent) => parent.is_copied_first(guest),
            Self::Object(object) => reopen::copies_first(object, &fstat(object)?),
        }
    }

    fn copy_now(&self, guest: &dyn Guest) {
        match self {
            Self::Name(parent) => parent.copy_now(guest),
            Self::Object(object) => reopen::copy_now(guest, object),
        }
    }

    /// Why it cannot be found, if it cannot.
    fn missing(&self, guest: &dyn Guest) -> Option<Errno> {
        match self {
            Self::Name(parent) => parent.object(guest, ResolveFlag::empty()).err(),
            Self::Object(_) => None,
        }
    }
}

/// Finds what is to be linked. A second name lies under other rules, so whoever may not move a file may not link it.
fn find(guest: &dyn Guest, call: &'static str, at: DirFd, path: &[u8], flags: Flags) -> Result<Source, Errno> {
    let has = |flag: i32| flags.0 & flag.cast_unsigned() != 0;
    let object = if path.is_empty() && has(libc::AT_EMPTY_PATH) {
        if at == DirFd::CWD { guest.directory(at)? } else { guest.duplicate(Fd(at.0))? }
    } else if path.ends_with(b"/") {
        // It can only be a directory, of which there are no second names; a link before the slash is followed.
        Start::of(guest, at, path)?.object(guest, OFlag::empty(), ResolveFlag::empty())?
    } else if has(libc::AT_SYMLINK_FOLLOW) {
        // Also how a file opened with O_TMPFILE gets its name: by way of /proc/self/fd.
        Start::of(guest, at, path)?.object(guest, OFlag::empty(), ResolveFlag::empty())?
    } else {
        let parent = Parent::find(guest, at, path)?;
        parent.may_be_moved(guest, call)?;
        return Ok(Source::Name(parent));
    };
    judge::object(guest, call, &object, Use::Move)?;
    Ok(Source::Object(object))
}

fn make_symlink(guest: &dyn Guest, call: &'static str, target: PathPtr, dir: DirFd, path: PathPtr) -> Answer {
    let target = guest.read_path(target)?;
    if target.is_empty() {
        return Err(Errno::ENOENT);
    }
    let path = guest.read_path(path)?;
    let _names = names_stay();
    let parent = Parent::find(guest, dir, path.as_bytes())?;
    // A link in the place of a directory above a protected name would move that name to where it leads.
    parent.may_be_replaced(guest, call)?;
    let name = parent.as_given()?;
    made::as_root(guest, &[&parent.dir], || kernels_symlinkat(target.as_c_str(), &parent.dir, name.as_c_str()))?;
    made::name(guest, &parent, 0, None)?;
    Ok(Reply::Return(0))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink as make};

    use nix::fcntl::open;
    use nix::sys::stat::Mode;

    use super::*;
    use crate::file::trial::{CWD, DONE, Trial};

    const FOLLOW: u64 = libc::AT_SYMLINK_FOLLOW as u64;
    const EMPTY: u64 = libc::AT_EMPTY_PATH as u64;

    fn linked(trial: &Trial, from: &str, to: &str, flags: u64) -> Errno {
        trial.errno("linkat", &[CWD, trial.path(from), CWD, trial.path(to), flags])
    }

    #[test]
    fn no_link_takes_a_protected_name_or_leads_to_one() {
        let trial = Trial::new(&["w/.git/hooks"]);
        fs::create_dir_all(trial.root.join("w/evil")).unwrap();
        trial.write("w/file", "");
        for to in ["w/.git/hooks", "w/.git"] {
            // Without the directory, what is beneath it is out of reach anyway.
            let wanted = if trial.exists("w/.git") || to == "w/.git" { Errno::EACCES } else { Errno::ENOENT };
            assert_eq!(trial.errno("symlink", &[trial.path("evil"), trial.path(to)]), wanted, "{to}");
            assert_eq!(linked(&trial, "w/file", to, 0), wanted, "{to}");
        }
        fs::create_dir(trial.root.join("w/.git")).unwrap();
        assert_eq!(trial.errno("link", &[trial.path("w/file"), trial.path("w/.git/hooks")]), Errno::EACCES);
        assert_eq!(linked(&trial, "w/file", "w/.git/hooks", FOLLOW), Errno::EACCES);
        let args = [trial.path("evil"), CWD, trial.path("w/.git/hooks")];
        assert_eq!(trial.errno("symlinkat", &args), Errno::EACCES);
        assert!(!trial.exists("w/.git/hooks"));
    }

    #[test]
    fn links_are_made_as_the_kernel_would() {
        let trial = Trial::new(&["hidden"]);
        trial.write("file", "");
        make("file", trial.root.join("link")).unwrap();
        assert_eq!(linked(&trial, "link", "itself", 0), DONE);
        assert_eq!(linked(&trial, "link", "target", FOLLOW), DONE);
        assert!(trial.root.join("itself").symlink_metadata().unwrap().is_symlink());
        let number = |name: &str| trial.root.join(name).symlink_metadata().unwrap().ino();
        assert_eq!(number("target"), number("file"));
        assert_eq!(linked(&trial, "file", "target", 0), Errno::EEXIST);
        assert_eq!(linked(&trial, "file", "new/", 0), Errno::ENOENT);
        assert_eq!(linked(&trial, "nothing", "new", 0), Errno::ENOENT);
        assert_eq!(linked(&trial, ".", "new", FOLLOW), Errno::EPERM);
        assert_eq!(linked(&trial, "file", "new", 1 << 20), Errno::EINVAL);
        assert_eq!(trial.errno("symlink", &[trial.path("any\u{7f}where"), trial.path("s")]), DONE);
        assert_eq!(trial.errno("symlink", &[trial.path(""), trial.path("t")]), Errno::ENOENT);
    }

    #[test]
    fn a_file_without_a_name_gets_one() {
        let mut trial = Trial::new(&["hidden"]);
        let make = || open(&trial.root, OFlag::O_TMPFILE | OFlag::O_RDWR, Mode::from_bits_truncate(0o600)).unwrap();
        let (first, second) = (make(), make());
        trial.guest.files.extend([(3, first), (4, second)]);
        assert_eq!(linked(&trial, "/proc/self/fd/3", "hidden", FOLLOW), Errno::EACCES);
        assert_eq!(linked(&trial, "/proc/self/fd/3", "a", FOLLOW), DONE);
        assert_eq!(linked(&trial, "/proc/self/fd/3", "b", 0), Errno::EXDEV);
        assert_eq!(trial.errno("linkat", &[4, trial.path(""), CWD, trial.path("c"), EMPTY]), DONE);
        assert_eq!(trial.errno("linkat", &[9, trial.path(""), CWD, trial.path("d"), EMPTY]), Errno::EBADF);
        assert!(trial.exists("a") && trial.exists("c") && !trial.exists("b") && !trial.exists("hidden"));
    }
}
