//! `open(2)`: which names an open may create.
//!
//! The view decides which files exist, and the kernel opens them without us. Two things it cannot know: that no set-id
//! file may come into being (the mode is a register: the filter refuses), and that some names must stay absent (only the
//! sentry can say: then every open that may create is done by it).

use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, ResolveFlag, openat, readlinkat};
use nix::libc;
use nix::sys::stat::{Mode as Permissions, SFlag, fstat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::judge::{self, Use};
use super::named::Named;
use super::object::{self, Otherwise};
use super::pretend::{adopt, made};
use super::resolve::is_procfs;
use super::trace::looked_up;
use super::walk::{MAX_LINKS, Parent, Start, Umask, names_stay};
use super::{CREATES, SET_ID, TEMPORARY};
use crate::args::{DirFd, Flags, Mode, PathPtr};
use crate::guest::Guest;
use crate::identity::namespace;
use crate::reply::{Answer, Reply};
use crate::table::Verdict::{Allow, Fail, Notify};
use crate::table::{Check, Op, Test};

crate::syscalls! {
    /// Opens a file.
    /// Fails with `EPERM` when it would create one with set-id bits.
    /// Limit: under `--fake-root` whether a file may be opened is the kernel's decision about the real user, not one about pretended owners and permissions.
    /// Limit: answered by the sentry, an open of a FIFO or of a file that another process holds a lease on waits uninterruptibly (but can be killed) and fails with `EINTR` when 48 calls wait already, or the sentry may have no more threads; unusual devices fail with `EACCES`; `/dev/tty` is the terminal among descriptors 0 to 2; a file is made or emptied in vain when another thread takes the last descriptor meanwhile; `F_GETFL` does not show `O_NOFOLLOW`; and `fs.protected_regular` and `fs.protected_fifos` are not asked.
    /// Limit: answered by the sentry with `--platform ptrace`, it fails with `EMFILE` unless two descriptors are free.
    open(path: PathPtr, flags: Flags, mode: Mode) File Judge Filter(OPEN) {
        FakeRoot => Emulate(open) when OPEN_PRETENDED,
        PathCalls => Emulate(open) when OPEN_ALL,
        ProtectedNames => Emulate(open) when OPEN_JUDGED,
        TracePaths => Observe(open_seen) when OPEN_SEEN,
        Container => Allow,
    };
    /// Opens a file, relative to a directory.
    /// Fails with `EPERM` when it would create one with set-id bits.
    /// Limit: as for `open`.
    openat(dir: DirFd, path: PathPtr, flags: Flags, mode: Mode) File Judge Filter(OPENAT) {
        FakeRoot => Emulate(open_at) when OPENAT_PRETENDED,
        PathCalls => Emulate(open_at) when OPENAT_ALL,
        ProtectedNames => Emulate(open_at) when OPENAT_JUDGED,
        TracePaths => Observe(open_at_seen) when OPENAT_SEEN,
        Container => Allow,
    };
    /// Creates or empties a file.
    /// Fails with `EPERM` when it would create one with set-id bits.
    /// Limit: as for `open`.
    creat(path: PathPtr, mode: Mode) File Default Filter(CREAT) {
        FakeRoot => Emulate(creat),
        PathCalls => Emulate(creat) when CREAT_JUDGED,
        ProtectedNames => Emulate(creat) when CREAT_JUDGED,
        Container => Allow,
    };
}

/// `__O_TMPFILE`.
const TEMPORARY_FLAG: i32 = libc::O_TMPFILE & !libc::O_DIRECTORY;
const O_PATH: u64 = libc::O_PATH as u64;
/// `VALID_OPEN_FLAGS`, without `O_LARGEFILE`, which the kernel adds.
const KNOWN: i32 = libc::O_ACCMODE
    | libc::O_CREAT
    | libc::O_EXCL
    | libc::O_NOCTTY
    | libc::O_TRUNC
    | libc::O_APPEND
    | libc::O_NONBLOCK
    | libc::O_SYNC
    | libc::O_ASYNC
    | libc::O_DIRECT
    | libc::O_DIRECTORY
    | libc::O_NOFOLLOW
    | libc::O_NOATIME
    | libc::O_CLOEXEC
    | libc::O_PATH
    | libc::O_TMPFILE;

// Without O_CREAT and O_TMPFILE the mode is whatever the register held, so both arguments are asked.
const fn set_id(first: usize) -> [Test; 2] {
    [Test { arg: first, op: Op::AnyOf(CREATES | TEMPORARY) }, Test { arg: first + 1, op: Op::AnyOf(SET_ID) }]
}

// O_PATH makes the kernel ignore O_CREAT; O_TMPFILE makes a file but no name.
const OPEN: &[Check] = &[Check { all: &set_id(1), then: Fail(Errno::EPERM) }];
const OPEN_JUDGED: &[Check] = &[
    Check { all: &set_id(1), then: Fail(Errno::EPERM) },
    Check { all: &[Test { arg: 1, op: Op::AnyOf(O_PATH) }], then: Allow },
    Check { all: &[Test { arg: 1, op: Op::AnyOf(CREATES) }], then: Notify },
];
const OPEN_ALL: &[Check] = &[
    Check { all: &set_id(1), then: Fail(Errno::EPERM) },
    Check { all: &[Test { arg: 1, op: Op::AnyOf(O_PATH) }], then: Allow },
    Check { all: &[], then: Notify },
];
// Set-id bits are only said of the file; only opens without a file stay the kernel's.
const OPEN_PRETENDED: &[Check] =
    &[Check { all: &[Test { arg: 1, op: Op::AnyOf(O_PATH) }], then: Allow }, Check { all: &[], then: Notify }];
const OPEN_SEEN: &[Check] = &[
    Check { all: &set_id(1), then: Fail(Errno::EPERM) },
    Check { all: &[Test { arg: 1, op: Op::Masked { mask: CREATES, value: 0 } }], then: Notify },
];
const OPENAT: &[Check] = &[Check { all: &set_id(2), then: Fail(Errno::EPERM) }];
const OPENAT_JUDGED: &[Check] = &[
    Check { all: &set_id(2), then: Fail(Errno::EPERM) },
    Check { all: &[Test { arg: 2, op: Op::AnyOf(O_PATH) }], then: Allow },
    Check { all: &[Test { arg: 2, op: Op::AnyOf(CREATES) }], then: Notify },
];
const OPENAT_ALL: &[Check] = &[
    Check { all: &set_id(2), then: Fail(Errno::EPERM) },
    Check { all: &[Test { arg: 2, op: Op::AnyOf(O_PATH) }], then: Allow },
    Check { all: &[], then: Notify },
];
const OPENAT_PRETENDED: &[Check] =
    &[Check { all: &[Test { arg: 2, op: Op::AnyOf(O_PATH) }], then: Allow }, Check { all: &[], then: Notify }];
const OPENAT_SEEN: &[Check] = &[
    Check { all: &set_id(2), then: Fail(Errno::EPERM) },
    Check { all: &[Test { arg: 2, op: Op::Masked { mask: CREATES, value: 0 } }], then: Notify },
];
const CREAT: &[Check] = &[Check { all: &[Test { arg: 1, op: Op::AnyOf(SET_ID) }], then: Fail(Errno::EPERM) }];
const CREAT_JUDGED: &[Check] = &[
    Check { all: &[Test { arg: 1, op: Op::AnyOf(SET_ID) }], then: Fail(Errno::EPERM) },
    Check { all: &[Test { arg: 1, op: Op::Masked { mask: SET_ID, value: 0 } }], then: Notify },
];

fn open(guest: &dyn Guest, path: PathPtr, flags: Flags, mode: Mode) -> Answer {
    judged(guest, "open", DirFd::CWD, path, flags, mode)
}

fn open_at(guest: &dyn Guest, dir: DirFd, path: PathPtr, flags: Flags, mode: Mode) -> Answer {
    judged(guest, "openat", dir, path, flags, mode)
}

fn creat(guest: &dyn Guest, path: PathPtr, mode: Mode) -> Answer {
    let flags = libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC;
    judged(guest, "creat", DirFd::CWD, path, Flags(flags.cast_unsigned()), mode)
}

fn open_seen(guest: &dyn Guest, path: PathPtr, _: Flags, _: Mode) {
    looked_up(guest, "open", DirFd::CWD, path);
}

fn open_at_seen(guest: &dyn Guest, dir: DirFd, path: PathPtr, _: Flags, _: Mode) {
    looked_up(guest, "openat", dir, path);
}

/// Flags that every open may have, whatever else it has of these: there is no need to ask the kernel.
const PLAIN: i32 = libc::O_ACCMODE
    | libc::O_CREAT
    | libc::O_EXCL
    | libc::O_TRUNC
    | libc::O_APPEND
    | libc::O_NONBLOCK
    | libc::O_NOCTTY
    | libc::O_NOFOLLOW
    | libc::O_CLOEXEC;

fn judged(guest: &dyn Guest, call: &'static str, at: DirFd, path: PathPtr, flags: Flags, mode: Mode) -> Answer {
    // Like the kernel, which ignores what it does not know; `openat2` would not.
    let (flags, mode) = (flags.0.cast_signed() & KNOWN, Permissions::from_bits_truncate(mode.0));
    // The kernel says first whether the flags go together; with a path that leads nowhere it says only that.
    if flags & !PLAIN != 0
        && let Err(Errno::EINVAL) = openat(AT_FDCWD, "", OFlag::from_bits_retain(flags), mode)
    {
        return Err(Errno::EINVAL);
    }
    let rules = guest.rules();
    let looks = flags & (libc::O_CREAT | libc::O_TRUNC | TEMPORARY_FLAG) == 0;
    // An open that changes nothing is a look as long as it finds a file or directory: see `object::open`.
    let path = if looks && !rules.are_about_objects() && !rules.trace && rules.virtual_files.is_empty() {
        guest.glance_at_path(path)?
    } else {
        guest.read_path(path)?
    };
    let opening = Opening { call, flags, mode, resolve: ResolveFlag::empty(), otherwise: Otherwise::Refusal(call) };
    opening.open(guest, at, path.as_bytes())
}

/// An open, by whichever call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Opening {
    /// Whose it is.
    pub call: &'static str,
    /// The guest's flags.
    pub flags: i32,
    /// The guest's mode, before its umask.
    pub mode: Permissions,
    /// What `openat2` asked for.
    pub resolve: ResolveFlag,
    /// What becomes of unusual devices.
    pub otherwise: Otherwise,
}

