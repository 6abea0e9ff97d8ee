//! `resources.devices`: which devices the container may make and open.
//!
//! Version 1 has a controller for it, version 2 a small eBPF program attached to the group: the later of two rules about the
//! same device holds. Only root of the host may do either; for others devices cannot be made at all, and those that are
//! there are guarded by their permissions.

use std::os::fd::AsFd;
use std::path::Path;

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};
use shim::container::sys::{attach_device_program, load_device_program};
use shim::failure::{Failure, Step};

use super::{Groups, write_step};

/// What every container may use, whatever the configuration says: making any node (which mknod(2) alone gives nobody
/// access to), the harmless devices and terminals.
const ALWAYS: [(LinuxDeviceType, Option<u32>, Option<u32>, &str); 10] = {
    use LinuxDeviceType::{B, C};
    [
        (C, None, None, "m"),
        (B, None, None, "m"),
        (C, Some(1), Some(3), "rwm"),
        (C, Some(1), Some(5), "rwm"),
        (C, Some(1), Some(7), "rwm"),
        (C, Some(1), Some(8), "rwm"),
        (C, Some(1), Some(9), "rwm"),
        (C, Some(5), Some(0), "rwm"),
        (C, Some(5), Some(2), "rwm"),
        (C, Some(136), None, "rwm"),
    ]
};

const MAKE: u8 = 1;
const READ: u8 = 2;
const WRITE: u8 = 4;

/// One rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rule {
    allow: bool,
    /// `None` for both kinds.
    kind: Option<LinuxDeviceType>,
    major: Option<u32>,
    minor: Option<u32>,
    access: u8,
}

fn access(text: &str) -> Option<u8> {
    text.chars().try_fold(0, |all, letter| {
        Some(
            all | match letter {
                'm' => MAKE,
                'r' => READ,
                'w' => WRITE,
                _ => return None,
            },
        )
    })
}

impl Rule {
    fn parse(rule: &LinuxDeviceCgroup) -> Result<Self, Failure> {
        let bad = || {
            Failure::check(format!("use the device rule {rule}"))
                .remedy("it is like {\"type\": \"c\", \"major\": 1, \"minor\": 3, \"access\": \"rwm\"}")
        };
        let kind = match rule.typ().unwrap_or_default() {
            LinuxDeviceType::A => None,
            LinuxDeviceType::P => return Err(bad()),
            LinuxDeviceType::U => Some(LinuxDeviceType::C),
            kind => Some(kind),
        };
        // Below zero stands for any.
        let number = |number: Option<i64>| match number {
            Some(number) if number >= 0 => u32::try_from(number).map(Some).map_err(|_| bad()),
            _ => Ok(None),
        };
        let text = rule.access().as_deref().filter(|text| !text.is_empty()).unwrap_or("rwm");
        let access = access(text).ok_or_else(bad)?;
        Ok(Self { allow: rule.allow(), kind, major: number(rule.major())?, minor: number(rule.minor())?, access })
    }

    /// As version 1 takes it.
    fn line(self) -> String {
        // `a` means everything, whatever follows.
        if self.kind.is_none() && self.major.is_none() && self.minor.is_none() && self.access == MAKE | READ | WRITE {
            return "a".to_owned();
        }
        let number = |number: Option<u32>| number.map_or("*".to_owned(), |number| number.to_string());
        let letters = [(READ, 'r'), (WRITE, 'w'), (MAKE, 'm')];
        let access: String =
            letters.iter().filter(|(bit, _)| self.access & bit != 0).map(|(_, letter)| letter).collect();
        let kind = self.kind.unwrap_or_default();
        format!("{} {}:{} {access}", kind.as_str(), number(self.major), number(self.minor))
    }

    /// Rules about both kinds of devices, but not about everything, are two.
    fn each_kind(self) -> Vec<Self> {
        if self.kind.is_some() || self.line() == "a" {
            return vec![self];
        }
        [LinuxDeviceType::C, LinuxDeviceType::B].map(|kind| Self { kind: Some(kind), ..self }).to_vec()
    }
}

