use proptest::prelude::*;

use super::simulate::{SeccompData, simulate};
use super::*;
use crate::abi::Arch;
use crate::table::{Feature, Routes, Surface};

/// Policies that together use every route.
pub(super) const POLICIES: [(Surface, &[Feature]); 7] = [
    (Surface::Judge, &[]),
    (Surface::Default, &[]),
    (Surface::Compat, &[]),
    (Surface::Compat, &[Feature::HostNetwork]),
    (Surface::Compat, &[Feature::ProtectedNames, Feature::PinnedCpus]),
    (Surface::Compat, &[Feature::SocketGrants, Feature::TracePaths]),
    (Surface::Compat, &Feature::ALL),
];

pub(super) fn data(arch: Arch, number: usize, args: [u64; 6]) -> SeccompData {
    SeccompData { nr: u32::try_from(number).unwrap(), arch: arch.audit(), instruction_pointer: 0x1234, args }
}

/// The argument registers worth trying on `number`.
pub(super) fn cases(routes: &Routes, number: usize) -> Vec<[u64; 6]> {
    super::probes::probes(routes.get(number), routes.parameters(number))
}

#[test]
fn the_program_says_what_the_routes_say() {
    for arch in Arch::ALL {
        for (surface, features) in POLICIES {
            let routes = Routes::new(arch, surface, features);
            let program = compile(&routes);
            assert!(program.len() <= 4096, "{}", program.len());
            for number in 0..1100 {
                for args in cases(&routes, number) {
                    let expected = routes.verdict(number, &args).encode();
                    let got = simulate(&program, &data(arch, number, args));
                    assert_eq!(got, expected, "{arch:?} {surface:?} {features:?} {number} {args:x?}");
                }
            }
        }
    }
}

#[test]
fn other_architectures_and_x32_are_killed() {
    let program = compile(&Routes::new(Arch::X86_64, Surface::Default, &[]));
    let i386 = 0x4000_0003;
    for nr in [0, 20, 0x4000_0000] {
        let data = SeccompData { nr, arch: i386, instruction_pointer: 0, args: [0; 6] };
        assert_eq!(simulate(&program, &data), ret::KILL_PROCESS);
    }
    for nr in [0x4000_0000, 0x4000_0000 | 520, 0x7fff_ffff] {
        let data = SeccompData { nr, arch: Arch::X86_64.audit(), instruction_pointer: 0, args: [0; 6] };
        assert_eq!(simulate(&program, &data), ret::KILL_PROCESS, "{nr:x}");
    }
    let arm = compile(&Routes::new(Arch::Aarch64, Surface::Default, &[]));
    let data = SeccompData { nr: 63, arch: 0x4000_0028, instruction_pointer: 0, args: [0; 6] };
    assert_eq!(simulate(&arm, &data), ret::KILL_PROCESS);
}

#[test]
fn a_list_allows_what_is_on_it() {
    let program = compile_list(Arch::X86_64, &["read", "openat", "exit_group"], Verdict::Kill);
    for number in 0..600 {
        let name = Arch::X86_64.name(number).unwrap_or("");
        let expected = if ["read", "openat", "exit_group"].contains(&name) { ret::ALLOW } else { ret::KILL_PROCESS };
        assert_eq!(simulate(&program, &data(Arch::X86_64, number, [u64::MAX; 6])), expected, "{number}");
    }
}

proptest! {
    /// Any number with any arguments: the tree finds the same verdict as the table.
    #[test]
    fn arbitrary_calls_agree(number in 0usize..600, args in any::<[u64; 6]>(), small in any::<[u16; 6]>()) {
        for arch in Arch::ALL {
            let routes = Routes::new(arch, Surface::Compat, &[]);
            let program = compile(&routes);
            for args in [args, small.map(u64::from)] {
                let got = simulate(&program, &data(arch, number, args));
                prop_assert_eq!(got, routes.verdict(number, &args).encode());
            }
        }
    }
}
