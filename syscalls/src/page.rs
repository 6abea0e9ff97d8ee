//! The compatibility page: what happens to each syscall, generated from the table.

use std::fmt::Write as _;

use crate::abi::Arch;
use crate::table::{Family, Route, Surface, Syscall, Verdict, all};

const FAMILIES: [(Family, &str); 12] = [
    (Family::Io, "Descriptors: reading, writing, waiting"),
    (Family::File, "Files: names and metadata"),
    (Family::Mount, "Mounts and roots"),
    (Family::Network, "Sockets"),
    (Family::Memory, "Memory"),
    (Family::Process, "Processes, scheduling, limits"),
    (Family::Signal, "Signals"),
    (Family::Identity, "Identity and confinement of oneself"),
    (Family::Clock, "Clocks and timers"),
    (Family::Ipc, "IPC and futexes"),
    (Family::System, "Names and facts of the system"),
    (Family::Privileged, "What only an administrator should do"),
];

const INTRODUCTION: &str = "\
# Syscalls

<!-- Generated from the table in `syscalls/src` by `make docs`; do not edit. -->

What happens to each syscall of Linux 6.18 under a plain policy, and which features of a policy change it.

| route | meaning |
|---|---|
| allow | runs in the host kernel, at no cost beyond that of any filter |
| filter | the filter looks at arguments: most calls run, some are refused |
| errno | the filter refuses it |
| emulate | the sentry answers it; it never reaches the host kernel as it stands |
| observe | the sentry looks at it, then the kernel runs it; only where ring 1 makes every meaning harmless |

Allowed calls reach the host kernel: unlike gVisor, this sandbox does not reimplement them. What it does instead is to make
fewer of them reachable, with fewer arguments, from a process that has no privileges and sees only what was granted.
";

/// How many calls the surface leaves reachable on `arch`.
pub fn reachable(arch: Arch, surface: Surface) -> usize {
    let here = all().iter().filter(|row| row.number(arch).is_some());
    here.filter(|row| row.route_with(surface, &[]).reachable()).count()
}

/// The whole page, as Markdown.
pub fn markdown() -> String {
    let mut page = String::from(INTRODUCTION);
    page.push_str("\n| surface | reachable on x86-64 | reachable on aarch64 |\n|---|---|---|\n");
    for (surface, name) in [(Surface::Judge, "judge"), (Surface::Default, "default"), (Surface::Compat, "compat")] {
        let (x86, arm) = (reachable(Arch::X86_64, surface), reachable(Arch::Aarch64, surface));
        let _ = writeln!(page, "| {name} | {x86} | {arm} |");
    }
    page.push_str("\nA call outside the surface of a policy, and every number that is not here, fails with `ENOSYS`.\n");
    for (family, title) in FAMILIES {
        let _ = writeln!(page, "\n## {title}\n");
        page.push_str("| call | x86-64 | aarch64 | route | from surface | what it does, and where it is refused |\n");
        page.push_str("|---|---|---|---|---|---|\n");
        for row in all().iter().filter(|row| row.family == family) {
            let number = |arch| row.number(arch).map_or_else(|| "-".to_owned(), |number| number.to_string());
            let _ = writeln!(
                page,
                "| `{}` | {} | {} | {} | {} | {} |",
                row.name,
                number(Arch::X86_64),
                number(Arch::Aarch64),
                route(&row.route),
                surface(row.surface),
                cell(row),
            );
        }
    }
    page
}

fn surface(surface: Surface) -> &'static str {
    match surface {
        Surface::Judge => "judge",
        Surface::Default => "default",
        Surface::Compat => "compat",
    }
}

fn route(route: &Route) -> String {
    match (route.otherwise, route.checks, route.handler) {
        (Verdict::Fail(errno), [], None) => format!("errno {errno:?}"),
        _ => route.word().to_owned(),
    }
}

/// What a feature makes of a call, in words.
fn special(row: &Syscall) -> impl Iterator<Item = String> {
    row.special.iter().map(|(feature, changed)| format!("with {feature:?}: {}", route(changed)))
}

fn cell(row: &Syscall) -> String {
    let mut parts = vec![row.summary()];
    parts.extend(special(row).map(|text| format!("*{text}.*")));
    parts.extend(row.limits().map(|limit| format!("Limit: {limit}")));
    parts.join(" ").replace('|', "\\|")
}

/// One call in plain text, for `sentry syscalls NAME`.
pub fn describe(row: &Syscall) -> String {
    let parameters: Vec<String> =
        row.parameters.iter().map(|parameter| format!("{}: {}", parameter.name, parameter.kind)).collect();
    let number = |arch| row.number(arch).map_or_else(|| "absent".to_owned(), |number| number.to_string());
    let mut text = format!("{}({})\n", row.name, parameters.join(", "));
    let _ = writeln!(text, "  {}", row.summary());
    let _ = writeln!(text, "  number    x86-64 {}, aarch64 {}", number(Arch::X86_64), number(Arch::Aarch64));
    let _ = writeln!(text, "  route     {}, from surface {} on", route(&row.route), surface(row.surface));
    for check in row.route.checks {
        let tests: Vec<String> = check
            .all
            .iter()
            .map(|test| {
                let name = row.parameters.get(test.arg).map_or("?", |parameter| parameter.name);
                format!("{name} {:x?}", test.op)
            })
            .collect();
        let _ = writeln!(text, "  check     {} -> {:?}", tests.join(" and "), check.then);
    }
    for changed in special(row) {
        let _ = writeln!(text, "  changes   {changed}");
    }
    for limit in row.limits() {
        let _ = writeln!(text, "  limit     {limit}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_in_docs_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/syscalls.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, markdown()).unwrap();
        }
        let there = std::fs::read_to_string(path).unwrap_or_default();
        assert!(there == markdown(), "docs/syscalls.md is not what the table says; run `make docs`");
    }

    #[test]
    fn surfaces_stay_within_their_promise() {
        assert!(reachable(Arch::X86_64, Surface::Judge) <= 120, "{}", reachable(Arch::X86_64, Surface::Judge));
        assert!(reachable(Arch::X86_64, Surface::Default) <= 230, "{}", reachable(Arch::X86_64, Surface::Default));
        assert!(reachable(Arch::X86_64, Surface::Compat) <= 300, "{}", reachable(Arch::X86_64, Surface::Compat));
    }

    #[test]
    fn a_description_tells_numbers_and_checks() {
        let text = describe(crate::table::find("openat").unwrap());
        assert!(text.contains("x86-64 257, aarch64 56"), "{text}");
        assert!(text.contains("check     flags"), "{text}");
    }
}
