//! The id maps of a container's user namespace: user_namespaces(7), newuidmap(1).
//!
//! With the rights to, they are written; an ordinary user maps the own id alone by hand, and more of them by the host's
//! set-id programs, which hold to `/etc/subuid` and `/etc/subgid`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::libc;
use nix::unistd::{Gid, Pid, Uid};
use oci_spec::runtime::LinuxIdMapping;
use shim::failure::{Failure, Step};
use shim::sys;

/// What is mapped.
#[derive(Debug)]
pub struct Maps<'a> {
    pub users: &'a [LinuxIdMapping],
    pub groups: &'a [LinuxIdMapping],
}

fn lines(maps: &[LinuxIdMapping]) -> String {
    maps.iter().map(|map| format!("{} {} {}\n", map.container_id(), map.host_id(), map.size())).collect()
}

fn is_alone(maps: &[LinuxIdMapping], own: u32) -> bool {
    matches!(maps, [map] if map.host_id() == own && map.size() == 1)
}

impl Maps<'_> {
    /// Maps the user namespace of the process `pid`, which waits for it.
    pub fn write(&self, pid: Pid) -> Result<(), Failure> {
        if may_map()? {
            write(pid, "uid_map", &lines(self.users))?;
            return write(pid, "gid_map", &lines(self.groups));
        }
        let (user, group) = (Uid::effective().as_raw(), Gid::effective().as_raw());
        if is_alone(self.users, user) {
            write(pid, "uid_map", &lines(self.users))?;
        } else {
            self.by("newuidmap", pid, self.users)?;
        }
        if is_alone(self.groups, group) {
            // Who has no right over groups must not drop one that forbids something: user_namespaces(7).
            write(pid, "setgroups", "deny")?;
            write(pid, "gid_map", &lines(self.groups))
        } else {
            self.by("newgidmap", pid, self.groups)
        }
    }

    fn by(&self, program: &str, pid: Pid, maps: &[LinuxIdMapping]) -> Result<(), Failure> {
        let step = || format!("map the container's ids by {program}");
        let path =
            find(program).ok_or_else(|| Failure::check(step()).remedy("install uidmap (newuidmap and newgidmap)"))?;
        let mut command = Command::new(path);
        command.arg(pid.to_string());
        for map in maps {
            command.args([map.container_id(), map.host_id(), map.size()].map(|number| number.to_string()));
        }
        let said = command.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).output();
        let said = said.map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))).step(step)?;
        if said.status.success() {
            return Ok(());
        }
        let why = String::from_utf8_lossy(&said.stderr).trim().replace('\n', ", ");
        Err(Failure::check(format!("{} ({why})", step()))
            .remedy("the maps must lie within the ranges of /etc/subuid and /etc/subgid"))
    }
}

/// Whether we have the rights to map whatever ids we have ourselves.
fn may_map() -> Result<bool, Failure> {
    const SETGID: u64 = 1 << 6;
    const SETUID: u64 = 1 << 7;
    let own = sys::capabilities().step(|| "look at our own capabilities")?;
    Ok(own.effective & (SETUID | SETGID) == SETUID | SETGID)
}

fn write(pid: Pid, file: &str, text: &str) -> Result<(), Failure> {
    let path = format!("/proc/{pid}/{file}");
    let open = std::fs::OpenOptions::new().write(true).open(&path);
    open.and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()))
        .map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))
        .step(|| format!("write the container's {file} ({})", text.trim().replace('\n', ", ")))
}

/// Where a program of the host is. The path is not the caller's, who may be under an image's influence.
fn find(program: &str) -> Option<PathBuf> {
    ["/usr/bin", "/bin", "/usr/local/bin", "/run/wrappers/bin", "/run/current-system/sw/bin"]
        .iter()
        .map(|directory| Path::new(directory).join(program))
        .find(|path| path.exists())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_written_as_the_kernel_reads_them() {
        let maps: Vec<LinuxIdMapping> = serde_json::from_str(
            r#"[{"containerID": 0, "hostID": 1000, "size": 1}, {"containerID": 1, "hostID": 100000, "size": 65536}]"#,
        )
        .unwrap();
        assert_eq!(lines(&maps), "0 1000 1\n1 100000 65536\n");
        assert!(!is_alone(&maps, 1000));
        assert!(is_alone(&maps[..1], 1000) && !is_alone(&maps[..1], 0));
    }
}
