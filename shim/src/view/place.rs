//! One place at a time: open its source, find or make its target, attach.

use std::cell::{Cell, OnceCell, RefCell};
use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::libc;
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, mkdirat, mknodat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, symlinkat, unlinkat};

use super::{SEALED, overlay, tmpfs};
use crate::failure::{Failure, Step};
use crate::plan::{Place, Source};
use crate::sys::{self, MountAttributes};

/// No symlink is followed and `..` cannot lead out: what openat2(2) calls `RESOLVE_BENEATH` and `RESOLVE_NO_SYMLINKS`.
const CONFINED: u64 = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_SYMLINKS | libc::RESOLVE_NO_MAGICLINKS;
const PATH: i32 = libc::O_PATH | libc::O_CLOEXEC | libc::O_NOFOLLOW;

fn is_directory(stat: &FileStat) -> bool {
    stat.st_mode & libc::S_IFMT == libc::S_IFDIR
}

fn show(path: &CStr) -> String {
    format!("/{}", path.to_string_lossy())
}

/// The path above, and the last component.
fn split(path: &CStr) -> Result<(CString, CString), Failure> {
    let bytes = path.to_bytes();
    let (parent, name) = match bytes.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => (&bytes[..slash], &bytes[slash + 1..]),
        None => (&bytes[..0], bytes),
    };
    let whole = |part: &[u8]| CString::new(part).map_err(|_| Failure::check(format!("use {}", show(path))));
    Ok((whole(parent)?, whole(name)?))
}

/// Makes an empty directory or file to mount on.
fn make(parent: &OwnedFd, name: &CStr, directory: bool) -> Result<(), Errno> {
    if directory {
        mkdirat(parent, name, Mode::from_bits_truncate(0o755))
    } else {
        mknodat(parent, name, SFlag::S_IFREG, Mode::from_bits_truncate(0o444), 0)
    }
}

/// An opened source: an object in our mount namespace, or a mount that is already detached.
pub(super) enum Opened {
    /// `O_PATH` descriptor of the object.
    Object(OwnedFd),
    /// A detached mount.
    Mount(OwnedFd),
}

impl Opened {
    /// Turns it into a detached mount with the right attributes.
    pub(super) fn into_mount(self, writable: bool) -> Result<OwnedFd, Failure> {
        let mount = match self {
            Self::Object(object) => {
                // With all that is mounted beneath: mounts inherited from a more privileged namespace cannot be left out,
                // for what they cover would be revealed.
                sys::clone_tree(Some(object.as_fd()), c"", true).step(|| "copy a mount of the host")?
            }
            Self::Mount(mount) => mount,
        };
        let set = if writable { sys::NO_SUID | sys::NO_DEV } else { SEALED };
        let attributes = MountAttributes { set, propagation: libc::MS_PRIVATE, ..Default::default() };
        sys::set_mount_attributes(mount.as_fd(), true, &attributes).step(|| "restrict a mount")?;
        Ok(mount)
    }
}

/// Opens a source that stands for a host object. `None`: it is optional and not there.
pub(super) fn open(source: &Source, origin: &str, optional: bool) -> Result<Option<Opened>, Failure> {
    match source {
        Source::Host { path, identity } => {
            let step = || format!("open {} ({origin})", path.to_string_lossy());
            // The monitor resolved links already; whoever puts one there now is racing us.
            let resolve = if identity.is_some() { libc::RESOLVE_NO_SYMLINKS } else { 0 } | libc::RESOLVE_NO_MAGICLINKS;
            let object = match sys::open_at(None, path, libc::O_PATH | libc::O_CLOEXEC, 0, resolve) {
                Err(Errno::ENOENT | Errno::EACCES | Errno::ENOTDIR) if optional => return Ok(None),
                other => other.step(step)?,
            };
            if let Some(identity) = identity {
                let stat = fstat(&object).step(step)?;
                if (stat.st_dev, stat.st_ino) != *identity {
                    return Err(Failure::check(step()).remedy("it was replaced while the sandbox started"));
                }
            }
            Ok(Some(Opened::Object(object)))
        }
        Source::Detached(mount) => {
            let mount = mount.try_clone().map_err(|_| Failure::new("hand over a prepared mount", Errno::last()))?;
            Ok(Some(Opened::Mount(mount)))
        }
        _ => Err(Failure::check(format!("use {origin} as a source"))),
    }
}

