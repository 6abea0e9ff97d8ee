//! A bundle: a directory with a configuration and a root file system that holds nothing but the probe.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use super::{Called, Container, Stand};

/// A bundle of one container, about to be configured.
#[derive(Debug)]
pub struct Bundle<'a> {
    /// Where it is run.
    pub stand: &'a Stand,
    /// The container's id.
    pub id: String,
    /// The bundle's directory.
    pub path: PathBuf,
    /// The configuration, written when the container is created.
    pub config: Value,
    /// More options for `create`.
    pub options: Vec<String>,
}

impl Stand {
    /// A new bundle with the configuration that engines give to a plain container.
    ///
    /// An ordinary user's container has a user namespace with one id.
    pub fn bundle(&self) -> Bundle<'_> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let id = format!("c{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = self.directory.join(&id);
        let rootfs = path.join("rootfs");
        for name in ["proc", "sys", "dev", "tmp", "etc"] {
            let _ = fs::create_dir_all(rootfs.join(name));
        }
        if fs::hard_link(&self.probe, rootfs.join("probe")).is_err() {
            let _ = fs::copy(&self.probe, rootfs.join("probe"));
        }
        let mut bundle = Bundle { stand: self, id, path, config: plain(), options: Vec::new() };
        if !self.root {
            bundle.add_namespace("user");
            bundle.map_one();
        }
        bundle
    }
}

impl Bundle<'_> {
    /// The root file system, on the host.
    pub fn rootfs(&self, name: &str) -> PathBuf {
        self.path.join("rootfs").join(name)
    }

    /// Adds a namespace of its own.
    pub fn add_namespace(&mut self, kind: &str) {
        self.list("/linux/namespaces").push(json!({ "type": kind }));
    }

    /// Takes a namespace away, so that the container shares the caller's.
    pub fn drop_namespace(&mut self, kind: &str) {
        self.list("/linux/namespaces").retain(|namespace| namespace["type"] != kind);
    }

    /// Adds a mount.
    pub fn mount(&mut self, destination: &str, kind: &str, source: &str, options: &[&str]) {
        self.list("/mounts")
            .push(json!({ "destination": destination, "type": kind, "source": source, "options": options }));
    }

    /// A list in the configuration, which is made if it is not there.
    ///
    /// # Panics
    /// If the parent is not there, or something else is at that place.
    pub fn list(&mut self, pointer: &str) -> &mut Vec<Value> {
        let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
        let parent = self.config.pointer_mut(parent).expect("a parent");
        if parent[name].is_null() {
            parent[name] = json!([]);
        }
        parent[name].as_array_mut().expect("a list")
    }

    /// Maps the caller's own id to 0 and nothing else.
    pub fn map_one(&mut self) {
        let (uid, gid) = (nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw());
        self.config["linux"]["uidMappings"] = json!([{ "containerID": 0, "hostID": uid, "size": 1 }]);
        self.config["linux"]["gidMappings"] = json!([{ "containerID": 0, "hostID": gid, "size": 1 }]);
    }

    /// Maps many ids: root's container has them anyway, an ordinary user's takes its subordinate ones. False where it has none.
    pub fn map_many(&mut self) -> bool {
        if self.stand.root {
            return true;
        }
        let Some(range) = self.stand.range else { return false };
        let (uid, gid) = (nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw());
        let count = range.count.min(65_536) - 1;
        self.config["linux"]["uidMappings"] = json!([
            { "containerID": 0, "hostID": uid, "size": 1 }, { "containerID": 1, "hostID": range.uid, "size": count }
        ]);
        self.config["linux"]["gidMappings"] = json!([
            { "containerID": 0, "hostID": gid, "size": 1 }, { "containerID": 1, "hostID": range.gid, "size": count }
        ]);
        true
    }

    /// Says what the probe is to do.
    pub fn args<S: AsRef<str>>(&mut self, args: impl IntoIterator<Item = S>) {
        let args = args.into_iter().map(|arg| arg.as_ref().to_owned());
        self.config["process"]["args"] = std::iter::once("/probe".to_owned()).chain(args).collect();
    }

    /// Writes the configuration.
    pub fn write(&self) {
        let text = serde_json::to_vec_pretty(&self.config).unwrap_or_default();
        let _ = fs::write(self.path.join("config.json"), text);
    }

    /// Calls `create`, whatever comes of it.
    pub fn try_create(&self) -> Called {
        self.write();
        let mut command = self.stand.command();
        command.arg("create").arg("--bundle").arg(&self.path).args(&self.options);
        command.arg("--pid-file").arg(self.path.join("pid")).arg(&self.id);
        self.stand.finish(command, &self.path.join("io"))
    }

    /// Creates the container.
    pub fn create(&self) -> Result<Container<'_>, String> {
        let called = self.try_create();
        if !called.ok {
            return Err(format!("create failed: {}", called.err));
        }
        Container::created(self)
    }

    /// Creates and starts the container.
    pub fn start(&self) -> Result<Container<'_>, String> {
        let container = self.create()?;
        container.start()?;
        Ok(container)
    }

    /// Runs the container to its end and returns the exit code (128+n for a signal) and what it wrote.
    pub fn run(&self) -> Result<(i32, String), String> {
        let container = self.start()?;
        let code = container.wait()?;
        let out = container.output();
        container.delete()?;
        Ok((code, out))
    }

    /// Lets the probe report on itself and on some paths.
    pub fn report(&mut self, paths: &[&str]) -> Result<Value, String> {
        self.args(std::iter::once("report").chain(paths.iter().copied()));
        let (code, out) = self.run()?;
        if code != 0 {
            return Err(format!("the program ended with {code} and said {out:?}"));
        }
        serde_json::from_str(&out).map_err(|error| format!("the program said {out:?}: {error}"))
    }

    /// Succeeds if the runtime refuses the container, at `create` or at the latest at `start`, and nothing of it remains.
    pub fn is_refused(&mut self) -> Result<String, String> {
        self.args(["wait"]);
        self.is_refused_as_it_is()
    }

    /// The same, with the arguments as they are.
    pub fn is_refused_as_it_is(&mut self) -> Result<String, String> {
        let created = self.try_create();
        if created.ok {
            let container = Container::created(self)?;
            let started = self.stand.call(["start", &self.id]);
            if started.ok {
                return Err("no error: the program runs".to_owned());
            }
            drop(container);
            return Ok(started.err);
        }
        if created.err.starts_with("did not end") {
            return Err(created.err);
        }
        if self.stand.call(["state", &self.id]).ok {
            let _ = self.stand.call(["delete", "--force", &self.id]);
            return Err(format!("create failed ({}), but left a container behind", created.err));
        }
        Ok(created.err)
    }
}

