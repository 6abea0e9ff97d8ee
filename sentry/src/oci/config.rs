//! `config.json`: what it must say, and what we refuse rather than leave out.
//!
//! The specification wants an error for a value that is invalid or that cannot be honoured. A container that runs with less
//! than its configuration promises is a container that somebody relies on wrongly.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Hook, Linux, LinuxNamespaceType, Process, Spec};
use serde::Deserialize;
use shim::failure::Failure;

use crate::monitor::profile::Profile;

/// The newest version of the specification that this runtime was written for.
pub const VERSION: &str = "1.2.0";

/// A container's configuration, checked.
#[derive(Debug)]
pub struct Config {
    /// All of it.
    pub spec: Spec,
    /// `linux.seccomp`, as our own compiler reads it.
    pub seccomp: Option<Profile>,
    /// The container's root directory.
    pub rootfs: PathBuf,
    /// As it was read.
    pub text: Vec<u8>,
    /// What was left out, in words.
    pub warnings: Vec<String>,
}

#[derive(Deserialize)]
struct Seccomp {
    linux: Option<SeccompLinux>,
}

#[derive(Deserialize)]
struct SeccompLinux {
    seccomp: Option<Profile>,
}

fn wrong(what: impl Into<String>) -> Failure {
    Failure::check_text(format!("config.json: {}", what.into()))
}

/// Reads and checks the configuration of `bundle`.
pub fn load(bundle: &Path, file: &Path) -> Result<Config, Failure> {
    let path = bundle.join(file);
    let text = std::fs::read(&path).map_err(|error| {
        Failure::check_text(format!("cannot read {}: {}", path.display(), crate::policy::path::reason(&error)))
    })?;
    let mut config = parse(text)?;
    let root = config.spec.root().as_ref().map(|root| root.path().clone()).unwrap_or_default();
    let rootfs = bundle.join(root);
    config.rootfs = rootfs.canonicalize().map_err(|error| {
        wrong(format!("root.path {} cannot be used: {}", rootfs.display(), crate::policy::path::reason(&error)))
    })?;
    if !config.rootfs.is_dir() {
        return Err(wrong(format!("root.path {} is not a directory", rootfs.display())));
    }
    Ok(config)
}

/// Understands and checks a configuration, but for what lies in its directory.
pub fn parse(text: Vec<u8>) -> Result<Config, Failure> {
    let mut warnings = Vec::new();
    let spec: Spec = match serde_json::from_slice(&text) {
        Ok(spec) => spec,
        Err(error) => lenient(&text, &mut warnings).ok_or_else(|| wrong(error.to_string()))?,
    };
    check(&spec)?;
    let seccomp: Seccomp = serde_json::from_slice(&text).map_err(|error| wrong(format!("linux.seccomp: {error}")))?;
    let seccomp = seccomp.linux.and_then(|linux| linux.seccomp);
    Ok(Config { spec, seccomp, rootfs: PathBuf::new(), text, warnings })
}

/// The configuration without the capabilities of newer kernels, of which others only warn.
fn lenient(text: &[u8], warnings: &mut Vec<String>) -> Option<Spec> {
    let mut value: serde_json::Value = serde_json::from_slice(text).ok()?;
    warnings.extend(shim::container::tolerate(value.get_mut("process")?));
    serde_json::from_value(value).ok()
}

fn check(spec: &Spec) -> Result<(), Failure> {
    let version = spec.version();
    if version.is_empty() {
        return Err(wrong("ociVersion is missing"));
    }
    let mut numbers = version.split(['-', '+']).next().unwrap_or_default().split('.').map(str::parse::<u32>);
    let (major, minor, patch) = (numbers.next(), numbers.next(), numbers.next());
    if !matches!((major, minor, patch), (Some(Ok(1)), Some(Ok(_)), Some(Ok(_)))) {
        return Err(wrong(format!("ociVersion {version:?} is not supported; this runtime speaks 1.x")));
    }
    let root = spec.root().as_ref().ok_or_else(|| wrong("root is missing"))?;
    if root.path().as_os_str().is_empty() {
        return Err(wrong("root.path is missing"));
    }
    check_process(spec.process().as_ref().ok_or_else(|| wrong("process is missing"))?)?;
    let mounts = spec.mounts().as_deref().unwrap_or_default();
    if let Some(mount) = mounts.iter().find(|mount| mount.destination().as_os_str().is_empty()) {
        return Err(wrong(format!("a mount of {:?} has no destination", mount.source())));
    }
    check_hooks(spec)?;
    let linux = spec.linux().as_ref().ok_or_else(|| wrong("linux is missing"))?;
    check_linux(spec, linux)
}

