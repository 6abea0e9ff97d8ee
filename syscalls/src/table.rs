//! The table: what a row says, and the routes that a policy makes of all rows.

use std::sync::LazyLock;

use nix::errno::Errno;

use crate::abi::Arch;
use crate::args::{Parameter, Width};
use crate::dispatch::Handler;

/// The topic of a syscall, as the compatibility page groups them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// Reading, writing and waiting on descriptors.
    Io,
    /// Names and metadata of files.
    File,
    /// Mounts and roots.
    Mount,
    /// Sockets.
    Network,
    /// Address spaces.
    Memory,
    /// Processes, threads, scheduling, limits.
    Process,
    /// Signals.
    Signal,
    /// Users, groups, capabilities, confinement of oneself.
    Identity,
    /// Clocks and timers.
    Clock,
    /// System V and POSIX IPC, futexes.
    Ipc,
    /// Names and facts of the system.
    System,
    /// What only an administrator of the host should do.
    Privileged,
}

/// The smallest surface that includes a call; a call outside the surface fails with `ENOSYS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Surface {
    /// What a batch job with standard input and output needs.
    Judge,
    /// What ordinary programs need.
    Default,
    /// What old or unusual programs need.
    Compat,
}

/// Parts of a policy that change routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Feature {
    /// `--fake-root`: ids, capabilities and the ownership of files are the sentry's to tell.
    FakeRoot,
    /// `--fake-root` or `--userns emulate`: ids and capabilities are the sentry's to tell.
    PretendedIds,
    /// `--fake-root=range`: ids are the kernel's; set-id bits and another root are asked for in earnest.
    RealIds,
    /// `--net all`: connections are not observed, for they are not refused.
    HostNetwork,
    /// Names that must not be created: every call that makes or moves a name is emulated.
    ProtectedNames,
    /// Some directories must stay where they are: every call that moves a name is emulated.
    AnchoredNames,
    /// Every call that takes a path is emulated: some rule about paths cannot be a mount, or the user asked for it.
    PathCalls,
    /// Some names are left out of, or added to, what a directory lists.
    HiddenNames,
    /// Metadata of an open file is changed only if the rules about its path allow it.
    PathRules,
    /// Sockets in granted directories are not granted with them: `connect` to a path is decided by the sentry.
    SocketGrants,
    /// There are copy-on-write directories: overlayfs does not move directories that it shows through, so we do.
    Copies,
    /// `--trace denied`: calls that look up a path are observed, to show what was missing.
    TracePaths,
    /// `--cpus` without a cgroup: the guest may not widen its own affinity.
    PinnedCpus,
    /// Processes of the sandbox may not trace or read one another (hardened profiles).
    NoTracing,
    /// `--uname`: the kernel's release and version are the policy's.
    NamedKernel,
    /// `--memory`: how much memory there is, is what the sandbox may use.
    MemoryLimit,
    /// `--nested` without a network: no namespace keeps it away, so there are no sockets for it.
    NoNetwork,
    /// `--nested`: no namespace keeps processes apart.
    NoPidNamespace,
    /// `--allow mount`: the sandbox may mount within its view.
    Mounts,
    /// `--clock`: the sandbox has a clock of its own.
    VirtualClock,
    /// `--platform ptrace`: the sentry traces every process, so nobody else can, and nobody else listens.
    Traced,
    /// The guest is a container that an engine made: its ids, capabilities, network and files are the kernel's to judge.
    Container,
    /// The root of a container is the host's: the kernel makes harmless devices for it.
    RealDevices,
    /// The names of host and domain are the container's own.
    OwnName,
    /// A container is told that it has real-time classes.
    PretendedClasses,
}

impl Feature {
    /// Every feature, in the order in which rows are asked.
    pub const ALL: [Feature; 25] = [
        Self::FakeRoot,
        Self::PretendedIds,
        Self::RealIds,
        Self::HostNetwork,
        Self::ProtectedNames,
        Self::AnchoredNames,
        Self::PathCalls,
        Self::HiddenNames,
        Self::PathRules,
        Self::SocketGrants,
        Self::Copies,
        Self::TracePaths,
        Self::PinnedCpus,
        Self::NoTracing,
        Self::NamedKernel,
        Self::MemoryLimit,
        Self::NoNetwork,
        Self::NoPidNamespace,
        Self::Mounts,
        Self::VirtualClock,
        Self::Traced,
        Self::Container,
        Self::RealDevices,
        Self::OwnName,
        Self::PretendedClasses,
    ];
}

/// What the filter says of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Runs in the kernel at no cost.
    Allow,
    /// Fails with this errno.
    Fail(Errno),
    /// Goes to the sentry.
    Notify,
    /// Kills the process.
    Kill,
}

/// One condition on one argument, compared at the width of the parameter's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Test {
    /// Which argument, from 0.
    pub arg: usize,
    /// What must hold.
    pub op: Op,
}

