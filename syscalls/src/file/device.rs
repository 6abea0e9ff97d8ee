//! Devices that a container makes: `mknod(2)` where the guest is one.
//!
//! In a user namespace of its own nobody makes devices, for the kernel would obey them everywhere. What a container's root
//! wants is mostly one that every container has anyway: that one is shown once more, mounted on an empty file. All others,
//! the host's disks above all, are refused and told. The kind and the number are registers, so the filter lets everything
//! else be the kernel's business.

use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, ResolveFlag};
use nix::libc;
use nix::sys::stat::{Mode as Permissions, SFlag, fstat, major, minor, mknodat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::resolve::kernels_walk;
use super::walk::{Parent, Umask};
use crate::args::{Device, DirFd, Mode, PathPtr};
use crate::guest::{Denial, Guest};
use crate::mount::order::{Kind, Order};
use crate::reply::{Answer, Reply};

/// What the kernel asks for.
const MKNOD: u32 = 27;
/// Number and name of the devices that every container has.
const HARMLESS: [(u32, &[u8]); 6] = [
    (0x103, b"dev/null"),
    (0x105, b"dev/zero"),
    (0x107, b"dev/full"),
    (0x108, b"dev/random"),
    (0x109, b"dev/urandom"),
    (0x500, b"dev/tty"),
];

pub(super) fn mknod_in_container(guest: &dyn Guest, path: PathPtr, mode: Mode, device: Device) -> Answer {
    make(guest, "mknod", DirFd::CWD, path, mode, device)
}

pub(super) fn mknod_at_in_container(
    guest: &dyn Guest,
    dir: DirFd,
    path: PathPtr,
    mode: Mode,
    device: Device,
) -> Answer {
    make(guest, "mknodat", dir, path, mode, device)
}

fn make(guest: &dyn Guest, call: &'static str, at: DirFd, path: PathPtr, mode: Mode, device: Device) -> Answer {
    let path = guest.read_path(path)?;
    let kind = SFlag::from_bits_truncate(mode.0) & SFlag::S_IFMT;
    let permissions = Permissions::from_bits_truncate(mode.0);
    let is_device = kind == SFlag::S_IFBLK || kind == SFlag::S_IFCHR && device.0 != 0;
    if !is_device {
        return guest.as_itself(&mut || {
            let parent = Parent::find(guest, at, path.as_bytes())?;
            let _umask = Umask::of(guest)?;
            mknodat(&parent.dir, parent.as_given()?.as_c_str(), kind, permissions, 0)?;
            Ok(Reply::Return(0))
        });
    }
    let number = u64::from(device.0);
    let sort = if kind == SFlag::S_IFBLK { "block" } else { "character" };
    let what = format!("{sort} device {}:{} at {}", major(number), minor(number), path.to_string_lossy());
    let harmless = HARMLESS.iter().find(|(known, _)| kind == SFlag::S_IFCHR && *known == device.0);
    let Some((_, shown)) = harmless else {
        return deny(guest, call, what, "a container makes null, zero, full, random, urandom and tty only");
    };
    let may_be_made = guest.rules().container.as_ref().is_some_and(|container| container.devices);
    let Some(mounter) = guest.mounter().filter(|_| may_be_made) else {
        return deny(guest, call, what, "choose a policy with mknod = true, such as dev.sentry.policy=default");
    };
    if !guest.may(MKNOD)? {
        return Err(Errno::EPERM);
    }
    let view = guest.view()?;
    let answer = guest.as_itself(&mut || {
        let parent = Parent::find(guest, at, path.as_bytes())?;
        if parent.is_dots() {
            return Err(Errno::EEXIST);
        }
        let device = the_containers_own(&view, shown, device.0)?;
        {
            let _umask = Umask::of(guest)?;
            mknodat(&parent.dir, parent.as_given()?.as_c_str(), SFlag::S_IFREG, permissions, 0)?;
        }
        let covered = parent
            .object(guest, ResolveFlag::empty())
            .and_then(|file| mounter.ask(&Order::new(Kind::Bind), b"", &[device.as_fd(), file.as_fd()]));
        if let Err(errno) = covered {
            let _ = unlinkat(&parent.dir, parent.name.as_c_str(), UnlinkatFlags::NoRemoveDir);
            return Err(errno);
        }
        Ok(Reply::Return(0))
    })?;
    guest.did(call, what);
    Ok(answer)
}

/// The device that the container has in `/dev`, whatever root the caller has. Another one there is not shown again.
fn the_containers_own(view: &OwnedFd, name: &[u8], number: u32) -> Result<OwnedFd, Errno> {
    let flags = OFlag::O_NOFOLLOW;
    let device = kernels_walk(Some(view.as_fd()), name, flags, ResolveFlag::RESOLVE_NO_SYMLINKS);
    let device = device.map_err(|_| Errno::EPERM)?;
    let stat = fstat(&device)?;
    let is_that = stat.st_mode & libc::S_IFMT == libc::S_IFCHR && stat.st_rdev == u64::from(number);
    if is_that { Ok(device) } else { Err(Errno::EPERM) }
}

fn deny(guest: &dyn Guest, call: &'static str, what: String, remedy: &'static str) -> Answer {
    guest.record(Denial { call, what, remedy: remedy.into() });
    Err(Errno::EPERM)
}
