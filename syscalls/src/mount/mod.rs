//! Mounts and roots.
//!
//! The view is built before the program runs, and what it is made of does not change after. Mounting is refused by the
//! sentry rather than by the filter, so that the user reads what the program wanted and how to give it; with `--allow mount`
//! it is done for the guest, within the view ([`perform`]). The newer calls, which take a mount apart into descriptors, do
//! not exist here; programs fall back to `mount`.

mod options;
pub mod order;
mod perform;

use std::ffi::CString;

use nix::errno::Errno;
use nix::mount::MsFlags;

use crate::args::{Flags, PathPtr, UserPtr, Word};
use crate::credentials::Credentials;
use crate::guest::{Denial, Guest};
use crate::reply::Answer;
use perform::{mount as perform_mount, umount2 as perform_umount2};

crate::syscalls! {
    /// Mounts a file system, or moves, binds or changes a mount: refused with `EPERM` and reported, or, with `--allow mount`,
    /// done within the view: tmpfs, ramfs, devpts, mqueue, proc, sysfs, overlay, binds, moves, remounts, propagation.
    /// Limit: without `--allow mount` a target that does not exist is `EPERM` too, not `ENOENT`.
    /// Limit: always `nosuid`, and `nodev` but for devpts; a bind keeps the flags of its source.
    /// Limit: a remount never takes off what the view or the sentry set, and leaves access times as they are.
    /// Limit: ramfs is a tmpfs, and sizes are bounded by what is left of `--disk`.
    /// Limit: proc is the sandbox's own once more, its options are ignored; sysfs shows what the view has of `/sys`, read-only.
    /// Limit: an overlay knows lowerdir, upperdir and workdir, with `userxattr`; an upper directory outside the sandbox's own memory (`/tmp`, a tmpfs mounted inside) is `EINVAL`.
    /// Limit: devices and images (ext4, squashfs, FUSE and others) fail with `EPERM` and are reported, unknown names with `ENODEV`.
    /// Limit: a bind or overlay of what a rule about paths speaks of fails with `EPERM` and is reported.
    /// Limit: any process of the sandbox may mount: no capability is asked for, but under `--fake-root` a pretended `CAP_SYS_ADMIN`.
    /// Limit: a bind of a directory in which something of the view is mounted takes that along, recursive or not.
    /// Limit: 10,000 mounts beside those of the view, each layer of an overlay being one; then `ENOSPC`.
    mount(source: PathPtr, target: PathPtr, kind: PathPtr, flags: Word, data: UserPtr) Mount Default Emulate(mount) {
        Mounts => EmulateSlow(perform_mount),
    };
    /// Unmounts: refused with `EPERM` and reported, or, with `--allow mount`, done with what was mounted inside.
    /// Limit: without `--allow mount` a target that is not mounted is `EPERM` too, not `EINVAL`.
    /// Limit: a copy of `/proc`, `/dev` or `/` goes at once although what is locked to it is mounted in it, also when in use.
    /// Limit: a use between the two calls with `MNT_EXPIRE` does not keep a mount.
    umount2(target: PathPtr, flags: Flags) Mount Default Emulate(umount2) {
        Mounts => EmulateSlow(perform_umount2),
    };
    /// Exchanges the root of the mount namespace: refused with `EPERM` and reported.
    /// Limit: a root that does not exist is `EPERM` too, not `ENOENT`.
    pivot_root(new: PathPtr, old: PathPtr) Mount Compat Emulate(pivot_root);
    /// Changes the root of the caller: refused with `EPERM` and reported.
    /// Under `--fake-root` it is the kernel's own, within the view, for those who pretend to have `CAP_SYS_CHROOT`.
    /// Limit: a root that does not exist is `EPERM` too, not `ENOENT`, to whoever may not change it.
    chroot(root: PathPtr) Mount Default Emulate(chroot) { FakeRoot => Permit(may_change_root), RealIds => Observe(chroot_seen), Container => Allow };
    /// Describes a mount of the view.
    statmount(request: UserPtr, buffer: UserPtr, size: Size, flags: Flags) Mount Compat Allow;
    /// Lists the mounts of the view.
    listmount(request: UserPtr, ids: UserPtr, count: Size, flags: Flags) Mount Compat Allow;
    /// Picks a mount as a descriptor; fails with `ENOSYS`, and programs fall back to `mount`.
    open_tree(at: DirFd, path: PathPtr, flags: Flags) Mount Compat Errno(ENOSYS);
    /// Picks a mount as a descriptor and changes it; fails with `ENOSYS`, and programs fall back to `mount`.
    open_tree_attr(at: DirFd, path: PathPtr, flags: Flags, attributes: UserPtr, size: Size) Mount Compat Errno(ENOSYS);
    /// Puts a mount somewhere; fails with `ENOSYS`, and programs fall back to `mount`.
    move_mount(from: DirFd, from_path: PathPtr, to: DirFd, to_path: PathPtr, flags: Flags)
        Mount Compat Errno(ENOSYS);
    /// Begins to configure a file system; fails with `ENOSYS`, and programs fall back to `mount`.
    fsopen(kind: UserPtr, flags: Flags) Mount Compat Errno(ENOSYS);
    /// Configures a file system; fails with `ENOSYS`, and programs fall back to `mount`.
    fsconfig(context: Fd, command: Uint, key: UserPtr, value: UserPtr, extra: Int) Mount Compat Errno(ENOSYS);
    /// Makes a mount of a configured file system; fails with `ENOSYS`, and programs fall back to `mount`.
    fsmount(context: Fd, flags: Flags, attributes: Uint) Mount Compat Errno(ENOSYS);
    /// Picks a file system to reconfigure; fails with `ENOSYS`, and programs fall back to `mount`.
    fspick(at: DirFd, path: PathPtr, flags: Flags) Mount Compat Errno(ENOSYS);
    /// Changes the attributes of mounts; fails with `ENOSYS`, and programs fall back to `mount`.
    mount_setattr(at: DirFd, path: PathPtr, flags: Flags, attributes: UserPtr, size: Size)
        Mount Compat Errno(ENOSYS);
    /// Described a mounted file system by device number; superseded by `statfs`, fails with `ENOSYS`.
    ustat(device: Device, buffer: UserPtr) Mount Compat Errno(ENOSYS);
    /// Listed kinds of file systems; superseded by `/proc/filesystems`, fails with `ENOSYS`.
    sysfs(option: Int, a: Word, b: Word) Mount Compat Errno(ENOSYS);
}

