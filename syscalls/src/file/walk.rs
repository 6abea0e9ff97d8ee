//! Walks a guest's path up to its last component, so that a name can be judged and acted upon without a second look.
//!
//! A path that is judged and then walked again may have come to mean something else in between. Here the directory is
//! pinned by a descriptor, the policy is asked about that directory's own path, and the call is made on the descriptor
//! with a name of one component, which no symlink can redirect. How a path is resolved is told in
//! [`resolve`](super::resolve).
//!
//! Threads that run these handlers have a working directory and a umask of their own (`unshare(CLONE_FS)` at their
//! start; [`dispatch::Handler::EmulateSlow`](crate::dispatch::Handler::EmulateSlow) runs on such threads only).

use std::borrow::Cow;
use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use nix::errno::Errno;
use nix::fcntl::{OFlag, ResolveFlag, open};
use nix::sys::stat::{Mode, fstat, umask};
use nix::unistd::{chdir, fchdir};

use super::judge::{self, Use};
use super::pretend::adopt;
use super::reopen;
use super::resolve::look;
use crate::args::DirFd;
use crate::guest::{Denial, Guest};
use crate::rules::Standing;

/// How many symlinks one path may lead through, as in the kernel.
pub(crate) const MAX_LINKS: usize = 40;

/// Held for reading while a name is judged and made, for writing while one is moved. Under rules about names every
/// rename of the sandbox comes through here, so no directory changes its path between the judgement and the act.
static NAMES: RwLock<()> = RwLock::new(());

/// Keeps directories where they are while a name is judged and made. Nothing that can sleep for long may be done meanwhile.
pub(crate) fn names_stay() -> RwLockReadGuard<'static, ()> {
    NAMES.read().unwrap_or_else(PoisonError::into_inner)
}

/// The right to move names, alone.
pub(crate) fn names_move() -> RwLockWriteGuard<'static, ()> {
    NAMES.write().unwrap_or_else(PoisonError::into_inner)
}

/// The guest's umask on this thread, until dropped. The kernel applies it, so that default ACLs replace it as they should.
pub(crate) struct Umask(Mode);

impl Umask {
    /// Takes over the umask of the calling task.
    pub(crate) fn of(guest: &dyn Guest) -> Result<Self, Errno> {
        Ok(Self(umask(Mode::from_bits_truncate(guest.umask()? & 0o777))))
    }
}

impl Drop for Umask {
    fn drop(&mut self) {
        umask(self.0);
    }
}

/// Runs `act` with `dir` as this thread's working directory: there is no `bind`, `connect` or
/// `setxattr` relative to a descriptor. The threads of the sentry have a working directory each (`unshare(CLONE_FS)`).
pub(crate) fn in_directory<T>(dir: &OwnedFd, act: impl FnOnce() -> Result<T, Errno>) -> Result<T, Errno> {
    fchdir(dir)?;
    let result = act();
    // Not to keep a directory of the guest busy.
    chdir("/")?;
    result
}

/// Where a walk begins, and what is left of the path from there.
#[derive(Debug)]
pub(crate) struct Start<'p> {
    /// `None`: the root.
    dir: Option<OwnedFd>,
    rest: Cow<'p, [u8]>,
}

impl<'p> Start<'p> {
    /// Where the guest's `path` begins.
    pub(crate) fn of(guest: &dyn Guest, at: DirFd, path: &'p [u8]) -> Result<Self, Errno> {
        match path {
            // The kernel looks at the directory only after it found the path not to be empty.
            [] => Err(Errno::ENOENT),
            [b'/', ..] => Ok(Self { dir: None, rest: path.into() }),
            _ => Ok(Self { dir: Some(guest.directory(at)?), rest: path.into() }),
        }
    }

    /// Where `path` begins when it was found in the directory `dir`, as the target of a link is.
    pub(crate) fn in_directory(dir: OwnedFd, path: Vec<u8>) -> Result<Self, Errno> {
        match path.as_slice() {
            [] => Err(Errno::ENOENT),
            [b'/', ..] => Ok(Self { dir: None, rest: path.into() }),
            _ => Ok(Self { dir: Some(dir), rest: path.into() }),
        }
    }

    /// Exactly `path` from exactly `dir`, as `RESOLVE_IN_ROOT` and `RESOLVE_BENEATH` want it.
    pub(crate) fn exactly(dir: OwnedFd, path: &'p [u8]) -> Self {
        Self { dir: Some(dir), rest: path.into() }
    }

    /// Whether what is left of the path ends with a slash.
    pub(crate) fn ends_with_slash(&self) -> bool {
        self.rest.ends_with(b"/")
    }

    /// Opens what is left of the path, as an object and without opening the file.
    pub(crate) fn object(&self, guest: &dyn Guest, flags: OFlag, resolve: ResolveFlag) -> Result<OwnedFd, Errno> {
        look(guest, self.dir(), &self.rest, flags, resolve)
    }

    fn dir(&self) -> Option<BorrowedFd<'_>> {
        self.dir.as_ref().map(AsFd::as_fd)
    }

    /// The directory that the walk begins in.
    pub(crate) fn from(&self) -> Result<OwnedFd, Errno> {
        match &self.dir {
            Some(dir) => dir.try_clone().map_err(|_| Errno::EMFILE),
            None => open("/", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()),
        }
    }
}

