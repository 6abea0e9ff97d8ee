//! The path that a call names: copied once, found once.

use std::ffi::CString;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::{OFlag, ResolveFlag};
use nix::libc;

use super::judge::{self, Use};
use super::pretend::adopt;
use super::reopen;
use super::walk::{Parent, Start, shown};
use crate::args::{DirFd, Fd, Flags, PathPtr};
use crate::guest::{Denial, Guest};

pub(super) const NO_FOLLOW: u32 = libc::AT_SYMLINK_NOFOLLOW.cast_unsigned();
pub(super) const EMPTY_PATH: u32 = libc::AT_EMPTY_PATH.cast_unsigned();
pub(super) const NO_AUTOMOUNT: u32 = libc::AT_NO_AUTOMOUNT.cast_unsigned();

/// A path of the guest and where it starts.
pub(crate) struct Named<'g> {
    guest: &'g dyn Guest,
    call: &'static str,
    at: DirFd,
    path: CString,
    follow: bool,
    may_be_empty: bool,
}

impl<'g> Named<'g> {
    /// Copies the path of a call that follows links.
    pub(crate) fn copy(guest: &'g dyn Guest, call: &'static str, at: DirFd, path: PathPtr) -> Result<Self, Errno> {
        // Whoever acts on the path gets at it by `found` or `parent`, which confirm it first.
        Ok(Self { guest, call, at, path: guest.glance_at_path(path)?, follow: true, may_be_empty: false })
    }

    /// The same for a path that has been copied.
    pub(crate) fn of(guest: &'g dyn Guest, call: &'static str, at: DirFd, path: &[u8]) -> Result<Self, Errno> {
        let path = CString::new(path).map_err(|_| Errno::EINVAL)?;
        Ok(Self { guest, call, at, path, follow: true, may_be_empty: false })
    }

    /// Copies the path of a call with flags, of which only those in `known` are allowed; `AT_SYMLINK_NOFOLLOW` and
    /// `AT_EMPTY_PATH` mean what they do.
    pub(crate) fn with_flags(
        guest: &'g dyn Guest,
        call: &'static str,
        at: DirFd,
        path: PathPtr,
        flags: Flags,
        known: u32,
    ) -> Result<Self, Errno> {
        if flags.0 & !known != 0 {
            return Err(Errno::EINVAL);
        }
        let named = Self::copy(guest, call, at, path)?;
        Ok(Self { follow: flags.0 & NO_FOLLOW == 0, may_be_empty: flags.0 & EMPTY_PATH != 0, ..named })
    }

    /// The same for calls that take no path at all (NULL) for an empty one, as those of the stat family (Linux 6.11).
    pub(crate) fn or_nothing(
        guest: &'g dyn Guest,
        call: &'static str,
        at: DirFd,
        path: PathPtr,
        flags: Flags,
        known: u32,
    ) -> Result<Self, Errno> {
        if path.0 != 0 || flags.0 & EMPTY_PATH == 0 || flags.0 & !known != 0 {
            return Self::with_flags(guest, call, at, path, flags, known);
        }
        Ok(Self { guest, call, at, path: CString::default(), follow: flags.0 & NO_FOLLOW == 0, may_be_empty: true })
    }

    /// A link at the end of the path is meant itself.
    pub(crate) fn itself(self) -> Self {
        Self { follow: false, ..self }
    }

    /// Whether a link at the end of the path is followed.
    pub(crate) fn follows(&self) -> bool {
        self.follow
    }

    /// Whether the call is about a descriptor, by an empty path.
    pub(crate) fn is_descriptor(&self) -> bool {
        self.path.is_empty() && self.may_be_empty
    }

    /// That descriptor, if it is not the working directory.
    pub(crate) fn descriptor(&self) -> Option<Fd> {
        (self.is_descriptor() && self.at != DirFd::CWD).then_some(Fd(self.at.0))
    }

