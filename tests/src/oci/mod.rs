//! Containers for tests: bundles made on the spot, and any OCI runtime to run them, called by its path.
//!
//! Nothing but a static probe (`oci-probe`) lies in a root file system, so no image is needed. The caller adopts what a runtime
//! leaves behind, as engines do, and so learns the exit status of a container from the kernel and not from the runtime.

mod bundle;
mod call;
mod container;
mod mountinfo;

use std::path::{Path, PathBuf};

pub use bundle::Bundle;
pub use call::Called;
pub use container::Container;
pub use mountinfo::{Mount, mount_at, mounts};

/// Where containers are run, by which runtime.
#[derive(Debug)]
pub struct Stand {
    /// The runtime and what comes before its verb.
    pub runtime: Vec<String>,
    /// A directory of our own, below which are bundles and the runtime's state.
    pub directory: PathBuf,
    /// The probe, on the same file system as the directory.
    pub probe: PathBuf,
    /// Why the runtime has no cgroups, where it has none.
    pub without_cgroups: Option<String>,
    /// The range of ids that may be mapped beside the caller's own, with the programs that map them.
    pub range: Option<Range>,
    /// Whether the caller is root.
    pub root: bool,
}

/// The ids that an ordinary user may map.
#[derive(Clone, Copy, Debug)]
pub struct Range {
    /// The first subordinate uid.
    pub uid: u32,
    /// The first subordinate gid.
    pub gid: u32,
    /// How many there are.
    pub count: u32,
}

impl Stand {
    /// A place for containers below `directory`, with a copy of the probe in it.
    pub fn new(runtime: Vec<String>, directory: &Path, probe: &Path) -> std::io::Result<Self> {
        std::fs::create_dir_all(directory.join("state"))?;
        let own = directory.join("oci-probe");
        std::fs::copy(probe, &own)?;
        nix::sys::prctl::set_child_subreaper(true)?;
        let root = nix::unistd::Uid::effective().is_root();
        let range = if root { None } else { own_range() };
        Ok(Self { runtime, directory: directory.to_owned(), probe: own, without_cgroups: None, range, root })
    }

    /// Buries whatever processes have been adopted and are dead.
    pub fn bury(&self) {
        use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
        while !matches!(waitpid(None, Some(WaitPidFlag::WNOHANG)), Err(_) | Ok(WaitStatus::StillAlive)) {}
    }
}

/// The subordinate ids of the caller, where they can be mapped.
fn own_range() -> Option<Range> {
    let uid = nix::unistd::Uid::current().as_raw().to_string();
    let passwd = std::fs::read_to_string("/etc/passwd").ok()?;
    let name = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid).then_some(name)
    })?;
    let first = |file: &str| {
        let text = std::fs::read_to_string(file).ok()?;
        text.lines().find_map(|line| {
            let mut fields = line.split(':');
            let owner = fields.next()?;
            let (start, count) = (fields.next()?.parse::<u32>().ok()?, fields.next()?.parse::<u32>().ok()?);
            (owner == name || owner == uid).then_some((start, count))
        })
    };
    let ((uid, count), (gid, other)) = (first("/etc/subuid")?, first("/etc/subgid")?);
    (crate::has("newuidmap") && crate::has("newgidmap")).then_some(Range { uid, gid, count: count.min(other) })
}