impl Opening {
    /// Opens the guest's `path`, which is created if it is not there and may be.
    fn open(&self, guest: &dyn Guest, at: DirFd, path: &[u8]) -> Answer {
        match self.from(guest, Start::of(guest, at, path)?) {
            Err(Errno::ENOENT) => self.missing(guest, at, path),
            answer => answer,
        }
    }

    /// The same, from where the walk begins.
    pub(super) fn from(&self, guest: &dyn Guest, start: Start) -> Answer {
        // What cannot be handed over must not be made or emptied either.
        if self.flags & (libc::O_CREAT | libc::O_TRUNC | TEMPORARY_FLAG) != 0 && !guest.has_free_descriptor() {
            return Err(Errno::EMFILE);
        }
        if self.flags & libc::O_TMPFILE == libc::O_TMPFILE {
            return self.temporary(guest, &start);
        }
        let (creates, exclusive) = (self.flags & libc::O_CREAT != 0, self.flags & libc::O_EXCL != 0);
        if !(creates && (exclusive || start.ends_with_slash())) {
            match start.object(guest, self.walking(), self.resolve) {
                // A slash at the end, of the path or of a link, is another mistake where a file may be created.
                Err(Errno::ENOENT | Errno::ENOTDIR) if creates => {}
                object => return self.existing(guest, object?),
            }
        }
        self.new_name(guest, start)
    }

