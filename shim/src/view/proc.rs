//! `/proc`: a fresh procfs of the sandbox's own pid namespace, with what tells of or changes the host covered.
//!
//! It is mounted by init, whose pid namespace it shows, while the host's procfs is still in this mount namespace: the
//! kernel allows a new procfs only where a fully visible one exists already (proc(5), "mount_too_revealing").

use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};

use super::place::Tree;
use crate::failure::{Failure, Step};
use crate::plan::View;
use crate::sys;

/// Writable knobs of the whole machine: shown, read-only.
const FROZEN: [&std::ffi::CStr; 5] = [c"proc/sys", c"proc/irq", c"proc/bus", c"proc/fs", c"proc/sysrq-trigger"];

/// What speaks of the host's memory, keys and hardware: covered.
const COVERED: [&std::ffi::CStr; 7] = [
    c"proc/kcore",
    c"proc/keys",
    c"proc/timer_list",
    c"proc/sched_debug",
    c"proc/latency_stats",
    c"proc/acpi",
    c"proc/scsi",
];

pub(super) fn mount(tree: &Tree, view: &View, allow_degraded: bool, lost: &mut dyn FnMut(&str)) -> Result<(), Failure> {
    let bare = view.bare_proc;
    let step = || "mount the sandbox's own /proc";
    let context = sys::fs_open(c"proc").step(step)?;
    if bare {
        sys::fs_set(context.as_fd(), c"subset", Some(c"pid")).step(step)?;
    }
    let proc = match sys::fs_mount(context.as_fd(), sys::NO_SUID | sys::NO_DEV | sys::NO_EXEC) {
        Err(Errno::EPERM) if allow_degraded => {
            lost("/proc: the host's own is partly covered, so the kernel allows no new one; the sandbox has none");
            return Ok(());
        }
        Err(Errno::EPERM) => {
            return Err(Failure::new(step(), Errno::EPERM).remedy(
                "the host's /proc is partly covered (inside a container?): start that container with \
                 --security-opt systempaths=unconfined, or do without /proc by --allow-degraded",
            ));
        }
        other => other.step(step)?,
    };
    if fstatfs(&proc).step(step)?.filesystem_type() != PROC_SUPER_MAGIC {
        return Err(Failure::check("verify that /proc is a procfs"));
    }
    tree.put(&proc, true, c"proc", "/proc")?;
    if !bare {
        for path in FROZEN {
            tree.freeze(path)?;
        }
        for path in COVERED {
            tree.cover(path)?;
        }
    }
    for (path, content) in &view.over_kernel {
        tree.lay_over(path, content)?;
    }
    Ok(())
}
