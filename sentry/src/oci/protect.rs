//! Our own program must not be written by a container that can reach it as `/proc/PID/exe` (CVE-2019-5736).
//!
//! Whoever is root in a container may write what belongs to an id that is mapped there. Where that could be the owner of
//! our program, we run from a copy that nobody can change: a private read-only mount of it, which costs one exec, or,
//! without the right to mount, a sealed copy in memory.

use std::ffi::{CString, OsString};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;

use nix::errno::Errno;
use nix::libc;
use nix::unistd::Uid;
use oci_spec::runtime::{LinuxIdMapping, Spec};
use shim::failure::{Failure, Step};
use shim::sys::{self, MountAttributes};

/// Tells the program that starts from a protected copy that it does.
const MARK: &str = "_SENTRY_OCI_PROTECTED";

/// Makes sure that a container with this configuration cannot write our program; may start it anew.
pub fn own_program(spec: &Spec) -> Result<(), Failure> {
    let linux = spec.linux().as_ref();
    let users = linux.and_then(|linux| linux.uid_mappings().as_deref()).filter(|maps| !maps.is_empty());
    let program = File::open("/proc/self/exe").map_err(|error| raw(&error)).step(|| "open our own program")?;
    let stat = program.metadata().map_err(|error| raw(&error)).step(|| "look at our own program")?;
    if is_out_of_reach(stat.uid(), stat.mode(), users) || is_protected(&program)? {
        return Ok(());
    }
    restart(&program)
}

fn raw(error: &std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}

/// Whether no id of the container could write a file with this owner and mode.
fn is_out_of_reach(owner: u32, mode: u32, users: Option<&[LinuxIdMapping]>) -> bool {
    if mode & 0o022 != 0 {
        return false;
    }
    match users {
        Some(maps) => !maps.iter().any(|map| owner.checked_sub(map.host_id()).is_some_and(|at| at < map.size())),
        // The ids of the container are ours: an owner that has none here is shown as the kernel's overflow id.
        None => !Uid::effective().is_root() || (is_unmapped(owner) && owner != 0),
    }
}

fn is_unmapped(owner: u32) -> bool {
    let maps = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let overflow =
        std::fs::read_to_string("/proc/sys/kernel/overflowuid").ok().and_then(|text| text.trim().parse().ok());
    !shim::identity::is_initial_map(&maps) && overflow == Some(owner)
}

/// Whether we run from a copy already: what the environment says is believed of such a file only.
fn is_protected(program: &File) -> Result<bool, Failure> {
    if std::env::var_os(MARK).is_none() {
        return Ok(false);
    }
    let flags = nix::sys::statvfs::fstatvfs(program).step(|| "look at our own program")?.flags();
    let sealed = nix::fcntl::fcntl(program, nix::fcntl::FcntlArg::F_GET_SEALS)
        .is_ok_and(|seals| seals & libc::F_SEAL_WRITE != 0);
    Ok(sealed || flags.contains(nix::sys::statvfs::FsFlags::ST_RDONLY))
}

fn restart(program: &File) -> Result<(), Failure> {
    let copy = match read_only(program) {
        Ok(copy) => copy,
        Err(_) => sealed(program)?,
    };
    let string = |text: OsString| CString::new(text.into_vec()).unwrap_or_default();
    let arguments: Vec<CString> = std::env::args_os().map(string).collect();
    let environment: Vec<CString> = std::env::vars_os()
        .map(|(name, value)| {
            let mut entry = name;
            entry.push("=");
            entry.push(value);
            string(entry)
        })
        .chain([CString::new(format!("{MARK}=1")).unwrap_or_default()])
        .collect();
    let errno = sys::execute_file(copy.as_fd(), &arguments, &environment);
    Err(Failure::new("run from a protected copy of our own program", errno))
}

/// A private mount of the program alone, read-only for whoever reaches it.
fn read_only(program: &File) -> Result<OwnedFd, Errno> {
    let path = CString::new(format!("/proc/self/fd/{}", program.as_raw_fd())).map_err(|_| Errno::EINVAL)?;
    let mount = sys::clone_tree(None, &path, false)?;
    let attributes = MountAttributes { set: sys::READ_ONLY | sys::NO_SUID, ..MountAttributes::default() };
    sys::set_mount_attributes(mount.as_fd(), false, &attributes)?;
    Ok(mount)
}

fn sealed(program: &File) -> Result<OwnedFd, Failure> {
    let step = || "copy our own program into memory";
    let mut source = program.try_clone().map_err(|error| raw(&error)).step(step)?;
    let file = crate::raw::sealed_copy(&mut source).step(step)?;
    nix::sys::stat::fchmod(&file, nix::sys::stat::Mode::from_bits_truncate(0o555)).step(step)?;
    Ok(file)
}
