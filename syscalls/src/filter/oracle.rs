//! libseccomp as an oracle: the same rules, compiled by others, must give the same verdicts.
//!
//! libseccomp has no first match: its rules for one call are alternatives without an order, each compares an argument
//! once, and after one comparison held it does not come back to the siblings of that comparison. So the ordered checks
//! of a route are translated first, by code that shares nothing with our compiler:
//!
//! * each comparison becomes a set of disjoint *cubes*, "these bits have these values": `!=` and `>` by the first bit
//!   that differs, "any of these bits" by the lowest one that is set;
//! * the conjunction of tests is the product of their cubes;
//! * the order is resolved by cutting the 32-bit halves of the arguments, one after the other, into pieces on which every
//!   check has one outcome. Those pieces are the rules.
//!
//! Constant verdicts share one program whose default is `ENOSYS`; a route with checks gets one of its own whose default
//! is the route's `otherwise`. libseccomp 2.5 does not know the newest names, which it needs for translating to another
//! architecture; those numbers are compiled as if they were x86-64's.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek};

use libseccomp::{ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall};
use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};

use super::probes::probes;
use super::tests::{call, policies};
use super::{Instruction, compile, simulate};
use crate::abi::Arch;
use crate::args::{Parameter, Width};
use crate::table::{Check, Op, Routes, Test, Verdict, width};

/// The 32-bit halves of the arguments, low ones first: half `2 * n` and `2 * n + 1` belong to argument `n`.
const HALVES: usize = 12;

/// "These bits have these values", on one half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cube {
    mask: u32,
    value: u32,
}

const ANY: Cube = Cube { mask: 0, value: 0 };

impl Cube {
    fn meet(self, other: Cube) -> Option<Cube> {
        let agree = (self.value ^ other.value) & self.mask & other.mask == 0;
        agree.then_some(Cube { mask: self.mask | other.mask, value: self.value | other.value })
    }

    /// Itself in pieces, each within `other` or outside of it.
    fn cut(self, other: Cube) -> Vec<Cube> {
        let Some(inside) = self.meet(other) else { return vec![self] };
        let mut pieces = vec![inside];
        let mut rest = self;
        // From the highest bit down: most comparisons are about leading bits, so pieces stay few.
        for bit in (0..32).rev().map(|bit| 1 << bit).filter(|bit| other.mask & !self.mask & bit != 0) {
            pieces.push(Cube { mask: rest.mask | bit, value: rest.value | (!other.value & bit) });
            rest = Cube { mask: rest.mask | bit, value: rest.value | (other.value & bit) };
        }
        pieces
    }
}

/// A product of cubes.
type Region = [Cube; HALVES];

fn meet(one: &Region, other: &Region) -> Option<Region> {
    let mut both = [ANY; HALVES];
    for half in 0..HALVES {
        both[half] = one[half].meet(other[half])?;
    }
    Some(both)
}

/// The cubes of one comparison, as whole registers: mask and value.
fn cubes(op: Op, width: Width) -> Vec<(u64, u64)> {
    let all = match width {
        Width::W32 => 0xFFFF_FFFF,
        Width::W64 => u64::MAX,
    };
    let bits = (0..64).map(|bit| 1_u64 << bit).filter(|bit| all & bit != 0);
    let above = |bit: u64| all & !(bit | (bit - 1));
    match op {
        Op::Equal(x) => vec![(all, x & all)],
        Op::NotEqual(x) => bits.map(|bit| (above(bit) | bit, (x & above(bit)) | (!x & bit))).collect(),
        Op::Greater(x) => {
            bits.filter(|bit| x & bit == 0).map(|bit| (above(bit) | bit, (x & above(bit)) | bit)).collect()
        }
        Op::AnyOf(mask) => {
            bits.filter(|bit| mask & bit != 0).map(|bit| (mask & (bit | (bit - 1)) & all, bit)).collect()
        }
        Op::Masked { mask, value } if value & all & !mask != 0 => Vec::new(),
        Op::Masked { mask, value } => vec![(mask & all, value & all)],
    }
}

#[allow(clippy::cast_possible_truncation)]
fn regions_of_test(test: &Test, parameters: &[Parameter]) -> Vec<Region> {
    let place = |(mask, value): (u64, u64)| {
        let mut region = [ANY; HALVES];
        region[2 * test.arg] = Cube { mask: mask as u32, value: value as u32 };
        region[2 * test.arg + 1] = Cube { mask: (mask >> 32) as u32, value: (value >> 32) as u32 };
        region
    };
    cubes(test.op, width(parameters, test.arg)).into_iter().map(place).collect()
}

