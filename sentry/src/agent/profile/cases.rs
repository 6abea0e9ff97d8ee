//! Checks of the table as rules of an OCI profile.
//!
//! The table asks its checks in order, and the first that holds decides. The rules of a profile have no order, take one comparison
//! an argument, and libseccomp compares all 64 bits of a register where the kernel looks at 32. So the checks of a call are
//! taken apart into cases that do not overlap: in each some bits of some arguments are fixed, which is `SCMP_CMP_MASKED_EQ`.

use syscalls::args::Parameter;
use syscalls::table::{Op, Route, Test, Verdict, width};

/// Bits of one argument, and what they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Bits {
    /// The bits that count.
    pub mask: u64,
    /// What they are.
    pub value: u64,
}

/// Registers that have these bits in common.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Case {
    /// For each argument.
    pub arguments: [Bits; 6],
}

impl Bits {
    /// What is in both.
    fn and(self, other: Bits) -> Option<Bits> {
        let differ = (self.value ^ other.value) & self.mask & other.mask;
        (differ == 0).then_some(Bits { mask: self.mask | other.mask, value: self.value | other.value })
    }

    /// Everything but this, in pieces that do not overlap: they have the first bits in common, and differ in the next.
    fn complement(self) -> Vec<Bits> {
        let mut same = Bits::default();
        let mut pieces = Vec::new();
        for bit in (0..64).rev().map(|place| 1u64 << place).filter(|bit| self.mask & bit != 0) {
            pieces.push(Bits { mask: same.mask | bit, value: same.value | (!self.value & bit) });
            same = Bits { mask: same.mask | bit, value: same.value | (self.value & bit) };
        }
        pieces
    }
}

/// The values of a register for which a comparison holds, of which only `bits` count.
fn values(op: Op, bits: u64) -> Vec<Bits> {
    let exactly = |mask: u64, value: u64| Bits { mask: mask & bits, value: value & bits };
    match op {
        Op::Equal(value) => vec![exactly(bits, value)],
        Op::NotEqual(value) => exactly(bits, value).complement(),
        Op::Masked { mask, value } if value & bits & !mask != 0 => Vec::new(),
        Op::Masked { mask, value } => vec![exactly(mask, value)],
        Op::AnyOf(mask) => exactly(mask, 0).complement(),
        // The first bits are the same, and in the next it is 1 where `least` has 0.
        Op::Greater(least) => {
            let same = exactly(bits, least);
            same.complement().into_iter().filter(|piece| (piece.value ^ same.value) & piece.value != 0).collect()
        }
    }
}

impl Case {
    fn and(mut self, argument: usize, bits: Bits) -> Option<Case> {
        self.arguments[argument] = self.arguments[argument].and(bits)?;
        Some(self)
    }

    fn and_case(self, other: &Case) -> Option<Case> {
        (0..6).try_fold(self, |case, argument| case.and(argument, other.arguments[argument]))
    }

    /// What is in this and not in `other`.
    fn without(self, other: &Case) -> Vec<Case> {
        if self.and_case(other).is_none() {
            return vec![self];
        }
        let mut rest = self;
        let mut pieces = Vec::new();
        for argument in 0..6 {
            let Bits { mask, value } = other.arguments[argument];
            let fresh = mask & !self.arguments[argument].mask;
            for piece in (Bits { mask: fresh, value: value & fresh }).complement() {
                pieces.extend(rest.and(argument, piece));
            }
            rest.arguments[argument].mask |= fresh;
            rest.arguments[argument].value |= value & fresh;
        }
        pieces
    }

    /// With as few bits fixed as keep it apart from `others`.
    fn widened(mut self, others: &[&Case]) -> Case {
        for argument in 0..6 {
            for bit in (0..64).map(|place| 1u64 << place) {
                let Bits { mask, value } = self.arguments[argument];
                if mask & bit == 0 {
                    continue;
                }
                self.arguments[argument] = Bits { mask: mask & !bit, value: value & !bit };
                if others.iter().any(|other| self.and_case(other).is_some()) {
                    self.arguments[argument] = Bits { mask, value };
                }
            }
        }
        self
    }
}

