//! The calling task as a handler sees it.
//!
//! Everything read through this trait was copied once out of the guest and is checked to belong to a call that is still
//! pending (`SECCOMP_IOCTL_NOTIF_ID_VALID`) before it is returned, or, by calls that only look, before anything comes of it:
//! see seccomp_unotify(2).

use std::borrow::Cow;
use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};

use crate::Remembered;
use crate::args::{DirFd, Fd, PathPtr, Size, UserPtr};
use crate::clock::Pretended;
use crate::credentials::Credentials;
use crate::mount::order::Mounter;
use crate::owners::Owner;
use crate::reply::Answer;
use crate::rules::Rules;

const PAGE: usize = 4096;
/// The longest path, with its NUL (`PATH_MAX`).
const LONGEST: usize = libc::PATH_MAX as usize;
/// What is copied of a path at first.
const SHORT: usize = 256;

/// How the kernel marks the path of a file whose name is gone.
pub(crate) const DELETED: &[u8] = b" (deleted)";

/// A refusal that the user should hear of at the end of the run.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Denial {
    /// The syscall's name.
    pub call: &'static str,
    /// What it was about to do, such as `tmpfs on /mnt`; raw, to be escaped where it is shown.
    pub what: String,
    /// Why it was refused or what would allow it, such as `allow with --net all`.
    pub remedy: Cow<'static, str>,
}

/// What was decided about one path, for the audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The syscall's name.
    pub call: &'static str,
    /// The path as it was resolved.
    pub path: std::path::PathBuf,
    /// The rule that decided, as the user wrote it.
    pub rule: Option<String>,
    /// With which errno the call was refused.
    pub refused: Option<Errno>,
}

/// What is to be done while the kernel runs a call, and right after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Around {
    /// The call runs a program: its clock is patched before its first instruction.
    Exec,
    /// The caller's memory is changed for the time of the call. Whatever the call makes of it must be harmless.
    Change {
        /// Where.
        at: UserPtr,
        /// What is there, and will be again.
        from: Vec<u8>,
        /// What the call is to find.
        to: Vec<u8>,
    },
}

/// One pending call's task.
pub trait Guest {
    /// The thread id, in the supervisor's pid namespace.
    fn tid(&self) -> i32;

    /// Fills `into` from the guest's memory. `EFAULT` if any byte is not readable.
    fn read(&self, at: UserPtr, into: &mut [u8]) -> Result<(), Errno>;

    /// The same for a call that only looks, without asking yet whether the caller is still there: what was read may be
    /// another task's. Nothing may be done with it that anyone could notice before [`confirm`](Self::confirm) or the
    /// answer, which the kernel refuses when the caller is gone.
    fn glance(&self, at: UserPtr, into: &mut [u8]) -> Result<(), Errno> {
        self.read(at, into)
    }

    /// Makes sure that all that was read so far was the caller's: the call is still pending. `ESRCH` if not.
    fn confirm(&self) -> Result<(), Errno>;

    /// Writes `bytes` to the guest's memory. `EFAULT` if any byte is not writable.
    fn write(&self, at: UserPtr, bytes: &[u8]) -> Result<(), Errno>;

    /// The directory that relative paths start from, as an `O_PATH` descriptor: the task's own working directory for
    /// `AT_FDCWD`, otherwise what its descriptor refers to (`EBADF`, `ENOTDIR`).
    fn directory(&self, at: DirFd) -> Result<OwnedFd, Errno>;

    /// A duplicate of the guest's descriptor, sharing its open file description (`pidfd_getfd(2)`).
    fn duplicate(&self, fd: Fd) -> Result<OwnedFd, Errno>;

    /// The task's file mode creation mask.
    fn umask(&self) -> Result<u32, Errno>;

    /// The task's thread-group id and thread id as the guest itself knows them.
    fn own_ids(&self) -> Result<(i32, i32), Errno>;

    /// The object behind the guest's descriptor, as an `O_PATH` descriptor or a duplicate (`EBADF`).
    fn object(&self, fd: Fd) -> Result<OwnedFd, Errno> {
        self.duplicate(fd)
    }

    /// The same by the descriptors of its process, which are its first thread's; nearly always the task's own.
    fn object_of_process(&self, fd: Fd) -> Result<OwnedFd, Errno> {
        self.object(fd)
    }

    /// The ids that its own files have for the guest.
    fn owner(&self) -> Owner;

    /// Who the task's process pretends to be; root, unless it said otherwise. Only under `--fake-root`.
    fn credentials(&self) -> Result<Arc<Credentials>, Errno> {
        Ok(Arc::default())
    }

    /// Who the process with this number pretends to be; the number is the guest's own. `ESRCH` if there is none.
    fn credentials_of(&self, _process: i32) -> Result<Arc<Credentials>, Errno> {
        Err(Errno::ESRCH)
    }

