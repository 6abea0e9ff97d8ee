//! How much memory does a sandbox hold around a program that sleeps?
//!
//! The proportional set size of every process of the sandbox but the sleeping program itself. A sandbox that runs the
//! program's memory in processes of its own, as gVisor does, is weighed with it. Processes that protect themselves can be
//! weighed by root only.
//!
//! Helpers that leave the process tree are counted too: whatever was not there before the start, and whose ancestors that
//! were not there either end at the runner or at a process that adopts orphans.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;

use super::{Method, Question};

pub(super) const QUESTION: Question =
    Question::new("memory", "memory of the sandbox's own processes", "memory", 1, Method::Weigh);

/// Every process there is, and its parent.
pub fn everybody() -> HashMap<u32, u32> {
    let numbers = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = numbers.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    numbers.filter_map(|pid| Some((pid, parent(pid)?))).collect()
}

fn parent(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in parentheses and may hold anything.
    status.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse().ok()
}

fn adopts(pid: u32) -> bool {
    pid == 1 || fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim_end() == "systemd")
}

/// Those of `now` who are not in `before` and descend from `runner`, or from nobody any more.
pub fn newcomers(before: &HashSet<u32>, now: &HashMap<u32, u32>, runner: u32) -> Vec<u32> {
    newcomers_but(before, now, |old| old == runner || adopts(old))
}

fn newcomers_but(before: &HashSet<u32>, now: &HashMap<u32, u32>, ours: impl Fn(u32) -> bool) -> Vec<u32> {
    let oldest = |pid: u32| {
        let (mut at, mut steps) = (pid, 0);
        // A process that ended meanwhile leaves a gap; more steps than processes would be a ring.
        while !before.contains(&at) && steps <= now.len() {
            at = now.get(&at).copied().unwrap_or(1);
            steps += 1;
        }
        at
    };
    let mut new: Vec<u32> = now.keys().copied().filter(|pid| !before.contains(pid) && ours(oldest(*pid))).collect();
    new.sort_unstable();
    new
}

/// The words that a process was started with.
pub fn words(pid: u32) -> Vec<Vec<u8>> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect()
}

/// The proportional set size of one process in bytes. An error if it may not be read.
pub fn weigh(pid: u32) -> io::Result<f64> {
    let rollup = match fs::read_to_string(format!("/proc/{pid}/smaps_rollup")) {
        // It has ended: what it held is free.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)) => return Ok(0.0),
        rollup => rollup?,
    };
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
    let kib = line.and_then(|line| line.split_ascii_whitespace().next()?.parse::<f64>().ok());
    kib.map(|kib| kib * 1024.0).ok_or_else(|| io::Error::other("smaps_rollup has no Pss"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_left_the_tree_is_counted_and_strangers_are_not() {
        // 1 init, 10 the runner, 20 a stranger's shell; new: 11 below us, 12 below that, 30 adopted, 21 the stranger's.
        let before = HashSet::from([1, 10, 20]);
        let now = HashMap::from([(1, 0), (10, 1), (20, 1), (11, 10), (12, 11), (30, 1), (21, 20)]);
        assert_eq!(newcomers_but(&before, &now, |old| old == 10 || old == 1), [11, 12, 30]);
    }

    #[test]
    fn this_process_has_a_parent_and_a_weight() {
        let own = std::process::id();
        assert!(everybody().contains_key(&own));
        assert!(weigh(own).unwrap() > 10_000.0);
        assert!(words(own)[0].len() > 1);
        assert!(!adopts(own));
    }

    #[test]
    fn a_child_is_a_newcomer() {
        let before: HashSet<u32> = everybody().into_keys().collect();
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let new = newcomers(&before, &everybody(), std::process::id());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(new.contains(&child.id()), "{new:?}");
    }
}
