//! `--seccomp FILE`: an OCI seccomp profile on top of the built-in filter, compiled by libseccomp.
//!
//! Filters only take away: of two verdicts the kernel takes the stricter one, so a profile cannot loosen anything. The
//! format is `linux.seccomp` of the OCI runtime specification.

use std::io::{Read, Seek};
use std::path::Path;

use libseccomp::{ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall};
use serde::Deserialize;
use shim::failure::Failure;
use syscalls::filter::Instruction;

/// `linux.seccomp`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    default_action: String,
    default_errno_ret: Option<i32>,
    #[serde(default)]
    architectures: Vec<String>,
    #[serde(default)]
    syscalls: Vec<Rule>,
    listener_path: Option<String>,
    listener_metadata: Option<String>,
    #[serde(default)]
    flags: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    names: Vec<String>,
    action: String,
    errno_ret: Option<i32>,
    #[serde(default)]
    args: Vec<Argument>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Argument {
    index: u32,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

/// Reads and compiles the profile at `path`.
pub fn load(path: &Path) -> Result<Vec<Instruction>, Failure> {
    let name = path.display();
    let bad = |why: String| {
        Failure::check_text(format!(
            "the seccomp profile {name} cannot be used: {why}; --seccomp takes OCI JSON, as podman does"
        ))
    };
    let text = std::fs::read_to_string(path).map_err(|error| bad(error.to_string()))?;
    let profile: Profile = serde_json::from_str(&text).map_err(|error| bad(error.to_string()))?;
    compile(&profile).map_err(bad)
}

impl Profile {
    /// How the program is to be loaded, `SECCOMP_FILTER_FLAG_*`. `TSYNC` says nothing to a process of one thread, and a
    /// listener's flag nothing to a program without one.
    pub fn flags(&self) -> Result<u64, String> {
        self.flags.iter().try_fold(0, |flags, name| match name.as_str() {
            "SECCOMP_FILTER_FLAG_LOG" => Ok(flags | 2),
            "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => Ok(flags | 4),
            "SECCOMP_FILTER_FLAG_TSYNC" | "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" => Ok(flags),
            other => Err(format!("{other} is not a flag that sentry knows")),
        })
    }
}

fn action(name: &str, errno: Option<i32>) -> Result<ScmpAction, String> {
    if errno.is_some() && !["SCMP_ACT_ERRNO", "SCMP_ACT_TRACE"].contains(&name) {
        return Err(format!("{name} has no errno to return"));
    }
    Ok(match name {
        "SCMP_ACT_ALLOW" => ScmpAction::Allow,
        "SCMP_ACT_ERRNO" => ScmpAction::Errno(errno.unwrap_or(nix::libc::EPERM)),
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => ScmpAction::KillThread,
        "SCMP_ACT_KILL_PROCESS" => ScmpAction::KillProcess,
        "SCMP_ACT_TRAP" => ScmpAction::Trap,
        "SCMP_ACT_LOG" => ScmpAction::Log,
        "SCMP_ACT_NOTIFY" => return Err("SCMP_ACT_NOTIFY needs the one listener that sentry uses itself".to_owned()),
        other => return Err(format!("{other} is not an action that sentry knows")),
    })
}

fn comparison(argument: &Argument) -> Result<ScmpArgCompare, String> {
    let op = match argument.op.as_str() {
        "SCMP_CMP_NE" => ScmpCompareOp::NotEqual,
        "SCMP_CMP_LT" => ScmpCompareOp::Less,
        "SCMP_CMP_LE" => ScmpCompareOp::LessOrEqual,
        "SCMP_CMP_EQ" => ScmpCompareOp::Equal,
        "SCMP_CMP_GE" => ScmpCompareOp::GreaterEqual,
        "SCMP_CMP_GT" => ScmpCompareOp::Greater,
        "SCMP_CMP_MASKED_EQ" => {
            return Ok(ScmpArgCompare::new(
                argument.index,
                ScmpCompareOp::MaskedEqual(argument.value),
                argument.value_two,
            ));
        }
        other => return Err(format!("{other} is not a comparison that sentry knows")),
    };
    Ok(ScmpArgCompare::new(argument.index, op, argument.value))
}

/// The profile as a program, in a file in memory; with the words of what cannot be honoured.
pub fn program(profile: &Profile) -> Result<std::fs::File, String> {
    // Of a profile that notifies nobody the path is ignored, as the specification has it.
    let actions = profile.syscalls.iter().map(|rule| &rule.action).chain([&profile.default_action]);
    if profile.listener_path.is_some() && actions.into_iter().any(|name| name == "SCMP_ACT_NOTIFY") {
        return Err("listenerPath names a supervisor of its own, and a process tree can have only one".to_owned());
    }
    if profile.listener_metadata.is_some() && profile.listener_path.is_none() {
        return Err("listenerMetadata makes no sense without listenerPath".to_owned());
    }
    let text = |error: libseccomp::error::SeccompError| error.to_string();
    let default = action(&profile.default_action, profile.default_errno_ret)?;
    let mut filter = ScmpFilterContext::new(default).map_err(text)?;
    // Other architectures are killed by the built-in filter whatever the profile says; the names are only checked.
    for name in &profile.architectures {
        name.parse::<ScmpArch>().map_err(|_| format!("{name} is not an architecture"))?;
    }
    for rule in &profile.syscalls {
        if rule.names.is_empty() {
            return Err(format!("a rule of {} names no calls", rule.action));
        }
        let action = action(&rule.action, rule.errno_ret)?;
        if action == default {
            continue;
        }
        let comparisons: Vec<ScmpArgCompare> = rule.args.iter().map(comparison).collect::<Result<_, _>>()?;
        for name in &rule.names {
            // Names that this libseccomp does not know are left to the default, as runc and crun do.
            let Ok(call) = ScmpSyscall::from_name(name) else { continue };
            // Several conditions on one argument mean "any of them" in the specification's reference; libseccomp takes
            // one comparison an argument, so each gets its own rule then.
            let repeated = rule
                .args
                .iter()
                .enumerate()
                .any(|(at, one)| rule.args[..at].iter().any(|other| other.index == one.index));
            if repeated {
                for comparison in &comparisons {
                    filter.add_rule_conditional(action, call, &[*comparison]).map_err(text)?;
                }
            } else {
                filter.add_rule_conditional(action, call, &comparisons).map_err(text)?;
            }
        }
    }
    let file = crate::raw::memory_file().map_err(|errno| errno.desc().to_owned())?;
    filter.export_bpf(&file).map_err(text)?;
    Ok(file)
}

fn compile(profile: &Profile) -> Result<Vec<Instruction>, String> {
    let mut file = program(profile)?;
    let mut bytes = Vec::new();
    file.rewind().and_then(|()| file.read_to_end(&mut bytes)).map_err(|error| error.to_string())?;
    Instruction::read_all(&bytes).ok_or_else(|| "libseccomp has written half an instruction".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use syscalls::abi::Arch;
    use syscalls::filter::{SeccompData, simulate};

    fn compiled(text: &str) -> Result<Vec<Instruction>, String> {
        compile(&serde_json::from_str(text).unwrap())
    }

    #[test]
    fn a_profile_is_compiled_as_it_reads() {
        let program = compiled(
            r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "architectures": ["SCMP_ARCH_X86_64"],
                "syscalls": [{"names": ["read", "no_such_call"], "action": "SCMP_ACT_ALLOW"},
                             {"names": ["personality"], "action": "SCMP_ACT_ALLOW",
                              "args": [{"index": 0, "value": 8, "op": "SCMP_CMP_EQ"}]}]}"#,
        )
        .unwrap();
        let arch = Arch::native();
        let verdict = |name: &str, first: u64| {
            let nr = u32::try_from(arch.number(name).unwrap()).unwrap();
            let args = [first, 0, 0, 0, 0, 0];
            simulate(&program, &SeccompData { nr, arch: arch.audit(), instruction_pointer: 0, args })
        };
        assert_eq!(verdict("read", 0), 0x7fff_0000);
        assert_eq!(verdict("write", 0), 0x0005_0000 | 38);
        assert_eq!(verdict("personality", 8), 0x7fff_0000);
        assert_eq!(verdict("personality", 9), 0x0005_0000 | 38);
    }

    #[test]
    fn what_cannot_be_honoured_is_refused() {
        for (text, expected) in [
            (r#"{"defaultAction": "SCMP_ACT_NOTIFY"}"#, "listener"),
            (r#"{"defaultAction": "SCMP_ACT_MAYBE"}"#, "SCMP_ACT_MAYBE"),
            (
                r#"{"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/x",
                    "syscalls": [{"names": ["read"], "action": "SCMP_ACT_NOTIFY"}]}"#,
                "listenerPath",
            ),
            (r#"{"defaultAction": "SCMP_ACT_ALLOW", "listenerMetadata": "x"}"#, "listenerMetadata"),
            (r#"{"defaultAction": "SCMP_ACT_KILL", "defaultErrnoRet": 1}"#, "no errno"),
            (
                r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": [], "action": "SCMP_ACT_ERRNO"}]}"#,
                "names no calls",
            ),
        ] {
            let error = compiled(text).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        compiled(r#"{"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/x"}"#).unwrap();
    }
}
