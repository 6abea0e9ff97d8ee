//! One mount of the configuration: made where nobody sees it, restricted, then attached to a descriptor of its place.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::readlinkat;
use nix::libc;
use nix::sys::stat::{fstat, stat};
use nix::unistd::symlinkat;
use oci_spec::runtime::Mount;

use super::options::{Attributes, Options, Propagation, TIMES};
use super::proc::is_proc;
use super::root::{Kind, Root, c_path, type_of};
use super::{Context, copy_up, groups, idmap};
use crate::failure::{Failure, Step};
use crate::sys::{self, MountAttributes};

/// Files of procfs that a mount may cover: those that lxcfs and engines replace. Over any other a mount would make the
/// kernel's word something that the image says.
const MAY_COVER: [&str; 12] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/slabinfo",
    "/proc/net/dev",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/sys/crypto/fips_enabled",
    "/proc/sys/kernel/core_pattern",
];

/// What all mounts of a container have in common.
pub(super) struct Mounts<'a> {
    pub root: &'a Root,
    pub bundle: &'a Path,
    pub context: &'a Context<'a>,
    /// Whether the container has a cgroup namespace of its own.
    pub own_groups: bool,
    pub warnings: &'a mut Vec<String>,
}

impl Mounts<'_> {
    /// Makes the mount that the configuration has at `index`.
    pub fn make(&mut self, index: usize, mount: &Mount) -> Result<(), Failure> {
        let shown = mount.destination().display().to_string();
        self.try_make(index, mount).map_err(|mut failure| {
            if !failure.whole && !failure.step.contains(&shown) {
                failure.step = format!("mount {shown}: {}", failure.step);
            }
            failure
        })
    }

    fn try_make(&mut self, index: usize, mount: &Mount) -> Result<(), Failure> {
        let kind = mount.typ().as_deref().unwrap_or("none");
        let options = Options::parse(kind, mount.options().as_deref().unwrap_or_default());
        let place = mount.destination();
        if options.remount {
            return self.remount(place, &options);
        }
        if options.bind.is_some() {
            return self.bind(index, mount, &options);
        }
        match kind {
            "cgroup" | "cgroup2" => groups::mount(self, place, &options),
            // Whoever could choose what these cover could choose what the kernel seems to say (CVE-2019-19921).
            "proc" | "sysfs" => {
                let target = self.plain_directory(place, kind)?;
                let tree = match self.fresh(kind, mount, &options, None) {
                    Err(failure) if kind == "sysfs" && failure.errno == Errno::EPERM as i32 => self.host_sysfs()?,
                    other => other?,
                };
                self.finish(&tree, &options, kind == "sysfs")?;
                self.attach(&tree, &target, place)
            }
            _ => {
                let target = self.root.target(place, Kind::Directory, options.target_nofollow)?;
                let tree = self.fresh(kind, mount, &options, Some(&target))?;
                if options.copy_up && kind == "tmpfs" {
                    copy_up::copy(&target, &tree)
                        .step(|| format!("copy what {} holds into its tmpfs (tmpcopyup)", place.display()))?;
                }
                self.finish(&tree, &options, false)?;
                self.attach(&tree, &target, place)
            }
        }
    }

    /// A directory without a symlink on its way, made if it is missing.
    fn plain_directory(&self, place: &Path, kind: &str) -> Result<OwnedFd, Failure> {
        let remedy = |failure: Failure| {
            failure.remedy(format!("a {kind} is mounted on a directory only; the image must not have a symlink there"))
        };
        let step = || format!("find {}", place.display());
        match self.root.open_plain(place) {
            Ok(found) if type_of(&fstat(&found).step(step)?) == libc::S_IFDIR => Ok(found),
            Err(Errno::ENOENT) => self.root.target(place, Kind::Directory, false),
            Ok(_) => Err(remedy(Failure::new(step(), Errno::ENOTDIR))),
            Err(errno) => Err(remedy(Failure::new(step(), errno))),
        }
    }

    /// A new file system. `covers` is the place it will be at.
    fn fresh(
        &mut self,
        kind: &str,
        mount: &Mount,
        options: &Options,
        covers: Option<&OwnedFd>,
    ) -> Result<OwnedFd, Failure> {
        let mut settings: Vec<(String, Option<String>)> = Vec::new();
        if let Some(source) = mount.source() {
            settings.push(("source".to_owned(), Some(source.to_string_lossy().into_owned())));
        }
        for flag in &options.flags {
            settings.push(((*flag).to_owned(), None));
        }
        for datum in &options.data {
            let (key, value) = match datum.split_once('=') {
                // fsconfig(2) has no separators, so nothing needs protection from them.
                Some((key, value)) => (key, Some(value.replace("\\,", ","))),
                None => (datum.as_str(), None),
            };
            if kind == "devpts" && key == "gid" && !value.as_deref().is_some_and(idmap::group_is_mapped) {
                self.warnings.push(format!(
                    "devpts: group {} does not exist in the user namespace, so terminals belong to their user's group",
                    value.unwrap_or_default()
                ));
                continue;
            }
            settings.push((key.to_owned(), value));
        }
        if let (Some(covers), "tmpfs", None) = (covers, kind, options.datum("mode")) {
            // It looks as what it covers.
            let mode = fstat(covers).step(|| "look at the mount point")?.st_mode & 0o7777;
            settings.push(("mode".to_owned(), Some(format!("{mode:o}"))));
        }
        file_system(kind, &settings)
    }

    /// In a user namespace that does not own the network namespace no sysfs can be made: the caller's own is shown, with
    /// everything that is mounted there.
    fn host_sysfs(&mut self) -> Result<OwnedFd, Failure> {
        self.warnings.push(
            "/sys: the kernel allows no new sysfs without an own network namespace; the caller's is shown".into(),
        );
        let step = || "show the caller's /sys";
        let source = sys::open_at(None, c"/sys", libc::O_PATH | libc::O_CLOEXEC, 0, 0).step(step)?;
        sys::clone_tree(Some(source.as_fd()), c"", true).step(step)
    }

    fn source(&self, index: usize, mount: &Mount, options: &Options) -> Result<(OwnedFd, PathBuf), Failure> {
        let source = mount.source().clone().unwrap_or_default();
        let path = self.bundle.join(&source);
        let recursive = options.bind == Some(true);
        if let Some((_, tree)) = self.context.sources.iter().find(|(of, _)| *of == index) {
            let tree = tree.try_clone().map_err(|_| Failure::new("hand over a prepared mount", Errno::last()))?;
            return Ok((tree, path));
        }
        if idmap::is_mapped(mount, options) || options.data.iter().any(|datum| datum.starts_with("idmap=")) {
            return Err(Failure::check(format!("map the ids of {}", path.display()))
                .remedy("it takes rights over the file system and uidMappings and gidMappings"));
        }
        open_source(&path, recursive, options.source_nofollow).map(|tree| (tree, path))
    }

    fn bind(&mut self, index: usize, mount: &Mount, options: &Options) -> Result<(), Failure> {
        let place = mount.destination();
        if options.copy_symlink && self.copy_symlink(mount, place)? {
            return Ok(());
        }
        let (tree, source) = self.source(index, mount, options)?;
        let step = || format!("look at {}", source.display());
        let directory = type_of(&fstat(&tree).step(step)?) == libc::S_IFDIR;
        let kind = if directory { Kind::Directory } else { Kind::File };
        let target = self.root.target(place, kind, options.target_nofollow)?;
        self.finish(&tree, options, false)?;
        self.attach(&tree, &target, place)
    }

    /// Copies a source that is a symlink; `false` if it is none.
    fn copy_symlink(&self, mount: &Mount, place: &Path) -> Result<bool, Failure> {
        let source = self.bundle.join(mount.source().clone().unwrap_or_default());
        let Ok(to) = readlinkat(nix::fcntl::AT_FDCWD, &source) else { return Ok(false) };
        let (parent, name) = self.root.parent(place)?;
        let step = || format!("make the symlink {}", place.display());
        match symlinkat(to.as_os_str(), &parent, name.as_os_str()) {
            Err(Errno::EEXIST) => {
                let there = readlinkat(&parent, name.as_os_str()).step(step)?;
                if there == to { Ok(true) } else { Err(Failure::new(step(), Errno::EEXIST)) }
            }
            other => other.step(step).map(|()| true),
        }
    }

    /// Changes a mount that is there already.
    fn remount(&mut self, place: &Path, options: &Options) -> Result<(), Failure> {
        let step = || format!("change the mount {}", place.display());
        let target = self.root.open(place, libc::O_PATH).step(step)?;
        if options.bind.is_none() && !(options.data.is_empty() && options.flags.is_empty()) {
            let context = sys::fs_pick(target.as_fd()).step(step)?;
            for datum in options.data.iter().map(String::as_str).chain(options.flags.iter().copied()) {
                set(&context, datum).step(step)?;
            }
            sys::fs_reconfigure(context.as_fd()).step(step)?;
        }
        self.finish(&target, options, false)
    }

    /// Gives a mount its attributes, its ids and its propagation.
    pub fn finish(&mut self, tree: &OwnedFd, options: &Options, all: bool) -> Result<(), Failure> {
        self.attributes(tree, all, options.own)?;
        self.attributes(tree, true, options.recursive)?;
        for &Propagation { kind, recursive } in &options.propagation {
            let attributes = MountAttributes { propagation: kind, ..Default::default() };
            sys::set_mount_attributes(tree.as_fd(), recursive, &attributes).step(|| "set its propagation")?;
        }
        Ok(())
    }

    fn attributes(&mut self, tree: &OwnedFd, recursive: bool, wanted: Attributes) -> Result<(), Failure> {
        if wanted.is_empty() {
            return Ok(());
        }
        let Attributes { set, clear } = wanted;
        let change = |set, clear| {
            sys::set_mount_attributes(tree.as_fd(), recursive, &MountAttributes { set, clear, ..Default::default() })
        };
        let Err(errno) = change(set, clear) else { return Ok(()) };
        if errno != Errno::EPERM {
            return Err(Failure::new("set its options", errno));
        }
        // A more privileged mount namespace has locked what we would clear, and how access times are kept: both stay. What
        // takes away is still done.
        change(set & !TIMES, 0).step(|| "set its options")?;
        if (set | clear) & TIMES != 0 && change(set & TIMES, clear & TIMES).is_err() {
            self.warnings.push("a mount of the caller's keeps how it counts access times".to_owned());
        }
        if clear & !TIMES != 0 && change(0, clear & !TIMES).is_err() {
            self.warnings.push("a mount of the caller's keeps restrictions that its options would lift".to_owned());
        }
        Ok(())
    }

    /// Attaches `tree` at `target`, which is `place`.
    pub fn attach(&self, tree: &OwnedFd, target: &OwnedFd, place: &Path) -> Result<(), Failure> {
        let step = || format!("mount {}", place.display());
        self.may_cover(tree, target, place)?;
        sys::attach(tree.as_fd(), target.as_fd()).step(step)
    }

    fn may_cover(&self, tree: &OwnedFd, target: &OwnedFd, place: &Path) -> Result<(), Failure> {
        let step = || format!("look at {}", place.display());
        let refuse = |why: &str| Err(Failure::check(format!("mount {}: {why}", place.display())));
        let stat = fstat(target).step(step)?;
        if is_proc(target).step(step)? {
            const ROOT: u64 = 1;
            let whole = stat.st_ino == ROOT && is_proc(tree).step(step)?;
            if !whole && !MAY_COVER.iter().any(|may| place == Path::new(may)) {
                return refuse("it is inside /proc");
            }
        }
        let root = fstat(self.root.as_fd()).step(step)?;
        if (root.st_dev, root.st_ino) == (stat.st_dev, stat.st_ino)
            && sys::mount_id(target.as_fd()).step(step)? == sys::mount_id(self.root.as_fd()).step(step)?
        {
            return refuse("it is the container's root itself");
        }
        Ok(())
    }
}

