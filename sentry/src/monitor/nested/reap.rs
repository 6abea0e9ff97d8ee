//! The end of everything that a guest without a pid namespace has started.
//!
//! We are its subreaper (PR_SET_CHILD_SUBREAPER(2const)): whoever loses its parent becomes our child. So there is always
//! somebody to kill until nobody is left, however often they fork; the limit on processes bounds how many that are.

use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::getpid;

/// How long that may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Kills all our children and theirs; false if some were left when time was up.
pub fn end_all() -> bool {
    let began = Instant::now();
    loop {
        for child in children() {
            let _ = shim::sys::kill(child, libc::SIGKILL);
        }
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG | WaitPidFlag::__WALL)) {
                Err(Errno::ECHILD) => return true,
                Err(Errno::EINTR) => {}
                Ok(status) if status.pid().is_some() => {}
                Ok(_) | Err(_) => break,
            }
        }
        if began.elapsed() > PATIENCE {
            return false;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Our children, by their own account in /proc: there is no call that lists them.
fn children() -> Vec<i32> {
    let own = getpid().as_raw();
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let is_ours = |pid: &i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        parent(&stat) == Some(own)
    };
    pids.filter(is_ours).collect()
}

/// The parent's id in the text of `/proc/PID/stat`; the name in parentheses may hold anything.
fn parent(stat: &str) -> Option<i32> {
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_name_has_no_other_parent() {
        assert_eq!(parent("7 (a) R 1 (b) 9) S 12 7 7 0"), Some(12));
        assert_eq!(parent("7 (a"), None);
    }

    #[test]
    fn we_are_a_child_of_our_parent() {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
        assert_eq!(parent(&stat), Some(nix::unistd::getppid().as_raw()));
    }
}
