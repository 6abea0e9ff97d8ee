//! The image as a mount of its own, and then as the root of this mount namespace. See pivot_root(2).
//!
//! How mounts spread between the caller and the container is `linux.rootfsPropagation`: nothing that is mounted in here may
//! show outside, whatever it says; with `shared` a volume may still be a peer of the caller's.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::libc;
use nix::mount::{MsFlags, mount};
use nix::unistd::{chdir, chroot, fchdir};

use super::options::propagation;
use super::root::{Root, c_path};
use crate::failure::{Failure, Step};
use crate::sys::{self, MountAttributes};

/// What `linux.rootfsPropagation` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    kind: Option<u64>,
    recursive: bool,
}

impl Wanted {
    pub fn parse(name: Option<&str>) -> Result<Self, Failure> {
        let Some(name) = name.filter(|name| !name.is_empty()) else { return Ok(Self { kind: None, recursive: true }) };
        let kind = propagation(name).or_else(|| name.strip_prefix('r').and_then(propagation)).ok_or_else(|| {
            Failure::check(format!("use {name} as linux.rootfsPropagation"))
                .remedy("it is one of shared, slave, private, unbindable, and the same with r before it")
        })?;
        Ok(Self { kind: Some(kind), recursive: name.starts_with('r') })
    }

    /// How the caller's mounts are to be changed before anything else.
    fn of_all(self) -> MsFlags {
        match self.kind {
            None | Some(libc::MS_SLAVE) => MsFlags::MS_SLAVE,
            Some(libc::MS_SHARED) => MsFlags::MS_SHARED,
            // Of mounts that are unbindable no volume could be made: the root becomes so at the end.
            Some(_) => MsFlags::MS_PRIVATE,
        }
    }
}

/// Changes how a mount of the caller spreads.
fn spread(path: &Path, flags: MsFlags) -> Result<(), Failure> {
    mount(None::<&str>, path, None::<&str>, flags, None::<&str>)
        .step(|| format!("set how mounts below {} spread", path.display()))
}

/// The mount point of the mount that has this identifier, by the text of `mountinfo`.
fn point_of(mounts: &str, id: u64) -> Option<&str> {
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ');
        (fields.next()?.parse() == Ok(id)).then(|| fields.nth(3)).flatten()
    })
}

/// Makes the image a mount that nothing outside sees.
pub(super) fn begin(rootfs: &Path, wanted: Wanted) -> Result<Root, Failure> {
    let flags = wanted.of_all();
    spread(Path::new("/"), flags | MsFlags::MS_REC)?;
    let step = || format!("open the root {}", rootfs.display());
    let path = c_path(rootfs).step(step)?;
    let open = || sys::open_at(None, &path, libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC, 0, 0).step(step);
    let place = open()?;
    let tree = sys::clone_tree(Some(place.as_fd()), c"", true).step(step)?;
    if flags == MsFlags::MS_SHARED {
        // What is attached below a shared mount shows wherever that one shows.
        let id = sys::mount_id(place.as_fd()).step(step)?;
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let point = point_of(&mounts, id).ok_or_else(|| Failure::check("find the mount that the root lies on"))?;
        spread(Path::new(&unescape(point)), MsFlags::MS_PRIVATE)?;
        let attributes = MountAttributes { propagation: libc::MS_PRIVATE, ..Default::default() };
        sys::set_mount_attributes(tree.as_fd(), false, &attributes).step(|| "keep the root's mounts inside")?;
    }
    sys::attach(tree.as_fd(), place.as_fd()).step(|| format!("mount {} as the root", rootfs.display()))?;
    Ok(Root::new(tree))
}

/// `mountinfo` writes blanks and backslashes in octal.
fn unescape(field: &str) -> String {
    field.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

/// Makes the root the root of this mount namespace, and lets go of the caller's.
pub(super) fn enter(root: &Root, no_pivot: bool) -> Result<(), Failure> {
    fchdir(root.as_fd()).step(|| "enter the container's root")?;
    if no_pivot {
        move_root()?;
    } else {
        let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
        let old: OwnedFd = sys::open_at(None, c"/", flags, 0, 0).step(|| "open the caller's root")?;
        sys::pivot_here().step(|| "make the image the root (pivot_root)").map_err(|failure| {
            if failure.errno == Errno::EINVAL as i32 {
                failure.remedy("in an initial ramfs it needs --no-pivot")
            } else {
                failure
            }
        })?;
        fchdir(&old).step(|| "return to the caller's root")?;
        // Letting go of it must not let go of it outside.
        mount(None::<&str>, ".", None::<&str>, MsFlags::MS_SLAVE | MsFlags::MS_REC, None::<&str>)
            .step(|| "keep the caller's mounts")?;
        sys::detach_here().step(|| "detach the caller's root")?;
    }
    chdir(c"/").step(|| "enter the container's root")?;
    verify(root)
}

/// `MS_MOVE` of the root onto `/`: the caller's root is covered, not gone. What else is mounted there is let go of first, so
/// that whoever uncovers it finds little.
fn move_root() -> Result<(), Failure> {
    mount(Some("."), "/", None::<&str>, MsFlags::MS_MOVE, None::<&str>)
        .step(|| "move the image over the root (--no-pivot)")?;
    chroot(".").step(|| "change to the container's root")
}

/// `/` is the image and nothing is above.
fn verify(root: &Root) -> Result<(), Failure> {
    let step = || "look at the container's root";
    let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
    let wanted = sys::mount_id(root.as_fd()).step(step)?;
    for path in [c"/", c"/.."] {
        let here = sys::open_at(None, path, flags, 0, 0).step(step)?;
        if sys::mount_id(here.as_fd()).step(step)? != wanted {
            return Err(Failure::check("verify that the caller's root is gone"));
        }
    }
    Ok(())
}

/// The last that is done to the root.
pub(super) fn finish(root: &Root, wanted: Wanted, readonly: bool) -> Result<(), Failure> {
    if let Some(kind) = wanted.kind {
        let attributes = MountAttributes { propagation: kind, ..Default::default() };
        sys::set_mount_attributes(root.as_fd(), wanted.recursive && kind != libc::MS_UNBINDABLE, &attributes)
            .step(|| "set how the root's mounts spread")?;
    }
    if readonly {
        let attributes = MountAttributes { set: sys::READ_ONLY, ..Default::default() };
        sys::set_mount_attributes(root.as_fd(), false, &attributes).step(|| "make the root read-only")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_found_by_its_identifier() {
        let mounts = "22 27 0:21 / /proc rw - proc proc rw\n27 1 254:0 / / rw - ext4 /dev/vda rw\n";
        assert_eq!(point_of(mounts, 27), Some("/"));
        assert_eq!(point_of(mounts, 22), Some("/proc"));
        assert_eq!(point_of(mounts, 2), None);
        assert_eq!(unescape("/a\\040b\\134c"), "/a b\\c");
    }

    #[test]
    fn propagation_is_one_of_eight_words() {
        assert_eq!(Wanted::parse(Some("rshared")).unwrap(), Wanted { kind: Some(libc::MS_SHARED), recursive: true });
        assert_eq!(Wanted::parse(Some("private")).unwrap(), Wanted { kind: Some(libc::MS_PRIVATE), recursive: false });
        assert_eq!(Wanted::parse(None).unwrap().of_all(), MsFlags::MS_SLAVE);
        assert!(Wanted::parse(Some("rprivat")).is_err());
    }
}
