//! Mounts that are made, changed and undone for the guest: `--allow mount`.
//!
//! Paths are walked once, as the guest; what was found goes to the process that mounts as descriptors. That process lives
//! in the guest's mount namespace, where whatever the view is made of is locked: the kernel refuses to unmount or move it,
//! to show a directory without what covers a part of it, and to take a restriction off, see mount_namespaces(7). What the
//! kernel cannot know, rules about paths, is judged here ([`Rules::hinders_mounting`](crate::rules::Rules)).

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{OFlag, ResolveFlag};
use nix::mount::{MntFlags, MsFlags};
use nix::sys::stat::fstat;
use nix::sys::statfs::fstatfs;

use super::order::{Kind, Mounter, Order, RECURSIVE, RESIZE, WRITABLE};
use super::{options, read_optional, shown};
use crate::args::{DirFd, Flags, PathPtr, UserPtr, Word};
use crate::file::judge::{self, Use};
use crate::file::walk::{Start, names_stay};
use crate::guest::{Denial, Guest};
use crate::reply::{Answer, Reply};

const PAGE: u64 = 4096;
/// `MOUNT_ATTR_*` of mount_setattr(2).
const READ_ONLY: u32 = 0x1;
const NO_SUID: u32 = 0x2;
const NO_DEV: u32 = 0x4;
const NO_EXEC: u32 = 0x8;
const NO_ATIME: u32 = 0x10;
const NO_DIR_ATIME: u32 = 0x80;
const NO_SYMLINKS: u32 = 0x0020_0000;
/// `MS_NOSYMFOLLOW`; `nix` does not know it.
const MS_NO_SYMLINKS: u64 = 256;
/// What old programs put into the upper half of the flags.
const MAGIC: u64 = 0xC0ED_0000;
const NSFS_MAGIC: nix::sys::statfs::FsType = nix::sys::statfs::FsType(0x6e73_6673);

/// Who mounts for the guest. Where it is root for itself, it must not have given that up.
fn mounter(guest: &dyn Guest) -> Result<&dyn Mounter, Errno> {
    const SYS_ADMIN: u32 = 21;
    // Who may mount over a container's /etc is its root.
    if !guest.may(SYS_ADMIN)? {
        return Err(Errno::EPERM);
    }
    if guest.rules().fake_root && !guest.credentials()?.can(SYS_ADMIN) {
        return Err(Errno::EPERM);
    }
    guest.mounter().ok_or(Errno::EPERM)
}

/// What is asked for, once it has been copied.
struct Wanted {
    source: CString,
    target: CString,
    kind: CString,
    data: Vec<u8>,
    flags: MsFlags,
    set: u32,
}

impl Wanted {
    /// What a container's policy calls it.
    fn kind(&self) -> &'static str {
        let propagation = MsFlags::MS_SHARED | MsFlags::MS_PRIVATE | MsFlags::MS_SLAVE | MsFlags::MS_UNBINDABLE;
        if self.flags.contains(MsFlags::MS_REMOUNT) {
            return "remount";
        }
        if self.flags.contains(MsFlags::MS_BIND) {
            return "bind";
        }
        if self.flags.intersects(propagation) {
            return "remount";
        }
        if self.flags.contains(MsFlags::MS_MOVE) {
            return "bind";
        }
        match self.kind.as_bytes() {
            b"tmpfs" | b"ramfs" => "tmpfs",
            b"devpts" => "devpts",
            b"mqueue" => "mqueue",
            b"proc" => "proc",
            b"sysfs" => "sysfs",
            b"overlay" => "overlay",
            // Refused in any case.
            _ => "",
        }
    }

    /// It in a few words, for the log.
    fn told(&self) -> String {
        let target = shown(&self.target);
        match self.kind() {
            "remount" => format!("with other flags on {target}"),
            "bind" => format!("{} on {target}", shown(&self.source)),
            _ => format!("{} on {target}", shown(&self.kind)),
        }
    }
}