/// A comparison that classic BPF can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// `value == x`
    Equal(u64),
    /// `value != x`
    NotEqual(u64),
    /// `value & mask == x`
    Masked {
        /// The bits that count.
        mask: u64,
        /// What they must be.
        value: u64,
    },
    /// `value & mask != 0`
    AnyOf(u64),
    /// `value > x`, unsigned
    Greater(u64),
}

impl Op {
    /// Whether it holds for a register of which only `width` counts. Constants are cut to that width too.
    pub fn holds(self, width: Width, register: u64) -> bool {
        let bits = width.bits();
        let value = register & bits;
        match self {
            Op::Equal(x) => value == x & bits,
            Op::NotEqual(x) => value != x & bits,
            Op::Masked { mask, value: wanted } => value & mask == wanted & bits,
            Op::AnyOf(mask) => value & mask & bits != 0,
            Op::Greater(x) => value > x & bits,
        }
    }
}

/// If all tests hold, the verdict; otherwise the next check, and after the last one the route's `otherwise`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Check {
    /// All of these must hold.
    pub all: &'static [Test],
    /// Then this is the verdict.
    pub then: Verdict,
}

/// How a call is treated: checks in the filter, a verdict when none applies, and a handler if it can be notified.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// Asked in order; the first that holds decides.
    pub checks: &'static [Check],
    /// The verdict when no check holds.
    pub otherwise: Verdict,
    /// Who answers a notification.
    pub handler: Option<Handler>,
}

impl Route {
    /// A route without checks or handler.
    pub const fn plain(verdict: Verdict) -> Self {
        Self { checks: &[], otherwise: verdict, handler: None }
    }

    /// Whether the kernel or the sentry ever does more for the call than refuse it: what the size of a surface counts.
    pub fn reachable(&self) -> bool {
        self.handler.is_some() || !self.checks.is_empty() || matches!(self.otherwise, Verdict::Allow | Verdict::Notify)
    }

    /// What the filter must say for these registers: the definition that every compiled program is held against.
    pub fn verdict(&self, parameters: &[Parameter], registers: &[u64; 6]) -> Verdict {
        let holds = |test: &Test| test.op.holds(width(parameters, test.arg), registers[test.arg]);
        self.checks.iter().find(|check| check.all.iter().all(holds)).map_or(self.otherwise, |check| check.then)
    }

    /// The word for it in `SYSCALLS`: allow, filter, errno, emulate, observe, rewrite or kill.
    pub fn word(&self) -> &'static str {
        match (self.handler, self.otherwise, self.checks) {
            (Some(Handler::Observe(_) | Handler::Permit(_)), ..) => "observe",
            (Some(Handler::Rewrite(_)), ..) => "rewrite",
            (Some(_), ..) => "emulate",
            (None, Verdict::Kill, _) => "kill",
            (None, Verdict::Fail(_), []) => "errno",
            (None, _, []) => "allow",
            (None, ..) => "filter",
        }
    }
}

/// How wide an argument is; one that the row does not declare is compared whole.
pub fn width(parameters: &[Parameter], arg: usize) -> Width {
    parameters.get(arg).map_or(Width::W64, |parameter| parameter.width)
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Syscall {
    /// Its name, as in `<asm/unistd.h>`.
    pub name: &'static str,
    /// Its documentation; lines that begin with `Limit:` are what the emulation cannot do.
    ///
    /// One string, as the signature is, and not a list of them: each pointer in the table is relocated at every start of a
    /// position-independent program.
    pub docs: &'static str,
    /// Its parameters with their types, `name: Type` each, as they are declared.
    pub signature: &'static str,
    /// Its parameters, in order.
    pub parameters: &'static [Parameter],
    /// Its topic.
    pub family: Family,
    /// The smallest surface that includes it.
    pub surface: Surface,
    /// Its route under a plain policy.
    pub route: Route,
    /// Its routes when the policy has a feature; the first enabled one wins.
    pub special: &'static [(Feature, Route)],
    /// Its numbers, in the order of [`Arch::ALL`]; found by name when this crate was compiled.
    pub(crate) numbers: [Option<u16>; Arch::ALL.len()],
}

/// The numbers of the call `name`, for its row.
#[allow(clippy::cast_possible_truncation)] // checked by the assertion
pub(crate) const fn numbers(name: &str) -> [Option<u16>; Arch::ALL.len()] {
    let mut numbers = [None; Arch::ALL.len()];
    let mut arch = 0;
    while arch < numbers.len() {
        if let Some(number) = Arch::ALL[arch].number(name) {
            assert!(number <= u16::MAX as usize);
            numbers[arch] = Some(number as u16);
        }
        arch += 1;
    }
    numbers
}

impl Syscall {
    /// What it does: the documentation without its limits, as one paragraph.
    pub fn summary(&self) -> String {
        let lines = self.docs.lines().map(str::trim);
        lines.take_while(|line| !line.starts_with("Limit:")).collect::<Vec<_>>().join(" ").trim().to_owned()
    }

    /// What its emulation cannot do.
    pub fn limits(&self) -> impl Iterator<Item = &'static str> {
        self.docs.lines().filter_map(|line| line.trim().strip_prefix("Limit:")).map(str::trim)
    }

    /// The names of its parameters, as in the man page, and those of their types in [`args`](crate::args).
    pub fn declared(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        self.signature.split(',').filter_map(|each| each.split_once(':')).map(|(name, kind)| (name.trim(), kind.trim()))
    }

    /// Its number on `arch`, if it exists there.
    pub fn number(&self, arch: Arch) -> Option<usize> {
        let place = Arch::ALL.iter().position(|known| *known == arch)?;
        self.numbers[place].map(usize::from)
    }

    /// The route under a policy with these `features`.
    pub fn route_with(&self, surface: Surface, features: &[Feature]) -> Route {
        let special = self.special.iter().find(|(feature, _)| features.contains(feature));
        // Who asks for a clock of the sandbox's own asks for what steers it.
        let asked_for = matches!(special, Some((Feature::VirtualClock, _))) && surface >= Surface::Default;
        if self.surface > surface && !asked_for {
            return Route::plain(Verdict::Fail(Errno::ENOSYS));
        }
        special.map_or(self.route, |(_, route)| *route)
    }
}

