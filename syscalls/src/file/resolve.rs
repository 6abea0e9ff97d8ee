//! From a path of the guest to an object, as the guest itself would find it.
//!
//! The supervisor lives in the guest's view and has the guest's rights, so the kernel's own walk (`openat2(2)` with
//! `O_PATH`) resolves `..`, mounts, symlinks and permissions for it as it would for the guest: one call for nearly every
//! path. What the two do not share is procfs. `/proc/self` is nobody there when the supervisor asks, for it is in another
//! pid namespace, and magic links (`/proc/7/fd/3`, `/proc/7/root`) would be followed with the supervisor's rights over
//! other processes. So the fast walk never follows a magic link, and where it may have failed for that reason the path is
//! walked once more, component by component, with the caller put in the place of `self`.
//!
//! Magic links of other processes are followed when the link belongs to the guest's own user: procfs gives the entries
//! of a process that may not be looked into (init, and whatever is not dumpable) to root, see proc(5).

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::OnceLock;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat};
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};
use nix::unistd::geteuid;

use super::absent::is_absent;
use super::object::{belongs_to, kind};
use super::walk::MAX_LINKS;
use crate::args::Fd;
use crate::guest::Guest;

/// The inode number of the root of every procfs (`PROC_ROOT_INO`).
const PROC_ROOT: u64 = 1;
/// What a caller of openat2 may ask for that only a walk by the kernel can keep.
const CONFINED: ResolveFlag = ResolveFlag::RESOLVE_BENEATH
    .union(ResolveFlag::RESOLVE_IN_ROOT)
    .union(ResolveFlag::RESOLVE_NO_XDEV)
    .union(ResolveFlag::RESOLVE_NO_SYMLINKS);
/// Fails with `EAGAIN` instead of waiting for a disk (Linux 5.12); `nix` does not know it.
pub(super) const CACHED: ResolveFlag = ResolveFlag::from_bits_retain(0x20);

/// Opens the object of `path` without opening the file (`O_PATH`). `from` is where a relative path starts; `None` is for
/// paths that start at the root. `flags` may hold `O_NOFOLLOW` and `O_DIRECTORY`.
pub(crate) fn look(
    guest: &dyn Guest,
    from: Option<BorrowedFd>,
    path: &[u8],
    flags: OFlag,
    resolve: ResolveFlag,
) -> Result<OwnedFd, Errno> {
    debug_assert!(from.is_some() || path.starts_with(b"/"));
    let walk = |extra| kernels_walk(from, path, flags, resolve | extra);
    let cached = resolve | CACHED;
    let found = match walk(CACHED) {
        Err(Errno::EAGAIN) if resolve.is_empty() && is_absent(from, path) => return Err(Errno::ENOENT),
        Err(Errno::EAGAIN) if cached != resolve => {
            // A disk answers in any case.
            guest.wait_or_leave()?;
            walk(ResolveFlag::empty())
        }
        found => found,
    };
    let by_hand = match found {
        _ if resolve.intersects(CONFINED) => false,
        Err(Errno::ELOOP) => true,
        // A name that is missing behind a link may be one that only the caller has.
        Err(Errno::ENOENT) => walk(ResolveFlag::RESOLVE_NO_SYMLINKS).err() == Some(Errno::ELOOP),
        // The entries of a process that is not dumpable, perhaps the caller's own.
        Err(Errno::EACCES) => path.starts_with(b"/proc/") || path.starts_with(b"/dev/"),
        _ => false,
    };
    if !by_hand {
        return found;
    }
    let magic = !resolve.contains(ResolveFlag::RESOLVE_NO_MAGICLINKS);
    ByHand { guest, links: 0, magic, ids: None }.walk(from, path, flags)
}

/// The kernel's walk, never through a magic link.
pub(super) fn kernels_walk(
    from: Option<BorrowedFd>,
    path: &[u8],
    flags: OFlag,
    resolve: ResolveFlag,
) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlag::O_PATH | OFlag::O_CLOEXEC;
    let how = OpenHow::new().flags(flags).resolve(resolve | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    openat2(from.unwrap_or(AT_FDCWD), OsStr::from_bytes(path), how)
}

