//! A procfs that can be trusted for what we write to it.
//!
//! `/proc` of a container is what its image and its mounts make of it: a text that is meant for `oom_score_adj` may end in
//! `sysrq-trigger` (CVE-2019-16884, CVE-2019-19921, CVE-2025-52881). So the caller's procfs is opened before anything of the
//! container is mounted, is seen to be one, and each file that is written to is opened beneath it and looked at again.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};

use super::root::c_path;
use crate::failure::{Failure, Step};
use crate::sys;

const BENEATH: u64 = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_MAGICLINKS;

/// A procfs, by descriptor.
#[derive(Debug)]
pub struct Proc {
    files: OwnedFd,
}

/// Whether an object lies on a procfs.
pub fn is_proc(object: impl AsFd) -> Result<bool, Errno> {
    Ok(fstatfs(object)?.filesystem_type() == PROC_SUPER_MAGIC)
}

fn errno(error: &std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}

impl Proc {
    /// The caller's own `/proc`.
    pub fn open() -> Result<Self, Failure> {
        let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
        let files = sys::open_at(None, c"/proc", flags, 0, libc::RESOLVE_NO_SYMLINKS).step(|| "open /proc")?;
        if !is_proc(&files).step(|| "look at /proc")? {
            return Err(Failure::check("use /proc: it is no procfs").remedy("mount one there"));
        }
        Ok(Self { files })
    }

    fn file(&self, path: &str, flags: i32) -> Result<File, Errno> {
        let file = sys::open_at(Some(self.files.as_fd()), &c_path(path)?, flags | libc::O_CLOEXEC, 0, BENEATH)?;
        if is_proc(&file)? { Ok(File::from(file)) } else { Err(Errno::EXDEV) }
    }

    /// Writes `text` to `path` in one call.
    pub fn write(&self, path: &str, text: &str) -> Result<(), Errno> {
        let mut file = self.file(path, libc::O_WRONLY)?;
        match file.write(text.as_bytes()) {
            Ok(written) if written == text.len() => Ok(()),
            Ok(_) => Err(Errno::EIO),
            Err(error) => Err(errno(&error)),
        }
    }

    /// The text at `path`.
    pub fn read(&self, path: &str) -> Result<String, Errno> {
        let mut text = String::new();
        self.file(path, libc::O_RDONLY)?.read_to_string(&mut text).map_err(|error| errno(&error))?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_beneath_are_read_and_others_are_not() {
        let proc = Proc::open().unwrap();
        assert!(proc.read("self/status").unwrap().contains("Name:"));
        assert_eq!(proc.read("self/cwd/Cargo.toml").unwrap_err(), Errno::ELOOP, "a magic link leads elsewhere");
        assert_eq!(proc.read("../etc/passwd").unwrap_err(), Errno::EXDEV);
        assert_eq!(proc.read("/etc/passwd").unwrap_err(), Errno::EXDEV);
    }
}