/// The registers for which all `tests` hold.
fn all_of(tests: &[Test], parameters: &[Parameter]) -> Vec<Case> {
    tests.iter().fold(vec![Case::default()], |cases, test| {
        let pieces = values(test.op, width(parameters, test.arg).bits());
        let narrowed =
            |case: Case| pieces.iter().filter_map(move |piece| case.and(test.arg, *piece)).collect::<Vec<_>>();
        cases.into_iter().flat_map(narrowed).collect()
    })
}

/// The route as few cases, of which at least one holds for any registers, and never two that say different things.
pub fn of(route: &Route, parameters: &[Parameter]) -> Vec<(Case, Verdict)> {
    let exact = partition(route, parameters);
    let mut wide: Vec<(Case, Verdict)> = Vec::new();
    for (case, verdict) in &exact {
        let others: Vec<&Case> = exact.iter().filter(|(_, other)| other != verdict).map(|(other, _)| other).collect();
        let wider = case.widened(&others);
        let covered = |(known, says): &(Case, Verdict)| says == verdict && known.and_case(&wider) == Some(wider);
        if !wide.iter().any(covered) {
            wide.retain(|(known, says)| says != verdict || known.and_case(&wider) != Some(*known));
            wide.push((wider, *verdict));
        }
    }
    wide
}

/// The route as cases of which exactly one holds for any registers.
fn partition(route: &Route, parameters: &[Parameter]) -> Vec<(Case, Verdict)> {
    let mut decided = Vec::new();
    let mut open = vec![Case::default()];
    for check in route.checks {
        for case in all_of(check.all, parameters) {
            decided.extend(open.iter().filter_map(|left| left.and_case(&case)).map(|both| (both, check.then)));
            open = open.into_iter().flat_map(|left| left.without(&case)).collect();
        }
    }
    decided.extend(open.into_iter().map(|left| (left, route.otherwise)));
    decided
}

#[cfg(test)]
mod tests {
    use syscalls::abi::Arch;
    use syscalls::table::{Feature, Routes, Surface};

    use super::*;

    fn holds(case: &Case, registers: &[u64; 6]) -> bool {
        case.arguments.iter().zip(registers).all(|(bits, register)| register & bits.mask == bits.value)
    }

    /// Registers near the constants of the checks, where mistakes would be.
    fn trials(route: &Route) -> Vec<[u64; 6]> {
        let mut interesting = vec![0, 1, 8, u64::MAX, 0xFFFF_FFFF, 1 << 32];
        for test in route.checks.iter().flat_map(|check| check.all) {
            let constants: &[u64] = match &test.op {
                Op::Equal(x) | Op::NotEqual(x) | Op::AnyOf(x) | Op::Greater(x) => &[*x],
                Op::Masked { mask, value } => &[*mask, *value],
            };
            for x in constants {
                interesting.extend([*x, x.wrapping_add(1), x.wrapping_sub(1), x | 1 << 40, !x, x & x.wrapping_neg()]);
            }
        }
        let pick = |number: usize| interesting[number % interesting.len()];
        (0..20_000usize)
            .map(|number| std::array::from_fn(|place| pick(number.wrapping_mul(2 * place + 1) / (place + 1) + place)))
            .collect()
    }

    #[test]
    fn some_case_holds_and_all_that_do_say_what_the_table_says() {
        let features: Vec<Vec<Feature>> =
            std::iter::once(vec![]).chain(Feature::ALL.into_iter().map(|feature| vec![feature])).collect();
        for features in features {
            let routes = Routes::new(Arch::native(), Surface::Compat, &features);
            for number in
                (0..routes.len()).filter(|number| routes.get(*number).is_some_and(|route| !route.checks.is_empty()))
            {
                let (route, parameters) = (routes.get(number).unwrap(), routes.parameters(number));
                let cases = of(route, parameters);
                for registers in trials(route) {
                    let mut holding = cases.iter().filter(|(case, _)| holds(case, &registers));
                    let expected = route.verdict(parameters, &registers);
                    assert_eq!(holding.next().unwrap().1, expected, "{number} {registers:x?}");
                    assert!(holding.all(|(_, verdict)| *verdict == expected), "{number} {registers:x?}");
                }
            }
        }
    }
}
