//! A container's control groups: made, limited, entered, frozen and removed. See cgroups(7).
//!
//! Hosts have version 1, version 2, both or none, and an ordinary user usually may not make groups in any. What cannot be
//! made is told as a warning and the container runs without; but a limit that was asked for and cannot hold is an error, for
//! a container that was to have little memory must not have all of it. Device rules are no such limit where a user namespace
//! keeps devices from being made or opened anyway.

mod devices;
mod find;
mod freeze;
mod legacy;
mod path;
mod stats;
#[cfg(test)]
mod tests;
mod unified;

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::unistd::Pid;
use oci_spec::runtime::{LinuxResources, Spec};
use serde::{Deserialize, Serialize};
use shim::container::Hierarchy;
use shim::failure::{Failure, Step};

/// What the caller says about groups.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wish {
    /// `--systemd-cgroup`: a path is `slice:prefix:name`.
    pub systemd: bool,
    /// `--cgroup-manager disabled`: none is made.
    pub disabled: bool,
    /// The caller is no root of the host: what he may not do is expected.
    pub rootless: bool,
}

/// The groups of one container, one in each hierarchy where it could be made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Groups {
    hierarchies: Vec<Hierarchy>,
    /// What stood in the way of the others.
    missing: Option<String>,
    #[serde(default)]
    rootless: bool,
}

fn errno(error: &std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(nix::libc::EIO))
}

/// Whether an error says that this caller may not, rather than that something is wrong.
fn is_refusal(errno: Errno) -> bool {
    matches!(errno, Errno::EACCES | Errno::EPERM | Errno::EROFS)
}

/// Writes a file of a group, which is never made by writing.
fn write(file: &Path, text: &str) -> Result<(), Errno> {
    let mut open = OpenOptions::new().write(true).open(file).map_err(|error| errno(&error))?;
    open.write_all(text.as_bytes()).map_err(|error| errno(&error))
}

fn write_step(file: &Path, text: &str) -> Result<(), Failure> {
    write(file, text).step(|| format!("write {text} to {}", file.display()))
}

fn read(file: &Path) -> Result<String, Errno> {
    fs::read_to_string(file).map(|text| text.trim().to_owned()).map_err(|error| errno(&error))
}

impl Groups {
    /// Makes the container's groups and sets its limits; nobody is in them yet.
    pub fn make(spec: &Spec, id: &str, wish: Wish, warnings: &mut Vec<String>) -> Result<Self, Failure> {
        let found = if wish.disabled { Vec::new() } else { find::of_caller() };
        Self::make_in(&found, spec, id, wish, warnings)
    }

    fn make_in(
        found: &[find::Place],
        spec: &Spec,
        id: &str,
        wish: Wish,
        warnings: &mut Vec<String>,
    ) -> Result<Self, Failure> {
        let linux = spec.linux().as_ref();
        let resources = linux.and_then(|linux| linux.resources().as_ref());
        let mut groups = Self { rootless: wish.rootless, ..Self::default() };
        if wish.disabled {
            groups.missing = Some("control groups are disabled by the caller".to_owned());
        } else {
            let path = path::parse(linux.and_then(|linux| linux.cgroups_path().as_deref()), id, wish, warnings)?;
            if found.is_empty() {
                groups.missing = Some("none are mounted".to_owned());
            }
            for place in found {
                groups.make_one(place, &path)?;
            }
        }
        if let Some(why) = groups.missing.as_deref().filter(|_| groups.hierarchies.is_empty() && !wish.disabled) {
            warnings.push(format!("the container has no control groups of its own: {why}"));
        }
        let limited = resources.map_or(Ok(()), |resources| groups.limit(resources, warnings));
        match limited {
            Ok(()) => Ok(groups),
            Err(failure) => {
                let _ = groups.remove();
                Err(failure)
            }
        }
    }

    fn make_one(&mut self, place: &find::Place, path: &path::GroupPath) -> Result<(), Failure> {
        let group = path.in_hierarchy(place);
        let step = || format!("make the control group {}", group.display());
        match make_all(place, &group) {
            Ok(existed) => {
                if existed && has_processes(&group) {
                    // They would be frozen, counted and killed with the container.
                    let _ = self.remove();
                    return Err(Failure::check_text(format!(
                        "the control group {} has processes already",
                        group.display()
                    ))
                    .remedy("give the container a linux.cgroupsPath of its own"));
                }
                let controllers = place.controllers.clone();
                self.hierarchies.push(Hierarchy { controllers, mount: place.mount.clone(), group });
                Ok(())
            }
            // A whole host's root may as well be in a container that has its groups read-only.
            Err(errno) if is_refusal(errno) || self.rootless => {
                self.missing.get_or_insert(format!("{}: {}", group.display(), errno.desc()));
                Ok(())
            }
            Err(errno) => {
                let _ = self.remove();
                Err(Failure::new(step(), errno))
            }
        }
    }