/// A name and the directory it is in, pinned.
#[derive(Debug)]
pub(crate) struct Parent {
    /// The directory.
    pub(crate) dir: OwnedFd,
    /// The last component; `/` for the root itself.
    pub(crate) name: CString,
    /// Whether the path ended with a slash.
    pub(crate) slash: bool,
}

impl Parent {
    /// Walks to the directory of the guest's `path`.
    pub(crate) fn find(guest: &dyn Guest, at: DirFd, path: &[u8]) -> Result<Self, Errno> {
        Self::below(guest, &Start::of(guest, at, path)?, ResolveFlag::empty())
    }

    /// Walks to the directory of what is left of a path.
    pub(crate) fn below(guest: &dyn Guest, start: &Start, resolve: ResolveFlag) -> Result<Self, Errno> {
        let path = &*start.rest;
        if path.is_empty() {
            return Err(Errno::ENOENT);
        }
        let bare = path.len() - path.iter().rev().take_while(|byte| **byte == b'/').count();
        let slash = bare < path.len();
        let cut = path[..bare].iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
        let (above, name) = if bare == 0 { (path, b"/".as_slice()) } else { (&path[..cut], &path[cut..bare]) };
        let name = CString::new(name).map_err(|_| Errno::EINVAL)?;
        // The dot asks whether the directory may be searched, as the kernel does before it looks at the last component.
        let dir = look(guest, start.dir(), &[above, b"."].concat(), OFlag::O_DIRECTORY, resolve)?;
        Ok(Self { dir, name, slash })
    }

    /// The last component as the guest wrote it. The kernel tells apart names with a slash behind them, and never
    /// follows them in calls that make, move or remove a name.
    pub(crate) fn as_given(&self) -> Result<CString, Errno> {
        let mut name = self.name.as_bytes().to_vec();
        if self.slash {
            name.push(b'/');
        }
        CString::new(name).map_err(|_| Errno::EINVAL)
    }

    /// True for `.`, `..` and the root, which name no entry of the directory.
    pub(crate) fn is_dots(&self) -> bool {
        matches!(self.name.as_bytes(), b"." | b".." | b"/")
    }

    /// Its path in the view.
    pub(crate) fn path(&self, guest: &dyn Guest) -> Result<PathBuf, Errno> {
        Ok(guest.path_of(&self.dir)?.join(OsStr::from_bytes(self.name.as_bytes())))
    }

    /// The object of this name, itself and not what it may link to.
    pub(crate) fn object(&self, guest: &dyn Guest, resolve: ResolveFlag) -> Result<OwnedFd, Errno> {
        look(guest, Some(self.dir.as_fd()), self.name.as_bytes(), OFlag::O_NOFOLLOW, resolve)
    }

    /// Whether the file of this name, if there is one, is so long that it should be copied before it gets another name.
    pub(crate) fn is_copied_first(&self, guest: &dyn Guest) -> Result<bool, Errno> {
        if !reopen::is_copy_on_write(&self.dir)? {
            return Ok(false);
        }
        match self.object(guest, ResolveFlag::empty()) {
            Ok(object) => {
                let stat = fstat(&object)?;
                Ok(reopen::copies_first(&object, &stat)? || adopt::is_foreign(guest, &object, &stat)?)
            }
            // The call itself tells why.
            Err(_) => Ok(false),
        }
    }

    /// Copies that file while others are answered, if it is still there.
    pub(crate) fn copy_now(&self, guest: &dyn Guest) {
        if let Ok(object) = self.object(guest, ResolveFlag::empty())
            && let Ok(object) = adopt::own(guest, object)
        {
            reopen::copy_now(guest, &object);
        }
    }

    /// Fails where this name must not come into being.
    pub(crate) fn may_be_made(&self, guest: &dyn Guest, call: &'static str) -> Result<(), Errno> {
        self.judge(guest, call, &[Standing::Protected], Use::Make)
    }

    /// Fails where this name must not come to stand for something with contents of its own: where it must not be made, and
    /// on the way to a name under a rule.
    pub(crate) fn may_be_replaced(&self, guest: &dyn Guest, call: &'static str) -> Result<(), Errno> {
        self.judge(guest, call, &[Standing::Protected, Standing::Ancestor], Use::Make)
    }

    /// Fails where this name must stay: a directory on the way to a name under a rule may not be moved away.
    pub(crate) fn may_be_moved(&self, guest: &dyn Guest, call: &'static str) -> Result<(), Errno> {
        self.judge(guest, call, &[Standing::Protected, Standing::Ancestor], Use::Move)
    }

    /// Fails where this name must not go, or is not there for the guest.
    pub(crate) fn may_be_removed(&self, guest: &dyn Guest, call: &'static str) -> Result<(), Errno> {
        self.judge(guest, call, &[], Use::Move)
    }

    fn judge(&self, guest: &dyn Guest, call: &'static str, refused: &[Standing], usage: Use) -> Result<(), Errno> {
        let rules = guest.rules();
        // `.` and `..` exist already; the kernel refuses to make or move them.
        if !(rules.are_about_moves() || rules.are_about_objects()) || self.is_dots() {
            return Ok(());
        }
        let path = self.path(guest)?;
        if !refused.contains(&rules.standing(&path)) {
            return judge::path(guest, call, &path, usage);
        }
        guest.record(Denial {
            call,
            what: shown(&path),
            remedy: "the policy is about this name, or about one beneath it".into(),
        });
        judge::tell(guest, call, &path, None, Some(Errno::EACCES));
        Err(Errno::EACCES)
    }
}

/// A path for a report.
pub(crate) fn shown(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
