//! Containers for real: `prepare` and `become_process` in new namespaces, and what the program inside finds.
//!
//! Each case runs this program again, single-threaded, as an ordinary user in a user namespace of one id or, where the tests
//! run as root, also as root without one. Inside is a busybox, which prints; outside it is compared.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)] // a test, whose output is its result

mod attacks;
mod inside;
mod options;
mod tree;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use serde_json::{Value, json};

const BUSYBOX: &str = "/bin/busybox";
const USER: &str = "sentry-test";

/// Who makes the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// An ordinary user, in a user namespace.
    User,
    /// Root of the host.
    Root,
}

/// A test: its name and what it does.
pub type Case = (&'static str, fn(By));

/// A container to be.
pub struct Bundle {
    by: By,
    place: tempfile::TempDir,
    /// `config.json`
    pub config: Value,
}

impl Bundle {
    /// One with a busybox, `/proc` and `/dev`.
    pub fn new(by: By) -> Self {
        let place = tempfile::Builder::new().prefix("container-").tempdir_in("/tmp").unwrap();
        fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let root = place.path().join("rootfs");
        for directory in ["bin", "proc", "dev", "sys", "tmp", "etc"] {
            fs::create_dir_all(root.join(directory)).unwrap();
        }
        fs::copy(BUSYBOX, root.join("bin/busybox")).unwrap();
        for name in
            ["sh", "cat", "stat", "ls", "echo", "mount", "readlink", "test", "id", "grep", "touch", "mkdir", "tr"]
        {
            symlink("busybox", root.join("bin").join(name)).unwrap();
        }
        let namespaces = ["mount", "pid", "ipc", "uts", "network", "cgroup"].map(|kind| json!({ "type": kind }));
        let config = json!({
            "ociVersion": "1.0.2",
            "root": { "path": "rootfs" },
            "process": {
                "user": { "uid": 0, "gid": 0 }, "cwd": "/", "args": ["/bin/sh", "-c", ""],
                "env": ["PATH=/bin"], "noNewPrivileges": true,
            },
            "mounts": [
                { "destination": "/proc", "type": "proc", "source": "proc" },
                { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=64k"] },
            ],
            "linux": {
                "namespaces": namespaces,
            },
        });
        Self { by, place, config }
    }

    /// The image.
    pub fn root(&self) -> PathBuf {
        self.place.path().join("rootfs")
    }

    /// The directory around it, which stands for the host.
    pub fn host(&self) -> &Path {
        self.place.path()
    }

    /// One more mount.
    pub fn mount(&mut self, destination: &str, kind: &str, source: &str, options: &[&str]) -> &mut Self {
        let mount = json!({ "destination": destination, "type": kind, "source": source, "options": options });
        self.config["mounts"].as_array_mut().unwrap().push(mount);
        self
    }

    /// Runs a script inside and returns what it printed; beginning with `FAILED: ` if there is no inside.
    pub fn run(&mut self, script: &str) -> String {
        self.config["process"]["args"][2] = script.into();
        let config = self.place.path().join("config.json");
        fs::write(config, self.config.to_string()).unwrap();
        let program = self.place.path().join("test");
        fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
        let mut command = Command::new(&program);
        command.env_clear().arg("--inside").arg(self.place.path());
        if self.by == By::User && is_root() {
            let (uid, gid) = user();
            let own = |path: &Path| std::os::unix::fs::lchown(path, Some(uid), Some(gid)).unwrap();
            walk(&self.root(), &own);
            own(self.place.path());
            // Supplementary groups of root are dropped with it.
            command.uid(uid).gid(gid);
        }
        if self.by == By::User {
            command.arg("user");
        }
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        text + &errors
    }
}

fn walk(path: &Path, act: &dyn Fn(&Path)) {
    act(path);
    if fs::symlink_metadata(path).unwrap().is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            walk(&entry.unwrap().path(), act);
        }
    }
}

/// Whether the tests run as root.
pub fn is_root() -> bool {
    nix::unistd::Uid::effective().is_root()
}

fn user() -> (u32, u32) {
    let passwd = fs::read_to_string("/etc/passwd").unwrap();
    let line = passwd.lines().find(|line| line.starts_with(&format!("{USER}:")));
    let line = line.unwrap_or_else(|| panic!("running as root needs the ordinary user {USER}: useradd {USER}"));
    let fields: Vec<&str> = line.split(':').collect();
    (fields[2].parse().unwrap(), fields[3].parse().unwrap())
}

/// The line of `mountinfo` about the last mount at this place.
pub fn mount_at<'a>(mountinfo: &'a str, place: &str) -> &'a str {
    let at = |line: &&str| line.split(' ').nth(4) == Some(place);
    mountinfo.lines().rev().find(at).unwrap_or_else(|| panic!("no mount at {place} in\n{mountinfo}"))
}

/// Its options: those of the mount.
pub fn options_of(line: &str) -> Vec<&str> {
    line.split(' ').nth(5).unwrap().split(',').collect()
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, flag, bundle, rest @ ..] = arguments.as_slice()
        && flag == "--inside"
    {
        return inside::run(Path::new(bundle), !rest.is_empty());
    }
    if !Path::new(BUSYBOX).exists() {
        eprintln!("SKIPPED: container: there is no {BUSYBOX}");
        return ExitCode::SUCCESS;
    }
    let filter = arguments.iter().skip(1).find(|argument| !argument.starts_with("--"));
    let mut failed = 0;
    let whom: &[By] = if is_root() { &[By::User, By::Root] } else { &[By::User] };
    for (name, case) in [tree::CASES, options::CASES, attacks::CASES].concat() {
        if filter.is_some_and(|filter| !name.contains(filter.as_str())) {
            continue;
        }
        for &by in whom {
            let good = catch_unwind(AssertUnwindSafe(|| case(by))).is_ok();
            eprintln!("test {name} ({by:?}) ... {}", if good { "ok" } else { "FAILED" });
            failed += usize::from(!good);
        }
    }
    eprintln!("{failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
