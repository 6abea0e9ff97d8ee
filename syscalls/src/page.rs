//! The table for people: the compatibility page and the answer to `sentry syscalls NAME`.

use std::fmt::Write;

use crate::abi::Arch;
use crate::table::{Check, Family, Feature, Op, Route, Surface, Syscall, Verdict, all, reachable};

const PREFACE: &str = "\
<!-- generated from the table in the crate `syscalls`, do not edit; `UPDATE_DOCS=1 cargo test -p syscalls page` -->

# Syscalls

What happens to every syscall of Linux 6.18 under `sentry run`. The page is made from the table that the filter and the
dispatcher are made from, so it says what they do.

**Allowed calls reach the host kernel.** Unlike gVisor, which answers most calls in a kernel of its own, `sentry` keeps
the host's: a bug in an allowed call is within reach of the guest. The answer is to allow few, and to say how many:

";

const LEGEND: &str = "
*Reachable* are the calls that are not simply refused. `judge` is for batch jobs, `default` for ordinary programs, `compat`
for old or unusual ones; each includes the one before, and a call outside the chosen surface fails with `ENOSYS`.

| route | meaning |
|---|---|
| allow | the kernel runs it, at no cost beyond the filter's |
| filter | the filter looks at arguments in registers and lets the kernel run what is harmless |
| errno | fails with the error that is named |
| emulate | the sentry answers it; the kernel never runs the guest's call |
| observe | the sentry looks on, and then the kernel runs it: only where the view, the empty network and the missing \
capabilities make every outcome harmless |

Numbers that are not listed fail with `ENOSYS`. Calls of another architecture (`int 0x80`, AArch32) and of x32 kill the
process.
";

const WALKS: &str = "
## What stays a walk by the kernel

With `--interpose full`, or once a rule about a pattern is there, the sentry resolves the path of every call but these.
The view bounds them: they reach no file that is not in it. A pattern does not: a program whose file is hidden or denied by
one can still be run, and a directory entered, if its name is known; what is opened from there is judged as ever. Opens with
`O_PATH` are made by the kernel too, since such a descriptor cannot be handed over; opening what is behind it is judged.

";

/// The families in the order of the page, with their titles.
const FAMILIES: [(Family, &str); 12] = [
    (Family::Io, "Reading, writing and waiting"),
    (Family::File, "Files and directories"),
    (Family::Mount, "Mounts and roots"),
    (Family::Network, "Sockets"),
    (Family::Memory, "Memory"),
    (Family::Process, "Processes, threads and limits"),
    (Family::Signal, "Signals"),
    (Family::Identity, "Identity and confinement"),
    (Family::Clock, "Clocks and timers"),
    (Family::Ipc, "Shared memory, semaphores, queues and futexes"),
    (Family::System, "Names and facts of the system"),
    (Family::Privileged, "For administrators of the host, and gone"),
];

const SURFACES: [Surface; 3] = [Surface::Judge, Surface::Default, Surface::Compat];

/// The page `docs/syscalls.md`.
pub fn markdown() -> String {
    let mut page = PREFACE.to_owned();
    page.push_str("| surface | reachable on x86-64 | reachable on aarch64 |\n|---|---|---|\n");
    for surface in SURFACES {
        let [x86_64, aarch64] = Arch::ALL.map(|arch| reachable(arch, surface));
        row(&mut page, &[surface_name(surface), &x86_64.to_string(), &aarch64.to_string()]);
    }
    let [x86_64, aarch64] = Arch::ALL.map(|arch| arch.names().count());
    row(&mut page, &["all that Linux has", &x86_64.to_string(), &aarch64.to_string()]);
    page.push_str(LEGEND);

    page.push_str(WALKS);
    let walks = all().iter().filter(|call| {
        let takes_a_path = call.declared().any(|(_, kind)| kind == "PathPtr");
        let full = call.route_with(Surface::Compat, &[Feature::PathCalls]);
        takes_a_path && full.reachable() && !matches!(full.word(), "emulate")
    });
    for call in walks {
        page.push_str(&format!(
            "- `{}` ({})\n",
            call.name,
            call.route_with(Surface::Compat, &[Feature::PathCalls]).word()
        ));
    }

    for (family, title) in FAMILIES {
        page.push_str(&format!("\n## {title}\n\n"));
        page.push_str("| call | x86-64 | aarch64 | route | from surface | what it does, and where it differs |\n");
        page.push_str("|---|---|---|---|---|---|\n");
        for call in all().iter().filter(|call| call.family == family) {
            let [x86_64, aarch64] = Arch::ALL.map(|arch| number(call, arch));
            let name = format!("`{}`", call.name);
            let surface = if call.route.reachable() { surface_name(call.surface) } else { "" };
            row(&mut page, &[&name, &x86_64, &aarch64, &route_name(&call.route), surface, &notes(call)]);
        }
    }
    page
}