/// A walk with the links read here.
struct ByHand<'a> {
    guest: &'a dyn Guest,
    links: usize,
    /// Whether magic links may be followed at all.
    magic: bool,
    /// The caller's process and thread, once asked for.
    ids: Option<(i32, i32)>,
}

/// Where the next component of a walk leads.
enum Step {
    /// To an object.
    Object(OwnedFd),
    /// To an object behind a magic link, which is followed no further.
    Behind(OwnedFd),
    /// Along a link: this text comes in the place of the component.
    Link(Vec<u8>),
    /// To an object behind several components at once; so many of what is left are used up.
    Own(OwnedFd, usize),
}

impl ByHand<'_> {
    fn walk(mut self, from: Option<BorrowedFd>, path: &[u8], flags: OFlag) -> Result<OwnedFd, Errno> {
        let mut dir = match from {
            Some(from) if !path.starts_with(b"/") => from.try_clone_to_owned().map_err(|_| Errno::EMFILE)?,
            _ => root()?,
        };
        let mut rest = path.to_vec();
        loop {
            let (name, behind) = split(&rest);
            if name.is_empty() {
                // Only slashes: the directory itself.
                return kernels_walk(Some(dir.as_fd()), b".", flags | OFlag::O_DIRECTORY, ResolveFlag::empty());
            }
            let last = rest[behind..].iter().all(|byte| *byte == b'/');
            let slash = behind < rest.len();
            let follow = !last || slash || !flags.contains(OFlag::O_NOFOLLOW);
            match self.step(&dir, &rest, follow, !flags.contains(OFlag::O_NOFOLLOW))? {
                Step::Link(target) => {
                    self.one_more_link(1)?;
                    if target.is_empty() {
                        return Err(Errno::ENOENT);
                    }
                    if target.starts_with(b"/") {
                        dir = root()?;
                    }
                    let behind = rest.split_off(behind);
                    rest = [target, behind].concat();
                    // Most of what is left is plain again.
                    match kernels_walk(Some(dir.as_fd()), relative(&rest), flags, ResolveFlag::RESOLVE_NO_SYMLINKS) {
                        Err(Errno::ELOOP) => {}
                        found => return found,
                    }
                }
                Step::Own(object, used) => {
                    rest = rest.split_off(used);
                    if rest.is_empty() {
                        return of_kind(object, flags);
                    }
                    dir = of_kind(object, OFlag::O_DIRECTORY)?;
                }
                Step::Object(object) | Step::Behind(object) if last && !slash => return of_kind(object, flags),
                Step::Object(object) | Step::Behind(object) => {
                    dir = of_kind(object, OFlag::O_DIRECTORY)?;
                    rest = rest.split_off(behind);
                    if last {
                        return Ok(dir);
                    }
                }
            }
        }
    }

    /// One component of `rest`, from `dir` on: whether a link is followed there, and whether one is at the very end.
    fn step(&mut self, dir: &OwnedFd, rest: &[u8], follow: bool, to_the_end: bool) -> Result<Step, Errno> {
        let (name, _) = split(rest);
        let in_proc = is_procfs(dir)?;
        if in_proc
            && fstat(dir)?.st_ino == PROC_ROOT
            && let Some(step) = self.own(rest, follow, to_the_end)?
        {
            return Ok(step);
        }
        let flags = OFlag::O_NOFOLLOW;
        let object = kernels_walk(Some(dir.as_fd()), name, flags, ResolveFlag::empty())?;
        let stat = fstat(&object)?;
        if kind(&stat) != SFlag::S_IFLNK || !follow {
            return Ok(Step::Object(object));
        }
        if !in_proc {
            // In a sticky directory the kernel may refuse to follow another's link (protected_symlinks in proc(5)).
            if fstat(dir)?.st_mode & Mode::S_ISVTX.bits() != 0
                && kernels_walk(Some(dir.as_fd()), name, OFlag::empty(), ResolveFlag::empty()).err()
                    == Some(Errno::EACCES)
            {
                return Err(Errno::EACCES);
            }
            return Ok(Step::Link(readlinkat(&object, "")?.into_encoded()));
        }
        match kernels_walk(Some(dir.as_fd()), name, OFlag::empty(), ResolveFlag::empty()) {
            // A magic link: the kernel leads to the object itself, whatever its name.
            Err(Errno::ELOOP) if !self.magic => Err(Errno::ELOOP),
            // In a container that shows the host's processes, those of the same user are not its own to look behind.
            Err(Errno::ELOOP)
                if (self.guest.rules().container.is_some() || !may_look_behind(self.guest, &stat))
                    && !self.is_its_own(&object)? =>
            {
                Err(Errno::EACCES)
            }
            Err(Errno::ELOOP) => {
                self.one_more_link(1)?;
                self.behind(dir, name).map(Step::Behind)
            }
            // A plain one, such as /proc/mounts.
            _ => Ok(Step::Link(readlinkat(&object, "")?.into_encoded())),
        }
    }

    /// Whether an entry is the caller's own, which tells no owner of who has just changed its ids.
    fn is_its_own(&self, entry: &OwnedFd) -> Result<bool, Errno> {
        let real = self.guest.rules().real_ids;
        Ok(real && belongs_to(self.guest.label_of(entry)?.as_encoded_bytes(), self.guest.own_ids()?.0))
    }

    fn behind(&self, dir: &OwnedFd, name: &[u8]) -> Result<OwnedFd, Errno> {
        let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC);
        openat2(dir, OsStr::from_bytes(name), how)
    }

    fn one_more_link(&mut self, links: usize) -> Result<(), Errno> {
        self.links += links;
        if self.links > MAX_LINKS { Err(Errno::ELOOP) } else { Ok(()) }
    }

    /// In the root of a procfs: `self` and its relatives are the caller's, and so are the descriptors behind them.
    fn own(&mut self, rest: &[u8], follow: bool, to_the_end: bool) -> Result<Option<Step>, Errno> {
        let (process, thread) = match self.ids {
            Some(ids) => ids,
            None => *self.ids.insert(self.guest.own_ids()?),
        };
        let (name, _) = split(rest);
        if let Some((whose, number, used)) = own_descriptor(rest, process, thread)
            && self.magic
            && (to_the_end || used < rest.len())
        {
            // The descriptor's entry is a link, and so is `self`.
            self.one_more_link(if name.ends_with(b"self") { 2 } else { 1 })?;
            // In /proc a descriptor that is not open is a name that does not exist.
            let object = match whose {
                Whose::Thread => self.guest.object(Fd(number)),
                Whose::Process => self.guest.object_of_process(Fd(number)),
            };
            let object = object.map_err(|errno| match errno {
                Errno::EBADF => Errno::ENOENT,
                errno => errno,
            })?;
            return Ok(Some(Step::Own(object, used)));
        }
        Ok(match name {
            b"self" if follow => Some(Step::Link(process.to_string().into_bytes())),
            b"thread-self" if follow => Some(Step::Link(format!("{process}/task/{thread}").into_bytes())),
            _ => None,
        })
    }
}

