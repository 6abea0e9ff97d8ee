//! `/proc/PID/status` under `--fake-root`: whom a process pretends to be, where the kernel tells who it is.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::libc;
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};
use shim::sys;
use syscalls::credentials::{Credentials, Ids};
use syscalls::guest::Guest;

use super::{Task, whole};
use crate::platform::Platform;

impl<P: Platform> Task<'_, P> {
    /// What stands for `object`, if it is such a file.
    pub(super) fn status_file(&self, object: &OwnedFd) -> Option<Result<OwnedFd, Errno>> {
        if !self.shared.rules.fake_root || fstatfs(object).ok()?.filesystem_type() != PROC_SUPER_MAGIC {
            return None;
        }
        let path = self.path_of(object).ok().filter(|path| path.file_name().is_some_and(|name| name == "status"))?;
        // Of a process: the file of a thread lies beside its limits too.
        let limits = self.text_beside(&path, "limits")?;
        let told = (|| {
            let text = whole(&self.reopen(object, libc::O_RDONLY)?)?;
            let credentials = self.shared.pretended.mapped(self.of_limits(&limits)?.credentials);
            crate::raw::sealed_file(rewritten(&text, &credentials).as_bytes())
        })();
        Some(told)
    }

    /// Another file of the same directory of procfs.
    fn text_beside(&self, path: &Path, name: &str) -> Option<String> {
        let beside = path.with_file_name(name);
        let relative = std::ffi::CString::new(beside.strip_prefix("/").ok()?.as_os_str().as_encoded_bytes()).ok()?;
        let view = self.shared.roots.view().ok()?;
        let flags = libc::O_RDONLY | libc::O_CLOEXEC;
        let file = sys::open_at(Some(view.as_fd()), &relative, flags, 0, libc::RESOLVE_NO_SYMLINKS).ok()?;
        (fstatfs(&file).ok()?.filesystem_type() == PROC_SUPER_MAGIC).then(|| whole(&file).ok())?
    }
}

/// The lines about ids and capabilities, told anew.
fn rewritten(text: &str, credentials: &Credentials) -> String {
    let ids = |ids: &Ids| format!("{}\t{}\t{}\t{}", ids.real, ids.effective, ids.saved, ids.file);
    let set = |set: u64| format!("{set:016x}");
    let line = |line: &str| {
        let key = line.split(':').next().unwrap_or_default();
        let value = match key {
            "Uid" => ids(&credentials.user),
            "Gid" => ids(&credentials.group),
            "Groups" => credentials.groups.iter().map(|group| format!("{group} ")).collect(),
            "CapInh" => set(credentials.inheritable),
            "CapPrm" => set(credentials.permitted),
            "CapEff" => set(credentials.effective),
            "CapBnd" => set(credentials.bounding),
            "CapAmb" => set(credentials.ambient),
            _ => return format!("{line}\n"),
        };
        format!("{key}:\t{value}\n")
    };
    text.lines().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_capabilities_are_those_that_are_pretended() {
        let text = "Name:\tUid: 7\nState:\tS (sleeping)\nUid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\nFDSize:\t64\n\
                    Groups:\t0 \nCapInh:\t0000000000000000\nCapEff:\t0000000000040000\nThreads:\t1\n";
        let user = Ids { real: 33, effective: 34, saved: 35, file: 36 };
        let credentials = Credentials { user, groups: vec![4, 5], effective: 0xff, ..Credentials::default() };
        let expected = "Name:\tUid: 7\nState:\tS (sleeping)\nUid:\t33\t34\t35\t36\nGid:\t0\t0\t0\t0\nFDSize:\t64\n\
                        Groups:\t4 5 \nCapInh:\t0000000000000000\nCapEff:\t00000000000000ff\nThreads:\t1\n";
        assert_eq!(rewritten(text, &credentials), expected);
    }
}
