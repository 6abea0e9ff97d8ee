//! Limits that no single process has: the sum of memory, processes, processor time.
//!
//! Without a cgroup nothing in the kernel adds these up for an ordinary user, so the supervisor looks at all processes of
//! the sandbox from time to time. That is weaker than a cgroup (memory can overshoot between two looks, and memory that no
//! process maps is not seen) and reported as `watch`.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::dir::Dir;
use nix::fcntl::OFlag;
use nix::libc;
use nix::sys::stat::Mode;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use shim::message::{ToMonitor, send};
use shim::sys;

/// What to watch over; `None` is not watched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Watched {
    /// Bytes, all processes together.
    pub memory: Option<u64>,
    /// Processes and threads: only noticed, the kernel enforces it.
    pub pids: Option<u64>,
    /// Processor time of all processes together.
    pub cpu_time: Option<Duration>,
}

impl Watched {
    /// How long to wait between two looks.
    pub fn interval(&self) -> Option<Duration> {
        if self.memory.is_some() {
            // A process can touch about a gigabyte in a second.
            Some(Duration::from_millis(20))
        } else if self.cpu_time.is_some() {
            Some(Duration::from_millis(50))
        } else {
            self.pids.map(|_| Duration::from_millis(100))
        }
    }
}

/// One look at all processes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Sum {
    memory: u64,
    threads: u64,
    ticks: u64,
}

/// The numbers of `/proc/PID/stat` that are added up, see proc_pid_stat(5): the name in parentheses may hold anything.
fn parse_stat(stat: &str, page: u64) -> Option<Sum> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // `fields[0]` is field 3 of the man page.
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(Sum {
        ticks: field(14)? + field(15)? + field(16)? + field(17)?,
        threads: field(20)?,
        memory: field(24)?.saturating_mul(page),
    })
}

/// Looks and tells.
#[derive(Debug)]
pub struct Watch {
    proc: OwnedFd,
    watched: Watched,
    /// The process that mounts, which is no process of the guest's.
    mounter: Option<String>,
    /// Whether pid 1 is the supervisor.
    supervised: bool,
    ticks_per_second: u64,
    page: u64,
    peak: Sum,
    told: Vec<&'static str>,
}

impl Watch {
    /// Watches the processes shown by `proc`, but for pid 1, which is the supervisor itself, and its children: init and
    /// `mounter`.
    pub fn new(proc: OwnedFd, watched: Watched, mounter: Option<Pid>) -> Self {
        let configured = |name, default| match nix::unistd::sysconf(name) {
            Ok(Some(value)) => u64::try_from(value).unwrap_or(default),
            _ => default,
        };
        Self {
            proc,
            watched,
            mounter: mounter.map(|pid| pid.to_string()),
            supervised: true,
            ticks_per_second: configured(nix::unistd::SysconfVar::CLK_TCK, 100).max(1),
            page: configured(nix::unistd::SysconfVar::PAGE_SIZE, 4096),
            peak: Sum::default(),
            told: Vec::new(),
        }
    }

    fn read(&self, pid: &str, file: &str) -> Option<String> {
        let path = CString::new(format!("{pid}/{file}")).ok()?;
        let file = sys::open_at(Some(self.proc.as_fd()), &path, libc::O_RDONLY | libc::O_CLOEXEC, 0, 0).ok()?;
        let mut text = vec![0; 4096];
        let length = nix::unistd::read(&file, &mut text).ok()?;
        text.truncate(length);
        Some(String::from_utf8_lossy(&text).into_owned())
    }