/// The new root under construction.
pub(super) struct Tree {
    root: OwnedFd,
    /// The device of our own tmpfs: only there may mount points be made. `None` for a root that the user brought.
    own: Option<u64>,
    /// The devices of other file systems of ours, where mount points may be made as well.
    ours: RefCell<Vec<u64>>,
    /// The staging area once it is made; the places of the view may be mounted over its name.
    stage: OnceCell<OwnedFd>,
    /// How many made files are in the staging area: a mount of something without a name cannot be attached.
    made: Cell<usize>,
    /// The last directory of our own memory that something was made in: the next object often goes there too.
    nursery: RefCell<Option<Nursery>>,
}

/// A directory of our own memory, by path and as a descriptor.
struct Nursery {
    path: CString,
    directory: Rc<OwnedFd>,
}

fn made_name(number: usize) -> Result<CString, Failure> {
    CString::new(format!("made-{number}")).map_err(|_| Failure::check("name a made file"))
}

/// A place for objects that are needed while building, gone before the guest runs.
const STAGE: &CStr = c".stage";

impl Tree {
    pub(super) fn new(root: OwnedFd, own: bool) -> Result<Self, Failure> {
        let device = fstat(&root).step(|| "look at the view's root")?.st_dev;
        Ok(Self {
            root,
            own: own.then_some(device),
            ours: RefCell::default(),
            stage: OnceCell::new(),
            made: Cell::new(0),
            nursery: RefCell::default(),
        })
    }

    pub(super) fn root(&self) -> &OwnedFd {
        &self.root
    }

    /// Mounts `dev` as `/dev` of a root that the user brought.
    pub(super) fn attach_dev(&self, dev: &OwnedFd) -> Result<(), Failure> {
        self.attach(dev, c"dev", &self.target(c"dev", true, "--root")?).step(|| "mount /dev")?;
        self.adopt(dev)
    }

    /// Notes that a file system was made for this view.
    fn adopt(&self, mount: &OwnedFd) -> Result<(), Failure> {
        self.ours.borrow_mut().push(fstat(mount).step(|| "look at a private directory")?.st_dev);
        Ok(())
    }

    fn look(&self, path: &CStr) -> Result<OwnedFd, Errno> {
        if path.is_empty() {
            return sys::open_at(Some(self.root.as_fd()), c".", PATH, 0, CONFINED);
        }
        sys::open_at(Some(self.root.as_fd()), path, PATH, 0, CONFINED)
    }

    /// The parent of `path` as a descriptor, made if need be, and the last component.
    fn parent(&self, path: &CStr, origin: &str) -> Result<(Rc<OwnedFd>, CString), Failure> {
        let (parent, name) = split(path)?;
        if let Some(nursery) = self.nursery.borrow().as_ref().filter(|nursery| nursery.path == parent) {
            return Ok((Rc::clone(&nursery.directory), name));
        }
        let directory = if parent.is_empty() {
            self.look(c"").step(|| "open the view's root")?
        } else {
            self.target(&parent, true, origin)?
        };
        let directory = Rc::new(directory);
        if self.is_own_memory(&directory).step(|| format!("look at the parent of {}", show(path)))? {
            self.nursery.replace(Some(Nursery { path: parent, directory: Rc::clone(&directory) }));
        }
        Ok((directory, name))
    }