fn regions_of_check(check: &Check, parameters: &[Parameter]) -> Vec<Region> {
    let mut regions = vec![[ANY; HALVES]];
    for test in check.all {
        let alternatives = regions_of_test(test, parameters);
        regions = regions
            .iter()
            .flat_map(|region| alternatives.iter().filter_map(move |alternative| meet(region, alternative)))
            .collect();
    }
    regions
}

/// Cuts half after half until the order of the checks is resolved; writes down a piece and its verdict.
fn resolve(
    live: &[(Region, Verdict)],
    half: usize,
    piece: &Region,
    otherwise: Verdict,
    rules: &mut Vec<(Region, Verdict)>,
) {
    let Some((first, verdict)) = live.first() else {
        rules.push((*piece, otherwise));
        return;
    };
    if first[half..].iter().all(|cube| *cube == ANY) {
        rules.push((*piece, *verdict));
        return;
    }
    let mut atoms = vec![ANY];
    for (region, _) in live {
        atoms = atoms.into_iter().flat_map(|atom| atom.cut(region[half])).collect();
    }
    for atom in atoms {
        let inside: Vec<_> = live.iter().filter(|(region, _)| region[half].meet(atom).is_some()).copied().collect();
        let mut piece = *piece;
        piece[half] = atom;
        resolve(&inside, half + 1, &piece, otherwise, rules);
    }
}

fn action(verdict: Verdict) -> ScmpAction {
    match verdict {
        Verdict::Allow => ScmpAction::Allow,
        Verdict::Fail(errno) => ScmpAction::Errno(errno as i32),
        Verdict::Notify => ScmpAction::Notify,
        Verdict::Kill => ScmpAction::KillProcess,
    }
}

/// A libseccomp program in the making.
struct Oracle {
    context: ScmpFilterContext,
    /// Whose numbers the rules are given in.
    arch: Arch,
    otherwise: Verdict,
}

impl Oracle {
    /// Rules for `arch` as libseccomp understands it.
    fn new(arch: Arch, otherwise: Verdict) -> Self {
        let mut context = ScmpFilterContext::new(action(otherwise)).expect("a context");
        context.set_act_badarch(ScmpAction::KillProcess).expect("an attribute");
        if arch == Arch::Aarch64 {
            context.remove_arch(ScmpArch::Native).expect("the native one is there at first");
            context.add_arch(ScmpArch::Aarch64).expect("a known architecture");
        }
        Self { context, arch, otherwise }
    }

    /// The number that libseccomp wants: the native one of the same name, which it translates itself.
    fn syscall(&self, number: usize) -> ScmpSyscall {
        let name = self.arch.name(number).expect("only calls with a name are given rules");
        let native = Arch::native().number(name).expect("every name exists on x86-64");
        ScmpSyscall::from(i32::try_from(native).expect("small"))
    }

    /// Adds the rules of one number; false if this libseccomp cannot name it on the other architecture.
    fn add(&mut self, number: usize, rules: &[(Region, Verdict)]) -> bool {
        let syscall = self.syscall(number);
        for (region, verdict) in rules.iter().filter(|(_, verdict)| *verdict != self.otherwise) {
            let compare = |arg: usize| {
                let (low, high) = (region[2 * arg], region[2 * arg + 1]);
                let join = |low: u32, high: u32| u64::from(high) << 32 | u64::from(low);
                let mask = join(low.mask, high.mask);
                let operator = ScmpCompareOp::MaskedEqual(mask);
                let arg = u32::try_from(arg).expect("small");
                (mask != 0).then(|| ScmpArgCompare::new(arg, operator, join(low.value, high.value)))
            };
            let comparisons: Vec<_> = (0..6).filter_map(compare).collect();
            let added = self.context.add_rule_conditional(action(*verdict), syscall, &comparisons);
            if self.arch != Arch::native() && number > 450 && added.is_err() {
                return false;
            }
            added.unwrap_or_else(|error| panic!("{:?} {region:x?}: {error}", self.arch.name(number)));
        }
        true
    }

    fn export(&self) -> Vec<Instruction> {
        let mut file = File::from(memfd_create(c"oracle", MFdFlags::empty()).expect("a file in memory"));
        self.context.export_bpf(&file).expect("a program");
        file.rewind().expect("a file can be rewound");
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).expect("it is readable");
        let (instructions, rest) = bytes.as_chunks::<8>();
        assert!(rest.is_empty());
        let parse = |[a, b, jt, jf, k @ ..]: [u8; 8]| Instruction {
            code: u16::from_ne_bytes([a, b]),
            jt,
            jf,
            k: u32::from_ne_bytes(k),
        };
        instructions.iter().copied().map(parse).collect()
    }
}

