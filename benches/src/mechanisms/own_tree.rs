//! A file tree of a process's own: in user and mount namespaces of its own it mounts what it likes, and nothing stays behind.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getgid, getuid};

/// Where the tree is, over what the host has there.
pub const ROOT: &str = "/tmp";

/// Enters a user namespace in which we are root, and others beside it.
pub fn enter(others: CloneFlags) -> io::Result<()> {
    let (user, group) = (getuid(), getgid());
    unshare(CloneFlags::CLONE_NEWUSER | others)?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("0 {user} 1"))?;
    fs::write("/proc/self/gid_map", format!("0 {group} 1"))
}

/// Enters namespaces with an empty file system in memory at [`ROOT`].
pub fn make() -> io::Result<()> {
    enter(CloneFlags::CLONE_NEWNS)?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    Ok(mount(Some("tmpfs"), ROOT, Some("tmpfs"), MsFlags::empty(), Some("mode=755"))?)
}

/// A file four directories below `top`, which is made.
pub fn file_below(top: &Path) -> io::Result<PathBuf> {
    let directory = top.join("a/b/c");
    fs::create_dir_all(&directory)?;
    let file = directory.join("data");
    fs::write(&file, [1; 4096])?;
    Ok(file)
}

/// Shows `from` at `to` as well, which is made.
pub fn bind(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    let none = None::<&str>;
    Ok(mount(Some(from), to, none, MsFlags::MS_BIND, none)?)
}
