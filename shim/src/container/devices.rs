//! `/dev` of a container: the devices that every program expects, and those of `linux.devices`.
//!
//! A device node is made where the kernel lets us, and is the host's own, bound, where it does not (in a user namespace).
//! Either is looked at by type and number before anybody uses it.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use nix::errno::Errno;
use nix::libc;
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, fchmodat, fstat, mknodat};
use nix::unistd::{Gid, Uid, fchownat, symlinkat};
use oci_spec::runtime::{LinuxDevice, LinuxDeviceType, Spec};

use super::mount::open_source;
use super::options::Options;
use super::root::{Kind, Root, type_of};
use crate::failure::{Failure, Step};
use crate::sys::{self, MountAttributes};

/// What every container has.
const DEFAULT: [(&str, u64, u64); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

const LINKS: [(&str, &str); 5] = [
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/ptmx", "pts/ptmx"),
];

/// A device as it is to be.
struct Device<'a> {
    path: &'a Path,
    kind: SFlag,
    number: u64,
    mode: u32,
    owner: (Option<u32>, Option<u32>),
}

/// Whether `/dev` is made here: not if the configuration shows the host's.
pub(super) fn are_ours(spec: &Spec) -> bool {
    let bound = |mount: &oci_spec::runtime::Mount| {
        let options = mount.options().as_deref().unwrap_or_default();
        mount.destination() == Path::new("/dev")
            && Options::parse(mount.typ().as_deref().unwrap_or("none"), options).bind.is_some()
    };
    !spec.mounts().iter().flatten().any(bound)
}

fn configured(device: &LinuxDevice) -> Result<Device<'_>, Failure> {
    let path = device.path().as_path();
    let kind = match device.typ() {
        LinuxDeviceType::B => SFlag::S_IFBLK,
        LinuxDeviceType::C | LinuxDeviceType::U => SFlag::S_IFCHR,
        LinuxDeviceType::P => SFlag::S_IFIFO,
        LinuxDeviceType::A => {
            return Err(Failure::check(format!("make the device {}", path.display()))
                .remedy("its type is one of c, b, u and p"));
        }
    };
    let number = match (kind, u64::try_from(device.major()), u64::try_from(device.minor())) {
        (SFlag::S_IFIFO, ..) => 0,
        (_, Ok(major), Ok(minor)) => number(major, minor),
        _ => {
            return Err(
                Failure::check(format!("make the device {}", path.display())).remedy("its numbers are negative")
            );
        }
    };
    Ok(Device {
        path,
        kind,
        number,
        mode: device.file_mode().unwrap_or(0o666) & 0o7777,
        owner: (device.uid(), device.gid()),
    })
}

#[allow(clippy::cast_possible_truncation)] // device numbers are of 12 and 20 bits
fn number(major: u64, minor: u64) -> u64 {
    libc::makedev(major as u32, minor as u32)
}

/// Makes all devices; one of the configuration takes the place of one that is always there.
pub(super) fn make(root: &Root, devices: &[LinuxDevice]) -> Result<(), Failure> {
    for (path, major, minor) in DEFAULT {
        let path = Path::new(path);
        if devices.iter().any(|device| device.path() == path) {
            continue;
        }
        place(
            root,
            &Device { path, kind: SFlag::S_IFCHR, number: number(major, minor), mode: 0o666, owner: (None, None) },
        )?;
    }
    for device in devices {
        place(root, &configured(device)?)?;
    }
    Ok(())
}

fn is(object: &OwnedFd, device: &Device) -> Result<bool, Errno> {
    let stat = fstat(object)?;
    let same_number = device.kind == SFlag::S_IFIFO || stat.st_rdev == device.number;
    Ok(type_of(&stat) == device.kind.bits() && same_number)
}

