//! libseccomp as an oracle: another compiler, written by others, must find the same verdicts.
//!
//! libseccomp's rules have no order, compare whole registers, and take one comparison an argument. So what is translated:
//! each position in the ordered checks becomes a filter of its own, and the first filter that matches counts; every
//! comparison becomes `register & mask == value` (several alternatives for "any of these bits", "not equal" and
//! "greater"), with the mask cut to the width of the parameter; comparisons of one argument are merged.
#![allow(clippy::unwrap_used)] // a panic is how a test fails

use libseccomp::{ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall};

use super::simulate::simulate;
use super::tests::{POLICIES, cases, data};
use super::*;
use crate::abi::Arch;
use crate::table::{Op, Routes, Test, Verdict, find};

/// `register & mask == value`, for one argument.
#[derive(Clone, Copy, Debug)]
struct Masked {
    arg: usize,
    mask: u64,
    value: u64,
}

/// The alternatives, any of which makes `test` hold.
fn alternatives(test: &Test, width: u64) -> Vec<Masked> {
    let arg = test.arg;
    let bits = || (0..64).map(|bit| 1u64 << bit).filter(move |bit| width & bit != 0);
    let one = |mask: u64, value: u64| Masked { arg, mask: mask & width, value: value & width };
    match test.op {
        Op::Equal(x) => vec![one(u64::MAX, x)],
        Op::Masked { mask, value } => vec![one(mask, value)],
        Op::AnyOf(mask) => bits().filter(|bit| mask & bit != 0).map(|bit| one(bit, bit)).collect(),
        Op::NotEqual(x) => bits().map(|bit| one(bit, !x & bit)).collect(),
        // The highest bit in which they differ is set in the register: above it they are the same.
        Op::Greater(x) => bits()
            .filter(|bit| x & bit == 0)
            .map(|bit| {
                let from = !(bit - 1);
                one(from, (x & from) | bit)
            })
            .collect(),
    }
}

/// All conjunctions that make every one of `tests` hold.
fn conjunctions(tests: &[Test], width: impl Fn(usize) -> u64) -> Vec<Vec<Masked>> {
    let mut all: Vec<Vec<Masked>> = vec![Vec::new()];
    for test in tests {
        let choices = alternatives(test, width(test.arg));
        all = all.iter().flat_map(|so_far| choices.iter().filter_map(|choice| merge(so_far, *choice))).collect();
    }
    all
}

/// Adds a comparison; `None` if it contradicts what is there.
fn merge(so_far: &[Masked], new: Masked) -> Option<Vec<Masked>> {
    let mut merged = so_far.to_vec();
    match merged.iter_mut().find(|one| one.arg == new.arg) {
        None => merged.push(new),
        Some(one) => {
            let common = one.mask & new.mask;
            if one.value & common != new.value & common {
                return None;
            }
            one.mask |= new.mask;
            one.value |= new.value;
        }
    }
    Some(merged)
}

fn action(verdict: Verdict) -> ScmpAction {
    match verdict {
        Verdict::Allow => ScmpAction::Allow,
        Verdict::Fail(errno) => ScmpAction::Errno(errno as i32),
        Verdict::Notify => ScmpAction::Notify,
        Verdict::Kill => ScmpAction::KillProcess,
    }
}

/// What no rule matched, in filters for one position of the checks.
const NO_MATCH: u32 = 0x7ffc_0000;

/// "None of these values": written the other way round, as the values that do *not* match, for as conjunctions of single
/// bits it would be more rules than memory holds.
fn is_exclusion(tests: &[Test]) -> bool {
    tests.len() > 1 && tests.iter().all(|test| matches!(test.op, Op::NotEqual(_)) && test.arg == tests[0].arg)
}

/// One position of the ordered checks.
struct Position {
    program: Vec<Instruction>,
    /// Numbers whose check is an exclusion, with the verdict when nothing was excluded.
    exclusions: Vec<(usize, Verdict)>,
}

struct Oracle {
    positions: Vec<Position>,
    otherwise: Vec<Instruction>,
    /// Numbers that this libseccomp cannot name on a foreign architecture.
    unknown: Vec<usize>,
}

fn context(arch: Arch, default: ScmpAction) -> ScmpFilterContext {
    let mut context = ScmpFilterContext::new(default).unwrap();
    let wanted = if arch == Arch::X86_64 { ScmpArch::X8664 } else { ScmpArch::Aarch64 };
    if arch != Arch::native() {
        context.add_arch(wanted).unwrap();
        context.remove_arch(ScmpArch::native()).unwrap();
    }
    context
}