impl Drop for Bundle<'_> {
    fn drop(&mut self) {
        if fs::remove_dir_all(&self.path).is_err() {
            // What belongs to subordinate ids can be removed by their owner only, in a namespace of its own.
            let _ = std::process::Command::new("unshare")
                .args(["--map-auto", "--map-root-user", "rm", "-rf"])
                .arg(&self.path)
                .stderr(std::process::Stdio::null())
                .status();
        }
    }
}

/// What engines give to a plain container, for a root file system without users.
fn plain() -> Value {
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": { "uid": 0, "gid": 0 },
            "args": ["/probe", "exit", "0"],
            "env": ["PATH=/bin:/", "TERM=xterm"],
            "cwd": "/",
            "capabilities": capabilities(&["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_KILL", "CAP_SETGID", "CAP_SETUID"]),
            "noNewPrivileges": true
        },
        "root": { "path": "rootfs", "readonly": false },
        "hostname": "conformance",
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"] },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
              "options": ["nosuid", "strictatime", "mode=755", "size=65536k"] },
            { "destination": "/dev/pts", "type": "devpts", "source": "devpts",
              "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"] },
            { "destination": "/dev/shm", "type": "tmpfs", "source": "shm",
              "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"] },
            { "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"] },
            { "destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"] }
        ],
        "linux": {
            "namespaces": [
                { "type": "pid" }, { "type": "network" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" }
            ],
            "maskedPaths": [], "readonlyPaths": []
        }
    })
}

/// The same capabilities in all sets but the ambient one.
pub(super) fn capabilities(names: &[&str]) -> Value {
    json!({ "bounding": names, "effective": names, "permitted": names })
}