    /// Attaches `mount` at `target`, which is `path`.
    fn attach(&self, mount: &OwnedFd, path: &CStr, target: &OwnedFd) -> Result<(), Errno> {
        self.forget(path);
        sys::attach(mount.as_fd(), target.as_fd())
    }

    /// What is at `path` from now on, and beneath it, is something else.
    fn forget(&self, path: &CStr) {
        let path = Path::new(OsStr::from_bytes(path.to_bytes()));
        let covered = |nursery: &mut Nursery| Path::new(OsStr::from_bytes(nursery.path.to_bytes())).starts_with(path);
        self.nursery.borrow_mut().take_if(covered);
    }

    /// Puts `mount`, which is a directory or not, at `path`: most places are new names in our own memory, for which it takes
    /// two calls.
    pub(super) fn put(&self, mount: &OwnedFd, directory: bool, path: &CStr, origin: &str) -> Result<(), Failure> {
        let step = || format!("place {} in the view ({origin})", show(path));
        if let Ok((parent, name)) = self.parent(path, origin)
            && self.nursery.borrow().as_ref().is_some_and(|nursery| Rc::ptr_eq(&nursery.directory, &parent))
            && make(&parent, &name, directory).is_ok()
        {
            // Nobody else can write there: the name means what was just made.
            return sys::attach_at(mount.as_fd(), parent.as_fd(), &name).step(step);
        }
        // It is there already, or cannot be made, and then this knows why.
        let target = self.target(path, directory, origin)?;
        self.attach(mount, path, &target).step(step)
    }

    /// Whether `path` is, or would be made, in our own memory and not in something that was granted.
    fn is_ours(&self, path: &CStr) -> bool {
        let mut bytes = path.to_bytes();
        while let Ok(name) = CString::new(bytes) {
            match self.look(&name) {
                Ok(found) => return self.own.is_some() && fstat(&found).ok().map(|stat| stat.st_dev) == self.own,
                Err(_) if bytes.is_empty() => return false,
                Err(_) => bytes = &bytes[..bytes.iter().rposition(|byte| *byte == b'/').unwrap_or(0)],
            }
        }
        false
    }

    /// Whether an object lies in our own memory.
    fn is_own_memory(&self, object: &OwnedFd) -> Result<bool, Errno> {
        let device = fstat(object)?.st_dev;
        Ok(self.own == Some(device) || self.ours.borrow().contains(&device))
    }

    /// Checks that a name may be made in `parent`: only in our own memory, never in a granted directory.
    fn may_make_in(&self, parent: &OwnedFd, path: &CStr, origin: &str) -> Result<(), Failure> {
        if self.is_own_memory(parent).step(|| format!("look at the parent of {}", show(path)))? {
            return Ok(());
        }
        let remedy = if self.own.is_none() {
            "the root that was chosen does not have it; create it there first, or begin in another directory"
        } else {
            "it lies in a directory that is granted and does not have it; create it there first"
        };
        Err(Failure::check(format!("place {} in the view ({origin})", show(path))).remedy(remedy))
    }

    /// The mount point `path`, made as an empty directory or file if it is missing.
    pub(super) fn target(&self, path: &CStr, directory: bool, origin: &str) -> Result<OwnedFd, Failure> {
        let step = || format!("place {} in the view ({origin})", show(path));
        match self.look(path) {
            Ok(found) => {
                if is_directory(&fstat(&found).step(step)?) != directory {
                    let kind = if directory { "a file" } else { "a directory" };
                    return Err(Failure::check(step()).remedy(format!("{kind} is already there")));
                }
                return Ok(found);
            }
            Err(Errno::ENOENT) => {}
            Err(Errno::ELOOP) => {
                return Err(
                    Failure::new(step(), Errno::ELOOP).remedy("name the place itself, not a symlink on its way")
                );
            }
            Err(errno) => return Err(Failure::new(step(), errno)),
        }
        let (parent, name) = self.parent(path, origin)?;
        self.may_make_in(&parent, path, origin)?;
        make(&parent, &name, directory).step(step)?;
        sys::open_at(Some(parent.as_fd()), &name, PATH, 0, CONFINED).step(step)
    }

