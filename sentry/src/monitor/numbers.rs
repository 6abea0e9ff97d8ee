//! How large the sandbox is: what programs read before they decide on threads, heaps and caches.
//!
//! The kernel's own files speak of the whole machine. Where a limit makes the sandbox smaller, files that were written at
//! start lie over them, in the way of lxcfs, and cost nothing per call. They tell sizes, not use: what changes while the
//! program runs (`MemFree`, times of processors) stands in them as it was at the beginning. sysinfo(2) tells what is free,
//! and so do the files themselves with `--proc-files live`, where the sentry answers each open.
//!
//! Processors keep their numbers. A program that indexes a table by the number of the processor it runs on must not find
//! that number outside of what it was told, and so the list of *possible* processors stays the machine's.

use std::ffi::CString;
use std::path::Path;

use shim::failure::Failure;
use shim::plan::View;
use syscalls::rules::KernelName;

use super::view::{inside, text};
use crate::policy::{Policy, ProcFiles};
use crate::supervise::live::Live;

const CPU: &str = "/sys/devices/system/cpu";

/// The bytes of memory that the sandbox has, if that is less than the machine has.
pub fn memory(policy: &Policy) -> Option<u64> {
    let machine = nix::sys::sysinfo::sysinfo().map_or(u64::MAX, |info| info.ram_total());
    policy.limits.memory.filter(|limit| *limit < machine)
}

/// What is written anew for each open, if that was asked for.
pub fn live(policy: &Policy, cpus: Option<&[usize]>) -> Live {
    if policy.proc != ProcFiles::Live || policy.bare_proc {
        return Live::default();
    }
    let machine = || std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    Live { memory: memory(policy).map(|limit| (machine(), limit)), cpus: cpus.map(<[usize]>::to_vec) }
}

/// Adds to `view` the files that tell of limits: of memory, and of the processors that the guest is pinned to.
pub fn add(view: &mut View, policy: &Policy, cpus: Option<&[usize]>) -> Result<(), Failure> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let mut over = |path: &str, content: String| {
        // What this kernel does not have, programs do without.
        if !content.is_empty() {
            view.over_kernel.push((whole(path)?, content.into_bytes()));
        }
        Ok(())
    };
    if let Some(kernel) = &policy.kernel {
        let version = |file: &str| read(&format!("/proc/sys/kernel/{file}")).trim_end().to_owned();
        let host = KernelName { release: version("osrelease"), version: Some(version("version")) };
        over("proc/version", banner(&read("/proc/version"), &host, kernel))?;
        over("proc/sys/kernel/osrelease", format!("{}\n", kernel.release))?;
        if let Some(version) = &kernel.version {
            over("proc/sys/kernel/version", format!("{version}\n"))?;
        }
    }
    if let Some(limit) = memory(policy) {
        over("proc/meminfo", meminfo(&read("/proc/meminfo"), limit, 0))?;
        over("proc/swaps", "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n".to_owned())?;
    }
    if let Some(cpus) = cpus {
        over("proc/cpuinfo", cpuinfo(&read("/proc/cpuinfo"), cpus))?;
        over("proc/stat", stat(&read("/proc/stat"), cpus))?;
        // The view has no /sys of its own; in one that was granted or brought the lists are covered.
        let names = |place: &shim::plan::Place| {
            place.inside.as_bytes() == b"sys" || place.inside.as_bytes().starts_with(b"sys/")
        };
        if policy.root.is_none() && !view.places.iter().any(names) {
            return processors(view, cpus);
        }
        for name in ["online", "present"] {
            over(&format!("{CPU}/{name}"), format!("{}\n", list(cpus)))?;
        }
    }
    Ok(())
}

fn whole(path: &str) -> Result<CString, Failure> {
    inside(Path::new(path))
}