    /// Flags that say how the walk ends. A link at the end is found itself, to be refused as the kernel does.
    fn walking(&self) -> OFlag {
        OFlag::from_bits_retain(self.flags) & (OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW)
    }

    /// Opens what is there.
    pub(super) fn existing(&self, guest: &dyn Guest, object: OwnedFd) -> Answer {
        let changes = self.flags & libc::O_ACCMODE != libc::O_RDONLY || self.flags & libc::O_TRUNC != 0;
        if changes
            && guest.rules().pretend_namespaces
            && is_procfs(&object)?
            && let Some(map) = namespace::map_file(guest, &object)?
        {
            return Ok(Reply::Inject { file: map, cloexec: self.flags & libc::O_CLOEXEC != 0 });
        }
        let judged = judge::object(guest, self.call, &object, if changes { Use::Change } else { Use::Read });
        // Whoever asked for it to be made would take "there is no such name" for a missing directory.
        let creates = self.flags & libc::O_CREAT != 0;
        judged.map_err(|errno| if creates && errno == Errno::ENOENT { Errno::EACCES } else { errno })?;
        if changes {
            let object = adopt::own(guest, object)?;
            return object::open(guest, &object, self.flags, self.otherwise);
        }
        if let Some(file) = guest.live_file(&object) {
            guest.confirm()?;
            let cloexec = self.flags & libc::O_CLOEXEC != 0;
            return Ok(Reply::Inject { file: guest.reopen(&file?, self.flags & !libc::O_DIRECTORY)?, cloexec });
        }
        object::open(guest, &object, self.flags, self.otherwise)
    }

