//! Compiled programs against the table: the same verdict for every number, architecture and telling argument.

use proptest::prelude::*;

use super::probes::probes;
use super::simulate::run;
use super::{
    Instruction, MAX_INSTRUCTIONS, SeccompData, compile, compile_alone, compile_list, compile_traced, op, ret, simulate,
};
use crate::abi::Arch;
use crate::args::{Parameter, Width};
use crate::dispatch::Handler;
use crate::table::{Check, Feature, Op, Route, Routes, Surface, Test, Verdict};
use nix::errno::Errno;

/// Every surface with no feature, each feature alone, and all of them.
pub(super) fn policies() -> Vec<(Surface, Vec<Feature>)> {
    let mut sets: Vec<Vec<Feature>> = Feature::ALL.iter().map(|feature| vec![*feature]).collect();
    sets.push(Vec::new());
    sets.push(Feature::ALL.to_vec());
    let surfaces = [Surface::Judge, Surface::Default, Surface::Compat];
    surfaces.iter().flat_map(|surface| sets.iter().map(|set| (*surface, set.clone()))).collect()
}

pub(super) fn call(arch: Arch, nr: u32, args: [u64; 6]) -> SeccompData {
    SeccompData { nr, arch: arch.audit(), instruction_pointer: 0x7FFF_1234_5678, args }
}

/// What the kernel's own checker asks of a program: short enough, no jump out of it, a return at the end.
fn assert_loadable(program: &[Instruction]) {
    assert!(!program.is_empty() && program.len() <= MAX_INSTRUCTIONS, "{} instructions", program.len());
    assert_eq!(program[program.len() - 1].code, op::RETURN);
    for (at, instruction) in program.iter().enumerate() {
        let farthest = match instruction.code {
            op::JUMP => instruction.k as usize,
            op::IF_EQUAL | op::IF_GREATER | op::IF_AT_LEAST | op::IF_ANY_BIT => {
                usize::from(instruction.jt.max(instruction.jf))
            }
            _ => 0,
        };
        assert!(at + 1 + farthest < program.len() || instruction.code == op::RETURN, "{at}: {instruction:?}");
    }
}

#[test]
fn programs_say_what_the_table_says() {
    for arch in Arch::ALL {
        for (surface, features) in policies() {
            let routes = Routes::new(arch, surface, &features);
            let program = compile(&routes);
            assert_loadable(&program);
            for number in 0..routes.len() + 20 {
                for args in probes(routes.get(number), routes.parameters(number)) {
                    let data = call(arch, u32::try_from(number).expect("small"), args);
                    let expected = routes.verdict(number, &args).encode();
                    let name = arch.name(number).unwrap_or("no call");
                    assert_eq!(
                        run(&program, &data),
                        Some(expected),
                        "{} {name} {args:x?} under {surface:?} {features:?}",
                        arch.label()
                    );
                }
            }
        }
    }
}

/// Where nobody listens, whoever is asked would fail with ENOSYS at best, and run at worst.
#[test]
fn a_filter_alone_asks_nobody() {
    for arch in Arch::ALL {
        for (surface, features) in policies() {
            let routes = Routes::new(arch, surface, &features);
            let program = compile_alone(&routes);
            assert_loadable(&program);
            for number in 0..routes.len() + 20 {
                for args in probes(routes.get(number), routes.parameters(number)) {
                    let verdict = simulate(&program, &call(arch, u32::try_from(number).expect("small"), args));
                    let expected = match (routes.verdict(number, &args), routes.get(number).and_then(|one| one.handler))
                    {
                        (Verdict::Notify, Some(Handler::Observe(_))) => Verdict::Allow,
                        (Verdict::Notify, _) if arch.name(number) == Some("openat2") => Verdict::Fail(Errno::ENOSYS),
                        (Verdict::Notify, _) => Verdict::Fail(Errno::EPERM),
                        (other, _) => other,
                    };
                    assert_eq!(verdict, expected.encode(), "{number} {args:x?} under {surface:?} {features:?}");
                }
            }
        }
    }
}