fn parse(rules: &[LinuxDeviceCgroup]) -> Result<Vec<Rule>, Failure> {
    let mut parsed = Vec::new();
    for rule in rules {
        parsed.extend(Rule::parse(rule)?.each_kind());
    }
    // A container that may do everything needs no exceptions.
    if parsed.iter().any(|rule| !rule.allow) {
        parsed.extend(ALWAYS.map(|(kind, major, minor, text)| Rule {
            allow: true,
            kind: Some(kind),
            major,
            minor,
            access: access(text).unwrap_or(0),
        }));
    }
    Ok(parsed)
}

pub(super) fn limit(groups: &Groups, rules: &[LinuxDeviceCgroup], warnings: &mut Vec<String>) -> Result<(), Failure> {
    let rules = parse(rules)?;
    if groups.rootless {
        return Ok(());
    }
    if let Some(group) = groups.legacy("devices") {
        for rule in rules {
            let file = if rule.allow { "devices.allow" } else { "devices.deny" };
            write_step(&group.join(file), &rule.line())?;
        }
        return Ok(());
    }
    let Some(group) = groups.unified() else {
        if rules.iter().any(|rule| !rule.allow) {
            let why = groups.missing.as_deref().unwrap_or("there is no hierarchy for it");
            warnings.push(format!("the container's devices are not limited: {why}"));
        }
        return Ok(());
    };
    attach(group, &program(&rules))
}

/// An eBPF instruction as the kernel has it in memory.
fn instruction(code: u8, target: u8, source: u8, jump: i16, value: i32) -> u64 {
    let [j0, j1] = jump.to_le_bytes();
    let [v0, v1, v2, v3] = value.to_le_bytes();
    u64::from_le_bytes([code, source << 4 | target, j0, j1, v0, v1, v2, v3])
}

/// The rules from the last to the first: the first that speaks of the device and of what is to be done decides. `r1` points
/// to `struct bpf_cgroup_dev_ctx`: kind and access in one word, major, minor.
fn program(rules: &[Rule]) -> Vec<u64> {
    const LOAD_WORD: u8 = 0x61;
    const MOVE: u8 = 0xbc;
    const MOVE_VALUE: u8 = 0xb4;
    const AND_VALUE: u8 = 0x54;
    const SHIFT_RIGHT: u8 = 0x74;
    const JUMP_IF_VALUE: u8 = 0x16;
    const JUMP_UNLESS_VALUE: u8 = 0x56;
    const JUMP_UNLESS: u8 = 0x5e;
    const EXIT: u8 = 0x95;
    let mut code = vec![
        instruction(LOAD_WORD, 2, 1, 0, 0),
        instruction(MOVE, 3, 2, 0, 0),
        instruction(SHIFT_RIGHT, 3, 0, 0, 16),
        instruction(AND_VALUE, 2, 0, 0, 0xffff),
        instruction(LOAD_WORD, 4, 1, 4, 0),
        instruction(LOAD_WORD, 5, 1, 8, 0),
    ];
    for rule in rules.iter().rev() {
        // (instruction, whether it jumps to the next rule)
        let mut checks: Vec<(u8, u8, u8, i32, bool)> = Vec::new();
        if let Some(kind) = rule.kind {
            checks.push((JUMP_UNLESS_VALUE, 2, 0, if kind == LinuxDeviceType::B { 1 } else { 2 }, true));
        }
        if rule.access != MAKE | READ | WRITE {
            checks.push((MOVE, 6, 3, 0, false));
            checks.push((AND_VALUE, 6, 0, rule.access.into(), false));
            // It allows when it covers all that is wanted, and forbids when it covers any of it.
            checks.push(if rule.allow { (JUMP_UNLESS, 6, 3, 0, true) } else { (JUMP_IF_VALUE, 6, 0, 0, true) });
        }
        for (register, number) in [(4, rule.major), (5, rule.minor)] {
            if let Some(number) = number {
                checks.push((JUMP_UNLESS_VALUE, register, 0, number.cast_signed(), true));
            }
        }
        let all = checks.len();
        for (index, (op, target, source, value, jumps)) in checks.into_iter().enumerate() {
            // Over the rest of the checks and the two instructions that decide.
            let jump = if jumps { i16::try_from(all - index - 1 + 2).unwrap_or(0) } else { 0 };
            code.push(instruction(op, target, source, jump, value));
        }
        code.push(instruction(MOVE_VALUE, 0, 0, 0, rule.allow.into()));
        code.push(instruction(EXIT, 0, 0, 0, 0));
        if all == 0 {
            // It speaks of everything; the kernel refuses code that is never reached.
            return code;
        }
    }
    code.push(instruction(MOVE_VALUE, 0, 0, 0, 1));
    code.push(instruction(EXIT, 0, 0, 0, 0));
    code
}

