//! Grants of a sandbox that root starts: id-mapped mounts, see mount_setattr(2).
//!
//! The guest runs under an id that owns nothing on the host. Through an id-mapped mount the owner of a grant appears as
//! that id: the guest may do there what the owner may, and files that it makes belong to the owner. Every other owner has
//! no id in such a mount. For an ordinary user nothing of this is needed: the guest has the user's own id.

use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use hashbrown::HashMap;
use nix::errno::Errno;
use nix::libc;
use nix::sys::stat::FileStat;
use shim::failure::{Failure, Step};
use shim::plan::{Identity, Store};
use shim::sys::{self, MountAttributes};

/// Id maps by owner, and what could not be mapped.
#[derive(Debug)]
pub struct IdMaps {
    identity: Identity,
    namespaces: HashMap<(u32, u32), OwnedFd>,
    /// What the user should know.
    pub notes: Vec<String>,
}

impl IdMaps {
    /// For the sandbox of `identity`.
    pub fn new(identity: Identity) -> Self {
        Self { identity, namespaces: HashMap::new(), notes: Vec::new() }
    }

    /// A detached, id-mapped copy of the mount at `object`. `None` if the sandbox was not started by root, or if the file
    /// system cannot be mapped, which is noted: then the guest may do there only what everybody may.
    pub fn mount(
        &mut self,
        object: BorrowedFd,
        stat: &FileStat,
        option: &str,
        writable: bool,
    ) -> Result<Option<OwnedFd>, Failure> {
        if !self.identity.by_root {
            return Ok(None);
        }
        let mount = sys::clone_tree(Some(object), c"", true).step(|| format!("copy the mount of {option}"))?;
        let namespace = self.namespace(stat.st_uid, stat.st_gid)?;
        let attributes = MountAttributes {
            set: sys::ID_MAP | sys::NO_SUID | sys::NO_DEV | if writable { 0 } else { sys::READ_ONLY },
            propagation: libc::MS_PRIVATE,
            userns: u64::from(std::os::fd::AsRawFd::as_raw_fd(&namespace).unsigned_abs()),
            ..MountAttributes::default()
        };
        match sys::set_mount_attributes(mount.as_fd(), true, &attributes) {
            Ok(()) => Ok(Some(mount)),
            Err(Errno::EINVAL | Errno::EPERM | Errno::EOPNOTSUPP) => {
                self.notes.push(format!(
                    "{option}: its file system takes no id-mapped mounts; the guest may do there only what everybody may"
                ));
                Ok(None)
            }
            Err(errno) => Err(Failure::new(format!("map the owner of {option}"), errno)),
        }
    }

    /// The layers of an overlay, reachable for the sandbox whatever the directories above them allow.
    pub fn layer(&self, layer: &Path) -> Result<Store, Failure> {
        let path = std::ffi::CString::new(std::os::unix::ffi::OsStrExt::as_bytes(layer.as_os_str()))
            .map_err(|_| Failure::check("name the copy-on-write store"))?;
        if !self.identity.by_root {
            return Ok(Store::Path(path));
        }
        let mount = sys::clone_tree(None, &path, false).step(|| format!("copy the mount of {}", layer.display()))?;
        Ok(Store::Detached(mount))
    }

    /// A user namespace that maps one owner on disk to the sandbox's id.
    fn namespace(&mut self, uid: u32, gid: u32) -> Result<OwnedFd, Failure> {
        let step = || "make a user namespace for id-mapped grants";
        if !self.namespaces.contains_key(&(uid, gid)) {
            let (hold, release) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).step(step)?;
            let Some(pid) = sys::clone(libc::CLONE_NEWUSER).step(step)? else {
                // Lives until the parent has the namespace's descriptor.
                drop(release);
                let _ = nix::unistd::read(&hold, &mut [0]);
                sys::exit_now(0)
            };
            let made = self.map(pid, uid, gid);
            drop(release);
            let _ = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), None);
            self.namespaces.insert((uid, gid), made?);
        }
        self.namespaces[&(uid, gid)].try_clone().map_err(|_| Failure::new(step(), Errno::last()))
    }

    fn map(&self, pid: i32, uid: u32, gid: u32) -> Result<OwnedFd, Failure> {
        let step = || "map the owner of a grant";
        let io = |error: std::io::Error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO));
        for (file, inside, outside) in
            [("uid_map", uid, self.identity.host_uid), ("gid_map", gid, self.identity.host_gid)]
        {
            let path = format!("/proc/{pid}/{file}");
            let open = std::fs::OpenOptions::new().write(true).open(path);
            let written = open.and_then(|mut file| file.write_all(format!("{inside} {outside} 1\n").as_bytes()));
            written.map_err(io).step(step)?;
        }
        let namespace = std::fs::File::open(format!("/proc/{pid}/ns/user")).map_err(io).step(step)?;
        Ok(OwnedFd::from(namespace))
    }
}