fn mount(guest: &dyn Guest, source: PathPtr, target: PathPtr, kind: PathPtr, flags: Word, _data: UserPtr) -> Answer {
    let kind = read_optional(guest, kind)?;
    let source = read_optional(guest, source)?;
    let target = shown(&guest.read_path(target)?);

    // In the order in which the kernel decides what kind of request it is: the first of these flags wins.
    // Bits that mean nothing are dropped here; the kernel ignores them too.
    let flags = MsFlags::from_bits_truncate(flags.0);
    let propagation = MsFlags::MS_SHARED | MsFlags::MS_PRIVATE | MsFlags::MS_SLAVE | MsFlags::MS_UNBINDABLE;
    let (what, remedy) = if flags.contains(MsFlags::MS_REMOUNT) {
        (
            format!("with other flags on {target}"),
            format!("choose at start with --read {target} or --write {target}, or allow with --allow mount"),
        )
    } else if flags.contains(MsFlags::MS_BIND) {
        (
            format!("{} on {target}", shown(&source)),
            format!("show it at start with --volume {}:{target}, or allow with --allow mount", shown(&source)),
        )
    } else if flags.intersects(propagation) {
        (format!("with other propagation on {target}"), "allow with --allow mount".into())
    } else if flags.contains(MsFlags::MS_MOVE) {
        (format!("moved from {} to {target}", shown(&source)), "allow with --allow mount".into())
    } else if kind.as_bytes() == b"tmpfs" {
        (format!("tmpfs on {target}"), format!("make it at start with --tmpfs {target}, or allow with --allow mount"))
    } else if matches!(kind.as_bytes(), b"ramfs" | b"proc" | b"sysfs" | b"overlay" | b"devpts" | b"mqueue") {
        (format!("{} on {target}", shown(&kind)), "allow with --allow mount".into())
    } else {
        let (kind, source) = (shown(&kind), shown(&source));
        (format!("{kind} on {target}"), format!("mount {source} outside and show it with --volume HOST:{target}"))
    };
    deny(guest, "mount", what, remedy)
}

fn umount2(guest: &dyn Guest, target: PathPtr, _flags: Flags) -> Answer {
    let target = shown(&guest.read_path(target)?);
    deny(guest, "umount2", target, "allow with --allow mount; what the view is made of stays in any case".into())
}

fn pivot_root(guest: &dyn Guest, new: PathPtr, old: PathPtr) -> Answer {
    let new = shown(&guest.read_path(new)?);
    guest.read_path(old)?;
    let remedy = format!("choose another root at start with --root {new}");
    deny(guest, "pivot_root", format!("to {new}"), remedy)
}

/// The view is the guest's whole world: whatever it makes its root, and however it leaves that again, it stays within.
fn may_change_root(credentials: &Credentials) -> Result<(), Errno> {
    const SYS_CHROOT: u32 = 18;
    if credentials.can(SYS_CHROOT) { Ok(()) } else { Err(Errno::EPERM) }
}