    fn pids(&self) -> Vec<String> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let Ok(mut directory) = Dir::openat(&self.proc, ".", flags, Mode::empty()) else { return Vec::new() };
        let names = directory.iter().flatten().filter_map(|entry| entry.file_name().to_str().ok().map(str::to_owned));
        let is_process = |name: &String| name.bytes().all(|byte| byte.is_ascii_digit());
        names
            .filter(|name| is_process(name) && (name != "1" || !self.supervised) && Some(name) != self.mounter.as_ref())
            .collect()
    }

    /// Adds up what all processes use. Of init nothing but its processor time and its being there counts.
    fn sum(&self, pids: &[String], init: i32) -> Sum {
        let (mut sum, init) = (Sum::default(), init.to_string());
        for pid in pids {
            let Some(one) = self.read(pid, "stat").and_then(|stat| parse_stat(&stat, self.page)) else { continue };
            sum.ticks += one.ticks;
            sum.threads += one.threads;
            if *pid != init {
                sum.memory += one.memory;
            }
        }
        sum
    }

    /// Looks once; tells the monitor of limits that were reached.
    pub fn look(&mut self, init: i32, monitor: BorrowedFd) {
        let pids = self.pids();
        let mut sum = self.sum(&pids, init);
        // Resident sets count shared pages once for each process: only when that is too much is the exact sum worth its cost.
        if self.watched.memory.is_some_and(|limit| sum.memory > limit) {
            sum.memory = pids.iter().filter_map(|pid| self.proportional(pid)).sum();
        }
        self.peak.memory = self.peak.memory.max(sum.memory);
        // Init is one of the processes that the kernel counts, but not one of the guest's.
        self.peak.threads = self.peak.threads.max(sum.threads.saturating_sub(1));
        let used = Duration::from_millis(sum.ticks.saturating_mul(1000) / self.ticks_per_second);
        self.tell(self.watched.memory.is_some_and(|limit| sum.memory > limit), "memory", true, monitor);
        self.tell(self.watched.cpu_time.is_some_and(|limit| used >= limit), "cpu-time", true, monitor);
        self.tell(self.watched.pids.is_some_and(|limit| sum.threads > limit), "pids", false, monitor);
    }

    /// The proportional set size of one process, in bytes.
    fn proportional(&self, pid: &str) -> Option<u64> {
        let rollup = self.read(pid, "smaps_rollup")?;
        let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
        line.split_ascii_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
    }

    fn tell(&mut self, reached: bool, name: &'static str, fatal: bool, monitor: BorrowedFd) {
        if reached && !self.told.contains(&name) {
            self.told.push(name);
            let _ = send(monitor, &ToMonitor::Limit { name: name.to_owned(), fatal }, None);
        }
    }

    /// The last word: the highest sums that were seen.
    pub fn finish(&self, monitor: BorrowedFd) {
        if self.peak.threads > 0 {
            let _ = send(monitor, &ToMonitor::Peaks { memory: self.peak.memory, pids: self.peak.threads }, None);
        }
    }
}

/// What the sandbox uses, for guests that ask: looked up at most once in a while, whoever asks how often.
#[derive(Debug)]
pub struct Usage {
    watch: Watch,
    init: i32,
    last: Mutex<Option<(Instant, Sum)>>,
}

/// How old an answer may be.
const FRESH: Duration = Duration::from_millis(50);

impl Usage {
    /// Of the processes shown by `proc`, as [`Watch`].
    pub fn new(proc: OwnedFd, init: i32, mounter: Option<Pid>) -> Self {
        Self { watch: Watch::new(proc, Watched::default(), mounter), init, last: Mutex::default() }
    }

    /// Of a container, all of whose processes are shown by `proc`, the first one as well.
    pub fn of_container(proc: OwnedFd) -> Self {
        let watch = Watch { supervised: false, ..Watch::new(proc, Watched::default(), None) };
        Self { watch, init: 0, last: Mutex::default() }
    }

    /// Bytes of memory, and threads.
    pub fn now(&self) -> (u64, u64) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let sum = match *last {
            Some((at, sum)) if at.elapsed() < FRESH => sum,
            _ => {
                let sum = self.watch.sum(&self.watch.pids(), self.init);
                *last = Some((Instant::now(), sum));
                sum
            }
        };
        (sum.memory, sum.threads)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_name_does_not_shift_the_fields() {
        let stat = "7 (a) R 1 (b) 9) S 1 7 7 0 -1 4194560 1 0 0 0 5 6 7 8 20 0 3 0 100 4096 25 0 0";
        assert_eq!(parse_stat(stat, 4096), Some(Sum { memory: 25 * 4096, threads: 3, ticks: 26 }));
        assert_eq!(parse_stat("7 (a", 4096), None);
    }
}