    /// The call's name.
    pub(crate) fn call(&self) -> &'static str {
        self.call
    }

    /// The bytes of the path.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.path.as_bytes()
    }

    /// Finds the object, as an `O_PATH` descriptor, and judges what is about to be done with it.
    pub(crate) fn object(&self, usage: Use) -> Result<OwnedFd, Errno> {
        self.found(OFlag::empty(), usage)
    }

    /// The same with `O_DIRECTORY` or `O_NOFOLLOW`.
    pub(crate) fn found(&self, flags: OFlag, usage: Use) -> Result<OwnedFd, Errno> {
        let rules = self.guest.rules();
        // A look is a walk that nobody notices, and its answer is for the caller or for nobody. A report is not.
        if usage != Use::Look || rules.are_about_objects() || rules.trace {
            self.guest.confirm()?;
        }
        let object = if self.is_descriptor() {
            match self.at {
                DirFd::CWD => self.guest.directory(DirFd::CWD)?,
                DirFd(number) => self.guest.object(Fd(number))?,
            }
        } else {
            let flags = if self.follow { flags } else { flags | OFlag::O_NOFOLLOW };
            let start = Start::of(self.guest, self.at, self.bytes())?;
            start.object(self.guest, flags, ResolveFlag::empty()).or_else(|errno| self.missing(errno))?
        };
        judge::object(self.guest, self.call, &object, usage)?;
        if usage != Use::Change {
            return Ok(object);
        }
        reopen::may_copy(self.guest, &object)?;
        adopt::own(self.guest, object)
    }

    /// Walks to the directory of the name.
    pub(crate) fn parent(&self) -> Result<Parent, Errno> {
        self.guest.confirm()?;
        Parent::find(self.guest, self.at, self.bytes())
    }

    /// What is not in the view may be a file that only the guest has; otherwise the user may want to know.
    pub(crate) fn missing(&self, errno: Errno) -> Result<OwnedFd, Errno> {
        let rules = self.guest.rules();
        if errno != Errno::ENOENT || !(rules.trace || rules.audit || !rules.virtual_files.is_empty()) {
            return Err(errno);
        }
        let path = self.parent().and_then(|parent| parent.path(self.guest));
        if let Ok(path) = &path
            && let Some(file) = rules.virtual_file(path)
        {
            return file.contents.try_clone().map_err(|_| Errno::EMFILE);
        }
        let path =
            path.unwrap_or_else(|_| std::path::PathBuf::from(std::ffi::OsStr::new(&*self.path.to_string_lossy())));
        if rules.trace {
            let remedy = "not in the view".into();
            self.guest.record(Denial { call: self.call, what: shown(&path), remedy });
        }
        judge::tell(self.guest, self.call, &path, None, Some(errno));
        Err(errno)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::file::trial::{CWD, DONE, Trial};
    use crate::table::Feature::PathCalls;

    /// Whoever reuses the thread id of a killed caller must not have its memory obeyed.
    #[test]
    fn what_was_read_of_a_caller_that_is_gone_has_no_effect() {
        let mut trial = Trial::with(PathCalls);
        trial.write("file", "text");
        nix::unistd::mkfifo(&trial.root.join("fifo"), nix::sys::stat::Mode::from_bits_truncate(0o644)).unwrap();
        let (file, new, fifo) = (trial.path("file"), trial.path("new"), trial.path("fifo"));
        let (name, value) = (trial.path("user.x"), trial.path("y"));
        let truncate = (libc::O_WRONLY | libc::O_TRUNC) as u64;
        let create = (libc::O_WRONLY | libc::O_CREAT) as u64;
        let before = trial.root.join("file").metadata().unwrap();
        trial.guest.gone = true;
        let calls: &[(&str, &[u64])] = &[
            ("chmod", &[file, 0o600]),
            ("fchmodat", &[CWD, file, 0o600]),
            ("truncate", &[file, 0]),
            ("utime", &[file, 0]),
            ("lchown", &[file, 0, 0]),
            ("setxattr", &[file, name, value, 1, 0]),
            ("unlink", &[file]),
            ("rename", &[file, new]),
            ("link", &[file, new]),
            ("symlink", &[file, new]),
            ("mkdir", &[new, 0o755]),
            ("openat", &[CWD, file, truncate, 0]),
            ("openat", &[CWD, new, create, 0o644]),
            ("openat", &[CWD, fifo, 0, 0]),
            ("stat", &[file, file]),
        ];
        for (call, arguments) in calls {
            assert_eq!(trial.errno(call, arguments), Errno::ESRCH, "{call}");
        }
        let after = trial.root.join("file").metadata().unwrap();
        assert_eq!((before.ctime_nsec(), before.len(), before.mode()), (after.ctime_nsec(), after.len(), after.mode()));
        assert!(!trial.exists("new"));
        trial.guest.gone = false;
        assert_eq!(trial.errno("chmod", &[file, 0o600]), DONE);
    }
}