/// Attaches the program in place of one that is there; groups below can have none of their own.
fn attach(group: &Path, program: &[u64]) -> Result<(), Failure> {
    let step = || format!("limit the devices of {}", group.display());
    let directory = std::fs::File::open(group).map_err(|error| Failure::new(step(), super::errno(&error)))?;
    let program = load_device_program(program).step(step)?;
    attach_device_program(directory.as_fd(), program.as_fd()).step(step)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(text: &str) -> Vec<Rule> {
        parse(&serde_json::from_str::<Vec<LinuxDeviceCgroup>>(text).unwrap()).unwrap()
    }

    /// Runs a program of ours as the kernel would.
    fn run(program: &[u64], kind: u32, access: u32, major: u32, minor: u32) -> bool {
        let context = [access << 16 | kind, major, minor];
        let (mut registers, mut at) = ([0u32; 10], 0);
        loop {
            let [code, both, j0, j1, v0, v1, v2, v3] = program[at].to_le_bytes();
            let (target, source) = (usize::from(both & 15), usize::from(both >> 4));
            let jump = usize::try_from(i16::from_le_bytes([j0, j1])).unwrap();
            let value = u32::from_le_bytes([v0, v1, v2, v3]);
            at += 1;
            match code {
                0x61 => registers[target] = context[jump / 4],
                0xbc => registers[target] = registers[source],
                0xb4 => registers[target] = value,
                0x54 => registers[target] &= value,
                0x74 => registers[target] >>= value,
                0x16 => at += if registers[target] == value { jump } else { 0 },
                0x56 => at += if registers[target] == value { 0 } else { jump },
                0x5e => at += if registers[target] == registers[source] { 0 } else { jump },
                0x95 => return registers[0] == 1,
                other => panic!("{other:#x}"),
            }
        }
    }

    #[test]
    fn the_later_rule_holds() {
        let program = program(&rules(
            r#"[{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rw"}]"#,
        ));
        let (block, character) = (1, 2);
        assert!(run(&program, character, 6, 10, 229), "fuse");
        assert!(!run(&program, character, 7, 10, 228) && !run(&program, block, 2, 8, 0), "others");
        assert!(run(&program, character, 6, 1, 3) && run(&program, character, 6, 136, 7), "null, terminals");
        assert!(run(&program, block, 1, 8, 0), "made, never opened");
        assert!(!run(&program, block, 3, 8, 0), "made and read");
    }

    #[test]
    fn without_a_word_against_it_all_is_allowed() {
        let all = rules(r#"[{"allow": true, "access": "rwm"}]"#);
        assert_eq!((all.len(), all[0].line()), (1, "a".to_owned()));
        assert!(run(&program(&all), 1, 7, 8, 0));
    }

    #[test]
    fn lines_are_what_version_1_takes() {
        let lines = |text| rules(text).into_iter().map(Rule::line).collect::<Vec<_>>();
        assert_eq!(lines(r#"[{"allow": true, "type": "b", "major": 8, "access": "r"}]"#), ["b 8:* r"]);
        assert_eq!(lines(r#"[{"allow": true, "type": "a", "major": 8, "minor": -1}]"#), ["c 8:* rwm", "b 8:* rwm"]);
        assert_eq!(lines(r#"[{"allow": false}]"#)[0], "a");
        assert!(parse(&serde_json::from_str::<Vec<_>>(r#"[{"allow": true, "access": "x"}]"#).unwrap()).is_err());
    }
}
