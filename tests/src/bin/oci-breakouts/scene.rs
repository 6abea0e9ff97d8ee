//! What attempts share: containers with all rights, a token that only the host should know, and words for what came of it.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use sentry_tests::oci::{Bundle, Stand};
use serde_json::json;

pub const REACHED: &str = "host reached";
pub const INSIDE: &str = "in the container only";
pub const REFUSED: &str = "refused";
pub const ALLOWED: &str = "call allowed";
pub const NOT_APPLICABLE: &str = "not applicable";

/// What came of an attempt.
pub struct Seen {
    pub word: &'static str,
    pub detail: String,
}

impl Seen {
    pub fn new(word: &'static str, detail: impl Into<String>) -> Self {
        Self { word, detail: detail.into() }
    }
}

/// One way out.
pub struct Attempt {
    pub id: &'static str,
    /// What was tried, in a few words.
    pub tried: &'static str,
    /// What the container has beyond all capabilities.
    pub with: &'static str,
    pub run: fn(&Scene) -> Seen,
}

pub struct Scene {
    pub stand: Stand,
    /// A file of the host's that no container is given.
    pub token: PathBuf,
    pub secret: String,
    /// The seccomp profile of every container, if there is one.
    pub seccomp: Option<serde_json::Value>,
}

impl Scene {
    pub fn new(runtime: Vec<String>, seccomp: Option<serde_json::Value>) -> Result<Self> {
        let directory = std::env::temp_dir().join(format!("oci-breakouts-{}", std::process::id()));
        let attacker = std::env::current_exe()?.with_file_name("oci-attacker");
        let stand = Stand::new(runtime, &directory, &attacker).with_context(|| attacker.display().to_string())?;
        let secret = format!("secret-{}", std::process::id());
        let token = directory.join("token");
        fs::write(&token, &secret)?;
        Ok(Self { stand, token, secret, seccomp })
    }

    pub fn clear(&self) {
        let _ = fs::remove_dir_all(&self.stand.directory);
    }

    /// A container as `--privileged` has it.
    pub fn privileged(&self) -> Bundle<'_> {
        let mut bundle = self.stand.bundle();
        let all = capabilities();
        bundle.config["process"]["capabilities"] =
            json!({ "bounding": all, "effective": all, "permitted": all, "inheritable": all });
        bundle.config["process"]["noNewPrivileges"] = json!(false);
        for mount in bundle.list("/mounts").iter_mut().filter(|mount| mount["type"] == "sysfs") {
            mount["options"] = json!(["nosuid", "noexec", "nodev"]);
        }
        if let Some(profile) = &self.seccomp {
            bundle.config["linux"]["seccomp"] = profile.clone();
        }
        if self.stand.root {
            bundle.config["linux"]["resources"] = json!({ "devices": [{ "allow": true, "access": "rwm" }] });
        }
        bundle
    }

    /// The same in the host's process namespace, as `--pid=host` has it.
    pub fn with_host_processes(&self) -> Bundle<'_> {
        let mut bundle = self.privileged();
        bundle.drop_namespace("pid");
        shown(&mut bundle, "/proc");
        bundle
    }

    /// The same in the host's network namespace, as `--network=host` has it.
    pub fn with_host_network(&self) -> Bundle<'_> {
        let mut bundle = self.privileged();
        bundle.drop_namespace("network");
        shown(&mut bundle, "/sys");
        bundle
    }

    /// Lets the attacker try something, and judges by `reached`, which looks at the host.
    pub fn tries(&self, bundle: &mut Bundle, words: &[&str], reached: impl FnOnce(&str) -> bool) -> Seen {
        bundle.args(words);
        match bundle.run() {
            Ok((_, said)) => judged(&said, reached),
            Err(why) => Seen::new(REFUSED, format!("the runtime: {}", last(&why))),
        }
    }

    /// Whether what was said holds the host's secret.
    pub fn knows(&self) -> impl FnOnce(&str) -> bool + '_ {
        |said| said.contains(&self.secret)
    }
}

/// What the attacker said last, and whether that was an effect on the host.
pub fn judged(said: &str, reached: impl FnOnce(&str) -> bool) -> Seen {
    let line = said.lines().rfind(|line| line.starts_with("did ") || line.starts_with("failed "));
    let effect = reached(said);
    match line {
        _ if effect => Seen::new(REACHED, line.unwrap_or_default().trim_start_matches("did ")),
        Some(line) if line.starts_with("did ") => Seen::new(INSIDE, line.trim_start_matches("did ")),
        Some(line) => Seen::new(REFUSED, told(line.trim_start_matches("failed "))),
        None => Seen::new(REFUSED, "the program was ended"),
    }
}

/// `STEP ERRNO: words` as `ERRNO (STEP)`.
fn told(line: &str) -> String {
    let plain = line.split(':').next().unwrap_or_default();
    plain.rsplit_once(' ').map_or(plain.to_owned(), |(step, errno)| format!("{errno} ({step})"))
}

/// The end of a runtime's complaint.
fn last(why: &str) -> String {
    let line = why.lines().last().unwrap_or_default().trim();
    let start = line.len().saturating_sub(160);
    let start = (start..line.len()).find(|at| line.is_char_boundary(*at)).unwrap_or(0);
    line[start..].to_owned()
}

/// Shows the host's own tree at a path instead of a new one, which an ordinary user may not mount for namespaces not its own.
fn shown(bundle: &mut Bundle, path: &str) {
    for mount in bundle.list("/mounts").iter_mut().filter(|mount| mount["destination"] == path) {
        *mount = json!({ "destination": path, "type": "bind", "source": path, "options": ["rbind", "nosuid", "noexec", "nodev"] });
    }
}

/// All capabilities that the caller could give: its own as root, all in a user namespace.
fn capabilities() -> Vec<&'static str> {
    const ALL: [&str; 41] = [
        "CHOWN",
        "DAC_OVERRIDE",
        "DAC_READ_SEARCH",
        "FOWNER",
        "FSETID",
        "KILL",
        "SETGID",
        "SETUID",
        "SETPCAP",
        "LINUX_IMMUTABLE",
        "NET_BIND_SERVICE",
        "NET_BROADCAST",
        "NET_ADMIN",
        "NET_RAW",
        "IPC_LOCK",
        "IPC_OWNER",
        "SYS_MODULE",
        "SYS_RAWIO",
        "SYS_CHROOT",
        "SYS_PTRACE",
        "SYS_PACCT",
        "SYS_ADMIN",
        "SYS_BOOT",
        "SYS_NICE",
        "SYS_RESOURCE",
        "SYS_TIME",
        "SYS_TTY_CONFIG",
        "MKNOD",
        "LEASE",
        "AUDIT_WRITE",
        "AUDIT_CONTROL",
        "SETFCAP",
        "MAC_OVERRIDE",
        "MAC_ADMIN",
        "SYSLOG",
        "WAKE_ALARM",
        "BLOCK_SUSPEND",
        "AUDIT_READ",
        "PERFMON",
        "BPF",
        "CHECKPOINT_RESTORE",
    ];
    static NAMES: std::sync::OnceLock<Vec<String>> = std::sync::OnceLock::new();
    let own = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let own = own.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap_or("0").trim().to_owned();
    let own = match u64::from_str_radix(&own, 16) {
        Ok(0) | Err(_) => u64::MAX,
        Ok(bits) => bits,
    };
    let names = NAMES.get_or_init(|| ALL.iter().map(|name| format!("CAP_{name}")).collect());
    names.iter().enumerate().filter(|(bit, _)| own >> bit & 1 == 1).map(|(_, name)| name.as_str()).collect()
}