    /// A directory of our own with these permission bits.
    pub(super) fn directory(&self, path: &CStr, mode: u32) -> Result<OwnedFd, Failure> {
        let made = self.target(path, true, "the view")?;
        if mode != 0o755 {
            let (parent, name) = self.parent(path, "the view")?;
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let step = || format!("set the mode of {}", show(path));
            let open = openat(&*parent, name.as_c_str(), flags, Mode::empty()).step(step)?;
            fchmod(&open, Mode::from_bits_truncate(mode)).step(step)?;
        }
        Ok(made)
    }

    /// A symlink of our own.
    pub(super) fn link(&self, path: &CStr, target: &CStr) -> Result<(), Failure> {
        let (parent, name) = self.parent(path, "the view")?;
        match symlinkat(target, &*parent, name.as_c_str()) {
            Err(Errno::EEXIST) if self.own.is_none() => Ok(()),
            other => other.step(|| format!("make the link {}", show(path))),
        }
    }

    /// A small read-only file of our own.
    pub(super) fn text(&self, path: &CStr, content: &[u8]) -> Result<(), Failure> {
        let step = || format!("write {}", show(path));
        let (parent, name) = self.parent(path, "the view")?;
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        let file = openat(&*parent, name.as_c_str(), flags, Mode::from_bits_truncate(0o644)).step(step)?;
        let mut rest = content;
        while !rest.is_empty() {
            let written = nix::unistd::write(&file, rest).step(step)?;
            rest = &rest[written..];
        }
        Ok(())
    }

    /// Makes the staging area with the two objects that cover others.
    /// Where the guest's root may read what has no permissions, they belong to `owner`, whom it does not know.
    pub(super) fn stage(&self, owner: Option<u32>) -> Result<(), Failure> {
        if self.own.is_none() {
            // A root that the user brought is not ours to write to: its /tmp will hide the stage again.
            let area = tmpfs(1 << 20, 0o700, sys::NO_SUID | sys::NO_DEV)?;
            let point = self.target(c"tmp", true, "--root")?;
            return self.attach(&area, c"tmp", &point).step(|| "prepare the view").and_then(|()| self.covers(owner));
        }
        self.covers(owner)
    }

