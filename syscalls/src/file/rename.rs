//! `rename(2)`: names that move.
//!
//! A protected name stays absent only if nothing is moved onto it, into it, or onto a directory above it, and if no
//! directory above it is moved away to be changed elsewhere and put back. In an exchange both ends are both.

use nix::errno::Errno;
use nix::fcntl::{RenameFlags, ResolveFlag, renameat2 as kernels_renameat2};
use nix::sys::stat::{SFlag, fstat};

use super::object::kind;
use super::pretend::{gone, made};
use super::relocate::relocate;
use super::walk::{Parent, names_move};
use crate::args::{DirFd, Flags, PathPtr};
use crate::guest::Guest;
use crate::reply::{Answer, Reply};

crate::syscalls! {
    /// Renames a file.
    ///
    /// Limit: in a copy of a host directory, a directory that moves is a new one, made while others may look.
    rename(from: PathPtr, to: PathPtr) File Judge Allow {
        PathCalls => Emulate(rename),
        ProtectedNames => Emulate(rename),
        AnchoredNames => Emulate(rename),
        Copies => Emulate(rename),
    };
    /// Renames a file, relative to directories.
    renameat(from_dir: DirFd, from: PathPtr, to_dir: DirFd, to: PathPtr) File Judge Allow {
        PathCalls => Emulate(rename_at),
        ProtectedNames => Emulate(rename_at),
        AnchoredNames => Emulate(rename_at),
        Copies => Emulate(rename_at),
    };
    /// Renames a file or exchanges two, relative to directories.
    renameat2(from_dir: DirFd, from: PathPtr, to_dir: DirFd, to: PathPtr, flags: Flags) File Judge Allow {
        PathCalls => Emulate(rename_at_2),
        ProtectedNames => Emulate(rename_at_2),
        AnchoredNames => Emulate(rename_at_2),
        Copies => Emulate(rename_at_2),
    };
}

fn rename(guest: &dyn Guest, from: PathPtr, to: PathPtr) -> Answer {
    move_name(guest, "rename", (DirFd::CWD, from), (DirFd::CWD, to), Flags(0))
}

fn rename_at(guest: &dyn Guest, from_dir: DirFd, from: PathPtr, to_dir: DirFd, to: PathPtr) -> Answer {
    move_name(guest, "renameat", (from_dir, from), (to_dir, to), Flags(0))
}

fn rename_at_2(guest: &dyn Guest, from_dir: DirFd, from: PathPtr, to_dir: DirFd, to: PathPtr, flags: Flags) -> Answer {
    move_name(guest, "renameat2", (from_dir, from), (to_dir, to), flags)
}

fn move_name(
    guest: &dyn Guest,
    call: &'static str,
    from: (DirFd, PathPtr),
    to: (DirFd, PathPtr),
    flags: Flags,
) -> Answer {
    let flags = RenameFlags::from_bits(flags.0).ok_or(Errno::EINVAL)?;
    let either = RenameFlags::RENAME_NOREPLACE | RenameFlags::RENAME_WHITEOUT;
    if flags.contains(RenameFlags::RENAME_EXCHANGE) && flags.intersects(either) {
        return Err(Errno::EINVAL);
    }
    // What is wrong with the first path is told before what is wrong with the second, but both are copied first.
    let (from, to) = ((from.0, guest.read_path(from.1)?), (to.0, guest.read_path(to.1)));
    let exchange = flags.contains(RenameFlags::RENAME_EXCHANGE);

    let mut copied = false;
    loop {
        let names = names_move();
        let source = Parent::find(guest, from.0, from.1.as_bytes())?;
        let target = Parent::find(guest, to.0, to.1.as_ref().map_err(|errno| *errno)?.as_bytes())?;
        source.may_be_moved(guest, call)?;
        target.may_be_replaced(guest, call)?;
        if exchange {
            source.may_be_replaced(guest, call)?;
            target.may_be_moved(guest, call)?;
        }
        stays_under_its_rules(guest, &source, &target)?;
        // Others need the names meanwhile, so a file that is copied before it moves is copied now, and then all is
        // looked at again.
        if !copied && (source.is_copied_first(guest)? || exchange && target.is_copied_first(guest)?) {
            drop(names);
            copied = true;
            source.copy_now(guest);
            if exchange {
                target.copy_now(guest);
            }
            continue;
        }
        let (from, to) = (source.as_given()?, target.as_given()?);
        let replaced = if exchange { None } else { gone::before(guest, &target) };
        let renamed = made::as_root(guest, &[&source.dir, &target.dir], || {
            kernels_renameat2(&source.dir, from.as_c_str(), &target.dir, to.as_c_str(), flags)
        });
        match renamed {
            Err(Errno::EXDEV) => relocate(guest, &source, &target, flags)?,
            other => other?,
        }
        gone::after_rename(guest, replaced, &target);
        return Ok(Reply::Return(0));
    }
}