/// What any process must be, the configuration's and those of `exec`.
pub fn check_process(process: &Process) -> Result<(), Failure> {
    let args = process.args().as_deref().unwrap_or_default();
    if args.first().is_none_or(String::is_empty) {
        return Err(wrong("process.args names no program"));
    }
    if !process.cwd().is_absolute() {
        return Err(wrong(format!("process.cwd {:?} is not an absolute path", process.cwd())));
    }
    if process.apparmor_profile().as_deref().is_some_and(|name| !name.is_empty()) && !has_apparmor() {
        return Err(wrong("process.apparmorProfile is set, but AppArmor is not enabled on this host"));
    }
    if process.selinux_label().as_deref().is_some_and(|label| !label.is_empty()) && !has_selinux() {
        return Err(wrong("process.selinuxLabel is set, but SELinux is not enabled on this host"));
    }
    let mut kinds: Vec<String> = process.rlimits().iter().flatten().map(|limit| format!("{:?}", limit.typ())).collect();
    kinds.sort();
    if let Some(pair) = kinds.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(wrong(format!("process.rlimits has {} twice", pair[0])));
    }
    for limit in process.rlimits().iter().flatten() {
        if limit.soft() > limit.hard() {
            return Err(wrong(format!("process.rlimits: the soft limit of {:?} is above the hard one", limit.typ())));
        }
    }
    if process.exec_cpu_affinity().is_some() {
        return Err(wrong("process.execCPUAffinity is not supported"));
    }
    Ok(())
}

/// Whether AppArmor is there.
pub fn has_apparmor() -> bool {
    std::fs::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.first() == Some(&b'Y'))
}

/// Whether SELinux is there.
pub fn has_selinux() -> bool {
    Path::new("/sys/fs/selinux/enforce").exists()
}

#[allow(deprecated)] // by the specification; engines still use them
fn check_hooks(spec: &Spec) -> Result<(), Failure> {
    let Some(hooks) = spec.hooks() else { return Ok(()) };
    let all: [(&str, &Option<Vec<Hook>>); 6] = [
        ("prestart", hooks.prestart()),
        ("createRuntime", hooks.create_runtime()),
        ("createContainer", hooks.create_container()),
        ("startContainer", hooks.start_container()),
        ("poststart", hooks.poststart()),
        ("poststop", hooks.poststop()),
    ];
    for (kind, hooks) in all {
        for hook in hooks.iter().flatten() {
            if !hook.path().is_absolute() {
                return Err(wrong(format!("the {kind} hook {:?} is not an absolute path", hook.path())));
            }
            if hook.timeout().is_some_and(|timeout| timeout <= 0) {
                return Err(wrong(format!("the {kind} hook {:?} has a timeout that is not above 0", hook.path())));
            }
        }
    }
    Ok(())
}

fn check_linux(spec: &Spec, linux: &Linux) -> Result<(), Failure> {
    let namespaces = linux.namespaces().as_deref().unwrap_or_default();
    for (at, namespace) in namespaces.iter().enumerate() {
        if namespaces[..at].iter().any(|other| other.typ() == namespace.typ()) {
            return Err(wrong(format!("linux.namespaces has {} twice", namespace.typ())));
        }
        if namespace.path().as_ref().is_some_and(|path| !path.as_os_str().is_empty() && !path.is_absolute()) {
            return Err(wrong(format!("the path of the {} namespace is not absolute", namespace.typ())));
        }
    }
    let has = |kind| namespaces.iter().any(|namespace| namespace.typ() == kind);
    let is_new = |kind| {
        namespaces.iter().any(|namespace| {
            namespace.typ() == kind && namespace.path().as_ref().is_none_or(|path| path.as_os_str().is_empty())
        })
    };
    if !is_new(LinuxNamespaceType::Mount) {
        return Err(wrong(
            "linux.namespaces must have a mount namespace without a path: nothing else keeps the root apart",
        ));
    }
    let named = |name: &Option<String>| name.as_deref().is_some_and(|name| !name.is_empty());
    if (named(spec.hostname()) || named(spec.domainname())) && !has(LinuxNamespaceType::Uts) {
        return Err(wrong("hostname and domainname need a uts namespace in linux.namespaces"));
    }
    let maps =
        [linux.uid_mappings(), linux.gid_mappings()].map(|maps| maps.as_ref().is_some_and(|maps| !maps.is_empty()));
    if is_new(LinuxNamespaceType::User) && maps.contains(&false) {
        return Err(wrong("a new user namespace needs linux.uidMappings and linux.gidMappings"));
    }
    if !has(LinuxNamespaceType::User) && maps.contains(&true) {
        return Err(wrong("linux.uidMappings and linux.gidMappings need a user namespace in linux.namespaces"));
    }
    if linux.time_offsets().as_ref().is_some_and(|offsets| !offsets.is_empty()) && !is_new(LinuxNamespaceType::Time) {
        return Err(wrong("linux.timeOffsets need a new time namespace in linux.namespaces"));
    }
    if linux.intel_rdt().is_some() {
        return Err(wrong("linux.intelRdt is not supported"));
    }
    if linux.memory_policy().is_some() {
        return Err(wrong("linux.memoryPolicy is not supported"));
    }
    if linux.net_devices().as_ref().is_some_and(|devices| !devices.is_empty()) {
        return Err(wrong("linux.netDevices is not supported"));
    }
    if linux.mount_label().as_deref().is_some_and(|label| !label.is_empty()) && !has_selinux() {
        return Err(wrong("linux.mountLabel is set, but SELinux is not enabled on this host"));
    }
    if let Some(personality) = linux.personality()
        && personality.flags().as_ref().is_some_and(|flags| !flags.is_empty())
    {
        return Err(wrong("linux.personality.flags are not supported"));
    }
    Ok(())
}