    /// The hierarchies in which the container has a group, for [`shim::container::Context`].
    pub fn hierarchies(&self) -> &[Hierarchy] {
        &self.hierarchies
    }

    fn unified(&self) -> Option<&Path> {
        self.hierarchies.iter().find(|one| one.controllers.is_empty()).map(|one| one.group.as_path())
    }

    fn legacy(&self, controller: &str) -> Option<&Path> {
        let has = |one: &&Hierarchy| one.controllers.iter().any(|name| name == controller);
        self.hierarchies.iter().find(has).map(|one| one.group.as_path())
    }

    /// The group that has this controller, and whether it is of version 2.
    fn of(&self, controller: &str) -> Result<(&Path, bool), Failure> {
        if let Some(group) = self.legacy(controller) {
            return Ok((group, false));
        }
        if let Some(group) = self.unified()
            && find::offers(group, controller)
        {
            return Ok((group, true));
        }
        let why = self.missing.as_deref().unwrap_or("no hierarchy has the controller here");
        Err(Failure::check(format!("limit {controller}: {why}")).remedy(
            "leave the limit out, or have the controller delegated to the user (systemd: Delegate=yes), or run as root",
        ))
    }

    /// Puts a process into every group. Its threads and what it forks from now on come along.
    pub fn enter(&mut self, pid: Pid, warnings: &mut Vec<String>) -> Result<(), Failure> {
        let mut left = Vec::new();
        for hierarchy in std::mem::take(&mut self.hierarchies) {
            let file = hierarchy.group.join("cgroup.procs");
            match write(&file, &pid.to_string()) {
                Ok(()) => left.push(hierarchy),
                // Delegated is a group only if the caller is within it as well.
                Err(errno) if self.rootless && is_refusal(errno) => {
                    let why = format!("{}: {}", file.display(), errno.desc());
                    warnings.push(format!("the container is not in its control group: {why}"));
                    let _ = fs::remove_dir(&hierarchy.group);
                    self.missing.get_or_insert(why);
                }
                Err(errno) => return Err(Failure::new(format!("enter the control group {}", file.display()), errno)),
            }
        }
        self.hierarchies = left;
        Ok(())
    }

    /// Sets limits, at first or by `update`. A limit that cannot hold is an error.
    pub fn limit(&self, resources: &LinuxResources, warnings: &mut Vec<String>) -> Result<(), Failure> {
        if let Some(memory) = resources.memory().as_ref().filter(|memory| unified::wants_memory(memory)) {
            match self.of("memory")? {
                (group, true) => unified::memory(group, memory)?,
                (group, false) => legacy::memory(group, memory)?,
            }
        }
        if let Some(cpu) = resources.cpu() {
            if unified::wants_cpu(cpu) {
                match self.of("cpu") {
                    Ok((group, true)) => unified::cpu(group, cpu)?,
                    Ok((group, false)) => legacy::cpu(group, cpu)?,
                    // containerd gives everybody the usual weight, which promises nothing.
                    Err(failure) if !unified::caps_cpu(cpu) => warnings.push(failure.to_string()),
                    Err(failure) => return Err(failure),
                }
            }
            let sets = [("cpuset.cpus", cpu.cpus()), ("cpuset.mems", cpu.mems())];
            for (file, value) in sets {
                if let Some(value) = value.as_deref().filter(|value| !value.is_empty()) {
                    write_step(&self.of("cpuset")?.0.join(file), value)?;
                }
            }
        }
        if let Some(limit) = resources.pids().map(|pids| pids.limit()).filter(|limit| *limit != 0) {
            write_step(&self.of("pids")?.0.join("pids.max"), &or_max(limit))?;
        }
        if let Some(block) = resources.block_io().as_ref().filter(|block| unified::wants_block(block)) {
            match self.legacy("blkio") {
                Some(group) => legacy::block(group, block)?,
                None => unified::block(self.of("io")?.0, block)?,
            }
        }
        for limit in resources.hugepage_limits().iter().flatten() {
            let size = page_size(limit.page_size())?;
            let (group, version_2) = self.of("hugetlb")?;
            let file = if version_2 { "max" } else { "limit_in_bytes" };
            write_step(&group.join(format!("hugetlb.{size}.{file}")), &limit.limit().to_string())?;
        }
        for (device, limit) in resources.rdma().iter().flatten() {
            let mut line = device.clone();
            for (key, value) in [("hca_handle", limit.hca_handles()), ("hca_object", limit.hca_objects())] {
                if let Some(value) = value {
                    line += &format!(" {key}={value}");
                }
            }
            write_step(&self.of("rdma")?.0.join("rdma.max"), &line)?;
        }
        if let Some(network) = resources.network() {
            legacy::network(self, network)?;
        }
        for (file, value) in resources.unified().iter().flatten() {
            unified::raw(self.unified(), file, value)?;
        }
        if let Some(rules) = resources.devices().as_deref().filter(|rules| !rules.is_empty()) {
            devices::limit(self, rules, warnings)?;
        }
        Ok(())
    }

