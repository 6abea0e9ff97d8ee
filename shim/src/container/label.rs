//! `apparmorProfile` and `selinuxLabel`: what a security module of the host calls the program, once it runs.
//!
//! Both are told to the kernel in `/proc/self/attr`, before there is a filter and while rights are left. That the module is
//! there, the runtime has seen: a label that has no effect is refused.

use nix::errno::Errno;
use oci_spec::runtime::Process;

use super::proc::Proc;
use crate::failure::{Failure, Step};

/// Has the program run under the labels of the configuration.
pub(super) fn apply(process: &Process, proc: &Proc) -> Result<(), Failure> {
    for (place, text, name) in wanted(process) {
        let write = match proc.write(place, &text) {
            // Before Linux 5.8 a lone AppArmor is asked at the place of all modules.
            Err(Errno::ENOENT) => proc.write("self/attr/exec", &text),
            other => other,
        };
        write
            .step(|| format!("run the program as {name}"))
            .map_err(|failure| failure.remedy("load it on the host, or leave it out of config.json"))?;
    }
    Ok(())
}

fn wanted(process: &Process) -> Vec<(&'static str, String, String)> {
    let set = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let profile = set(process.apparmor_profile());
    let label = set(process.selinux_label());
    let profile = profile.map(|name| ("self/attr/apparmor/exec", format!("exec {name}"), name));
    let label = label.map(|name| ("self/attr/exec", name.clone(), name));
    profile.into_iter().chain(label).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn process(more: &str) -> Process {
        serde_json::from_str(&format!(r#"{{"user": {{}}, "cwd": "/"{more}}}"#)).unwrap()
    }

    #[test]
    fn each_module_is_told_in_its_own_words() {
        assert!(wanted(&process(r#", "apparmorProfile": "", "selinuxLabel": """#)).is_empty());
        let both = wanted(&process(r#", "apparmorProfile": "box", "selinuxLabel": "a:b:c:s0""#));
        let told: Vec<_> = both.iter().map(|(place, text, _)| (*place, text.as_str())).collect();
        assert_eq!(told, [("self/attr/apparmor/exec", "exec box"), ("self/attr/exec", "a:b:c:s0")]);
    }

    #[test]
    fn a_label_that_cannot_be_had_is_an_error() {
        let failure = apply(&process(r#", "apparmorProfile": "no-such-profile""#), &Proc::open().unwrap()).unwrap_err();
        assert!(failure.to_string().contains("no-such-profile"), "{failure}");
    }
}
