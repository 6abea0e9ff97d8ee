//! The five sets of capabilities of a container's process. See capabilities(7).

use std::collections::HashSet;

use nix::errno::Errno;
use nix::libc;
use oci_spec::runtime::{Capability, LinuxCapabilities};
use serde_json::Value;

use crate::failure::{Failure, Step};
use crate::sys::{self, Capabilities};

/// By number.
const NAMES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// The number of a capability, by its name with or without `CAP_`, in letters of any size.
pub fn number_of(name: &str) -> Option<u32> {
    let name = name.to_ascii_uppercase();
    let bare = name.trim_start_matches("CAP_");
    NAMES.iter().position(|known| known[4..] == *bare).and_then(|number| u32::try_from(number).ok())
}

/// The name of a capability.
pub fn name_of(number: u32) -> &'static str {
    usize::try_from(number).ok().and_then(|number| NAMES.get(number)).unwrap_or(&"an unknown capability")
}

fn listed(bits: u64) -> String {
    (0..64).filter(|number| bits & 1 << number != 0).map(name_of).collect::<Vec<_>>().join(" ")
}

/// Takes out of a configuration's `process` what its strict form does not know and a runtime only warns of: capabilities of a
/// newer kernel. Names that the specification writes in another way than the types do are changed.
pub fn tolerate(process: &mut Value) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some(sets) = process.get_mut("capabilities").and_then(Value::as_object_mut) {
        let mut unknown = HashSet::new();
        for set in sets.values_mut().filter_map(Value::as_array_mut) {
            set.retain(|name| {
                let known = name.as_str().is_none_or(|name| number_of(name).is_some());
                if !known {
                    unknown.insert(name.as_str().unwrap_or_default().to_owned());
                }
                known
            });
        }
        warnings.extend(unknown.into_iter().map(|name| format!("capability {name} is unknown and left out")));
    }
    if let Some(flags) = process.pointer_mut("/scheduler/flags").and_then(Value::as_array_mut) {
        for flag in flags {
            match flag.as_str() {
                Some("SCHED_FLAG_RESET_ON_FORK") => *flag = "SCHED_RESET_ON_FORK".into(),
                Some("SCHED_FLAG_DL_OVERRUN") => *flag = "SCHED_FLAG_D_L_OVERRUN".into(),
                _ => {}
            }
        }
    }
    warnings
}

/// Sets as bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sets {
    pub bounding: u64,
    pub effective: u64,
    pub inheritable: u64,
    pub permitted: u64,
    pub ambient: u64,
}

fn bits(set: Option<&HashSet<Capability>>) -> u64 {
    set.into_iter()
        .flatten()
        .filter_map(|capability| number_of(&capability.to_string()))
        .fold(0, |all, one| all | 1 << one)
}

impl Sets {
    /// Without any in the configuration there is none.
    pub fn parse(capabilities: Option<&LinuxCapabilities>) -> Self {
        capabilities.map_or_else(Self::default, |sets| Self {
            bounding: bits(sets.bounding().as_ref()),
            effective: bits(sets.effective().as_ref()),
            inheritable: bits(sets.inheritable().as_ref()),
            permitted: bits(sets.permitted().as_ref()),
            ambient: bits(sets.ambient().as_ref()),
        })
    }

    /// Without what is not ours to give.
    fn within(self, permitted: u64, warnings: &mut Vec<String>) -> Self {
        let missing = (self.permitted | self.effective) & !permitted;
        if missing != 0 {
            warnings.push(format!("not there to be given to the container: {}", listed(missing)));
        }
        let permitted = self.permitted & permitted;
        let inheritable = self.inheritable & (permitted | self.bounding);
        Self { permitted, effective: self.effective & permitted, inheritable, ..self }
    }
}

/// Drops from the bounding set what is not in it. Needs `CAP_SETPCAP`, so before the user changes.
pub(super) fn bound(sets: &Sets) -> Result<(), Failure> {
    for number in 0..64_u32 {
        if sets.bounding & 1 << number != 0 {
            continue;
        }
        match sys::prctl(libc::PR_CAPBSET_READ, number.into(), 0) {
            Ok(1) => sys::prctl(libc::PR_CAPBSET_DROP, number.into(), 0)
                .step(|| format!("drop {} from the bounding set", name_of(number)))
                .map(drop)?,
            Err(Errno::EINVAL) => break,
            _ => {}
        }
    }
    Ok(())
}

/// Gives the process exactly its sets, as far as they are there; what is ambient survives the exec of an ordinary user.
pub(super) fn apply(sets: &Sets, warnings: &mut Vec<String>) -> Result<(), Failure> {
    let now = sys::capabilities().step(|| "read capabilities")?;
    let sets = sets.within(now.permitted, warnings);
    sys::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as u64, 0).step(|| "clear ambient capabilities")?;
    let wanted = Capabilities { effective: sets.effective, permitted: sets.permitted, inheritable: sets.inheritable };
    sys::set_capabilities(wanted).step(|| "set capabilities")?;
    let possible = sets.ambient & sets.permitted & sets.inheritable;
    for number in (0..64_u64).filter(|number| possible & 1 << number != 0) {
        sys::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE as u64, number)
            .step(|| format!("make {} ambient", name_of(u32::try_from(number).unwrap_or(64))))?;
    }
    if possible != sets.ambient {
        let left = listed(sets.ambient & !possible);
        warnings.push(format!("not ambient, for they are not permitted and inheritable: {left}"));
    }
    if sys::capabilities().step(|| "read back capabilities")? != wanted {
        return Err(Failure::check("verify the container's capabilities"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_the_kernels_numbers() {
        for (name, number) in [
            ("CAP_CHOWN", 0),
            ("CAP_SYS_ADMIN", 21),
            ("CAP_MKNOD", 27),
            ("CAP_AUDIT_READ", 37),
            ("CAP_CHECKPOINT_RESTORE", 40),
        ] {
            assert_eq!(number_of(name), Some(number), "{name}");
        }
        assert_eq!((number_of("net_raw"), number_of("CAP_NOPE")), (Some(13), None));
    }

    #[test]
    fn what_is_unknown_is_left_out_with_a_warning() {
        let mut process = serde_json::json!({
            "capabilities": {"bounding": ["CAP_KILL", "CAP_FUTURE"], "effective": ["CAP_FUTURE"]},
            "scheduler": {"policy": "SCHED_OTHER", "flags": ["SCHED_FLAG_RESET_ON_FORK"]},
            "user": {}, "cwd": "/",
        });
        assert_eq!(tolerate(&mut process), ["capability CAP_FUTURE is unknown and left out"]);
        let process: oci_spec::runtime::Process = serde_json::from_value(process).unwrap();
        let sets = Sets::parse(process.capabilities().as_ref());
        assert_eq!(sets, Sets { bounding: 1 << 5, ..Sets::default() });
    }

    #[test]
    fn nobody_gives_what_he_has_not() {
        let mut warnings = Vec::new();
        let all = Sets { bounding: 3, effective: 3, inheritable: 3, permitted: 3, ambient: 0 };
        let within = all.within(1, &mut warnings);
        assert_eq!((within.permitted, within.effective), (1, 1));
        assert_eq!(warnings, ["not there to be given to the container: CAP_DAC_OVERRIDE"]);
    }
}