/// Tells of what a container may not change: an attempt to undo what its runtime mounted is worth a line in the log.
struct Telling<'a> {
    guest: &'a dyn Guest,
    mounter: &'a dyn Mounter,
    call: &'static str,
    what: &'a dyn Fn() -> String,
}

impl Mounter for Telling<'_> {
    fn ask(&self, order: &Order, text: &[u8], files: &[BorrowedFd]) -> Result<(), Errno> {
        let answer = self.mounter.ask(order, text, files);
        if answer == Err(Errno::EPERM) && self.guest.rules().container.is_some() {
            let remedy =
                "what the runtime mounted stays as it is, and what others share stays without mounts of a container's";
            self.guest.record(Denial { call: self.call, what: (self.what)(), remedy: remedy.into() });
        }
        answer
    }
}

/// Fails, and is told, where the container's policy has no such mounts.
fn may_be_made(guest: &dyn Guest, wanted: &Wanted) -> Result<(), Errno> {
    let Some(container) = &guest.rules().container else { return Ok(()) };
    let kind = wanted.kind();
    if kind.is_empty() || container.mounts.contains(&kind) {
        return Ok(());
    }
    let remedy = format!("the owner of the host allows it with mount = [\"{kind}\"] in a policy of containers.toml");
    guest.record(Denial { call: "mount", what: wanted.told(), remedy: remedy.into() });
    Err(Errno::EPERM)
}

pub(super) fn mount(
    guest: &dyn Guest,
    source: PathPtr,
    target: PathPtr,
    kind: PathPtr,
    flags: Word,
    data: UserPtr,
) -> Answer {
    // In the kernel's order.
    let kind = read_optional(guest, kind)?;
    let source = read_optional(guest, source)?;
    let data = read_options(guest, data)?;
    let target = guest.read_path(target)?;
    let bits = if flags.0 & 0xFFFF_0000 == MAGIC { flags.0 & 0xFFFF } else { flags.0 };
    let set = attributes(bits);
    let flags = MsFlags::from_bits_truncate(bits);
    let wanted = Wanted { source, target, kind, data, flags, set };
    let mounter = mounter(guest)?;
    may_be_made(guest, &wanted)?;
    let telling = Telling { guest, mounter, call: "mount", what: &|| wanted.told() };
    let answer = guest.as_itself(&mut || obey(guest, &telling, &wanted))?;
    if guest.rules().container.is_some() {
        guest.did("mount", wanted.told());
    }
    Ok(answer)
}

fn obey(guest: &dyn Guest, mounter: &dyn Mounter, wanted: &Wanted) -> Answer {
    let flags = wanted.flags;
    // Nothing may come to lie elsewhere between judgement and act.
    let _stay = names_stay();
    let place = find(guest, &wanted.target)?;
    let propagation = MsFlags::MS_SHARED | MsFlags::MS_PRIVATE | MsFlags::MS_SLAVE | MsFlags::MS_UNBINDABLE;
    if flags.contains(MsFlags::MS_REMOUNT) {
        change(guest, mounter, wanted, &place)?;
    } else if flags.contains(MsFlags::MS_BIND) {
        let kind = if flags.contains(MsFlags::MS_REC) { Kind::BindAll } else { Kind::Bind };
        show_again(guest, mounter, wanted, &place, kind)?;
    } else if flags.intersects(propagation) {
        let to = flags & propagation;
        let known = MsFlags::MS_REC | MsFlags::MS_SILENT;
        if to.bits().count_ones() != 1 || !(flags - propagation - known).is_empty() {
            return Err(Errno::EINVAL);
        }
        let flags = if flags.contains(MsFlags::MS_REC) { RECURSIVE } else { 0 };
        let propagation = u32::try_from(to.bits()).map_err(|_| Errno::EINVAL)?;
        mounter.ask(&Order { flags, propagation, ..Order::new(Kind::Propagate) }, b"", &[place.as_fd()])?;
    } else if flags.contains(MsFlags::MS_MOVE) {
        show_again(guest, mounter, wanted, &place, Kind::Move)?;
    } else {
        new(guest, mounter, wanted, &place)?;
    }
    Ok(Reply::Return(0))
}

