//! Which machine the numbers are from: without it they mean nothing.

use std::collections::BTreeMap;
use std::fs;

use serde::{Deserialize, Serialize};

/// What a reader has to know in order to compare.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// The processor's name.
    pub cpu: String,
    /// Processors online.
    pub cores: usize,
    /// True when a hypervisor lies below: context switches are dearer there.
    pub virtual_machine: bool,
    /// Memory in bytes.
    pub memory: u64,
    /// Name, release and architecture of the kernel.
    pub kernel: String,
    /// The governor of the first processor, where there is one.
    pub governor: Option<String>,
    /// What the kernel does about each weakness of the processor; those that do not concern it are left out.
    pub mitigations: BTreeMap<String, String>,
    /// Load average over the last minute, when the run began.
    pub load: f64,
}

impl Machine {
    /// Looks at this machine.
    pub fn here() -> Self {
        let cpuinfo = read("/proc/cpuinfo");
        let kernel = nix::sys::utsname::uname()
            .map(|name| [name.sysname(), name.release(), name.machine()].map(|part| part.to_string_lossy()).join(" "));
        Self {
            cpu: field(&cpuinfo, "model name").unwrap_or_else(|| "unknown".to_owned()),
            cores: cpuinfo.lines().filter(|line| line.starts_with("processor")).count(),
            virtual_machine: field(&cpuinfo, "flags").is_some_and(|flags| flags.split(' ').any(|f| f == "hypervisor")),
            memory: field(&read("/proc/meminfo"), "MemTotal")
                .and_then(|size| size.strip_suffix(" kB")?.parse::<u64>().ok())
                .map_or(0, |kibibytes| kibibytes * 1024),
            kernel: kernel.unwrap_or_else(|_| "unknown".to_owned()),
            governor: fs::read_to_string("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
                .ok()
                .map(|name| name.trim().to_owned()),
            mitigations: mitigations(),
            load: read("/proc/loadavg").split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(0.0),
        }
    }
}

/// A file of the kernel's, or nothing: what it would have told is then reported as unknown.
fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The value in the first line `name : value`.
fn field(text: &str, name: &str) -> Option<String> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.trim() == name)
        .map(|(_, value)| value.trim().to_owned())
}

fn mitigations() -> BTreeMap<String, String> {
    let Ok(entries) = fs::read_dir("/sys/devices/system/cpu/vulnerabilities") else { return BTreeMap::new() };
    entries
        .flatten()
        .filter_map(|entry| {
            let state = fs::read_to_string(entry.path()).ok()?;
            Some((entry.file_name().into_string().ok()?, state.trim().to_owned()))
        })
        .filter(|(_, state)| state != "Not affected")
        .collect()
}

/// The date in UTC, `YYYY-MM-DD`.
pub fn today() -> String {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    date(since.as_secs() / 86_400)
}

/// The date of a day since 1970: years are taken off, then months, which is slow and plainly right.
fn date(mut days: u64) -> String {
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    format!("{year}-{month:02}-{:02}", days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        assert_eq!(date(0), "1970-01-01");
        assert_eq!(date(58), "1970-02-28");
        assert_eq!(date(59), "1970-03-01");
        assert_eq!(date(11_016), "2000-02-29");
        assert_eq!(date(11_017), "2000-03-01");
        assert_eq!(date(20_454), "2026-01-01");
        assert_eq!(date(20_453), "2025-12-31");
    }

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text = "model\t\t: 1\nmodel name\t: Some CPU @ 2: fast\n";
        assert_eq!(field(text, "model name").as_deref(), Some("Some CPU @ 2: fast"));
        assert_eq!(field(text, "name"), None);
    }

    #[test]
    fn this_machine_has_a_processor_and_a_kernel() {
        let here = Machine::here();
        assert!(here.cores >= 1 && here.memory > 1 << 20 && here.kernel.starts_with("Linux "), "{here:?}");
    }
}
