//! Arguments worth trying on a route: those on and next to every boundary of its checks, with clean and dirty halves.

use std::collections::BTreeSet;

use crate::args::Parameter;
use crate::table::{Op, Route};

/// Registers that tell a right filter from a wrong one.
pub(super) fn probes(route: Option<&Route>, parameters: &[Parameter]) -> Vec<[u64; 6]> {
    let checks = route.map_or(&[][..], |route| route.checks);
    let mut values: [BTreeSet<u64>; 6] = Default::default();
    for test in checks.iter().flat_map(|check| check.all) {
        values[test.arg].extend(boundaries(test.op));
    }
    let interesting: Vec<usize> = (0..6).filter(|arg| !values[*arg].is_empty()).collect();

    // What satisfies each check, so that later checks are reached on the other arguments too.
    let mut bases = vec![[0; 6], [u64::MAX; 6]];
    for check in checks {
        let mut base = [0; 6];
        for test in check.all {
            base[test.arg] = satisfying(test.op);
        }
        bases.push(base);
    }

    let mut probes: BTreeSet<[u64; 6]> = bases.iter().copied().collect();
    for base in bases {
        for (position, one) in interesting.iter().enumerate() {
            for value in &values[*one] {
                let mut probe = base;
                probe[*one] = *value;
                probes.insert(probe);
                for other in &interesting[position + 1..] {
                    for value in &values[*other] {
                        probe[*other] = *value;
                        probes.insert(probe);
                    }
                    probe[*other] = base[*other];
                }
            }
        }
    }
    // An argument that no check looks at must not matter.
    for arg in (0..parameters.len().min(6)).filter(|arg| !interesting.contains(arg)) {
        let mut probe = [0; 6];
        probe[arg] = 0xDEAD_BEEF_DEAD_BEEF;
        probes.insert(probe);
    }
    probes.into_iter().collect()
}

fn boundaries(op: Op) -> Vec<u64> {
    let clean = match op {
        Op::Equal(x) | Op::NotEqual(x) | Op::Greater(x) => vec![x, x.wrapping_sub(1), x.wrapping_add(1)],
        Op::AnyOf(mask) => {
            let bits = (0..64).map(|bit| 1 << bit).filter(|bit| mask & bit != 0);
            bits.chain([mask, !mask]).collect()
        }
        Op::Masked { mask, value } => {
            let around = (0..64).map(|bit| value ^ (1 << bit)).step_by(if mask.count_ones() > 8 { 4 } else { 1 });
            around.chain([value, value | !mask]).collect()
        }
    };
    clean.into_iter().flat_map(|value| [value, value ^ (1 << 32), value | 0xFFFF_FFFF_0000_0000]).collect()
}

fn satisfying(op: Op) -> u64 {
    match op {
        Op::Equal(x) => x,
        Op::NotEqual(x) => x ^ 0x5555,
        Op::AnyOf(mask) => mask & mask.wrapping_neg(),
        Op::Masked { value, .. } => value,
        Op::Greater(x) => x.wrapping_add(1),
    }
}