pub(super) fn umount2(guest: &dyn Guest, target: PathPtr, flags: Flags) -> Answer {
    let known = MntFlags::MNT_FORCE | MntFlags::MNT_DETACH | MntFlags::MNT_EXPIRE | MntFlags::UMOUNT_NOFOLLOW;
    let asked = MntFlags::from_bits(flags.0.cast_signed()).filter(|flags| known.contains(*flags));
    let asked = asked.ok_or(Errno::EINVAL)?;
    let target = guest.read_path(target)?;
    let mounter = mounter(guest)?;
    let attempt = || guest.as_itself(&mut || unmount(guest, mounter, &target, asked));
    // What the sentry itself has just opened for the guest, on another thread, keeps a mount busy for a moment.
    for pause in [1, 2, 4] {
        match attempt() {
            Err(Errno::EBUSY) => std::thread::sleep(Duration::from_millis(pause)),
            other => return other,
        }
    }
    attempt()
}

fn unmount(guest: &dyn Guest, mounter: &dyn Mounter, target: &CStr, asked: MntFlags) -> Answer {
    let follow = if asked.contains(MntFlags::UMOUNT_NOFOLLOW) { OFlag::O_NOFOLLOW } else { OFlag::empty() };
    let _stay = names_stay();
    let path = {
        let place = look(guest, target.to_bytes(), follow)?;
        judge::object(guest, "umount2", &place, Use::Look)?;
        guest.path_of(&place)?
        // The descriptor must be gone by now, or the mount is busy.
    };
    if asked.contains(MntFlags::MNT_EXPIRE | MntFlags::MNT_DETACH)
        || asked.contains(MntFlags::MNT_EXPIRE | MntFlags::MNT_FORCE)
        || !path.is_absolute()
        || path == Path::new("/")
    {
        return Err(Errno::EINVAL);
    }
    let order = Order { flags: asked.bits().cast_unsigned(), ..Order::new(Kind::Unmount) };
    let what = || path.to_string_lossy().into_owned();
    Telling { guest, mounter, call: "umount2", what: &what }.ask(&order, path.as_os_str().as_bytes(), &[])?;
    if guest.rules().container.is_some() {
        guest.did("umount2", path.to_string_lossy().into_owned());
    }
    Ok(Reply::Return(0))
}

/// The options as the kernel copies them: a page at most, as much of it as is there.
fn read_options(guest: &dyn Guest, at: UserPtr) -> Result<Vec<u8>, Errno> {
    if at.is_null() {
        return Ok(Vec::new());
    }
    let first = PAGE - at.0 % PAGE;
    let mut bytes = vec![0; usize::try_from(first).map_err(|_| Errno::EFAULT)?];
    guest.read(at, &mut bytes)?;
    if first < PAGE && !bytes.contains(&0) {
        let mut more = vec![0; usize::try_from(PAGE - first).map_err(|_| Errno::EFAULT)?];
        if guest.read(at.offset(first), &mut more).is_ok() {
            bytes.extend(more);
        }
    }
    guest.confirm()?;
    let most = usize::try_from(PAGE - 1).map_err(|_| Errno::EFAULT)?;
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len().min(most));
    bytes.truncate(end);
    Ok(bytes)
}

fn attributes(flags: u64) -> u32 {
    const PAIRS: [(u64, u32); 5] = [
        (libc::MS_RDONLY, READ_ONLY),
        (libc::MS_NOEXEC, NO_EXEC),
        (libc::MS_NOATIME, NO_ATIME),
        (libc::MS_NODIRATIME, NO_DIR_ATIME),
        (MS_NO_SYMLINKS, NO_SYMLINKS),
    ];
    PAIRS.into_iter().filter(|(flag, _)| flags & flag != 0).map(|(_, attribute)| attribute).sum()
}