/// In whose table a descriptor is looked up. Threads may have tables of their own; that of a process is its first thread's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    Thread,
    Process,
}

/// Recognises `self/fd/N`, `7/fd/N` and `7/task/8/fd/N` as a descriptor of process 7, thread 8: whose, its number, and how
/// much of the path that is.
fn own_descriptor(path: &[u8], process: i32, thread: i32) -> Option<(Whose, i32, usize)> {
    let mut parts = components(path);
    let who = parts.next()?.0;
    let mut entry = parts.next()?;
    let is_process = who == b"self" || number(who) == Some(process);
    let mut whose = if is_process { Whose::Process } else { Whose::Thread };
    if is_process && entry.0 == b"task" && number(parts.next()?.0) == Some(thread) {
        entry = parts.next()?;
        whose = Whose::Thread;
    } else if !is_process && who != b"thread-self" {
        return None;
    }
    let (digits, start) = if entry.0 == b"fd" { parts.next()? } else { return None };
    Some((whose, number(digits)?, start + digits.len()))
}

/// A number as procfs spells it: no sign, no leading zero.
fn number(digits: &[u8]) -> Option<i32> {
    let plain = digits.iter().all(u8::is_ascii_digit) && (digits == b"0" || !digits.starts_with(b"0"));
    std::str::from_utf8(digits).ok().filter(|_| plain)?.parse().ok()
}