/// The part of `/sys` by which programs count processors.
fn processors(view: &mut View, cpus: &[usize]) -> Result<(), Failure> {
    let mut add = |name: &str, content: String| text(view, Path::new(&format!("{CPU}/{name}")), content.into_bytes());
    let online = format!("{}\n", list(cpus));
    add("online", online.clone())?;
    add("present", online)?;
    add("offline", "\n".to_owned())?;
    for name in ["possible", "kernel_max"] {
        if let Ok(host) = std::fs::read_to_string(format!("{CPU}/{name}")) {
            add(name, host)?;
        }
    }
    for cpu in cpus {
        // Also where the machine does not tell: the directory itself is what is counted.
        for name in ["core_id", "physical_package_id"] {
            let name = format!("cpu{cpu}/topology/{name}");
            add(&name, std::fs::read_to_string(format!("{CPU}/{name}")).unwrap_or_else(|_| "0\n".to_owned()))?;
        }
        for name in ["thread_siblings", "core_siblings"] {
            let name = format!("cpu{cpu}/topology/{name}");
            let host = std::fs::read_to_string(format!("{CPU}/{name}_list")).unwrap_or_else(|_| cpu.to_string());
            let siblings = within(&host, cpus);
            add(&name, format!("{}\n", mask(&siblings)))?;
            add(&format!("{name}_list"), format!("{}\n", list(&siblings)))?;
        }
    }
    Ok(())
}

/// Numbers as the kernel lists them: `0-2,5`.
fn list(numbers: &[usize]) -> String {
    let mut sorted = numbers.to_vec();
    sorted.sort_unstable();
    let ranges = sorted.chunk_by(|one, next| one + 1 == *next);
    let shown = ranges.map(|range| match range {
        [first, .., last] => format!("{first}-{last}"),
        _ => range.iter().map(ToString::to_string).collect(),
    });
    shown.collect::<Vec<_>>().join(",")
}

/// Those of `cpus` that are in a list of the kernel's.
fn within(listed: &str, cpus: &[usize]) -> Vec<usize> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse::<usize>().ok()?..=last.parse().ok()?)
    };
    let ranges: Vec<_> = listed.trim().split(',').filter_map(range).collect();
    cpus.iter().copied().filter(|cpu| ranges.iter().any(|range| range.contains(cpu))).collect()
}

/// Numbers as the kernel's bitmaps: 32 bits a word in hexadecimal, the highest first.
fn mask(numbers: &[usize]) -> String {
    let words = numbers.iter().max().map_or(1, |highest| highest / 32 + 1);
    let word = |word: usize| {
        let bits =
            numbers.iter().filter(|number| **number / 32 == word).fold(0_u32, |bits, number| bits | 1 << (number % 32));
        format!("{bits:08x}")
    };
    (0..words).rev().map(word).collect::<Vec<_>>().join(",")
}

/// `/proc/version` of the `host` with another release and version in it; who built it with what stays.
fn banner(text: &str, host: &KernelName, kernel: &KernelName) -> String {
    let text = text.replacen(&host.release, &kernel.release, 1);
    match (&host.version, &kernel.version) {
        (Some(old), Some(new)) if !old.is_empty() => text.replacen(old.as_str(), new, 1),
        _ => text,
    }
}

/// `/proc/meminfo` of a machine with `limit` bytes, of which processes use `used`, and no swap.
pub fn meminfo(host: &str, limit: u64, used: u64) -> String {
    let line = |line: &str| {
        let (key, value) = line.split_once(':')?;
        let kibibytes = match key {
            "MemTotal" | "CommitLimit" => limit / 1024,
            "MemFree" | "MemAvailable" => limit.saturating_sub(used) / 1024,
            // Facts about the processor and the kernel.
            "Hugepagesize" | "VmallocTotal" => return Some(format!("{line}\n")),
            _ => 0,
        };
        let unit = if value.ends_with(" kB") { " kB" } else { "" };
        Some(format!("{:<16}{kibibytes:>8}{unit}\n", format!("{key}:")))
    };
    host.lines().filter_map(line).collect()
}

/// `/proc/cpuinfo` without the processors that are not among `cpus`.
fn cpuinfo(host: &str, cpus: &[usize]) -> String {
    let value = |line: &str, wanted: &str| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == wanted).then(|| value.trim().parse::<usize>().ok()).flatten()
    };
    let kept = |block: &&str| {
        let number = block.lines().find_map(|line| value(line, "processor"));
        number.is_none_or(|number| cpus.contains(&number))
    };
    let line = |line: &str| {
        // How many there are on the chip: psutil and others add these up.
        for key in ["siblings", "cpu cores"] {
            if value(line, key).is_some_and(|count| count > cpus.len()) {
                let (before, _) = line.split_once(':').unwrap_or((line, ""));
                return format!("{before}: {}\n", cpus.len());
            }
        }
        format!("{line}\n")
    };
    let blocks = host.split("\n\n").filter(|block| !block.trim().is_empty()).filter(kept);
    blocks.map(|block| block.lines().map(line).chain(["\n".to_owned()]).collect::<String>()).collect()
}

