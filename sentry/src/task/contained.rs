//! What is asked of a task of a container only: whether it is root there, and who it is for the log.

use std::time::SystemTime;

use nix::errno::Errno;

use super::Task;
use crate::platform::Platform;
use crate::supervise::denials::By;

impl<P: Platform> Task<'_, P> {
    /// Whether the caller is the container's root, or has this capability in force.
    pub(super) fn is_root_or_can(&self, capability: u32) -> Result<bool, Errno> {
        is_root_or_can(&self.status()?, capability)
    }

    /// Who calls. What cannot be told any more is left out.
    pub(super) fn by(&self) -> By {
        let at = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let Ok(status) = self.status() else { return By { at, ..By::default() } };
        let number = |key| self.status_number(&status, key, 10).unwrap_or(0).cast_signed();
        let name = status.lines().find_map(|line| line.strip_prefix("Name:\t")).unwrap_or_default();
        By { ids: (number("NStgid:"), number("NSpid:")), name: name.to_owned(), at }
    }
}

fn is_root_or_can(status: &str, capability: u32) -> Result<bool, Errno> {
    let line = |key| status.lines().find_map(|line| line.strip_prefix(key)).ok_or(Errno::ESRCH);
    let effective = line("Uid:")?.split_ascii_whitespace().nth(1).ok_or(Errno::ESRCH)?;
    let capabilities = u64::from_str_radix(line("CapEff:")?.trim(), 16).map_err(|_| Errno::ESRCH)?;
    Ok(effective == "0" || capabilities & 1 << capability != 0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn root_or_the_capability_is_asked_for() {
        let status = "Name:\tUid: 0\nUid:\t0\t33\t0\t33\nCapEff:\t0000000008000000\n";
        assert!(is_root_or_can(status, 27).unwrap());
        assert!(!is_root_or_can(status, 21).unwrap(), "neither by a name nor by another id of its");
        assert!(is_root_or_can(&status.replace("33", "0"), 21).unwrap());
        assert_eq!(is_root_or_can("", 21), Err(Errno::ESRCH));
    }
}
