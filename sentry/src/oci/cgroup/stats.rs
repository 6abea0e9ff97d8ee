//! What a container has used, as `events --stats` prints it: the form is runc's, which engines read.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::{Groups, read};

fn number(file: &Path) -> u64 {
    // `max` is none.
    read(file).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn table(file: &Path) -> Map<String, Value> {
    let text = read(file).unwrap_or_default();
    let pair = |line: &str| {
        let (key, value) = line.split_once(' ')?;
        Some((key.to_owned(), Value::from(value.parse::<u64>().ok()?)))
    };
    text.lines().filter_map(pair).collect()
}

fn of(table: &Map<String, Value>, key: &str) -> u64 {
    table.get(key).and_then(Value::as_u64).unwrap_or(0)
}

impl Groups {
    /// The `data` of a `stats` event.
    pub fn stats(&self) -> Value {
        json!({ "cpu": self.cpu(), "memory": self.memory(), "pids": self.pids(), "blkio": self.block() })
    }

    fn cpu(&self) -> Value {
        if let Some(group) = self.legacy("cpuacct") {
            let split = table(&group.join("cpuacct.stat"));
            // In ticks of which a second has a hundred.
            let nanoseconds = |key| of(&split, key) * 10_000_000;
            let throttling = self.legacy("cpu").map(|group| table(&group.join("cpu.stat"))).unwrap_or_default();
            let each = read(&group.join("cpuacct.usage_percpu")).unwrap_or_default();
            let each: Vec<u64> = each.split_ascii_whitespace().filter_map(|one| one.parse().ok()).collect();
            return json!({
                "usage": { "total": number(&group.join("cpuacct.usage")), "percpu": each,
                           "kernel": nanoseconds("system"), "user": nanoseconds("user") },
                "throttling": { "periods": of(&throttling, "nr_periods"),
                                "throttledPeriods": of(&throttling, "nr_throttled"),
                                "throttledTime": of(&throttling, "throttled_time") },
            });
        }
        let split = self.unified().map(|group| table(&group.join("cpu.stat"))).unwrap_or_default();
        let nanoseconds = |key| of(&split, key) * 1000;
        json!({
            "usage": { "total": nanoseconds("usage_usec"), "kernel": nanoseconds("system_usec"), "user": nanoseconds("user_usec") },
            "throttling": { "periods": of(&split, "nr_periods"), "throttledPeriods": of(&split, "nr_throttled"),
                            "throttledTime": nanoseconds("throttled_usec") },
        })
    }

    fn memory(&self) -> Value {
        if let Some(group) = self.legacy("memory") {
            let one = |name: &str| {
                let file = |end: &str| group.join(format!("memory.{name}{end}"));
                json!({ "limit": number(&file("limit_in_bytes")), "usage": number(&file("usage_in_bytes")),
                        "max": number(&file("max_usage_in_bytes")), "failcnt": number(&file("failcnt")) })
            };
            let raw = table(&group.join("memory.stat"));
            return json!({ "cache": of(&raw, "cache"), "usage": one(""), "swap": one("memsw."), "kernel": one("kmem."), "raw": raw });
        }
        let Some(group) = self.unified() else { return json!({ "usage": {} }) };
        let one = |name: &str| {
            json!({ "limit": number(&group.join(format!("memory.{name}max"))),
                    "usage": number(&group.join(format!("memory.{name}current"))) })
        };
        let raw = table(&group.join("memory.stat"));
        json!({ "cache": of(&raw, "file"), "usage": one(""), "swap": one("swap."), "raw": raw })
    }

    fn pids(&self) -> Value {
        match self.of("pids") {
            Ok((group, _)) => {
                json!({ "current": number(&group.join("pids.current")), "limit": number(&group.join("pids.max")) })
            }
            Err(_) => json!({ "current": self.processes().len() }),
        }
    }

    fn block(&self) -> Value {
        let entry = |device: &str, operation: &str, value: &str| {
            let (major, minor) = device.split_once(':')?;
            let number = |text: &str| text.parse::<u64>().ok();
            Some(json!({ "major": number(major)?, "minor": number(minor)?, "op": operation, "value": number(value)? }))
        };
        let mut bytes: Vec<Value> = Vec::new();
        if let Some(group) = self.legacy("blkio") {
            for line in read(&group.join("blkio.throttle.io_service_bytes")).unwrap_or_default().lines() {
                let fields: Vec<&str> = line.split(' ').collect();
                if let [device, operation, value] = fields.as_slice() {
                    bytes.extend(entry(device, operation, value));
                }
            }
        } else if let Some(group) = self.unified() {
            for line in read(&group.join("io.stat")).unwrap_or_default().lines() {
                let mut fields = line.split(' ');
                let device = fields.next().unwrap_or_default();
                for (key, value) in fields.filter_map(|field| field.split_once('=')) {
                    let operation = match key {
                        "rbytes" => "Read",
                        "wbytes" => "Write",
                        _ => continue,
                    };
                    bytes.extend(entry(device, operation, value));
                }
            }
        }
        json!({ "ioServiceBytesRecursive": bytes })
    }
}