/// A directory takes what is in it along: to where other rules would apply it cannot be moved, only copied.
fn stays_under_its_rules(guest: &dyn Guest, source: &Parent, target: &Parent) -> Result<(), Errno> {
    let rules = guest.rules();
    if rules.paths.is_empty() || rules.are_alike(&source.path(guest)?, &target.path(guest)?) {
        return Ok(());
    }
    let is_directory = |name: &Parent| match name.object(guest, ResolveFlag::empty()) {
        Ok(object) => Ok(kind(&fstat(&object)?) == SFlag::S_IFDIR),
        Err(Errno::ENOENT) => Ok(false),
        Err(errno) => Err(errno),
    };
    if is_directory(source)? || is_directory(target)? { Err(Errno::EXDEV) } else { Ok(()) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use nix::libc;

    use super::*;
    use crate::file::trial::{CWD, DONE, Trial};

    fn at(trial: &Trial, from: &str, to: &str, flags: u32) -> Errno {
        trial.errno("renameat2", &[CWD, trial.path(from), CWD, trial.path(to), flags.into()])
    }

    fn tree() -> Trial {
        let trial = Trial::new(&["w/.git/hooks/x"]);
        fs::create_dir_all(trial.root.join("w/.git/hooks")).unwrap();
        fs::create_dir_all(trial.root.join("w/evil/hooks")).unwrap();
        trial.write("w/evil/hooks/x", "");
        trial.write("w/file", "");
        trial
    }

    #[test]
    fn nothing_moves_onto_a_protected_name_or_what_leads_to_it() {
        let trial = tree();
        let exchange = libc::RENAME_EXCHANGE;
        for (from, to) in [
            ("w/file", "w/.git/hooks/x"),
            ("w/.git", "w/git"),
            ("w/.git/hooks", "w/h"),
            ("w", "v"),
            ("w/evil", "w/.git"),
            ("w/evil/hooks", "w/.git/hooks"),
            ("w/evil/../.git", "w/git"),
        ] {
            assert_eq!(at(&trial, from, to, 0), Errno::EACCES, "{from} to {to}");
            assert_eq!(trial.errno("rename", &[trial.path(from), trial.path(to)]), Errno::EACCES);
            assert_eq!(trial.errno("renameat", &[CWD, trial.path(from), CWD, trial.path(to)]), Errno::EACCES);
            assert_eq!(at(&trial, from, to, libc::RENAME_NOREPLACE), Errno::EACCES, "{from} to {to}");
            assert_eq!(at(&trial, from, to, exchange), Errno::EACCES, "{from} with {to}");
            assert_eq!(at(&trial, to, from, exchange), Errno::EACCES, "{to} with {from}");
        }
        assert!(trial.exists("w/.git/hooks") && !trial.exists("w/.git/hooks/x"));
        assert!(trial.denied().iter().any(|(call, what)| *call == "renameat2" && what == "w/.git/hooks/x"));
    }

    #[test]
    fn an_absent_directory_cannot_be_moved_in_ready_made() {
        let trial = Trial::new(&["w/.git/hooks/x"]);
        fs::create_dir_all(trial.root.join("w/evil/hooks")).unwrap();
        assert_eq!(at(&trial, "w/evil", "w/.git", 0), Errno::EACCES);
        assert_eq!(at(&trial, "w/evil", "w/.git/", 0), Errno::EACCES);
        assert!(!trial.exists("w/.git"));
    }

    #[test]
    fn other_names_move_as_ever() {
        let trial = tree();
        assert_eq!(at(&trial, "w/file", "w/.git/config", 0), DONE);
        assert!(trial.exists("w/.git/config"));
        assert_eq!(at(&trial, "w/evil", "w/.git-evil", 0), DONE);
        assert_eq!(at(&trial, "w/.git/config", "w/.git-evil", libc::RENAME_NOREPLACE), Errno::EEXIST);
        assert_eq!(at(&trial, "w/.git/config", "w/.git-evil", 1 << 20), Errno::EINVAL);
        assert_eq!(at(&trial, "w/.git-evil/.", "w/y", 0), Errno::EBUSY);
        assert_eq!(at(&trial, "w/nothing", "w/y", 0), Errno::ENOENT);
        assert!(trial.denied().is_empty());
    }
}