/// Every row, topic by topic.
fn rows() -> impl Iterator<Item = &'static Syscall> {
    const TOPICS: &[&[Syscall]] = &[
        crate::clock::ROWS,
        crate::exec::ROWS,
        crate::identity::ROWS,
        crate::io::ROWS,
        crate::ipc::ROWS,
        crate::memory::ROWS,
        crate::mount::ROWS,
        crate::names::ROWS,
        crate::peers::ROWS,
        crate::privileged::ROWS,
        crate::process::ROWS,
        crate::signal::ROWS,
    ];
    TOPICS.iter().chain(crate::file::ROWS).chain(crate::net::ROWS).flat_map(|rows| rows.iter())
}

/// Every row, sorted by name.
pub fn all() -> &'static [Syscall] {
    static ALL: LazyLock<Vec<Syscall>> = LazyLock::new(|| {
        let mut all: Vec<Syscall> = rows().copied().collect();
        all.sort_by_key(|row| row.name);
        all
    });
    &ALL
}

/// The row called `name`.
pub fn find(name: &str) -> Option<&'static Syscall> {
    let all = all();
    all.binary_search_by_key(&name, |row| row.name).ok().map(|index| &all[index])
}

/// How many calls of `arch` a plain policy with this `surface` does more with than refuse: the number to keep small.
pub fn reachable(arch: Arch, surface: Surface) -> usize {
    let here = all().iter().filter(|row| row.number(arch).is_some());
    here.filter(|row| row.route_with(surface, &[]).reachable()).count()
}

/// The routes of one policy, by syscall number of one architecture.
pub struct Routes {
    arch: Arch,
    by_number: Vec<Option<Entry>>,
}

/// What one number means under one policy.
#[derive(Clone, Copy, Debug)]
struct Entry {
    route: Route,
    parameters: &'static [Parameter],
}

impl Routes {
    /// The routes of every number of `arch` for a policy with this `surface` and these `features`.
    pub fn new(arch: Arch, surface: Surface, features: &[Feature]) -> Self {
        let mut by_number = vec![None; arch.last_number() + 1];
        for row in rows() {
            if let Some(number) = row.number(arch) {
                by_number[number] =
                    Some(Entry { route: row.route_with(surface, features), parameters: row.parameters });
            }
        }
        Self { arch, by_number }
    }

    /// Routes that no row declares, for trying the compiler on.
    #[cfg(test)]
    pub(crate) fn made_of(arch: Arch, routes: Vec<Option<(Route, &'static [Parameter])>>) -> Self {
        let entry = |(route, parameters)| Entry { route, parameters };
        Self { arch, by_number: routes.into_iter().map(|route| route.map(entry)).collect() }
    }

    /// The architecture these numbers belong to.
    pub fn arch(&self) -> Arch {
        self.arch
    }

    /// One more than the last number.
    pub fn len(&self) -> usize {
        self.by_number.len()
    }

    /// True if there is no number at all, which never happens.
    pub fn is_empty(&self) -> bool {
        self.by_number.is_empty()
    }

    /// The route of `number`; `None` for a number without a row, which fails with `ENOSYS`.
    pub fn get(&self, number: usize) -> Option<&Route> {
        Some(&self.by_number.get(number)?.as_ref()?.route)
    }

    /// The parameters of `number`; none for a number without a row.
    pub fn parameters(&self, number: usize) -> &'static [Parameter] {
        self.by_number.get(number).copied().flatten().map_or(&[], |entry| entry.parameters)
    }

