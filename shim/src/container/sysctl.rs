//! `linux.sysctl`: only those that belong to a namespace of the container; any other would change the host.

use oci_spec::runtime::{LinuxNamespaceType, Spec};

use super::has_namespace;
use super::proc::Proc;
use crate::failure::{Failure, Step};

/// Those of the ipc namespace beside `fs.mqueue.*`.
pub(super) const OF_IPC: [&str; 9] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
    "kernel.msg_next_id",
];

/// The namespace that a name belongs to; `None`: the host's.
fn owner(name: &str) -> Option<LinuxNamespaceType> {
    if name.starts_with("net.") {
        return Some(LinuxNamespaceType::Network);
    }
    if OF_IPC.contains(&name) || name.starts_with("fs.mqueue.") {
        return Some(LinuxNamespaceType::Ipc);
    }
    (name == "kernel.domainname" || name == "kernel.hostname").then_some(LinuxNamespaceType::Uts)
}

/// The file of a name below `/proc/sys`. A slash may stand for a dot, and then a dot is a dot: as sysctl(8) has it.
fn file(name: &str) -> Option<String> {
    let separator = name.find(['.', '/'])?;
    let path = if name.as_bytes()[separator] == b'/' {
        name.to_owned()
    } else {
        name.chars()
            .map(|letter| match letter {
                '.' => '/',
                '/' => '.',
                other => other,
            })
            .collect()
    };
    let plain = path.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
    plain.then(|| format!("sys/{path}"))
}

fn dotted(name: &str) -> String {
    file(name).map(|path| path["sys/".len()..].replace('/', ".")).unwrap_or_default()
}

/// Refuses what is not a namespace's of the container.
pub fn check(spec: &Spec) -> Result<(), Failure> {
    for (name, _) in all(spec) {
        let refuse = |why: String| Err(Failure::check(format!("set the sysctl {name}")).remedy(why));
        match owner(&dotted(name)) {
            None => return refuse("it belongs to no namespace, so it would change the host".to_owned()),
            Some(kind) if !has_namespace(spec, kind) => {
                return refuse(format!("the container has no own {} namespace", kind.to_string().to_lowercase()));
            }
            Some(LinuxNamespaceType::Uts) if dotted(name) == "kernel.hostname" && spec.hostname().is_some() => {
                return refuse("the configuration's hostname says it already".to_owned());
            }
            Some(_) => {}
        }
    }
    Ok(())
}

fn all(spec: &Spec) -> impl Iterator<Item = (&String, &String)> {
    spec.linux().as_ref().and_then(|linux| linux.sysctl().as_ref()).into_iter().flatten()
}

/// Sets them.
pub(super) fn apply(spec: &Spec, proc: &Proc) -> Result<(), Failure> {
    check(spec)?;
    for (name, value) in all(spec) {
        let step = || format!("set the sysctl {name} to {value}");
        let file = file(name).ok_or_else(|| Failure::check(step()))?;
        proc.write(&file, value).step(step)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(sysctl: &str, namespaces: &str) -> Spec {
        let text = format!(r#"{{"ociVersion": "1.0.2", "linux": {{"sysctl": {sysctl}, "namespaces": {namespaces}}}}}"#);
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn names_are_files() {
        assert_eq!(file("net.ipv4.ip_forward").as_deref(), Some("sys/net/ipv4/ip_forward"));
        assert_eq!(file("net/ipv4/conf/eth0.1/arp_filter").as_deref(), Some("sys/net/ipv4/conf/eth0.1/arp_filter"));
        assert_eq!(file("net.ipv4.conf.eth0/1.arp_filter").as_deref(), Some("sys/net/ipv4/conf/eth0.1/arp_filter"));
        for bad in ["net/../kernel/core_pattern", "net..x", "net.//", "plain", ""] {
            assert_eq!(file(bad), None, "{bad}");
        }
    }

    #[test]
    fn only_namespaced_ones_are_set() {
        let net = r#"[{"type": "network"}]"#;
        assert!(check(&spec(r#"{"net.ipv4.ip_forward": "1"}"#, net)).is_ok());
        assert!(check(&spec(r#"{"net.ipv4.ip_forward": "1"}"#, "[]")).is_err());
        assert!(check(&spec(r#"{"kernel.shmmax": "1"}"#, net)).is_err());
        assert!(check(&spec(r#"{"kernel.core_pattern": "|/x"}"#, net)).is_err());
        assert!(check(&spec(r#"{"net/../kernel/core_pattern": "|/x"}"#, net)).is_err());
        assert!(check(&spec(r#"{"fs.mqueue.msg_max": "1"}"#, r#"[{"type": "ipc"}]"#)).is_ok());
        assert!(check(&spec(r#"{"kernel.domainname": "x"}"#, r#"[{"type": "uts"}]"#)).is_ok());
    }
}