    /// The user and group that a process of the guest's pretends to be, by its directory in a procfs. `ENOENT` if that is none.
    fn owner_of_process(&self, _directory: &OwnedFd) -> Result<(u32, u32), Errno> {
        Err(Errno::ENOENT)
    }

    /// Runs `act` as the task's user and with no capabilities but its own, where ids are the kernel's (`--fake-root=range`).
    /// What it needs of the task's memory is read before.
    fn as_itself(&self, act: &mut dyn FnMut() -> Answer) -> Answer {
        act()
    }

    /// The guest's number of the process that the *supervisor* knows by `process`, and the user and group that it
    /// pretends to be.
    fn peer(&self, _process: i32) -> Result<(i32, u32, u32), Errno> {
        Err(Errno::ESRCH)
    }

    /// Makes the task's process somebody else, and with it every process that it starts from now on. `ENOMEM` when there
    /// are too many different ones.
    fn pretend(&self, _credentials: Credentials) -> Result<(), Errno> {
        Err(Errno::ENOSYS)
    }

    /// A new file in memory that stands in the place of an id map, and its number. `ENOSPC` when there are too many.
    fn new_map(&self) -> Result<(u32, OwnedFd), Errno> {
        Err(Errno::ENOSYS)
    }

    /// The root of the view, whatever root the task has.
    fn view(&self) -> Result<OwnedFd, Errno> {
        open("/", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
    }

    /// What is said, under `--fake-root`, of the owners of objects that cannot bear an attribute.
    fn remembered(&self) -> &Remembered;

    /// Called before the kernel runs a call that may give the task another root.
    fn changes_root(&self) {}

    /// The soft limit of the size of files that the task may make, in bytes (`RLIMIT_FSIZE`).
    fn largest_file(&self) -> Result<u64, Errno>;

    /// Sends the task `SIGXFSZ`, as the kernel does when that limit is exceeded.
    fn signal_too_large(&self);

    /// Whether the task may have one more descriptor, as far as can be told before it gets one. A call with effects asks
    /// first, as the kernel reserves the number first.
    fn has_free_descriptor(&self) -> bool {
        true
    }

    /// Called before something that may sleep for long: others must be answered meanwhile. False if nobody can be had who
    /// would: then nothing may be done that waits for another program, which may need an answer first.
    fn may_wait(&self) -> bool {
        true
    }

    /// The same where the call has changed nothing so far. An error says that it must be left now, with any errno at all: it
    /// will be begun anew by somebody who may wait, and nobody is told of this attempt.
    fn wait_or_leave(&self) -> Result<(), Errno> {
        let _ = self.may_wait();
        Ok(())
    }

    /// What the kernel says about where a descriptor of the *supervisor* lies: a path in the view, with ` (deleted)` behind
    /// it when that name is gone, or something like `pipe:[7]`.
    fn label_of(&self, file: &OwnedFd) -> Result<std::ffi::OsString, Errno>;

    /// The path of an `O_PATH` or ordinary descriptor of the *supervisor*, as the view names it. `ENOENT` without a name.
    fn path_of(&self, file: &OwnedFd) -> Result<std::path::PathBuf, Errno> {
        let label = self.label_of(file)?;
        // A file without a name any more is named by what it was, which must not be taken for a path. Of a directory the
        // kernel tells whether it is so or its name only ends like that; a file may have other names.
        if label.as_encoded_bytes().ends_with(DELETED) {
            let stat = fstat(file)?;
            if SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT != SFlag::S_IFDIR || stat.st_nlink == 0 {
                return Err(Errno::ENOENT);
            }
        }
        Ok(label.into())
    }

    /// The supervisor's own `/proc/self/fd`: the entry `N` of it is the object behind its descriptor `N`, whatever has
    /// become of that object's name. A platform hands out its private procfs; without one, the view's procfs knows no
    /// `self` of ours, and whatever needs this fails.
    fn descriptors(&self) -> Result<OwnedFd, Errno> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let directory = open("/proc/self/fd", flags, Mode::empty())?;
        if fstatfs(&directory)?.filesystem_type() != PROC_SUPER_MAGIC {
            return Err(Errno::ENOENT);
        }
        Ok(directory)
    }

    /// Opens the object behind one of the supervisor's descriptors once more, with other `flags`. What was judged is
    /// what is opened: no name is looked up again, and nothing is created.
    fn reopen(&self, object: &OwnedFd, flags: i32) -> Result<OwnedFd, Errno> {
        // The entry itself is a (magic) link, so O_NOFOLLOW would stop at it; and a terminal must not become ours.
        let flags = OFlag::from_bits_retain(flags) - (OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW);
        let flags = flags | OFlag::O_CLOEXEC | OFlag::O_NOCTTY;
        openat(self.descriptors()?, object.as_raw_fd().to_string().as_str(), flags, Mode::empty())
    }

    /// Who mounts for the guest; `None` without `--allow mount`.
    fn mounter(&self) -> Option<&dyn Mounter> {
        None
    }

    /// What the policy says beyond what ring 1 enforces.
    fn rules(&self) -> &Rules;