/// The components of `path` that name something, each with where it starts.
fn components(path: &[u8]) -> impl Iterator<Item = (&[u8], usize)> {
    let mut at = 0;
    let parts = path.split(|byte| *byte == b'/').map(move |part| {
        let start = at;
        at += part.len() + 1;
        (part, start)
    });
    parts.filter(|(part, _)| !part.is_empty() && *part != b".")
}

/// The first component, and where what is behind it begins.
fn split(path: &[u8]) -> (&[u8], usize) {
    let start = path.iter().position(|byte| *byte != b'/').unwrap_or(path.len());
    let end = path[start..].iter().position(|byte| *byte == b'/').map_or(path.len(), |at| start + at);
    (&path[start..end], end)
}

/// The same path without the slashes at its start; `.` if nothing is left.
fn relative(path: &[u8]) -> &[u8] {
    match path.iter().position(|byte| *byte != b'/') {
        Some(start) => &path[start..],
        None => b".",
    }
}

fn root() -> Result<OwnedFd, Errno> {
    kernels_walk(None, b"/", OFlag::O_DIRECTORY, ResolveFlag::empty())
}

/// Checks what `O_DIRECTORY` asks of an object that is open already.
fn of_kind(object: OwnedFd, flags: OFlag) -> Result<OwnedFd, Errno> {
    if flags.contains(OFlag::O_DIRECTORY) && kind(&fstat(&object)?) != SFlag::S_IFDIR {
        return Err(Errno::ENOTDIR);
    }
    Ok(object)
}

pub(crate) fn is_procfs(object: &OwnedFd) -> Result<bool, Errno> {
    Ok(fstatfs(object)?.filesystem_type() == PROC_SUPER_MAGIC)
}

/// Whether an entry of a process in procfs may be looked behind by the guest: the supervisor's own rights say nothing.
pub(crate) fn may_look_behind(guest: &dyn Guest, entry: &FileStat) -> bool {
    // With ids of its own the guest is whom this thread is now, and others keep their processes to themselves.
    if guest.rules().real_ids { entry.st_uid == geteuid().as_raw() } else { is_own(entry) }
}

/// Whether an object belongs to the guest's own user, which is the supervisor's. Not for guests with several.
pub(crate) fn is_own(object: &FileStat) -> bool {
    // Asked once: nothing changes the supervisor's own ids then, and every open comes by here.
    static OWN: OnceLock<u32> = OnceLock::new();
    object.st_uid == *OWN.get_or_init(|| geteuid().as_raw())
}

/// The bytes of a link's text.
trait IntoBytes {
    fn into_encoded(self) -> Vec<u8>;
}

impl IntoBytes for std::ffi::OsString {
    fn into_encoded(self) -> Vec<u8> {
        std::os::unix::ffi::OsStringExt::into_vec(self)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_the_callers_own_descriptors_are_recognised() {
        let seen = |path: &str| {
            let (whose, number, used) = own_descriptor(path.as_bytes(), 7, 8)?;
            Some((whose, number, path[used..].to_owned()))
        };
        for path in ["self/fd/3", "7/fd/3", "/self/./fd//3"] {
            assert_eq!(seen(path), Some((Whose::Process, 3, String::new())), "{path}");
        }
        for path in ["thread-self/fd/3", "self/task/8/fd/3", "7/task/8/fd/3"] {
            assert_eq!(seen(path), Some((Whose::Thread, 3, String::new())), "{path}");
        }
        assert_eq!(seen("self/fd/3/x"), Some((Whose::Process, 3, "/x".to_owned())));
        for path in
            ["8/fd/3", "self/task/9/fd/3", "self/fd", "self/fd/03", "self/fd/+3", "self/fd/-1", "self/../self/fd/3"]
        {
            assert_eq!(seen(path), None, "{path}");
        }
        assert_eq!(seen("self/fd/99999999999"), None);
    }

    #[test]
    fn components_are_split_off() {
        assert_eq!(split(b"//a/b"), (b"a".as_slice(), 3));
        assert_eq!(split(b"a"), (b"a".as_slice(), 1));
        assert_eq!(split(b"//"), (b"".as_slice(), 2));
        assert_eq!(relative(b"//a/"), b"a/");
        assert_eq!(relative(b"//"), b".");
    }
}
