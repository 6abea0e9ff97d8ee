//! `spec`: a config.json to begin with.

use nix::unistd::{Gid, Uid};
use serde_json::{Value, json};
use shim::failure::Failure;

use super::cli::Spec;
use super::config::VERSION;

/// Writes it, unless there is one.
pub fn write(spec: &Spec) -> Result<(), Failure> {
    let path = spec.bundle.join("config.json");
    let cannot = |error: std::io::Error| {
        Failure::check_text(format!("cannot write {}: {}", path.display(), crate::policy::path::reason(&error)))
    };
    let mut file = std::fs::File::create_new(&path).map_err(cannot)?;
    let value = if spec.rootless { rootless(Uid::effective().as_raw(), Gid::effective().as_raw()) } else { plain() };
    std::io::Write::write_all(&mut file, format!("{value:#}\n").as_bytes()).map_err(cannot)
}

fn plain() -> Value {
    let capabilities = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    json!({
        "ociVersion": VERSION,
        "process": {
            "terminal": true,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {"bounding": capabilities, "effective": capabilities, "permitted": capabilities},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": true
        },
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "sentry",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
             "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
             "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
             "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]}
        ],
        "linux": {
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "namespaces": [{"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"},
                           {"type": "cgroup"}],
            "maskedPaths": ["/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys",
                            "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug",
                            "/sys/firmware", "/sys/devices/virtual/powercap", "/proc/scsi"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
        }
    })
}

/// The same for who can make a user namespace and nothing else: one id, no network of its own, the host's sysfs.
fn rootless(user: u32, group: u32) -> Value {
    let mut value = plain();
    if let Some(mounts) = value["mounts"].as_array_mut() {
        for mount in mounts.iter_mut() {
            match mount["destination"].as_str() {
                // There is one group, and it is not that of terminals.
                Some("/dev/pts") => {
                    mount["options"] = json!(["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]);
                }
                Some("/sys") => {
                    *mount = json!({"destination": "/sys", "type": "none", "source": "/sys",
                                    "options": ["rbind", "nosuid", "noexec", "nodev", "ro"]});
                }
                _ => {}
            }
        }
        mounts.retain(|mount| mount["destination"] != "/sys/fs/cgroup");
    }
    let linux = &mut value["linux"];
    linux["resources"] = Value::Null;
    linux["namespaces"] = json!([{"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"},
                                 {"type": "cgroup"}, {"type": "user"}]);
    linux["uidMappings"] = json!([{"containerID": 0, "hostID": user, "size": 1}]);
    linux["gidMappings"] = json!([{"containerID": 0, "hostID": group, "size": 1}]);
    if let Some(linux) = linux.as_object_mut() {
        linux.remove("resources");
    }
    value
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_a_sound_configuration() {
        for value in [plain(), rootless(1000, 1000)] {
            super::super::config::parse(value.to_string().into_bytes()).unwrap();
        }
    }
}