fn look(guest: &dyn Guest, path: &[u8], follow: OFlag) -> Result<OwnedFd, Errno> {
    Start::of(guest, DirFd::CWD, path)?.object(guest, follow, ResolveFlag::empty())
}

/// Finds a place as mount(2) does, following links.
fn find(guest: &dyn Guest, path: &CStr) -> Result<OwnedFd, Errno> {
    let place = look(guest, path.to_bytes(), OFlag::empty())?;
    judge::object(guest, "mount", &place, Use::Look)?;
    Ok(place)
}

/// Finds what is to be shown at another place too, if no rule speaks against it.
fn find_source(guest: &dyn Guest, path: &[u8], onto: &CStr) -> Result<OwnedFd, Errno> {
    let source = look(guest, path, OFlag::empty())?;
    judge::object(guest, "mount", &source, Use::Look)?;
    // A namespace is no part of the view.
    if fstatfs(&source)?.filesystem_type() == NSFS_MAGIC {
        return Err(Errno::EINVAL);
    }
    let lies = guest.path_of(&source)?;
    if let Some(rule) = guest.rules().hinders_mounting(&lies) {
        let what = format!("{} on {}", lies.to_string_lossy(), onto.to_string_lossy());
        let remedy = format!("{rule} is about names there, and would not hold at another one; leave that rule out");
        guest.record(Denial { call: "mount", what, remedy: remedy.into() });
        return Err(Errno::EPERM);
    }
    Ok(source)
}

fn is_directory(object: &OwnedFd) -> Result<bool, Errno> {
    Ok(fstat(object)?.st_mode & libc::S_IFMT == libc::S_IFDIR)
}

/// A whole file system goes where a directory is.
fn attach(mounter: &dyn Mounter, order: &Order, source: &[u8], place: &OwnedFd) -> Result<(), Errno> {
    if !is_directory(place)? {
        return Err(Errno::ENOTDIR);
    }
    mounter.ask(order, source, &[place.as_fd()])
}

fn show_again(
    guest: &dyn Guest,
    mounter: &dyn Mounter,
    wanted: &Wanted,
    place: &OwnedFd,
    kind: Kind,
) -> Result<(), Errno> {
    if wanted.source.is_empty() {
        return Err(Errno::EINVAL);
    }
    let source = find_source(guest, wanted.source.as_bytes(), &wanted.target)?;
    if kind != Kind::Move && is_directory(&source)? != is_directory(place)? {
        return Err(Errno::ENOTDIR);
    }
    mounter.ask(&Order::new(kind), b"", &[source.as_fd(), place.as_fd()])
}

/// `MS_REMOUNT`: restrictions are added; one is taken off only where the guest itself had made it.
fn change(guest: &dyn Guest, mounter: &dyn Mounter, wanted: &Wanted, place: &OwnedFd) -> Result<(), Errno> {
    let mut order = Order { set: wanted.set & !(NO_ATIME | NO_DIR_ATIME), ..Order::new(Kind::Change) };
    order.clear = (READ_ONLY | NO_EXEC | NO_SYMLINKS) & !order.set;
    if !wanted.flags.contains(MsFlags::MS_BIND) && !wanted.data.is_empty() {
        // Options of other file systems change nothing: what this one is, the one who mounts knows.
        if options::memory(&mut order, &wanted.data, guest.owner()).is_ok() {
            order.flags |= RESIZE;
        }
    }
    mounter.ask(&order, b"", &[place.as_fd()])
}