    fn stage_directory(&self) -> Result<OwnedFd, Failure> {
        if let Some(stage) = self.stage.get() {
            return stage.try_clone().map_err(|_| Failure::new("prepare the view", Errno::last()));
        }
        let base =
            if self.own.is_none() { self.target(c"tmp", true, "--root")? } else { self.look(c"").step(|| "open /")? };
        match mkdirat(&base, STAGE, Mode::from_bits_truncate(0o700)) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(Failure::new("prepare the view", errno)),
        }
        let stage = sys::open_at(Some(base.as_fd()), STAGE, PATH, 0, CONFINED).step(|| "prepare the view")?;
        let kept = stage.try_clone().map_err(|_| Failure::new("prepare the view", Errno::last()))?;
        let _ = self.stage.set(kept);
        Ok(stage)
    }

    fn covers(&self, owner: Option<u32>) -> Result<(), Failure> {
        let stage = self.stage_directory()?;
        let step = || "prepare covers";
        for name in [c"directory", c"lower", c"store"] {
            mkdirat(&stage, name, Mode::from_bits_truncate(0o700)).step(step)?;
        }
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        let file = openat(&stage, c"file", flags, Mode::empty()).step(step)?;
        fchmod(&file, Mode::empty()).step(step)?;
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let directory = openat(&stage, c"directory", flags, Mode::empty()).step(step)?;
        fchmod(&directory, Mode::empty()).step(step)?;
        let Some(owner) = owner else { return Ok(()) };
        let (user, group) = (Some(Uid::from_raw(owner)), Some(Gid::from_raw(owner)));
        fchown(&file, user, group).and_then(|()| fchown(&directory, user, group)).step(step)
    }

    /// Attaches `mount` at a name of the stage and returns the new mount's root.
    pub(super) fn stage_mount(&self, name: &CStr, mount: BorrowedFd) -> Result<OwnedFd, Failure> {
        let stage = self.stage_directory()?;
        let point = sys::open_at(Some(stage.as_fd()), name, PATH, 0, CONFINED).step(|| "prepare a mount")?;
        sys::attach(mount, point.as_fd()).step(|| "prepare a mount")?;
        sys::open_at(Some(stage.as_fd()), name, PATH, 0, CONFINED).step(|| "prepare a mount")
    }

    /// Removes the staging area's names; mounts made of its objects live on.
    pub(super) fn unstage(&self) -> Result<(), Failure> {
        if self.own.is_none() {
            return Ok(());
        }
        let stage = self.stage_directory()?;
        let step = || "clear up after building the view";
        for name in [c"directory", c"lower", c"store"] {
            unlinkat(&stage, name, UnlinkatFlags::RemoveDir).step(step)?;
        }
        for number in 0..self.made.get() {
            unlinkat(&stage, made_name(number)?.as_c_str(), UnlinkatFlags::NoRemoveDir).step(step)?;
        }
        unlinkat(&stage, c"file", UnlinkatFlags::NoRemoveDir).step(step)?;
        unlinkat(&self.root, STAGE, UnlinkatFlags::RemoveDir).step(step)
    }

    /// Covers the object at `path` with an empty one of our own; `false` if there is nothing to cover.
    pub(super) fn cover(&self, path: &CStr) -> Result<bool, Failure> {
        let step = || format!("cover {}", show(path));
        let point = match self.look(path) {
            Err(Errno::ENOENT) => return Ok(false),
            other => other.step(step)?,
        };
        let name = if is_directory(&fstat(&point).step(step)?) { c"directory" } else { c"file" };
        let cover = sys::clone_tree(Some(self.stage_directory()?.as_fd()), name, false).step(step)?;
        let attributes =
            MountAttributes { set: SEALED | sys::NO_EXEC, propagation: libc::MS_PRIVATE, ..Default::default() };
        sys::set_mount_attributes(cover.as_fd(), false, &attributes).step(step)?;
        self.attach(&cover, path, &point).step(step)?;
        // What is there now must be ours: a cover that missed is worse than none (CVE-2025-31133).
        let (now, ours) = (fstat(self.look(path).step(step)?).step(step)?, fstat(&cover).step(step)?);
        if (now.st_dev, now.st_ino) != (ours.st_dev, ours.st_ino) {
            return Err(Failure::check(format!("verify the cover of {}", show(path))));
        }
        Ok(true)
    }

    /// A detached mount of a new read-only file with this in it.
    fn made_file(&self, content: &[u8], origin: &str) -> Result<OwnedFd, Failure> {
        let step = || format!("make the file of {origin}");
        let stage = self.stage_directory()?;
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        let name = made_name(self.made.replace(self.made.get() + 1))?;
        let file = openat(&stage, name.as_c_str(), flags, Mode::from_bits_truncate(0o444)).step(step)?;
        let mut rest = content;
        while !rest.is_empty() {
            let written = nix::unistd::write(&file, rest).step(step)?;
            rest = &rest[written..];
        }
        let mount = sys::clone_tree(Some(stage.as_fd()), &name, false).step(step)?;
        let attributes = MountAttributes { set: SEALED, propagation: libc::MS_PRIVATE, ..Default::default() };
        sys::set_mount_attributes(mount.as_fd(), false, &attributes).step(step)?;
        Ok(mount)
    }

    /// Mounts a new read-only file over the one at `path`, if there is one.
    pub(super) fn lay_over(&self, path: &CStr, content: &[u8]) -> Result<(), Failure> {
        let step = || format!("write {}", show(path));
        let point = match self.look(path) {
            Err(Errno::ENOENT) => return Ok(()),
            other => other.step(step)?,
        };
        let file = self.made_file(content, &show(path))?;
        self.attach(&file, path, &point).step(step)
    }

    /// Mounts `path` onto itself read-only.
    pub(super) fn freeze(&self, path: &CStr) -> Result<(), Failure> {
        let step = || format!("make {} read-only", show(path));
        let point = match self.look(path) {
            Err(Errno::ENOENT) => return Ok(()),
            other => other.step(step)?,
        };
        let mount = sys::clone_tree(Some(point.as_fd()), c"", true).step(step)?;
        let attributes =
            MountAttributes { set: SEALED | sys::NO_EXEC, propagation: libc::MS_PRIVATE, ..Default::default() };
        sys::set_mount_attributes(mount.as_fd(), true, &attributes).step(step)?;
        self.attach(&mount, path, &point).step(step)
    }

    /// Puts one place of the plan into the view.
    pub(super) fn place(
        &self,
        place: &Place,
        size: u64,
        upper: &mut dyn FnMut(&CStr, BorrowedFd),
    ) -> Result<(), Failure> {
        let step = || format!("place {} in the view ({})", show(&place.inside), place.origin);
        if place.optional && self.own.is_none() && self.look(&place.inside).err() == Some(Errno::ENOENT) {
            return Ok(());
        }
        let mount = match &place.source {
            Source::Cover => return self.cover(&place.inside).map(drop),
            Source::Private { mode } if self.is_ours(&place.inside) => {
                let made = self.directory(&place.inside, *mode)?;
                let mount = sys::clone_tree(Some(made.as_fd()), c"", false).step(step)?;
                return self.attach(&mount, &place.inside, &made).step(step);
            }
            Source::Private { mode } => tmpfs(size, *mode, sys::NO_SUID | sys::NO_DEV)?,
            Source::Tmpfs { size } => tmpfs(*size, 0o755, sys::NO_SUID | sys::NO_DEV)?,
            Source::Overlay { lower, store } => {
                let Some(mount) = overlay::mount(self, place, lower, store, upper)? else { return Ok(()) };
                mount
            }
            Source::Text(content) => self.made_file(content, &place.origin)?,
            // Of the system's own directories, where only root could put a link: no need to open it first.
            Source::Host { path, identity: None } if place.optional => match sys::clone_tree(None, path, true) {
                Err(Errno::ENOENT | Errno::EACCES | Errno::ENOTDIR) => return Ok(()),
                mount => Opened::Mount(mount.step(step)?).into_mount(place.writable)?,
            },
            source => {
                let Some(opened) = open(source, &place.origin, place.optional)? else { return Ok(()) };
                opened.into_mount(place.writable)?
            }
        };
        let directory = is_directory(&fstat(&mount).step(step)?);
        self.put(&mount, directory, &place.inside, &place.origin)?;
        match place.source {
            Source::Private { .. } | Source::Tmpfs { .. } => self.adopt(&mount),
            _ => Ok(()),
        }
    }

    /// Nothing in the root itself may be changed any more.
    pub(super) fn seal(&self, writable: bool) -> Result<(), Failure> {
        if writable {
            return Ok(());
        }
        let attributes = MountAttributes { set: SEALED, ..Default::default() };
        sys::set_mount_attributes(self.root.as_fd(), false, &attributes).step(|| "make the view's root read-only")?;
        let flags = nix::sys::statvfs::fstatvfs(&self.root).step(|| "look at the view's root")?.flags();
        if !flags.contains(nix::sys::statvfs::FsFlags::ST_RDONLY) {
            return Err(Failure::check("verify that the view's root is read-only"));
        }
        Ok(())
    }
}