    /// The bytes of memory and the number of threads that the whole sandbox uses, as of a moment ago.
    fn usage(&self) -> Result<(u64, u64), Errno>;

    /// What stands for `object` when it is opened for reading, where that is written anew each time.
    fn live_file(&self, _object: &OwnedFd) -> Option<Result<OwnedFd, Errno>> {
        None
    }

    /// What the task's time namespace adds to the time since the host was started: seconds and nanoseconds.
    fn boot_offset(&self) -> Result<(i64, i64), Errno>;
    /// The pretended clock, if the sandbox has one.
    fn clock(&self) -> Option<&Pretended> {
        None
    }

    /// A descriptor of the page that tells the pretended time ([`crate::clock::page`]), read-only.
    fn clock_page(&self) -> Result<OwnedFd, Errno> {
        Err(Errno::EINVAL)
    }

    /// Makes the functions of the caller's vDSO plain system calls.
    fn make_clock_calls_plain(&self) -> Result<(), Errno> {
        Err(Errno::EINVAL)
    }

    /// Makes the functions of the caller's vDSO plain system calls if it is a program that could not be stopped at its exec,
    /// for a debugger traces it.
    fn patch_clock_late(&self) {}

    /// Whether a clock is read by the vDSO's own code, whose caller adjusts the answer.
    fn adjusts_itself(&self) -> bool {
        false
    }

    /// The clock of one of the caller's timers, by the timer's number. `EINVAL`
    fn timer_clock(&self, timer: i32) -> Result<i32, Errno> {
        let _ = timer;
        Err(Errno::EINVAL)
    }

    /// Whether a signal waits for the caller that it does not block.
    fn is_interrupted(&self) -> Result<bool, Errno> {
        Ok(false)
    }

    /// Asks for something to be done around a call that only looks, when the kernel runs it. The last wish counts.
    fn around(&self, wish: Around) {
        let _ = wish;
    }

    /// Notes a refusal for the report.
    fn record(&self, denial: Denial);

    /// Whether the caller may do what this capability is for: in a container, by that or by being its root.
    fn may(&self, _capability: u32) -> Result<bool, Errno> {
        Ok(true)
    }

    /// Notes what was done for a container in the kernel's stead.
    fn did(&self, _call: &'static str, _what: String) {}

    /// Notes a decision for the audit log, if there is one.
    fn decided(&self, decision: Decision);

    /// Copies a structure that may grow (`copy_struct_from_user`): `size` is what the guest says, at least `known`, the
    /// length of what is known here; whatever is behind that must be zero. `EINVAL`, `E2BIG`, `EFAULT`.
    fn read_struct(&self, at: UserPtr, size: Size, known: usize) -> Result<Vec<u8>, Errno> {
        let size = match usize::try_from(size.0) {
            Ok(size) if size < known => return Err(Errno::EINVAL),
            Ok(size) if size <= PAGE => size,
            _ => return Err(Errno::E2BIG),
        };
        let mut bytes = vec![0; size];
        self.read(at, &mut bytes)?;
        if bytes[known..].iter().any(|byte| *byte != 0) { Err(Errno::E2BIG) } else { Ok(bytes) }
    }

    /// Copies a NUL-terminated path, page by page as the kernel would: `EFAULT`, or `ENAMETOOLONG` from 4096 bytes on.
    fn read_path(&self, at: PathPtr) -> Result<CString, Errno> {
        copy_path(at, &|at, into| self.read(at, into))
    }

    /// The same at a [`glance`](Self::glance).
    fn glance_at_path(&self, at: PathPtr) -> Result<CString, Errno> {
        copy_path(at, &|at, into| self.glance(at, into))
    }
}

type Read<'a> = &'a dyn Fn(UserPtr, &mut [u8]) -> Result<(), Errno>;

fn copy_path(at: PathPtr, read: Read) -> Result<CString, Errno> {
    let start = UserPtr::from(at);
    // Nearly every path ends within this: one short copy, on the stack.
    let mut short = [0; SHORT];
    let mut length = SHORT.min(to_page_end(start));
    read(start, &mut short[..length])?;
    if let Ok(whole) = CStr::from_bytes_until_nul(&short[..length]) {
        return Ok(whole.to_owned());
    }
    let mut path = vec![0; LONGEST];
    path[..length].copy_from_slice(&short[..length]);
    while length < LONGEST {
        let at = start.offset(length as u64);
        let end = LONGEST.min(length + to_page_end(at));
        read(at, &mut path[length..end])?;
        if let Ok(whole) = CStr::from_bytes_until_nul(&path[..end]) {
            return Ok(whole.to_owned());
        }
        length = end;
    }
    Err(Errno::ENAMETOOLONG)
}

/// How many bytes there are from `at` to the end of its page: those are there, or none of them.
fn to_page_end(at: UserPtr) -> usize {
    PAGE - usize::try_from(at.0 % PAGE as u64).unwrap_or_default()
}