/// Rules of one route, in pieces.
fn pieces(routes: &Routes, number: usize) -> (Vec<(Region, Verdict)>, Verdict) {
    let route = routes.get(number).expect("the number has a row");
    let parameters = routes.parameters(number);
    let live: Vec<(Region, Verdict)> = route
        .checks
        .iter()
        .flat_map(|check| regions_of_check(check, parameters).into_iter().map(|region| (region, check.then)))
        .collect();
    let mut rules = Vec::new();
    resolve(&live, 0, &[ANY; HALVES], route.otherwise, &mut rules);
    (rules, route.otherwise)
}

/// Compares every number of one policy; returns how many programs of libseccomp it took.
fn compare(routes: &Routes, label: &str) -> usize {
    const UNKNOWN: Verdict = Verdict::Fail(Errno::ENOSYS);
    let arch = routes.arch();
    let ours = compile(routes);

    // Which program judges which number, and as whose number.
    let mut judges: BTreeMap<usize, (usize, Arch)> = BTreeMap::new();
    let mut programs = Vec::new();
    let mut constants = Oracle::new(arch, UNKNOWN);
    let mut strangers = ScmpFilterContext::new(action(UNKNOWN)).expect("a context");
    for number in (0..routes.len()).filter(|number| routes.get(*number).is_some()) {
        let (rules, otherwise) = pieces(routes, number);
        if let [(_, verdict)] = rules[..] {
            if constants.add(number, &rules) {
                judges.insert(number, (0, arch));
            } else {
                let raw = ScmpSyscall::from(i32::try_from(number).expect("small"));
                strangers.add_rule(action(verdict), raw).expect("a number needs no name");
                judges.insert(number, (1, Arch::X86_64));
            }
        } else {
            let (mut own, mut as_if) = (Oracle::new(arch, otherwise), arch);
            if !own.add(number, &rules) {
                (own, as_if) = (Oracle::new(Arch::X86_64, otherwise), Arch::X86_64);
                assert!(Arch::X86_64.name(number) == arch.name(number) && own.add(number, &rules), "{number}");
            }
            judges.insert(number, (2 + programs.len(), as_if));
            programs.push(own.export());
        }
    }
    let strangers = Oracle { context: strangers, arch: Arch::X86_64, otherwise: UNKNOWN };
    let shared = [constants.export(), strangers.export()];
    let programs: Vec<_> = shared.into_iter().chain(programs).collect();

    for number in 0..routes.len() {
        // A number without a name must be refused by the program of the constants.
        let (judge, as_if) = judges.get(&number).copied().unwrap_or((0, arch));
        let nr = u32::try_from(number).expect("small");
        for args in probes(routes.get(number), routes.parameters(number)) {
            let theirs = simulate(&programs[judge], &call(as_if, nr, args));
            let ours = simulate(&ours, &call(arch, nr, args));
            assert_eq!(ours, theirs, "{label} {} {:?} {args:x?}", arch.label(), arch.name(number));
        }
    }
    programs.len()
}

#[test]
fn libseccomp_gives_the_same_verdicts() {
    for arch in Arch::ALL {
        for (surface, features) in policies() {
            let label = format!("{surface:?} {features:?}");
            let programs = compare(&Routes::new(arch, surface, &features), &label);
            assert!(programs > 5, "{label}: calls with checks were compared one by one");
        }
    }
}

#[test]
fn both_kill_what_is_foreign() {
    let oracle = Oracle::new(Arch::X86_64, Verdict::Allow).export();
    let ours = super::compile_list(Arch::X86_64, &["read"], Verdict::Allow);
    for program in [&oracle, &ours] {
        let native = call(Arch::X86_64, 0, [0; 6]);
        assert_eq!(simulate(program, &native), super::ret::ALLOW);
        assert_eq!(simulate(program, &call(Arch::Aarch64, 0, [0; 6])), super::ret::KILL_PROCESS);
        let x32 = super::SeccompData { nr: 0x4000_0001, ..native };
        assert_eq!(simulate(program, &x32), super::ret::KILL_PROCESS);
    }
}

#[test]
fn the_translation_covers_every_value_once() {
    let ops = [
        Op::Equal(5),
        Op::NotEqual(5),
        Op::Greater(0xF0),
        Op::AnyOf(0x8100_0003),
        Op::Masked { mask: 0xF0, value: 0x20 },
    ];
    for width in [Width::W32, Width::W64] {
        for op in ops {
            for register in [0, 1, 4, 5, 6, 0x20, 0x2F, 0xF0, 0xF1, 0x8000_0000, 1 << 32 | 5, u64::MAX] {
                let hits = cubes(op, width).into_iter().filter(|(mask, value)| register & mask == *value).count();
                assert_eq!(hits, usize::from(op.holds(width, register)), "{op:?} {register:#x}");
            }
        }
    }
}
