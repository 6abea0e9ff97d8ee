//! `chown(2)`: owners. The guest has one unprivileged identity, so the kernel refuses what would matter; under `--fake-root`
//! owners are the sentry's to tell ([`pretend`]).

use std::os::fd::AsFd;

use super::judge::{self, Use};
use super::named::{EMPTY_PATH, NO_FOLLOW, Named};
use super::{pretend, reopen};
use crate::args::{DirFd, Fd, Flags, Id, PathPtr};
use crate::guest::Guest;
use crate::reply::{Answer, Reply};
use crate::sys;

crate::syscalls! {
    /// Changes the owner of a file.
    /// Limit: under `--fake-root` owners are pretended: kept in an attribute of the file, or in memory for this run where it can bear none (links, FIFOs, sockets, files of others; 65,536 at most, then `ENOSPC`).
    chown(path: PathPtr, user: Id, group: Id) File Default Allow {
        PathCalls => Emulate(chown),
    };
    /// Changes the owner of a file or link.
    lchown(path: PathPtr, user: Id, group: Id) File Default Allow {
        PathCalls => Emulate(lchown),
    };
    /// Changes the owner of an open file.
    /// Limit: as for `chown`; of what has no name, such as a pipe, the pretended owner is forgotten.
    fchown(file: Fd, user: Id, group: Id) File Default Allow {
        FakeRoot => Emulate(fchown),
        PathRules => Emulate(fchown),
    };
    /// Changes the owner of a file or link, relative to a directory.
    fchownat(dir: DirFd, path: PathPtr, user: Id, group: Id, flags: Flags) File Default Allow {
        PathCalls => Emulate(fchownat),
    };
}

fn chown(guest: &dyn Guest, path: PathPtr, user: Id, group: Id) -> Answer {
    set_owner(guest, &Named::copy(guest, "chown", DirFd::CWD, path)?, user, group)
}

fn lchown(guest: &dyn Guest, path: PathPtr, user: Id, group: Id) -> Answer {
    set_owner(guest, &Named::copy(guest, "lchown", DirFd::CWD, path)?.itself(), user, group)
}

fn fchownat(guest: &dyn Guest, dir: DirFd, path: PathPtr, user: Id, group: Id, flags: Flags) -> Answer {
    let named = Named::with_flags(guest, "fchownat", dir, path, flags, NO_FOLLOW | EMPTY_PATH)?;
    set_owner(guest, &named, user, group)
}

fn set_owner(guest: &dyn Guest, named: &Named, user: Id, group: Id) -> Answer {
    if guest.rules().fake_root {
        pretend::change::owner(guest, &named.object(Use::Change)?, user.0, group.0)?;
        return Ok(Reply::Return(0));
    }
    let (user, group) = guest.owner().given(user.0, group.0);
    sys::set_owner(named.object(Use::Change)?.as_fd(), user, group)?;
    Ok(Reply::Return(0))
}

fn fchown(guest: &dyn Guest, file: Fd, user: Id, group: Id) -> Answer {
    let file = guest.duplicate(file)?;
    judge::object(guest, "fchown", &file, Use::Change)?;
    reopen::may_copy(guest, &file)?;
    if guest.rules().fake_root {
        pretend::is_open(&file)?;
        pretend::change::owner(guest, &file, user.0, group.0)?;
        return Ok(Reply::Return(0));
    }
    let (user, group) = guest.owner().given(user.0, group.0);
    nix::unistd::fchown(&file, Some(user.into()), Some(group.into()))?;
    Ok(Reply::Return(0))
}