/// `/proc/stat` with the times of `cpus` only, and their sum.
pub fn stat(host: &str, cpus: &[usize]) -> String {
    let mut sum: Vec<u64> = Vec::new();
    let mut rest = String::new();
    for line in host.lines() {
        let mut fields = line.split_ascii_whitespace();
        let cpu = fields.next().and_then(|key| key.strip_prefix("cpu"));
        match cpu.map(str::parse::<usize>) {
            Some(Ok(number)) if cpus.contains(&number) => {
                let times: Vec<u64> = fields.filter_map(|time| time.parse().ok()).collect();
                sum.resize(sum.len().max(times.len()), 0);
                sum.iter_mut().zip(times).for_each(|(sum, time)| *sum += time);
            }
            // Another one, or the line that adds up all of them.
            Some(_) => continue,
            None => {}
        }
        rest.push_str(line);
        rest.push('\n');
    }
    if sum.is_empty() {
        return String::new();
    }
    let sum: Vec<String> = sum.iter().map(ToString::to_string).collect();
    format!("cpu  {}\n{rest}", sum.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_listed_as_the_kernel_does() {
        assert_eq!(list(&[5, 0, 2, 1]), "0-2,5");
        assert_eq!(list(&[3]), "3");
        assert_eq!(list(&[]), "");
        assert_eq!(mask(&[0, 1, 33]), "00000002,00000003");
        assert_eq!(mask(&[3]), "00000008");
        assert_eq!(within("0-1,4\n", &[4, 1, 2]), [4, 1]);
    }

    #[test]
    fn only_the_sandboxs_processors_are_told_of() {
        let host = "processor\t: 0\nsiblings\t: 2\n\nprocessor\t: 1\nsiblings\t: 2\ncpu cores\t: 1\n\n";
        assert_eq!(cpuinfo(host, &[1]), "processor\t: 1\nsiblings\t: 1\ncpu cores\t: 1\n\n");
        assert_eq!(cpuinfo(host, &[0, 1]), host);

        let host = "cpu  5 5 5\ncpu0 1 2 3\ncpu1 4 3 2\nintr 9 9\nbtime 7\n";
        assert_eq!(stat(host, &[1]), "cpu  4 3 2\ncpu1 4 3 2\nintr 9 9\nbtime 7\n");
        assert_eq!(stat(host, &[0, 1]), host);
        assert_eq!(stat("", &[0]), "");
    }

    #[test]
    fn memory_is_the_limit_and_empty() {
        let host = "MemTotal:       24683612 kB\nMemAvailable:   23000000 kB\nCached:          1000000 kB\n\
                    SwapTotal:       8388604 kB\nHugePages_Total:       4\nHugepagesize:       2048 kB\n";
        let expected = "MemTotal:         524288 kB\nMemAvailable:     524288 kB\nCached:                0 kB\n\
                        SwapTotal:             0 kB\nHugePages_Total:       0\nHugepagesize:       2048 kB\n";
        assert_eq!(meminfo(host, 512 << 20, 0), expected);
        let used = meminfo(host, 512 << 20, 1 << 20);
        assert_eq!(used, expected.replacen("MemAvailable:     524288", "MemAvailable:     523264", 1));
        assert!(meminfo(host, 512 << 20, u64::MAX).contains("MemAvailable:          0 kB"));
    }

    #[test]
    fn the_banner_keeps_what_was_not_said() {
        let host = KernelName { release: "6.8".into(), version: Some("#1 SMP".into()) };
        let text = "Linux version 6.8 (me@here) (gcc 12) #1 SMP\n";
        let kernel = KernelName { release: "5.4.0".into(), version: None };
        assert_eq!(banner(text, &host, &kernel), "Linux version 5.4.0 (me@here) (gcc 12) #1 SMP\n");
        let kernel = KernelName { version: Some("#9".into()), ..kernel };
        assert_eq!(banner(text, &host, &kernel), "Linux version 5.4.0 (me@here) (gcc 12) #9\n");
    }
}