/// A tracer is asked where a listener would be, and about its own tools where the policy refuses them; nothing else differs.
#[test]
fn a_filter_for_a_tracer_says_the_same() {
    const TOOLS: &[&str] = &["close", "socketpair"];
    for arch in Arch::ALL {
        let tools: Vec<_> = TOOLS.iter().filter_map(|name| arch.number(name)).collect();
        for (surface, features) in policies() {
            let routes = Routes::new(arch, surface, &features);
            let program = compile_traced(&routes, TOOLS);
            assert_loadable(&program);
            for number in 0..routes.len() + 20 {
                let refused = matches!(routes.get(number), Some(Route { checks: [], otherwise: Verdict::Fail(_), .. }));
                for args in probes(routes.get(number), routes.parameters(number)) {
                    let verdict = simulate(&program, &call(arch, u32::try_from(number).expect("small"), args));
                    let expected = match routes.verdict(number, &args) {
                        Verdict::Notify => ret::TRACE,
                        _ if refused && tools.contains(&number) => ret::TRACE,
                        other => other.encode(),
                    };
                    assert_eq!(verdict, expected, "{number} {args:x?} under {surface:?} {features:?}");
                }
            }
        }
    }
}

#[test]
fn the_largest_program_is_far_below_the_limit_of_the_kernel() {
    for arch in Arch::ALL {
        let program = compile(&Routes::new(arch, Surface::Compat, &Feature::ALL));
        assert!(program.len() < MAX_INSTRUCTIONS / 4, "{}", program.len());
    }
}

#[test]
fn another_architecture_is_killed() {
    const I386: u32 = 0x4000_0003;
    const ARM: u32 = 0x4000_0028;
    let foreign = |arch| if arch == Arch::X86_64 { Arch::Aarch64.audit() } else { Arch::X86_64.audit() };
    for arch in Arch::ALL {
        let program = compile(&Routes::new(arch, Surface::Compat, &[]));
        for token in [I386, ARM, foreign(arch), 0, u32::MAX] {
            for nr in [0, 1, 59, 221, 469, 0x4000_0000, u32::MAX] {
                let data = SeccompData { arch: token, ..call(arch, nr, [0; 6]) };
                assert_eq!(simulate(&program, &data), ret::KILL_PROCESS);
            }
        }
    }
}

#[test]
fn x32_is_killed_and_no_call_is_not() {
    let program = compile(&Routes::new(Arch::X86_64, Surface::Compat, &[]));
    for nr in [0x4000_0000, 0x4000_0001, 0x4000_0000 + 520, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFE] {
        assert_eq!(simulate(&program, &call(Arch::X86_64, nr, [0; 6])), ret::KILL_PROCESS, "{nr:#x}");
    }
    let unknown = Verdict::Fail(Errno::ENOSYS).encode();
    for nr in [470, 512, 547, 0x3FFF_FFFF, u32::MAX] {
        assert_eq!(simulate(&program, &call(Arch::X86_64, nr, [0; 6])), unknown, "{nr:#x}");
    }
}

#[test]
fn a_list_allows_its_names_only() {
    let allowed = ["read", "write", "exit_group", "open"];
    for arch in Arch::ALL {
        for otherwise in [Verdict::Kill, Verdict::Fail(Errno::EPERM)] {
            let program = compile_list(arch, &allowed, otherwise);
            assert_loadable(&program);
            for number in 0..600 {
                let listed = arch.name(number).is_some_and(|name| allowed.contains(&name));
                let expected = if listed { Verdict::Allow } else { otherwise };
                let data = call(arch, u32::try_from(number).expect("small"), [u64::MAX; 6]);
                assert_eq!(simulate(&program, &data), expected.encode(), "{number}");
            }
        }
    }
}

#[test]
#[should_panic(expected = "there is no syscall `raed`")]
fn a_misspelt_name_in_a_list_is_found_at_once() {
    compile_list(Arch::native(), &["raed"], Verdict::Kill);
}

#[test]
fn a_program_that_the_kernel_would_not_load_kills() {
    let data = call(Arch::X86_64, 0, [0; 6]);
    let allow = Instruction { code: op::RETURN, jt: 0, jf: 0, k: ret::ALLOW };
    assert_eq!(simulate(&[allow], &data), ret::ALLOW);
    for bad in [
        Instruction { code: op::LOAD, jt: 0, jf: 0, k: 64 },
        Instruction { code: op::LOAD, jt: 0, jf: 0, k: 2 },
        Instruction { code: op::JUMP, jt: 0, jf: 0, k: 7 },
        Instruction { code: 0xFFFF, jt: 0, jf: 0, k: 0 },
    ] {
        assert_eq!(simulate(&[bad, allow], &data), ret::KILL_PROCESS, "{bad:?}");
    }
    assert_eq!(simulate(&[], &data), ret::KILL_PROCESS);
}