fn export(context: &ScmpFilterContext) -> Vec<Instruction> {
    use std::io::{Read, Seek};
    let mut file = tempfile::tempfile().unwrap();
    context.export_bpf(&file).unwrap();
    let mut bytes = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut bytes).unwrap();
    let field = |bytes: &[u8]| Instruction {
        code: u16::from_ne_bytes([bytes[0], bytes[1]]),
        jt: bytes[2],
        jf: bytes[3],
        k: u32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
    };
    bytes.chunks_exact(8).map(field).collect()
}

impl Oracle {
    fn new(routes: &Routes) -> Self {
        let arch = routes.arch();
        let numbers: Vec<usize> = (0..routes.len()).filter(|number| routes.get(*number).is_some()).collect();
        let mut unknown = Vec::new();
        let mut call = |number: usize| {
            if arch == Arch::native() {
                return Some(ScmpSyscall::from(i32::try_from(number).unwrap()));
            }
            let found = ScmpSyscall::from_name(arch.name(number).unwrap()).ok();
            // Names older than libseccomp 2.5.4 (Linux 5.17) it must know.
            if found.is_none() && !unknown.contains(&number) {
                assert!(
                    number >= 444 || find(arch.name(number).unwrap()).is_some_and(|row| row.parameters.is_empty()),
                    "{number}"
                );
                unknown.push(number);
            }
            found
        };
        let deepest = numbers.iter().map(|number| routes.get(*number).unwrap().checks.len()).max().unwrap();
        let mut positions = Vec::new();
        for position in 0..deepest {
            let mut filter = context(arch, ScmpAction::Log);
            let mut exclusions = Vec::new();
            for number in &numbers {
                let Some(check) = routes.get(*number).unwrap().checks.get(position) else { continue };
                let Some(call) = call(*number) else { continue };
                let width = |arg: usize| crate::table::width(routes.parameters(*number), arg).bits();
                if is_exclusion(check.all) {
                    exclusions.push((*number, check.then));
                    for test in check.all {
                        let Op::NotEqual(x) = test.op else { unreachable!() };
                        let (arg, mask) = (u32::try_from(test.arg).unwrap(), width(test.arg));
                        let excluded = ScmpArgCompare::new(arg, ScmpCompareOp::MaskedEqual(mask), x & mask);
                        filter.add_rule_conditional(ScmpAction::Trap, call, &[excluded]).unwrap();
                    }
                    continue;
                }
                for conjunction in conjunctions(check.all, width) {
                    let comparisons: Vec<ScmpArgCompare> = conjunction
                        .iter()
                        .map(|one| {
                            let arg = u32::try_from(one.arg).unwrap();
                            ScmpArgCompare::new(arg, ScmpCompareOp::MaskedEqual(one.mask), one.value)
                        })
                        .collect();
                    filter.add_rule_conditional(action(check.then), call, &comparisons).unwrap();
                }
            }
            positions.push(Position { program: export(&filter), exclusions });
        }
        let default = Verdict::Fail(nix::errno::Errno::ENOSYS);
        let mut filter = context(arch, action(default));
        for number in &numbers {
            let verdict = routes.get(*number).unwrap().otherwise;
            if verdict == default {
                continue;
            }
            if let Some(call) = call(*number) {
                filter.add_rule(action(verdict), call).unwrap();
            }
        }
        Self { positions, otherwise: export(&filter), unknown }
    }

    fn verdict(&self, data: &super::simulate::SeccompData) -> u32 {
        let matched = self.positions.iter().find_map(|position| {
            let verdict = simulate(&position.program, data);
            let exclusion = position.exclusions.iter().find(|(number, _)| u32::try_from(*number) == Ok(data.nr));
            match exclusion {
                Some((_, then)) => (verdict == NO_MATCH).then(|| then.encode()),
                None => (verdict != NO_MATCH).then_some(verdict),
            }
        });
        matched.unwrap_or_else(|| simulate(&self.otherwise, data))
    }
}

#[test]
fn libseccomp_finds_the_same_verdicts() {
    for arch in Arch::ALL {
        let mut compared = 0u64;
        for (surface, features) in POLICIES {
            let routes = Routes::new(arch, surface, features);
            let program = compile(&routes);
            let oracle = Oracle::new(&routes);
            for number in 0..600 {
                if oracle.unknown.contains(&number) {
                    continue;
                }
                for args in cases(&routes, number) {
                    let data = data(arch, number, args);
                    let (ours, theirs) = (simulate(&program, &data), oracle.verdict(&data));
                    assert_eq!(ours, theirs, "{arch:?} {surface:?} {features:?} {number} {args:x?}");
                    compared += 1;
                }
            }
            assert!(oracle.unknown.len() < 40, "{arch:?}: {:?}", oracle.unknown);
        }
        assert!(compared > 5000, "{compared}");
    }
}
