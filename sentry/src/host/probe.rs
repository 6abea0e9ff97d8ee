//! Trying what the host allows, each in a child process that ends at once.
//!
//! The children make namespaces and mounts of their own, so nothing of the host changes. Between fork and exit they only
//! make system calls: the parent may have threads, one of which may hold the allocator's lock at that moment.

#![allow(unsafe_code)]

use std::ffi::CStr;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::libc;
use nix::mount::{MsFlags, mount};
use nix::sys::stat::Mode;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Gid, Pid, Uid, mkdir, write};
use shim::sys;
use syscalls::filter::Instruction;

/// Where the children mount things, in their own mount namespace; there is such a directory everywhere.
const PLACE: &CStr = c"/tmp";

/// Whether a user namespace can be made and a file system be mounted in it. Ubuntu's AppArmor rule allows the first and
/// then denies the second.
pub fn user_namespace() -> Result<(), Errno> {
    let ids = Ids::own();
    in_child(|| {
        enter(&ids, libc::CLONE_NEWNET | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS | libc::CLONE_NEWCGROUP)?;
        mount_tmpfs()
    })
}

/// Whether a new procfs can be mounted: not where the host's is partly covered, as in containers.
pub fn proc() -> Result<(), Errno> {
    let ids = Ids::own();
    in_child(|| {
        enter(&ids, libc::CLONE_NEWPID)?;
        in_child(|| mount_at(PLACE, c"proc", None))
    })
}

/// Whether overlayfs can be mounted without privileges.
pub fn overlay() -> Result<(), Errno> {
    let ids = Ids::own();
    in_child(|| {
        enter(&ids, 0)?;
        mount_tmpfs()?;
        for directory in [c"/tmp/lower", c"/tmp/upper", c"/tmp/work", c"/tmp/all"] {
            mkdir(directory, Mode::S_IRWXU)?;
        }
        let layers = c"lowerdir=/tmp/lower,upperdir=/tmp/upper,workdir=/tmp/work,userxattr";
        mount_at(c"/tmp/all", c"overlay", Some(layers))
    })
}

/// Whether overlayfs takes these directories as its layers.
pub fn overlay_of(lower: &CStr, upper: &CStr, work: &CStr) -> Result<(), Errno> {
    use std::os::fd::{AsFd, AsRawFd};
    let ids = Ids::own();
    in_child(|| {
        enter(&ids, 0)?;
        let context = sys::fs_open(c"overlay")?;
        for (key, path) in [(c"lowerdir", lower), (c"upperdir", upper), (c"workdir", work)] {
            let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
            let directory = open(path, flags, Mode::empty())?;
            let link = std::ffi::CString::new(format!("/proc/self/fd/{}", directory.as_raw_fd()));
            sys::fs_set(context.as_fd(), key, Some(&link.map_err(|_| Errno::EINVAL)?))?;
            // The kernel may look the name up only when the file system is made.
            std::mem::forget(directory);
        }
        sys::fs_set(context.as_fd(), c"userxattr", None)?;
        sys::fs_mount(context.as_fd(), 0).map(drop)
    })
}

/// Whether a time namespace can be made.
pub fn time_namespace() -> Result<(), Errno> {
    in_child(|| sys::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWTIME))
}

/// Whether a seccomp listener can be had, and one whose notifications signals do not interrupt if `wait_killable`.
pub fn listener(wait_killable: bool) -> Result<(), Errno> {
    let allow = [Instruction { code: 0x06, jt: 0, jf: 0, k: libc::SECCOMP_RET_ALLOW }];
    let killable = if wait_killable { libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV } else { 0 };
    in_child(|| {
        sys::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0)?;
        sys::load_filter(&allow, libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | killable).map(drop)
    })
}

/// Landlock's version.
pub fn landlock() -> Result<u32, Errno> {
    sys::landlock_version()
}

/// Whether the kernel gave this process rights at exec that its user does not have (`AT_SECURE`).
pub fn secure_start() -> bool {
    // SAFETY: reads the auxiliary vector, which is there for the whole life of the process.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// The id maps of a namespace in which the user is root, as text, ready before the fork.
struct Ids {
    users: String,
    groups: String,
}

impl Ids {
    fn own() -> Self {
        Self { users: format!("0 {} 1\n", Uid::effective()), groups: format!("0 {} 1\n", Gid::effective()) }
    }
}

/// Enters a user and a mount namespace, and those in `more`; nothing that is mounted there reaches the host.
fn enter(ids: &Ids, more: libc::c_int) -> Result<(), Errno> {
    sys::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS | more)?;
    write_file(c"/proc/self/setgroups", b"deny")?;
    write_file(c"/proc/self/uid_map", ids.users.as_bytes())?;
    write_file(c"/proc/self/gid_map", ids.groups.as_bytes())?;
    let none = None::<&CStr>;
    mount(none, c"/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
}

fn mount_tmpfs() -> Result<(), Errno> {
    mount_at(PLACE, c"tmpfs", None)
}

fn mount_at(place: &CStr, kind: &CStr, options: Option<&CStr>) -> Result<(), Errno> {
    mount(Some(kind), place, Some(kind), MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC, options)
}

fn write_file(path: &CStr, text: &[u8]) -> Result<(), Errno> {
    let file = open(path, OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    write(&file, text).map(drop)
}

/// Runs `attempt` in a child; its errno comes back as the exit code, for all of them are smaller than 256.
fn in_child(attempt: impl FnOnce() -> Result<(), Errno>) -> Result<(), Errno> {
    match sys::clone(0)? {
        None => sys::exit_now(attempt().map_or_else(|errno| errno as i32, |()| 0)),
        Some(child) => match waitpid(Pid::from_raw(child), None)? {
            WaitStatus::Exited(_, 0) => Ok(()),
            WaitStatus::Exited(_, errno) => Err(Errno::from_raw(errno)),
            // A filter that kills instead of refusing.
            _ => Err(Errno::EPERM),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_child_meets_comes_back() {
        assert_eq!(in_child(|| Ok(())), Ok(()));
        assert_eq!(in_child(|| Err(Errno::ENOSYS)), Err(Errno::ENOSYS));
        assert_eq!(in_child(|| in_child(|| Err(Errno::EACCES))), Err(Errno::EACCES));
        let killed = in_child(|| sys::kill(nix::unistd::getpid().as_raw(), libc::SIGKILL));
        assert_eq!(killed, Err(Errno::EPERM));
    }

    #[test]
    fn a_mount_that_cannot_be_is_told_by_its_errno() {
        let ids = Ids::own();
        let missing = in_child(|| {
            enter(&ids, 0)?;
            mount_at(c"/no/such/place", c"tmpfs", None)
        });
        // EPERM and ENOSPC where user namespaces are forbidden: then the probe says so as well.
        match user_namespace() {
            Ok(()) => assert_eq!(missing, Err(Errno::ENOENT)),
            Err(errno) => assert_eq!(missing, Err(errno)),
        }
    }
}