/// One call in plain text, for a terminal.
pub fn describe(call: &Syscall) -> String {
    let parameters: Vec<_> = call.declared().map(|(name, kind)| format!("{name}: {kind}")).collect();
    let mut text = format!("{}({})\n", call.name, parameters.join(", "));
    for line in call.docs.lines().map(str::trim).filter(|line| !line.starts_with("Limit:")) {
        text.push_str(&format!("  {line}\n"));
    }
    text.push('\n');

    let mut fact = |key: &str, value: &str| text.push_str(&format!("  {key:<10}{value}\n"));
    let numbers = Arch::ALL.map(|arch| format!("{} on {}", number(call, arch), arch.label()));
    fact("number", &numbers.join(", "));
    fact("route", &route_name(&call.route));
    for check in call.route.checks {
        fact("", &condition(call, check));
    }
    if !call.route.checks.is_empty() {
        fact("", &format!("otherwise: {}", verdict_name(call.route.otherwise)));
    }
    for (feature, route) in call.special {
        fact("", &format!("{} with {}", route_name(route), self::feature(*feature)));
    }
    if call.route.reachable() {
        fact("surface", &format!("{} and larger; smaller ones: errno ENOSYS", surface_name(call.surface)));
    }
    for limit in call.limits() {
        fact("limit", limit);
    }
    text
}

/// One row of a table.
fn row(page: &mut String, cells: &[&str]) {
    for cell in cells {
        page.push_str("| ");
        page.push_str(&cell.replace('|', "\\|"));
        page.push_str(if cell.is_empty() { "" } else { " " });
    }
    page.push_str("|\n");
}

fn number(call: &Syscall, arch: Arch) -> String {
    call.number(arch).map_or_else(|| "-".to_owned(), |number| number.to_string())
}

fn notes(call: &Syscall) -> String {
    let mut notes = call.summary();
    for (feature, route) in call.special {
        notes.push_str(&format!(" With {}: {}.", self::feature(*feature), route_name(route)));
    }
    for limit in call.limits() {
        notes.push_str(&format!(" *Limit: {limit}*"));
    }
    notes
}

fn surface_name(surface: Surface) -> &'static str {
    match surface {
        Surface::Judge => "judge",
        Surface::Default => "default",
        Surface::Compat => "compat",
    }
}

/// What brings a feature about, in the words of the page.
pub fn feature(feature: Feature) -> &'static str {
    match feature {
        Feature::HostNetwork => "`--net all`",
        Feature::Traced => "`--platform ptrace`",
        Feature::ProtectedNames => "names that must not be created",
        Feature::AnchoredNames => "directories that must stay where they are",
        Feature::PathCalls => "`--interpose full`, `--fake-root` or a rule about a pattern",
        Feature::HiddenNames => "a hidden pattern",
        Feature::PathRules => "a rule about a pattern",
        Feature::SocketGrants => "granted sockets",
        Feature::Copies => "copy-on-write directories",
        Feature::TracePaths => "`--trace denied`",
        Feature::PinnedCpus => "`--cpus` by pinning",
        Feature::PretendedIds => "`--fake-root` or `--userns emulate`",
        Feature::FakeRoot => "`--fake-root`",
        Feature::RealIds => "`--fake-root=range`",
        Feature::NoTracing => "tracing switched off",
        Feature::NamedKernel => "`--uname`",
        Feature::MemoryLimit => "`--memory`",
        Feature::NoNetwork => "`--nested` without a network",
        Feature::NoPidNamespace => "`--nested`",
        Feature::Mounts => "mounts",
        Feature::VirtualClock => "`--clock`",
        Feature::Container => "a container",
        Feature::RealDevices => "a container whose root is the host's",
        Feature::OwnName => "a container with a name of its own",
        Feature::PretendedClasses => "a container with pretended classes",
    }
}

fn verdict_name(verdict: Verdict) -> String {
    match verdict {
        Verdict::Allow => "allow".to_owned(),
        Verdict::Fail(errno) => format!("errno {errno:?}"),
        Verdict::Notify => "ask the sentry".to_owned(),
        Verdict::Kill => "kill".to_owned(),
    }
}

fn route_name(route: &Route) -> String {
    match route.word() {
        "errno" => verdict_name(route.otherwise),
        word => word.to_owned(),
    }
}

/// A check in words: `request == 0x5412: errno EPERM`.
fn condition(call: &Syscall, check: &Check) -> String {
    let mut text = String::new();
    for (position, test) in check.all.iter().enumerate() {
        let name = call.declared().nth(test.arg).map_or("?", |(name, _)| name);
        let and = if position == 0 { "" } else { " and " };
        // Writing to a string cannot fail.
        let _ = match test.op {
            Op::Equal(x) => write!(text, "{and}{name} == {x:#x}"),
            Op::NotEqual(x) => write!(text, "{and}{name} != {x:#x}"),
            Op::Masked { mask, value } => write!(text, "{and}{name} & {mask:#x} == {value:#x}"),
            Op::AnyOf(mask) => write!(text, "{and}{name} & {mask:#x} != 0"),
            Op::Greater(x) => write!(text, "{and}{name} > {x:#x}"),
        };
    }
    if text.is_empty() {
        text.push_str("always");
    }
    format!("{text}: {}", verdict_name(check.then))
}

#[cfg(test)]
mod tests;