fn new(guest: &dyn Guest, mounter: &dyn Mounter, wanted: &Wanted, place: &OwnedFd) -> Result<(), Errno> {
    let kind = wanted.kind.as_bytes();
    if kind.is_empty() {
        return Err(Errno::EINVAL);
    }
    let whole = |kind: Kind| Order { set: wanted.set | NO_SUID | NO_DEV, ..Order::new(kind) };
    let source: &[u8] = if wanted.source.is_empty() { b"none" } else { wanted.source.as_bytes() };
    match kind {
        b"tmpfs" | b"ramfs" => {
            let mut order = Order { mode: 0o1777, ..whole(Kind::Memory) };
            // ramfs ignores options that it does not know, and has no sizes.
            match kind {
                b"tmpfs" => options::memory(&mut order, &wanted.data, guest.owner())?,
                _ => drop(options::memory(&mut order, &wanted.data, guest.owner())),
            }
            attach(mounter, &order, source, place)
        }
        b"devpts" => {
            options::terminals(&wanted.data, guest.owner())?;
            // Nobody can make a device there, and with nodev the terminals would be none.
            let order = whole(Kind::Terminals);
            attach(mounter, &Order { set: order.set & !NO_DEV, ..order }, source, place)
        }
        b"mqueue" => attach(mounter, &whole(Kind::Queues), source, place),
        b"proc" => attach(mounter, &whole(Kind::Processes), b"", place),
        b"sysfs" => system(guest, mounter, wanted, place),
        b"overlay" => overlay(guest, mounter, &whole(Kind::Overlay), source, wanted, place),
        _ if !options::is_known(kind) => Err(Errno::ENODEV),
        _ => {
            let (kind, source, target) = (shown(&wanted.kind), shown(&wanted.source), shown(&wanted.target));
            let remedy = match guest.rules().container {
                Some(_) => {
                    format!("no device and no image of one can be mounted in a container; give it a volume at {target}")
                }
                None => format!(
                    "no device and no image of one can be mounted inside; mount {source} outside and show it with --volume \
                 HOST:{target}, or unpack it"
                ),
            };
            guest.record(Denial { call: "mount", what: format!("{kind} on {target}"), remedy: remedy.into() });
            Err(Errno::EPERM)
        }
    }
}

/// `/sys` as far as the view has it, once more and read-only.
fn system(guest: &dyn Guest, mounter: &dyn Mounter, wanted: &Wanted, place: &OwnedFd) -> Result<(), Errno> {
    let target = shown(&wanted.target);
    let shown_there = look(guest, b"/sys", OFlag::O_DIRECTORY).and_then(|sys| {
        let is_sysfs = fstatfs(&sys)?.filesystem_type() == nix::sys::statfs::FsType(libc::SYSFS_MAGIC as _);
        if is_sysfs { Ok(sys) } else { Err(Errno::ENOENT) }
    });
    let Ok(sys) = shown_there else {
        let remedy = match guest.rules().container {
            Some(_) => "the container has no /sys that could be shown once more".into(),
            None => "the view has no /sys; allow with --read /sys".into(),
        };
        guest.record(Denial { call: "mount", what: format!("sysfs on {target}"), remedy });
        return Err(Errno::EPERM);
    };
    let order = Order { set: READ_ONLY | NO_EXEC, ..Order::new(Kind::Bind) };
    mounter.ask(&order, b"", &[sys.as_fd(), place.as_fd()])
}

fn overlay(
    guest: &dyn Guest,
    mounter: &dyn Mounter,
    order: &Order,
    source: &[u8],
    wanted: &Wanted,
    place: &OwnedFd,
) -> Result<(), Errno> {
    let layers = options::layers(&wanted.data)?;
    let find = |path: &[u8]| {
        let layer = find_source(guest, path, &wanted.target)?;
        if is_directory(&layer)? { Ok(layer) } else { Err(Errno::ENOTDIR) }
    };
    let changes = layers.upper.iter().chain(&layers.work).map(|path| find(path)).collect::<Result<Vec<_>, _>>()?;
    let lower = layers.lower.iter().map(|path| find(path)).collect::<Result<Vec<_>, _>>()?;
    if !is_directory(place)? {
        return Err(Errno::ENOTDIR);
    }
    let flags = if changes.is_empty() { 0 } else { WRITABLE };
    let files: Vec<BorrowedFd> = [place].into_iter().chain(&changes).chain(&lower).map(AsFd::as_fd).collect();
    mounter.ask(&Order { flags, ..*order }, source, &files)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
