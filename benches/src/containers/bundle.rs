//! A runtime's bundle: `micro` in a root file system of its own, and the usual configuration of a small container.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::Context;
use serde_json::{Value, json};

use super::subjects::Runtime;
use crate::place::Place;

/// Where podman keeps its own.
const PODMAN: &str = "podman";

/// A bundle and its runtime.
pub struct Bundle {
    pub runtime: Runtime,
    directory: PathBuf,
    state: PathBuf,
    ids: (u32, u32),
}

impl Bundle {
    /// Makes it below the place.
    pub fn new(place: &Place, runtime: &Runtime) -> anyhow::Result<Self> {
        let directory = place.whole.join(format!("bundle-{}", runtime.name.replace(' ', "-")));
        let rootfs = directory.join("rootfs");
        for name in ["proc", "dev", "sys", "tmp", "etc", "run", "granted"] {
            fs::create_dir_all(rootfs.join(name)).with_context(|| format!("cannot make {}", rootfs.display()))?;
        }
        fs::copy(place.micro(), rootfs.join("micro"))?;
        fs::copy(place.directory.join("data"), rootfs.join("granted/data"))?;
        let ids = (nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw());
        let state = place.whole.join(format!("state-{}", runtime.name.replace(' ', "-")));
        Ok(Self { runtime: runtime.clone(), directory, state, ids })
    }

    /// Writes a configuration with these arguments.
    pub fn configure(&self, args: &[&str]) -> anyhow::Result<()> {
        let text = serde_json::to_vec(&self.configuration(args))?;
        fs::write(self.directory.join("config.json"), text).context("cannot write config.json")
    }

    fn configuration(&self, args: &[&str]) -> Value {
        let capabilities = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_KILL", "CAP_SETGID", "CAP_SETUID"];
        let mut namespaces: Vec<Value> =
            ["pid", "network", "ipc", "uts", "mount"].map(|kind| json!({ "type": kind })).to_vec();
        let mut linux = json!({
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
        });
        let (uid, gid) = self.ids;
        if uid != 0 && self.runtime.user_namespace {
            namespaces.push(json!({ "type": "user" }));
            linux["uidMappings"] = json!([{ "containerID": 0, "hostID": uid, "size": 1 }]);
            linux["gidMappings"] = json!([{ "containerID": 0, "hostID": gid, "size": 1 }]);
        }
        linux["namespaces"] = json!(namespaces);
        let plain = ["nosuid", "noexec", "nodev"];
        json!({
            "ociVersion": "1.0.2",
            "process": {
                "user": { "uid": 0, "gid": 0 }, "args": args, "env": ["PATH=/"], "cwd": "/", "noNewPrivileges": true,
                "capabilities": { "bounding": capabilities, "effective": capabilities, "permitted": capabilities }
            },
            "root": { "path": "rootfs" },
            "hostname": "bench",
            "mounts": [
                { "destination": "/proc", "type": "proc", "source": "proc", "options": plain },
                { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"] },
                { "destination": "/dev/pts", "type": "devpts", "source": "devpts",
                  "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"] },
                { "destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "noexec", "nodev", "mode=1777"] },
                { "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": plain },
                { "destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"] }
            ],
            "linux": linux
        })
    }

    /// A call of the runtime in its bundle.
    pub fn command(&self, place: &Place, words: &[&str]) -> Command {
        let mut command = place.command(&[&self.runtime.program]);
        command.args(self.runtime.options).arg("--root").arg(&self.state).args(words).current_dir(&self.directory);
        command
    }

    /// The same container under podman.
    pub fn podman(&self, place: &Place, words: &[&str]) -> Command {
        let mut command = podman(place);
        command.args(["--runtime", &self.runtime.program, "--cgroup-manager", "cgroupfs", "--events-backend", "none"]);
        command.args(["run", "--rm", "--quiet", "--network", "none", "--log-driver", "none"]);
        command.arg("--rootfs").arg(self.directory.join("rootfs")).args(words);
        command
    }
}

fn podman(place: &Place) -> Command {
    let own = place.whole.join(PODMAN);
    let mut command = place.command(&["podman"]);
    for (option, name) in [("--root", "root"), ("--runroot", "run"), ("--tmpdir", "tmp")] {
        command.arg(option).arg(own.join(name));
    }
    command
}

/// Removes what podman keeps, some of which belongs to subordinate ids.
pub fn clear(place: &Place) {
    let own = place.whole.join(PODMAN);
    if own.exists() {
        let quiet = |mut command: Command| command.stdout(Stdio::null()).stderr(Stdio::null()).status();
        let mut remove = podman(place);
        remove.args(["unshare", "rm", "-rf"]).arg(own.join("root"));
        let _ = quiet(remove);
        let mut migrate = podman(place);
        migrate.args(["system", "migrate"]);
        let _ = quiet(migrate);
    }
}
