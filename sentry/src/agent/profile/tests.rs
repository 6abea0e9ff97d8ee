use syscalls::filter::{Instruction, MAX_INSTRUCTIONS, SeccompData, simulate};
use syscalls::table::Op;

use super::*;

fn destination() -> Destination {
    Destination { socket: "/run/sentry/agent.sock".into(), metadata: "default".into(), wait_killable: false }
}

/// The profile as libseccomp takes it, to be run by ourselves: it asks nobody, so what would be asked about is a trap.
fn compiled(text: &str) -> Vec<Instruction> {
    let mut profile: serde_json::Value = serde_json::from_str(text).unwrap();
    for key in ["listenerPath", "listenerMetadata"] {
        profile.as_object_mut().unwrap().remove(key);
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), profile.to_string().replace("SCMP_ACT_NOTIFY", "SCMP_ACT_TRAP")).unwrap();
    crate::monitor::profile::load(file.path()).unwrap()
}

/// What libseccomp's program returns where the table says this.
fn expected(verdict: Verdict) -> u32 {
    match verdict {
        Verdict::Notify => 0x0003_0000,
        verdict => verdict.encode(),
    }
}

#[test]
fn what_libseccomp_makes_of_it_is_what_the_table_says() {
    let container = Container { memory: Some(1), ..Container::default() };
    for name in ["default", "plain"] {
        let policy = ContainerPolicy::built_in(name).unwrap();
        let program = compiled(&write(&policy, &destination()).unwrap());
        assert!(program.len() < MAX_INSTRUCTIONS, "{} instructions", program.len());
        let routes = policy.routes(&container);
        for row in table::all() {
            let Some(number) = row.number(routes.arch()) else { continue };
            // This libseccomp may not know the newest calls; runtimes leave those to the default as well.
            if libseccomp::ScmpSyscall::from_name(row.name).is_err() {
                continue;
            }
            let route = routes.get(number).unwrap();
            for registers in trials(route) {
                let data = SeccompData {
                    nr: u32::try_from(number).unwrap(),
                    arch: routes.arch().audit(),
                    instruction_pointer: 0,
                    args: registers,
                };
                let verdict = answered(routes.verdict(number, &registers), row, route);
                assert_eq!(simulate(&program, &data), expected(verdict), "{name}: {} {registers:x?}", row.name);
            }
        }
    }
}

/// Registers near what the route asks about.
fn trials(route: &Route) -> Vec<[u64; 6]> {
    if route.checks.is_empty() {
        return vec![[0; 6], [u64::MAX; 6]];
    }
    let constants = route.checks.iter().flat_map(|check| check.all).flat_map(|test| match test.op {
        Op::Equal(x) | Op::NotEqual(x) | Op::AnyOf(x) | Op::Greater(x) => [x, x + 1],
        Op::Masked { mask, value } => [mask, value],
    });
    let mut interesting: Vec<u64> = constants.flat_map(|x| [x, !x, x | 1 << 40, x & x.wrapping_neg()]).collect();
    interesting.extend([0, u64::MAX, 0xFFFF_FFFF]);
    let pick = |number: usize| interesting[number % interesting.len()];
    (0..600usize)
        .map(|number| std::array::from_fn(|place| pick(number * (2 * place + 1) / (place + 1) + place)))
        .collect()
}

#[test]
fn it_allows_nothing_that_podman_refuses() {
    let Ok(text) = std::fs::read_to_string("/usr/share/containers/seccomp.json") else {
        eprintln!("SKIPPED: podman's profile is not here");
        return;
    };
    // Newer than podman's list of 2022, but for the first; its successors have them.
    const NEWER: &[&str] = &[
        // Podman names it for containers with the capability that the kernel asks for anyway.
        "chroot",
        "cachestat",
        "fchmodat2",
        "futex_requeue",
        "futex_wait",
        "futex_waitv",
        "futex_wake",
        "getxattrat",
        "listmount",
        "listxattrat",
        "map_shadow_stack",
        "mseal",
        "removexattrat",
        "setxattrat",
        "statmount",
    ];
    let theirs: serde_json::Value = serde_json::from_str(&text).unwrap();
    let allowed = |profile: &serde_json::Value| -> Vec<String> {
        let rules = profile["syscalls"].as_array().unwrap().iter();
        let rules = rules.filter(|rule| rule["action"] == "SCMP_ACT_ALLOW" && rule["includes"].get("caps").is_none());
        let names = rules.flat_map(|rule| rule["names"].as_array().unwrap().clone());
        names.map(|name| name.as_str().unwrap().to_owned()).collect()
    };
    let theirs = allowed(&theirs);
    for name in ["default", "plain"] {
        let policy = ContainerPolicy::built_in(name).unwrap();
        let ours: serde_json::Value = serde_json::from_str(&write(&policy, &destination()).unwrap()).unwrap();
        let wider: Vec<String> = allowed(&ours)
            .into_iter()
            .filter(|name| !theirs.contains(name) && !NEWER.contains(&name.as_str()))
            .collect();
        assert!(wider.is_empty(), "{name} allows {wider:?}");
    }
}

#[test]
fn it_sends_the_container_to_the_agent() {
    let written = |policy: &str, wait_killable| -> serde_json::Value {
        let destination = Destination { wait_killable, ..destination() };
        serde_json::from_str(&write(&ContainerPolicy::built_in(policy).unwrap(), &destination).unwrap()).unwrap()
    };
    let plain = written("default", false);
    assert_eq!(
        (&plain["listenerPath"], &plain["listenerMetadata"]),
        (&"/run/sentry/agent.sock".into(), &"default".into())
    );
    assert!(plain.get("flags").is_none());
    assert_eq!(written("default", true)["flags"][0], "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV");
    let trapped: Vec<&str> = plain["syscalls"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|rule| rule["action"] == "SCMP_ACT_NOTIFY")
        .flat_map(|rule| rule["names"].as_array().unwrap())
        .map(|name| name.as_str().unwrap())
        .collect();
    for name in ["mount", "umount2", "clock_settime", "mknod", "mknodat", "sysinfo"] {
        assert!(trapped.contains(&name), "{name} is not among {trapped:?}");
    }
}

#[test]
fn a_profile_that_stops_the_runtime_is_not_written() {
    let judge = write(&ContainerPolicy::built_in("judge").unwrap(), &destination()).unwrap_err().to_string();
    assert!(judge.contains("the policy judge cannot be a profile: it refuses "), "{judge}");
    let told = |changed: &'static str, verdict| {
        let verdicts = |name: &str| vec![if name == changed { verdict } else { Verdict::Allow }];
        can_be_started("mine", verdicts).map_err(|failure| failure.to_string())
    };
    let trapped = told("write", Verdict::Notify).unwrap_err();
    assert!(
        trapped.contains("it answers write, which runc and crun call before anybody can answer; choose"),
        "{trapped}"
    );
    let refused = told("setgroups", Verdict::Fail(Errno::EPERM)).unwrap_err();
    assert!(refused.contains("it refuses setgroups, which runc and crun need"), "{refused}");
    assert!(told("setgroups", Verdict::Notify).is_ok());
}

#[test]
fn every_name_of_the_runtimes_calls_is_one() {
    for name in BEFORE_HANDING_OVER.iter().chain(BEFORE_THE_PROGRAM) {
        assert!(table::find(name).is_some(), "there is no {name}");
    }
}
