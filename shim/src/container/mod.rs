//! What an OCI container's own processes do before its program runs: namespaces, mounts, devices, rights.
//!
//! [`prepare`] turns the mount namespace that it is called in into the container's: `/` becomes its image with the mounts,
//! devices and covers of the configuration. [`become_process`] turns the process that calls it into the one that the
//! configuration describes. Both are called in the container's namespaces by a process with all rights over them; an image,
//! its symlinks and its devices are a stranger's, and nothing is ever done through a name that one of them can redirect.

mod capability;
mod console;
mod copy_up;
mod credentials;
mod devices;
pub mod exec;
mod groups;
pub mod hooks;
mod hosts;
mod idmap;
mod label;
pub mod launch;
mod limits;
mod masks;
mod mount;
mod options;
pub mod personality;
mod pivot;
mod proc;
pub mod process;
pub mod program;
mod root;
mod schedule;
pub mod seccomp;
pub mod sys;
mod sysctl;
mod terminal;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxNamespaceType, Spec};
use serde::{Deserialize, Serialize};

use crate::failure::{Failure, Step};

pub use capability::{name_of, number_of, tolerate};
pub use console::Console;
pub use credentials::{ProcessContext, become_process};
pub use idmap::sources;
pub use options::known as known_options;
pub use proc::Proc;
pub use sysctl::check as check_sysctl;

/// A hierarchy of control groups and the container's place in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hierarchy {
    /// The controllers of a version 1 hierarchy (`cpu`, `cpuacct`; `name=systemd`); none for version 2.
    pub controllers: Vec<String>,
    /// Where the caller has it mounted.
    pub mount: PathBuf,
    /// The directory of the container's group, below `mount`.
    pub group: PathBuf,
}

/// What the configuration does not say.
#[derive(Debug, Default)]
pub struct Context<'a> {
    /// The image, as an absolute path of the caller.
    pub rootfs: PathBuf,
    /// `--no-pivot`: move the root instead, where the caller's is a ramfs.
    pub no_pivot: bool,
    /// Make a terminal in the container's devpts.
    pub terminal: bool,
    /// The container's control groups.
    pub groups: &'a [Hierarchy],
    /// Mounts that [`sources`] made outside, by their index in the configuration.
    pub sources: Vec<(usize, OwnedFd)>,
}

/// What [`prepare`] leaves to its caller. Every descriptor is closed on exec.
#[derive(Debug)]
pub struct Prepared {
    /// The caller's procfs, for [`become_process`]; to be dropped before the program runs.
    pub proc: Proc,
    /// The container's terminal.
    pub console: Option<Console>,
    /// What could not be had and was done without.
    pub warnings: Vec<String>,
}

/// Whether the configuration gives the container this namespace, new or by path.
pub fn has_namespace(spec: &Spec, kind: LinuxNamespaceType) -> bool {
    let namespaces = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
    namespaces.is_some_and(|namespaces| namespaces.iter().any(|namespace| namespace.typ() == kind))
}

/// Makes the container's file tree and its names, in its new namespaces. `before_pivot` runs when all mounts are made and the
/// caller's tree is still there.
pub fn prepare(
    spec: &Spec,
    bundle: &Path,
    context: &Context,
    before_pivot: &mut dyn FnMut() -> Result<(), Failure>,
) -> Result<Prepared, Failure> {
    if !has_namespace(spec, LinuxNamespaceType::Mount) {
        return Err(Failure::check("make a container without a mount namespace")
            .remedy("add {\"type\": \"mount\"} to linux.namespaces"));
    }
    let proc = Proc::open()?;
    let linux = spec.linux().as_ref();
    let wanted = pivot::Wanted::parse(linux.and_then(|linux| linux.rootfs_propagation().as_deref()))?;
    let root = pivot::begin(&context.rootfs, wanted)?;

    let mut warnings = Vec::new();
    let mut mounts = mount::Mounts {
        root: &root,
        bundle,
        context,
        own_groups: has_namespace(spec, LinuxNamespaceType::Cgroup),
        warnings: &mut warnings,
    };
    let configured = spec.mounts().as_deref().unwrap_or_default();
    for (index, mount) in configured.iter().enumerate() {
        mounts.make(index, mount)?;
    }
    if devices::are_ours(spec) {
        devices::make(&root, linux.and_then(|linux| linux.devices().as_deref()).unwrap_or_default())?;
        devices::link(&root)?;
    }
    make_workdir(spec, &root);
    let console = if context.terminal { Some(console::make(&root)?) } else { None };
    names(spec)?;
    sysctl::apply(spec, &proc)?;

    before_pivot()?;
    pivot::enter(&root, context.no_pivot)?;
    hosts::keep(&root, spec, &proc)?;
    if let Some(linux) = linux {
        for path in linux.readonly_paths().iter().flatten() {
            masks::freeze(&root, Path::new(path))?;
        }
        let mut masks = masks::Masks::new(&root);
        for path in linux.masked_paths().iter().flatten() {
            masks.cover(Path::new(path))?;
        }
    }
    let readonly = spec.root().as_ref().and_then(oci_spec::runtime::Root::readonly).unwrap_or(false);
    pivot::finish(&root, wanted, readonly)?;
    Ok(Prepared { proc, console, warnings })
}

/// Makes the working directory if it is missing, as other runtimes do; whether it can be entered shows later.
fn make_workdir(spec: &Spec, root: &root::Root) {
    if let Some(process) = spec.process() {
        let _ = root.target(process.cwd(), root::Kind::Directory, false);
    }
}

/// The host name and the domain name, which are the UTS namespace's.
fn names(spec: &Spec) -> Result<(), Failure> {
    let own = has_namespace(spec, LinuxNamespaceType::Uts);
    let set = |what: &str, name: &Option<String>, set: &dyn Fn(&str) -> Result<(), nix::errno::Errno>| match name {
        Some(name) if !name.is_empty() => {
            if !own {
                return Err(Failure::check(format!("set the {what} without a UTS namespace"))
                    .remedy("add {\"type\": \"uts\"} to linux.namespaces"));
            }
            set(name).step(|| format!("set the {what} to {name}"))
        }
        _ => Ok(()),
    };
    set("host name", spec.hostname(), &|name| nix::unistd::sethostname(name))?;
    set("domain name", spec.domainname(), &|name| sys::set_domain_name(name))
}