/// The kernel decides; the sentry walks the caller's paths in its root from now on.
fn chroot_seen(guest: &dyn Guest, _: PathPtr) {
    guest.changes_root();
}

fn chroot(guest: &dyn Guest, root: PathPtr) -> Answer {
    let root = shown(&guest.read_path(root)?);
    let remedy = format!("choose another root at start with --root {root}");
    deny(guest, "chroot", format!("to {root}"), remedy)
}

fn deny(guest: &dyn Guest, call: &'static str, what: String, remedy: String) -> Answer {
    let remedy = match (&guest.rules().container, call) {
        (None, _) => remedy,
        (Some(_), "mount" | "umount2") => "choose a policy that mounts, such as dev.sentry.policy=default".to_owned(),
        (Some(_), _) => "the root of a container is its engine's to choose".to_owned(),
    };
    guest.record(Denial { call, what, remedy: remedy.into() });
    Err(Errno::EPERM)
}

/// A string that may be left out.
fn read_optional(guest: &dyn Guest, at: PathPtr) -> Result<CString, Errno> {
    if UserPtr::from(at).is_null() { Ok(CString::default()) } else { guest.read_path(at) }
}

fn shown(text: &CString) -> String {
    text.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::FakeGuest;

    const NOTHING: PathPtr = PathPtr(0);
    const WILD: PathPtr = PathPtr(8);

    /// Makes a mount call and returns what was recorded of it.
    fn denied(source: &str, target: &str, kind: Option<&str>, flags: MsFlags) -> Denial {
        let guest = FakeGuest::default();
        let kind = kind.map_or(NOTHING, |kind| guest.put_path(kind));
        let flags = Word(flags.bits());
        let answer = mount(&guest, guest.put_path(source), guest.put_path(target), kind, flags, UserPtr(0));
        assert_eq!(answer.expect_err("mounting is refused"), Errno::EPERM);
        guest.denials().remove(0)
    }

    #[test]
    fn each_kind_of_mount_is_named_with_its_remedy() {
        let scratch = denied("none", "/mnt", Some("tmpfs"), MsFlags::MS_NOSUID);
        assert_eq!((scratch.call, scratch.what.as_str()), ("mount", "tmpfs on /mnt"));
        assert_eq!(scratch.remedy, "make it at start with --tmpfs /mnt, or allow with --allow mount");

        let bind = denied("/srv", "/mnt", None, MsFlags::MS_BIND | MsFlags::MS_REC);
        assert_eq!(bind.what, "/srv on /mnt");
        assert_eq!(bind.remedy, "show it at start with --volume /srv:/mnt, or allow with --allow mount");

        let remount = denied("", "/usr", None, MsFlags::MS_REMOUNT | MsFlags::MS_BIND);
        assert_eq!(remount.what, "with other flags on /usr");
        assert_eq!(denied("", "/", None, MsFlags::MS_PRIVATE | MsFlags::MS_REC).what, "with other propagation on /");
        assert_eq!(denied("/a", "/b", None, MsFlags::MS_MOVE).what, "moved from /a to /b");
        assert_eq!(denied("/dev/sda1", "/mnt", Some("ext4"), MsFlags::empty()).what, "ext4 on /mnt");
    }

    #[test]
    fn roots_stay_where_they_are() {
        let guest = FakeGuest::default();
        let place = guest.put_path("/srv/root");
        assert_eq!(umount2(&guest, place, Flags(0)).expect_err("refused"), Errno::EPERM);
        assert_eq!(pivot_root(&guest, place, place).expect_err("refused"), Errno::EPERM);
        assert_eq!(chroot(&guest, place).expect_err("refused"), Errno::EPERM);
        let what: Vec<_> = guest.denials().into_iter().map(|denial| (denial.call, denial.what)).collect();
        let expected = [("umount2", "/srv/root"), ("pivot_root", "to /srv/root"), ("chroot", "to /srv/root")];
        assert_eq!(what, expected.map(|(call, what)| (call, what.to_owned())));
    }

    #[test]
    fn a_bad_pointer_is_a_fault_and_not_reported() {
        let guest = FakeGuest::default();
        let good = guest.put_path("/mnt");
        for (source, target, kind) in
            [(WILD, good, good), (good, WILD, good), (good, good, WILD), (good, NOTHING, good)]
        {
            let answer = mount(&guest, source, target, kind, Word(0), UserPtr(0));
            assert_eq!(answer.expect_err("refused"), Errno::EFAULT);
        }
        assert_eq!(umount2(&guest, WILD, Flags(0)).expect_err("refused"), Errno::EFAULT);
        assert_eq!(pivot_root(&guest, good, WILD).expect_err("refused"), Errno::EFAULT);
        assert_eq!(chroot(&guest, NOTHING).expect_err("refused"), Errno::EFAULT);
        assert!(guest.denials().is_empty());
    }
}