    /// What the filter must say for `number` with these registers.
    pub fn verdict(&self, number: usize, registers: &[u64; 6]) -> Verdict {
        let route = self.get(number).copied().unwrap_or(Route::plain(Verdict::Fail(Errno::ENOSYS)));
        route.verdict(self.parameters(number), registers)
    }
}

/// Declares rows. Each stands beside its handler:
///
/// ```text
/// syscalls! {
///     /// Connects a socket to a peer.
///     /// Limit: what the emulation cannot do.
///     connect(socket: Fd, address: UserPtr, len: SockLen) Network Judge Observe(connect) { HostNetwork => Allow };
/// }
/// ```
///
/// After the parameters: family, smallest surface, route. Routes are `Allow`, `Errno(EPERM)`, `Filter(CHECKS)`,
/// `Permit(handler)`, `Rewrite(handler) when CHECKS`, `Emulate(handler)`, `EmulateSlow(handler)`, `Observe(handler)`, the last three optionally followed by `when CHECKS`: then only
/// calls for which a check says `Notify` reach the handler, and others are allowed or refused as the checks say.
#[macro_export]
macro_rules! syscalls {
    ($(
        $(#[doc = $doc:literal])*
        $name:ident $parameters:tt $family:ident $surface:ident
        $kind:ident $(($spec:ident))? $(when $checks:ident)?
        $({ $($feature:ident => $fkind:ident $(($fspec:ident))? $(when $fchecks:ident)?),* $(,)? })?
    ;)*) => {
        pub(crate) const ROWS: &[$crate::table::Syscall] = &[$(
            $crate::table::Syscall {
                name: stringify!($name),
                docs: concat!($($doc, "\n"),*),
                signature: $crate::syscalls!(@signature $parameters),
                parameters: $crate::syscalls!(@parameters $parameters),
                family: $crate::table::Family::$family,
                surface: $crate::table::Surface::$surface,
                route: $crate::syscalls!(@route $parameters $kind $($spec)? $(when $checks)?),
                special: &[$($((
                    $crate::table::Feature::$feature,
                    $crate::syscalls!(@route $parameters $fkind $($fspec)? $(when $fchecks)?),
                )),*)?],
                numbers: $crate::table::numbers(stringify!($name)),
            }
        ),*];
    };

    (@signature ($($arg:ident: $ty:ident),* $(,)?)) => { stringify!($($arg: $ty),*) };

    (@parameters ($($arg:ident: $ty:ident),* $(,)?)) => {
        &[$($crate::args::Parameter {
            width: <$crate::args::$ty as $crate::args::Argument>::WIDTH,
        }),*]
    };

    (@route $parameters:tt Allow) => { $crate::table::Route::plain($crate::table::Verdict::Allow) };
    (@route $parameters:tt Errno $errno:ident) => {
        $crate::table::Route::plain($crate::table::Verdict::Fail(nix::errno::Errno::$errno))
    };
    (@route $parameters:tt Filter $checks:ident) => {
        $crate::table::Route { checks: $checks, otherwise: $crate::table::Verdict::Allow, handler: None }
    };
    (@route $parameters:tt Permit $handler:ident) => {
        $crate::table::Route {
            checks: &[],
            otherwise: $crate::table::Verdict::Notify,
            handler: Some($crate::dispatch::Handler::Permit($handler)),
        }
    };
    (@route $parameters:tt Rewrite $handler:ident when $checks:ident) => {
        $crate::table::Route {
            checks: $checks,
            otherwise: $crate::table::Verdict::Allow,
            handler: Some($crate::dispatch::Handler::Rewrite($handler)),
        }
    };
    (@route $parameters:tt $kind:ident $handler:ident) => {
        $crate::table::Route {
            checks: &[],
            otherwise: $crate::table::Verdict::Notify,
            handler: Some($crate::dispatch::Handler::$kind($crate::syscalls!(@decode $parameters $handler))),
        }
    };
    (@route $parameters:tt $kind:ident $handler:ident when $checks:ident) => {
        $crate::table::Route {
            checks: $checks,
            otherwise: $crate::table::Verdict::Allow,
            handler: Some($crate::dispatch::Handler::$kind($crate::syscalls!(@decode $parameters $handler))),
        }
    };

    (@decode ($($arg:ident: $ty:ident),* $(,)?) $handler:ident) => {
        |guest, registers| {
            let mut _registers = registers.into_iter();
            $handler(guest, $(
                <$crate::args::$ty as $crate::args::Argument>::from_register(_registers.next().unwrap_or(0))
            ),*)
        }
    };
}

#[cfg(test)]
mod tests;
