//! Where and when: what has to be known about a machine before its numbers mean something.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use nix::unistd::{SysconfVar, sysconf};

fn read(path: impl AsRef<Path>) -> Option<String> {
    std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// Processor, kernel, governor, mitigations: as the kernel names them. What it does not tell is left out.
pub fn facts() -> Vec<(String, String)> {
    let cpuinfo = read("/proc/cpuinfo").unwrap_or_default();
    let field =
        |key: &str| cpuinfo.lines().find_map(|line| Some(line.strip_prefix(key)?.split_once(": ")?.1.to_owned()));
    let cpus = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    let memory = read("/proc/meminfo").and_then(|text| Some(text.lines().next()?.split_once(':')?.1.trim().to_owned()));
    let cpu = "/sys/devices/system/cpu";
    let mut facts: Vec<(String, String)> = [
        ("cpu", field("model name")),
        ("cpus", Some(cpus.to_string())),
        ("architecture", Some(std::env::consts::ARCH.to_owned())),
        (
            "hypervisor",
            read("/sys/hypervisor/type")
                .or(field("flags").filter(|flags| has(flags, "hypervisor")).map(|_| "yes".to_owned())),
        ),
        ("memory", memory),
        ("kernel", read("/proc/sys/kernel/osrelease")),
        ("distribution", read("/etc/os-release").and_then(|text| pretty_name(&text))),
        ("clock source", read("/sys/devices/system/clocksource/clocksource0/current_clocksource")),
        (
            "governor",
            Some(read(format!("{cpu}/cpu0/cpufreq/scaling_governor")).unwrap_or("none to be seen".to_owned())),
        ),
        ("simultaneous multithreading", read(format!("{cpu}/smt/active"))),
        ("load before the run", read("/proc/loadavg")),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name.to_owned(), value?)))
    .collect();
    let mut mitigations: Vec<(String, String)> = std::fs::read_dir(format!("{cpu}/vulnerabilities"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((format!("mitigation {}", entry.file_name().to_string_lossy()), read(entry.path())?)))
        .collect();
    mitigations.sort();
    facts.extend(mitigations);
    facts
}

fn has(words: &str, wanted: &str) -> bool {
    words.split_ascii_whitespace().any(|word| word == wanted)
}

fn pretty_name(text: &str) -> Option<String> {
    let line = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    Some(line.trim_matches('"').to_owned())
}

/// Now, as RFC 3339 says it, in UTC.
pub fn now() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}

/// Watches who else uses the machine.
#[derive(Clone, Copy, Debug)]
pub struct Watch {
    since: Instant,
    /// Busy time of all processors, and ours, where the kernel told.
    before: Option<(Duration, Duration)>,
}

impl Watch {
    /// From now on.
    pub fn begin() -> Self {
        Self { since: Instant::now(), before: busy().zip(own()) }
    }

    /// Which share of all processors' time others used since then; what a hypervisor took away counts as well.
    pub fn foreign(&self) -> Option<f64> {
        let (busy_before, own_before) = self.before?;
        let (busy, own) = (busy()?.checked_sub(busy_before)?, own()?.checked_sub(own_before)?);
        let all = self.since.elapsed().as_secs_f64() * std::thread::available_parallelism().ok()?.get() as f64;
        (all > 0.0).then(|| (busy.saturating_sub(own).as_secs_f64() / all).min(1.0))
    }
}

/// The time that all processors together have been busy.
fn busy() -> Option<Duration> {
    let stat = read("/proc/stat")?;
    let fields: Vec<u64> = stat
        .lines()
        .next()?
        .strip_prefix("cpu ")?
        .split_ascii_whitespace()
        .map_while(|field| field.parse().ok())
        .collect();
    // user nice system idle iowait irq softirq steal; what follows is in user already.
    let idle = fields.get(3..5)?.iter().sum::<u64>();
    let ticks = fields.get(..8)?.iter().sum::<u64>() - idle;
    let second = u64::try_from(sysconf(SysconfVar::CLK_TCK).ok()??).ok().filter(|second| *second > 0)?;
    Some(Duration::from_millis(ticks * 1000 / second))
}

/// The time that we, and all who were waited for, have been on a processor.
fn own() -> Option<Duration> {
    let spent = |who| {
        let usage = getrusage(who).ok()?;
        let time = |value: TimeVal| {
            Some(Duration::new(u64::try_from(value.tv_sec()).ok()?, 1000 * u32::try_from(value.tv_usec()).ok()?))
        };
        time(usage.user_time())?.checked_add(time(usage.system_time())?)
    };
    spent(UsageWho::RUSAGE_SELF)?.checked_add(spent(UsageWho::RUSAGE_CHILDREN)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_a_kernel_and_processors() {
        let facts = facts();
        let fact = |name: &str| facts.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
        assert!(fact("kernel").is_some_and(|kernel| kernel.starts_with(|first: char| first.is_ascii_digit())));
        assert!(fact("cpus").unwrap().parse::<usize>().unwrap() > 0);
        assert!(fact("governor").is_some());
    }

    #[test]
    fn the_kernel_tells_who_was_busy() {
        let (busy_before, own_before) = (busy().unwrap(), own().unwrap());
        let watch = Watch::begin();
        while own().unwrap() < own_before + Duration::from_millis(300) {}
        assert!(busy().unwrap() >= busy_before + Duration::from_millis(200));
        // How much others do meanwhile is not known here; that it is a share is.
        assert!((0.0..=1.0).contains(&watch.foreign().unwrap()));
    }

    #[test]
    fn a_distribution_has_a_name() {
        assert_eq!(pretty_name("ID=x\nPRETTY_NAME=\"Some Linux 1\"\n").as_deref(), Some("Some Linux 1"));
    }
}