/// A detached copy of the mount at `path` of the caller.
pub(super) fn open_source(path: &Path, recursive: bool, nofollow: bool) -> Result<OwnedFd, Failure> {
    let step = || format!("open {} to mount it", path.display());
    let last = if nofollow { libc::O_NOFOLLOW } else { 0 };
    let object = c_path(path).and_then(|path| sys::open_at(None, &path, libc::O_PATH | libc::O_CLOEXEC | last, 0, 0));
    let object = object.step(step)?;
    sys::clone_tree(Some(object.as_fd()), c"", recursive).step(step).map_err(|failure| {
        // The kernel copies no part of a mount in which something is locked.
        let locked = failure.errno == Errno::EINVAL as i32 && !recursive;
        if locked { failure.remedy("mounts beneath it cannot be left out here; use rbind") } else { failure }
    })
}

fn set(context: &OwnedFd, datum: &str) -> Result<(), Errno> {
    let (key, value) = datum.split_once('=').map_or((datum, None), |(key, value)| (key, Some(value)));
    let value = value.map(CString::new).transpose().map_err(|_| Errno::EINVAL)?;
    sys::fs_set(context.as_fd(), &CString::new(key).map_err(|_| Errno::EINVAL)?, value.as_deref())
}

/// Makes a file system of this type, mounted nowhere yet.
pub(super) fn file_system(kind: &str, settings: &[(String, Option<String>)]) -> Result<OwnedFd, Failure> {
    let name = CString::new(kind).map_err(|_| Failure::check("use a file system's name"))?;
    let context = sys::fs_open(&name).step(|| format!("make a {kind}")).map_err(|failure| {
        if failure.errno == Errno::ENODEV as i32 {
            failure.remedy("this kernel does not know the type")
        } else {
            failure
        }
    })?;
    let said = |failure: Failure| {
        let text = super::sys::complaint(context.as_fd());
        if text.is_empty() { failure } else { failure.remedy(format!("the kernel says: {text}")) }
    };
    for (key, value) in settings {
        let step = || match value {
            Some(value) => format!("give a {kind} the option {key}={value}"),
            None => format!("give a {kind} the option {key}"),
        };
        let c_key = CString::new(key.as_str()).map_err(|_| Failure::check(step()))?;
        let c_value = value.as_deref().map(CString::new).transpose().map_err(|_| Failure::check(step()))?;
        sys::fs_set(context.as_fd(), &c_key, c_value.as_deref()).step(step).map_err(said)?;
    }
    sys::fs_mount(context.as_fd(), 0).step(|| format!("make a {kind}")).map_err(said)
}

/// Whether a path of the caller is there.
pub(super) fn exists(path: &Path) -> bool {
    stat(path).is_ok()
}
