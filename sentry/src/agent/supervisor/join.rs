//! Into a container's namespaces: the supervisor sees its files as the container does, and has no rights but there.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::stat::fstat;
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};
use nix::unistd::{Gid, Uid, chroot, fchdir, getegid, geteuid, getgroups, setgroups, setresgid, setresuid};
use shim::failure::{Failure, Step};
use shim::sys;

use super::Place;
use crate::task::acting::Resting;

/// The procfs of this process's pid namespace, which stays the supervisor's.
pub(super) fn own_proc() -> Result<OwnedFd, Failure> {
    let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
    let step = || "open /proc for the container's supervisor";
    let proc = sys::open_at(None, c"/proc", flags, 0, 0).step(step)?;
    let shown = nix::fcntl::readlinkat(&proc, "self").step(step)?;
    if fstatfs(&proc).step(step)?.filesystem_type() != PROC_SUPER_MAGIC
        || shown.to_str().and_then(|shown| shown.parse::<u32>().ok()) != Some(std::process::id())
    {
        return Err(Failure::check_text("/proc does not show the processes of this pid namespace")
            .remedy("mount the procfs of this namespace there"));
    }
    Ok(proc)
}

/// Whether this descriptor is the namespace that this process is in already, as `name` in its procfs.
fn is_own(namespace: &OwnedFd, proc: BorrowedFd, name: &std::ffi::CStr) -> Result<bool, Errno> {
    let own = sys::open_at(Some(proc), name, libc::O_RDONLY | libc::O_CLOEXEC, 0, 0)?;
    let (own, other) = (fstat(&own)?, fstat(namespace)?);
    Ok((own.st_dev, own.st_ino) == (other.st_dev, other.st_ino))
}

/// Enters them, with the container's root as this process's, and as its root user if it has one.
pub(super) fn join(place: &Place, proc: BorrowedFd) -> Result<(), Failure> {
    // A user namespace that one is in already cannot be entered.
    if !is_own(&place.users, proc, c"self/ns/user").step(|| "compare user namespaces")? {
        sys::join(place.users.as_fd()).step(|| "join the container's user namespace")?;
    }
    sys::join(place.mounts.as_fd()).step(|| "join the container's mount namespace")?;
    fchdir(&place.root).and_then(|()| chroot(".")).step(|| "enter the container's root")?;
    // Where the kernel lets nobody change groups, the container has the same.
    let _ = setgroups(&[]);
    // A container may have no root; then its own maker acts for it.
    let root = (Gid::from_raw(0), Uid::from_raw(0));
    for changed in [setresgid(root.0, root.0, root.0), setresuid(root.1, root.1, root.1)] {
        match changed {
            Ok(()) | Err(Errno::EINVAL) => {}
            Err(errno) => return Err(Failure::new("become the container's root", errno)),
        }
    }
    sys::prctl(libc::PR_SET_DUMPABLE, 0, 0).step(|| "protect the supervisor from the container").map(drop)
}

/// Who this process is there.
pub(super) fn resting() -> Result<Resting, Failure> {
    let groups = getgroups().step(|| "read one's own groups")?;
    let groups = groups.into_iter().map(Gid::as_raw).collect();
    Ok(Resting { user: geteuid().as_raw(), group: getegid().as_raw(), groups })
}

/// The container's own procfs, if it has one.
pub(super) fn containers_proc() -> Option<OwnedFd> {
    let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
    let proc = sys::open_at(None, c"/proc", flags, 0, 0).ok()?;
    (fstatfs(&proc).ok()?.filesystem_type() == PROC_SUPER_MAGIC).then_some(proc)
}

/// Lets go of the caller's standard descriptors, and of every other that is not in `keep`.
pub(crate) fn keep_only(keep: &[BorrowedFd]) -> Result<(), Failure> {
    let null = sys::open_at(None, c"/dev/null", libc::O_RDWR | libc::O_CLOEXEC, 0, 0);
    let null = null.step(|| "open /dev/null")?;
    for number in 0..3 {
        sys::place_descriptor(null.as_raw_fd(), number).step(|| "let go of the caller's descriptors")?;
    }
    drop(null);
    let keep: Vec<_> = keep.iter().map(AsRawFd::as_raw_fd).collect();
    crate::supervise::keep_only(&keep);
    Ok(())
}
