//! Where and when: what has to be known about a machine before its numbers mean something.

use std::path::Path;
use std::time::SystemTime;

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
    fn a_distribution_has_a_name() {
        assert_eq!(pretty_name("ID=x\nPRETTY_NAME=\"Some Linux 1\"\n").as_deref(), Some("Some Linux 1"));
    }
}