    /// Every process in the container's groups, each once.
    pub fn processes(&self) -> Vec<Pid> {
        let mut all = Vec::new();
        // One hierarchy is enough: they are in all.
        if let Some(hierarchy) = self.unified().or_else(|| self.hierarchies.first().map(|one| one.group.as_path())) {
            processes_below(hierarchy, &mut all);
        }
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Whether there is a group at all in which a process can be found or stopped.
    pub fn exist(&self) -> bool {
        !self.hierarchies.is_empty()
    }

    /// Sends a signal to every process in the groups, until none is left if it kills.
    pub fn signal_all(&self, signal: i32) -> Result<(), Failure> {
        if signal == nix::libc::SIGKILL
            && let Some(group) = self.unified()
            && write(&group.join("cgroup.kill"), "1").is_ok()
        {
            return Ok(());
        }
        let begun = Instant::now();
        loop {
            let all = self.processes();
            for pid in &all {
                match shim::sys::kill(pid.as_raw(), signal) {
                    Ok(()) | Err(Errno::ESRCH) => {}
                    Err(errno) => return Err(Failure::new(format!("send signal {signal} to process {pid}"), errno)),
                }
            }
            // One that forks meanwhile is found the next time.
            if signal != nix::libc::SIGKILL || all.is_empty() || begun.elapsed() > Duration::from_secs(5) {
                return Ok(());
            }
            sleep(Duration::from_millis(5));
        }
    }

    /// Removes the groups. The last process of a group may need a moment to be gone.
    pub fn remove(&self) -> Result<(), Failure> {
        for hierarchy in &self.hierarchies {
            remove_tree(&hierarchy.group, hierarchy.mount.as_path())
                .step(|| format!("remove the control group {}", hierarchy.group.display()))?;
        }
        Ok(())
    }
}

/// Makes the group with its parents; whether it was there already. Of version 2 each parent gives what controllers it can.
fn make_all(place: &find::Place, group: &Path) -> Result<bool, Errno> {
    let below = group.strip_prefix(&place.mount).map_err(|_| Errno::EINVAL)?;
    let version_2 = place.controllers.is_empty();
    let cpusets = place.controllers.iter().any(|controller| controller == "cpuset");
    let mut here = place.mount.clone();
    let mut existed = true;
    for name in below {
        if version_2 {
            find::hand_down(&here);
        }
        here.push(name);
        existed = match fs::create_dir(&here) {
            Ok(()) => false,
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => true,
            Err(error) => return Err(errno(&error)),
        };
        if cpusets {
            legacy::inherit_cpuset(&here)?;
        }
    }
    Ok(existed)
}

fn has_processes(group: &Path) -> bool {
    read(&group.join("cgroup.procs")).is_ok_and(|text| !text.is_empty())
}

fn children(group: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(group).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()).collect()
}

fn processes_below(group: &Path, all: &mut Vec<Pid>) {
    let text = read(&group.join("cgroup.procs")).unwrap_or_default();
    all.extend(text.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid > 0).map(Pid::from_raw));
    for child in children(group) {
        processes_below(&child, all);
    }
}

fn remove_tree(group: &Path, mount: &Path) -> Result<(), Errno> {
    // A container's group is never the hierarchy itself.
    if group == mount || !group.starts_with(mount) {
        return Ok(());
    }
    for child in children(group) {
        remove_tree(&child, mount)?;
    }
    let begun = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        match fs::remove_dir(group) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) if errno(&error) == Errno::EBUSY && begun.elapsed() < Duration::from_secs(3) => {
                sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(100));
            }
            Err(error) => return Err(errno(&error)),
        }
    }
}

/// A limit as the kernel writes it: everything below zero is none.
fn or_max(limit: i64) -> String {
    if limit < 0 { "max".to_owned() } else { limit.to_string() }
}

/// The size of a huge page as file names have it: a number with KB, MB or GB and nothing else.
fn page_size(size: &str) -> Result<&str, Failure> {
    let number = size.trim_end_matches(['K', 'M', 'G', 'B']);
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) || number == size {
        return Err(Failure::check(format!("limit huge pages of {size}")).remedy("a page size is like 2MB"));
    }
    Ok(size)
}