const PARAMETERS: &[Parameter] = &[
    Parameter { width: Width::W32 },
    Parameter { width: Width::W64 },
    Parameter { width: Width::W32 },
    Parameter { width: Width::W64 },
];

/// Values that collide often, in both halves.
fn value() -> impl Strategy<Value = u64> {
    let half = prop_oneof![Just(0_u64), Just(1), Just(0xFF), Just(0x8000_0000), Just(0xFFFF_FFFF), 0..4_u64];
    (half.clone(), half).prop_map(|(high, low)| high << 32 | low)
}

fn comparison() -> impl Strategy<Value = Op> {
    prop_oneof![
        value().prop_map(Op::Equal),
        value().prop_map(Op::NotEqual),
        (value(), value()).prop_map(|(mask, value)| Op::Masked { mask, value }),
        value().prop_map(Op::AnyOf),
        value().prop_map(Op::Greater),
    ]
}

fn verdict() -> impl Strategy<Value = Verdict> {
    prop_oneof![
        Just(Verdict::Allow),
        Just(Verdict::Notify),
        Just(Verdict::Kill),
        Just(Verdict::Fail(Errno::EPERM)),
        Just(Verdict::Fail(Errno::ENOSYS)),
    ]
}

/// A route with checks that nobody wrote. It lives as long as the test run does.
fn route(most_checks: usize) -> impl Strategy<Value = Route> {
    let test = (0..5_usize, comparison()).prop_map(|(arg, op)| Test { arg, op });
    let check =
        (prop::collection::vec(test, 0..4), verdict()).prop_map(|(all, then)| Check { all: Vec::leak(all), then });
    (prop::collection::vec(check, 0..=most_checks), verdict()).prop_map(|(checks, otherwise)| Route {
        checks: Vec::leak(checks),
        otherwise,
        handler: None,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn any_routes_compile_to_what_they_say(
        routes in prop::collection::vec(prop::option::of(route(6)), 1..40),
        calls in prop::collection::vec((0..45_u32, prop::array::uniform6(value())), 100),
    ) {
        let routes = Routes::made_of(Arch::X86_64, routes.into_iter().map(|route| Some((route?, PARAMETERS))).collect());
        let program = compile(&routes);
        assert_loadable(&program);
        for (nr, args) in calls {
            let expected = routes.verdict(nr as usize, &args).encode();
            prop_assert_eq!(run(&program, &call(Arch::X86_64, nr, args)), Some(expected), "{} {:x?}", nr, args);
        }
    }

    #[test]
    fn any_call_gets_the_verdict_of_the_table(
        nr in prop_oneof![0..480_u32, any::<u32>()],
        args in prop::array::uniform6(any::<u64>()),
    ) {
        let routes = Routes::new(Arch::Aarch64, Surface::Default, &[]);
        let expected = routes.verdict(nr as usize, &args).encode();
        prop_assert_eq!(simulate(&compile(&routes), &call(Arch::Aarch64, nr, args)), expected);
    }
}

#[test]
fn jumps_beyond_their_reach_are_relayed() {
    // Thirty comparisons a number, a hundred numbers: every upper branch of the tree is farther than 255 away.
    let tests: &'static [Test] = Vec::leak((0..30).map(|x| Test { arg: 0, op: Op::NotEqual(x) }).collect());
    let routes = (0..100).map(|number: i32| {
        let then = if number % 2 == 0 { Verdict::Kill } else { Verdict::Notify };
        let checks: &'static [Check] = Vec::leak(vec![Check { all: tests, then }]);
        Some((Route { checks, otherwise: Verdict::Allow, handler: None }, PARAMETERS))
    });
    let routes = Routes::made_of(Arch::X86_64, routes.collect());
    let program = compile(&routes);
    assert_loadable(&program);
    assert!(program.iter().any(|instruction| instruction.code == op::JUMP));
    for number in 0..100_u32 {
        for value in [0, 29, 30, u64::MAX] {
            let args = [value, 0, 0, 0, 0, 0];
            let expected = routes.verdict(number as usize, &args).encode();
            assert_eq!(simulate(&program, &call(Arch::X86_64, number, args)), expected, "{number} {value}");
        }
    }
}