/// The annotations of a configuration, in order.
pub fn annotations(spec: &Spec) -> BTreeMap<String, String> {
    spec.annotations().iter().flatten().map(|(name, value)| (name.clone(), value.clone())).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn sound() -> Value {
        json!({
            "ociVersion": "1.0.2",
            "process": {"user": {"uid": 0, "gid": 0}, "args": ["sh"], "cwd": "/"},
            "root": {"path": "rootfs"},
            "hostname": "box",
            "linux": {"namespaces": [{"type": "mount"}, {"type": "uts"}, {"type": "pid"}]}
        })
    }

    fn refused(change: impl Fn(&mut Value)) -> String {
        let mut value = sound();
        change(&mut value);
        parse(value.to_string().into_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn a_sound_configuration_is_taken_whatever_its_minor_version() {
        for version in ["1.0.0", "1.0.2-dev", "1.9.3", "1.2.0+x"] {
            let mut value = sound();
            value["ociVersion"] = json!(version);
            parse(value.to_string().into_bytes()).unwrap();
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        type Case<'a> = (&'a str, &'a dyn Fn(&mut Value));
        let cases: [Case; 14] = [
            ("ociVersion", &|v| v["ociVersion"] = json!("2.0.0")),
            ("ociVersion", &|v| v["ociVersion"] = json!("")),
            ("root", &|v| v["root"] = Value::Null),
            ("process", &|v| v["process"] = Value::Null),
            ("process.args", &|v| v["process"]["args"] = json!([])),
            ("process.cwd", &|v| v["process"]["cwd"] = json!("tmp")),
            ("twice", &|v| v["linux"]["namespaces"][2]["type"] = json!("uts")),
            ("hostname", &|v| v["linux"]["namespaces"] = json!([{"type": "mount"}])),
            ("mount namespace", &|v| v["linux"]["namespaces"] = json!([{"type": "uts"}])),
            ("uidMappings", &|v| v["linux"]["namespaces"][2]["type"] = json!("user")),
            ("intelRdt", &|v| v["linux"]["intelRdt"] = json!({})),
            ("unknown variant", &|v| v["linux"]["namespaces"][2]["type"] = json!("weather")),
            ("prestart", &|v| v["hooks"] = json!({"prestart": [{"path": "relative"}]})),
            ("timeOffsets", &|v| v["linux"]["timeOffsets"] = json!({"monotonic": {"secs": 1}})),
        ];
        for (expected, change) in cases {
            let error = refused(change);
            assert!(error.contains(expected), "{expected:?} is not in {error:?}");
        }
    }

    #[test]
    fn a_capability_of_a_newer_kernel_is_left_out_with_a_warning() {
        let mut value = sound();
        value["process"]["capabilities"] = json!({"bounding": ["CAP_CHOWN", "CAP_TIME_TRAVEL"]});
        let config = parse(value.to_string().into_bytes()).unwrap();
        assert_eq!(config.warnings.len(), 1);
        let capabilities = config.spec.process().as_ref().unwrap().capabilities().clone().unwrap();
        assert_eq!(capabilities.bounding().as_ref().unwrap().len(), 1);
    }

    #[test]
    fn a_profile_is_read_beside_it() {
        let mut value = sound();
        value["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_LOG"]});
        let config = parse(value.to_string().into_bytes()).unwrap();
        assert_eq!(config.seccomp.unwrap().flags().unwrap(), 2);
    }
}
