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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::cell::RefCell;
    use std::os::fd::BorrowedFd;
    use std::rc::Rc;

    use super::*;
    use crate::file::trial::{CWD, DONE, Trial, verdict};
    use crate::mount::order::Mounter;
    use crate::rules::Contained;
    use crate::table::Feature::{Container, RealDevices};
    use crate::table::Verdict::{Allow, Notify};

    /// Remembers the device that it was to show, and fails if it has to.
    struct Shows(Rc<RefCell<Vec<u64>>>, Result<(), Errno>);

    impl Mounter for Shows {
        fn ask(&self, order: &Order, _: &[u8], files: &[BorrowedFd]) -> Result<(), Errno> {
            assert_eq!(order.kind(), Some(Kind::Bind));
            self.0.borrow_mut().push(fstat(files[0])?.st_rdev);
            assert_eq!(fstat(files[1])?.st_mode & libc::S_IFMT, libc::S_IFREG);
            self.1
        }
    }

    fn trial(result: Result<(), Errno>) -> (Trial, Rc<RefCell<Vec<u64>>>) {
        let mut trial = Trial::with(Container);
        let shown = Rc::default();
        trial.guest.rules.container = Some(Contained { devices: true, ..Contained::default() });
        trial.guest.mounter = Some(Box::new(Shows(Rc::clone(&shown), result)));
        (trial, shown)
    }

    const CHARACTER: u64 = libc::S_IFCHR as u64 | 0o666;
    const BLOCK: u64 = libc::S_IFBLK as u64 | 0o666;

    #[test]
    fn only_devices_are_asked_about() {
        let device = |features: &[_], mode: u64, device| verdict("mknod", features, &[1, mode, device]);
        for mode in [0o644, libc::S_IFIFO | 0o600, libc::S_IFSOCK, libc::S_IFREG | 0o4755] {
            assert_eq!(device(&[Container], mode.into(), 0x103), Allow, "{mode:o}");
        }
        assert_eq!(device(&[Container], CHARACTER, 0), Allow, "an overlay's mark");
        assert_eq!(device(&[Container], BLOCK, 0), Notify);
        for number in [0x103, 0x500, 0x101, 0x800] {
            assert_eq!(device(&[Container], CHARACTER, number), Notify, "{number:x}");
            assert_eq!(device(&[Container, RealDevices], BLOCK, number), Notify, "{number:x}");
        }
        assert_eq!(device(&[RealDevices, Container], CHARACTER, 0x103), Allow);
        assert_eq!(device(&[RealDevices, Container], CHARACTER, 0x101), Notify, "the host's memory");
        assert_eq!(verdict("mknodat", &[Container], &[CWD, 1, BLOCK, 0x800]), Notify);
    }

    #[test]
    fn a_harmless_device_is_the_one_in_dev() {
        let (trial, shown) = trial(Ok(()));
        assert_eq!(trial.errno("mknod", &[trial.path("null"), CHARACTER, 0x103]), DONE);
        assert_eq!(trial.errno("mknodat", &[CWD, trial.path("zero"), CHARACTER, 0x105]), DONE);
        assert_eq!(*shown.borrow(), [0x103, 0x105]);
        assert!(trial.exists("null") && trial.denied().is_empty());
        assert_eq!(trial.guest.deeds.borrow()[0], ("mknod", "character device 1:3 at null".to_owned()));
        assert_eq!(trial.errno("mknod", &[trial.path("null"), CHARACTER, 0x103]), Errno::EEXIST);
        assert_eq!(trial.errno("mknod", &[trial.path("no/null"), CHARACTER, 0x103]), Errno::ENOENT);
        assert_eq!(trial.errno("mknod", &[trial.path("/"), CHARACTER, 0x103]), Errno::EEXIST);
    }

    #[test]
    fn what_cannot_be_shown_leaves_no_file() {
        let (trial, _) = trial(Err(Errno::ENOSPC));
        assert_eq!(trial.errno("mknod", &[trial.path("null"), CHARACTER, 0x103]), Errno::ENOSPC);
        assert!(!trial.exists("null"));
    }

    #[test]
    fn others_are_refused_and_told_and_so_are_those_who_may_not() {
        let (mut trial, shown) = trial(Ok(()));
        assert_eq!(trial.errno("mknod", &[trial.path("disk"), BLOCK, 0x800]), Errno::EPERM);
        assert_eq!(trial.errno("mknod", &[trial.path("mem"), CHARACTER, 0x101]), Errno::EPERM);
        // A block device with the number of a harmless character device.
        assert_eq!(trial.errno("mknod", &[trial.path("no"), BLOCK, 0x103]), Errno::EPERM);
        let told: Vec<String> = trial.denied().into_iter().map(|(_, what)| what).collect();
        let expected = ["block device 8:0 at disk", "character device 1:1 at mem", "block device 1:3 at no"];
        assert_eq!(told, expected);
        trial.guest.root = false;
        assert_eq!(trial.errno("mknod", &[trial.path("null"), CHARACTER, 0x103]), Errno::EPERM);
        trial.guest.root = true;
        trial.guest.rules.container = Some(Contained::default());
        assert_eq!(trial.errno("mknod", &[trial.path("null"), CHARACTER, 0x103]), Errno::EPERM);
        assert!(shown.borrow().is_empty() && !trial.exists("null"));
        assert_eq!(trial.denied().len(), 4);
    }

    #[test]
    fn everything_else_is_made_as_asked_for() {
        let (trial, shown) = trial(Ok(()));
        assert_eq!(trial.errno("mknod", &[trial.path("fifo"), u64::from(libc::S_IFIFO | 0o666), 7]), DONE);
        assert_eq!(trial.mode("fifo"), 0o644);
        assert!(shown.borrow().is_empty());
    }
}