fn place(root: &Root, device: &Device) -> Result<(), Failure> {
    let step = || format!("make the device {}", device.path.display());
    let (parent, name) = root.parent(device.path)?;
    match mknodat(&parent, name.as_os_str(), device.kind, Mode::from_bits_truncate(device.mode), device.number) {
        Ok(()) => {
            // What the umask took is given back.
            fchmodat(&parent, name.as_os_str(), Mode::from_bits_truncate(device.mode), FchmodatFlags::FollowSymlink)
                .step(step)?;
            if let (None, None) = device.owner {
                return Ok(());
            }
            let (uid, gid) = device.owner;
            let at = nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW;
            fchownat(&parent, name.as_os_str(), uid.map(Uid::from_raw), gid.map(Gid::from_raw), at).step(step)
        }
        Err(Errno::EEXIST) => existing(root, device, &parent, &name),
        Err(Errno::EPERM) => bind(root, device),
        Err(errno) => Err(Failure::new(step(), errno)),
    }
}

/// Something is there already: a device of this number serves, whoever made it; any other thing does not.
fn existing(root: &Root, device: &Device, parent: &OwnedFd, name: &std::ffi::OsStr) -> Result<(), Failure> {
    let step = || format!("make the device {}", device.path.display());
    let flags = libc::O_PATH | libc::O_NOFOLLOW | libc::O_CLOEXEC;
    let found = super::root::c_path(name).and_then(|name| sys::open_at(Some(parent.as_fd()), &name, flags, 0, 0));
    let found = found.step(step)?;
    if is(&found, device).step(step)? {
        return Ok(());
    }
    let stat = fstat(&found).step(step)?;
    if type_of(&stat) == libc::S_IFREG && stat.st_size == 0 {
        // An image often has an empty file where a device is to be bound; one that holds something is an error, as the
        // specification has it.
        return bind(root, device);
    }
    Err(Failure::check(step()).remedy("the image has something else there; mount a tmpfs at /dev"))
}

/// Shows the host's device: the one of the same name, or any of the same number.
fn bind(root: &Root, device: &Device) -> Result<(), Failure> {
    let step = || format!("show the host's device {}", device.path.display());
    if device.kind == SFlag::S_IFIFO {
        return Err(Failure::new(step(), Errno::EEXIST).remedy("the image has something else there"));
    }
    let with_number =
        |path: &Path| open_source(path, false, true).ok().filter(|tree| is(tree, device).unwrap_or(false));
    let tree = with_number(device.path).or_else(|| {
        let names = std::fs::read_dir("/dev").into_iter().flatten().flatten();
        names
            .filter(|name| name.file_type().is_ok_and(|kind| kind.is_char_device() || kind.is_block_device()))
            .find_map(|name| with_number(&name.path()))
    });
    let tree = tree.ok_or_else(|| {
        Failure::check(step()).remedy("the host has none of this number in /dev, and here none can be made")
    })?;
    let attributes = MountAttributes { set: sys::NO_SUID | sys::NO_EXEC, ..Default::default() };
    sys::set_mount_attributes(tree.as_fd(), false, &attributes).step(step)?;
    let target = root.target(device.path, Kind::File, true)?;
    sys::attach(tree.as_fd(), target.as_fd()).step(step)
}

/// The names that programs know: links into `/proc` and devpts.
pub(super) fn link(root: &Root) -> Result<(), Failure> {
    for (path, to) in LINKS {
        make_link(root, Path::new(path), to)?;
    }
    // As the file it leads to is there or not.
    if root.open(Path::new("/proc/kcore"), libc::O_PATH).is_ok() {
        make_link(root, Path::new("/dev/core"), "/proc/kcore")?;
    }
    Ok(())
}

fn make_link(root: &Root, path: &Path, to: &str) -> Result<(), Failure> {
    let (parent, name) = root.parent(path)?;
    match symlinkat(to, &parent, name.as_os_str()) {
        // The image's own, or a device in the place of `ptmx`.
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(errno) => Err(Failure::new(format!("make the link {}", path.display()), errno)),
    }
}