    /// Makes the name that is not there, behind links that lead to it.
    fn new_name(&self, guest: &dyn Guest, mut start: Start) -> Answer {
        // Each round ends at the name itself or follows one link; a name that comes and goes costs rounds too.
        for _ in 0..=MAX_LINKS {
            let parent = Parent::below(guest, &start, self.resolve)?;
            if parent.is_dots() || parent.slash {
                let exists = parent.is_dots() && self.flags & libc::O_EXCL != 0;
                return Err(if exists { Errno::EEXIST } else { Errno::EISDIR });
            }
            match self.create(guest, &parent) {
                Ok(file) => return Ok(Reply::Inject { file, cloexec: self.flags & libc::O_CLOEXEC != 0 }),
                Err(Errno::EEXIST) if self.flags & libc::O_EXCL == 0 => {}
                Err(errno) => return Err(errno),
            }

            let object = match parent.object(guest, self.resolve) {
                Err(Errno::ENOENT) => continue,
                object => object?,
            };
            if object::kind(&fstat(&object)?) != SFlag::S_IFLNK {
                return self.existing(guest, object);
            }
            if self.flags & libc::O_NOFOLLOW != 0 || self.resolve.contains(ResolveFlag::RESOLVE_NO_SYMLINKS) {
                return Err(Errno::ELOOP);
            }
            start = Start::in_directory(parent.dir, readlinkat(&object, "")?.into_vec())?;
        }
        Err(Errno::ELOOP)
    }

    /// Creates the name; `EEXIST` if anything has it, be it a link that leads nowhere.
    fn create(&self, guest: &dyn Guest, parent: &Parent) -> Result<OwnedFd, Errno> {
        let _names = names_stay();
        parent.may_be_made(guest, self.call)?;
        let _umask = Umask::of(guest)?;
        let flags =
            OFlag::from_bits_retain(self.flags) | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC | OFlag::O_NOCTTY;
        let make = || openat(&parent.dir, parent.name.as_c_str(), flags, self.mode - set_id_bits());
        let file = made::as_root(guest, &[&parent.dir], make)?;
        if let Err(errno) = made::file(guest, &file, &parent.dir, self.mode.bits(), None) {
            let _ = unlinkat(&parent.dir, parent.name.as_c_str(), UnlinkatFlags::NoRemoveDir);
            return Err(errno);
        }
        Ok(file)
    }

    /// Makes a file without a name, which no rule about names concerns.
    fn temporary(&self, guest: &dyn Guest, start: &Start) -> Answer {
        let dir = start.object(guest, self.walking() | OFlag::O_DIRECTORY, self.resolve)?;
        judge::object(guest, self.call, &dir, Use::Change)?;
        let _umask = Umask::of(guest)?;
        let flags = (OFlag::from_bits_retain(self.flags) - OFlag::O_NOFOLLOW) | OFlag::O_CLOEXEC;
        let file = made::as_root(guest, &[&dir], || openat(&dir, ".", flags, self.mode - set_id_bits()))?;
        made::file(guest, &file, &dir, self.mode.bits(), None)?;
        Ok(Reply::Inject { file, cloexec: self.flags & libc::O_CLOEXEC != 0 })
    }

    /// What is not in the view may be a file that only the guest has.
    fn missing(&self, guest: &dyn Guest, at: DirFd, path: &[u8]) -> Answer {
        let file = Named::of(guest, self.call, at, path)?.missing(Errno::ENOENT)?;
        if self.flags & libc::O_ACCMODE != libc::O_RDONLY {
            return Err(Errno::EACCES);
        }
        Ok(Reply::Inject { file: guest.reopen(&file, self.flags)?, cloexec: self.flags & libc::O_CLOEXEC != 0 })
    }
}

/// The bits that no file of the sandbox may have; refused before, and left out once more where files are made.
pub(super) fn set_id_bits() -> Permissions {
    Permissions::S_ISUID | Permissions::S_ISGID
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
