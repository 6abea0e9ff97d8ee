//! The monitor: the one process with the user's rights and namespaces.
//!
//! It turns a policy into a plan, launches the sandbox, carries bytes between terminals and files, keeps the time, and
//! reports. It never reads guest memory, and takes what the sandbox tells it as hostile input.

mod audit;
pub mod cgroup;
mod clock;
mod cow;
mod idmap;
pub mod limits;
mod made;
mod mounts;
pub mod nested;
pub mod numbers;
pub mod placed;
pub mod profile;
pub mod root;
mod rules;
mod standard;
pub mod store;
mod system;
pub mod terminal;
pub mod view;
mod wait;

use std::ffi::{CString, OsStr, OsString};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use nix::unistd::{Gid, Uid, getegid, geteuid, getgid, getuid};
use shim::failure::Failure;
use shim::plan::{Identity, Mounting, Plan};
use syscalls::abi::Arch;
use syscalls::dispatch::Dispatch;
use syscalls::filter::{compile, compile_list, compile_traced};
use syscalls::table::{self, Feature, Routes, Surface, Verdict};

use crate::changes::Review;
use crate::changes::diff::detail;
use crate::changes::layer::Layer;
use crate::changes::obeyed::Obeyed;
use crate::changes::record::{self, Argument, Ending, Record};
use crate::platform::Platform;
use crate::policy::clock::Clock;
use crate::policy::view::Facts;
use crate::policy::{Ability, FakeRoot, Interpose, Mechanism, Net, Policy, Sink, Userns, environment};
use crate::report::{Cause, ChangedFile, Report};
use crate::supervise::{Orders, own_calls};

/// The host id of guests that root starts: above every range that distributions hand out, so it owns nothing.
const UNPRIVILEGED: u32 = 1_900_000_000;
/// Their id inside.
const ORDINARY: u32 = 1000;

/// Runs one policy to its end and returns the exit code for the shell.
pub fn run<P: Platform>(policy: &Policy) -> u8 {
    let started = Instant::now();
    let mut report = Report::new();
    let sinks = match Sinks::open(policy) {
        Ok(sinks) => sinks,
        Err(failure) => {
            let _ = writeln!(std::io::stderr(), "sentry: {}", crate::report::escape(&failure.to_string()));
            return failure.exit;
        }
    };
    let result = if policy.nested {
        nested::run(policy, started, &mut report)
    } else {
        nested::refuse_within(P::TRACES).and_then(|()| try_run::<P>(policy, started, &mut report))
    };
    if let Err(failure) = result {
        report.cause = Cause::Setup;
        report.exit_code = failure.exit;
        let hint = hint(policy, &failure);
        report.error = Some(format!("{failure}{hint}"));
    }
    // Why nothing ran is said even under --quiet.
    if !policy.quiet || report.cause == Cause::Setup {
        let _ = std::io::stderr().write_all(report.summary(policy.trace_denied || policy.nested).as_bytes());
    }
    sinks.write(&report);
    report.exit_code
}

/// A command that the host has and the view has not deserves more than "not found".
fn hint(policy: &Policy, failure: &Failure) -> String {
    let Some(name) = policy.command.first().filter(|_| failure.exit == 127 && failure.remedy.is_empty()) else {
        return String::new();
    };
    let found = if name.as_bytes().contains(&b'/') {
        Some(PathBuf::from(name)).filter(|path| path.exists())
    } else {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).map(|directory| directory.join(name)).find(|path| path.is_file())
    };
    match found.as_deref().and_then(Path::parent) {
        Some(directory) if !directory.as_os_str().is_empty() => {
            format!("; it is in {} on the host, allow with --read {}", directory.display(), directory.display())
        }
        _ => String::new(),
    }
}

/// What a policy comes down to on this host, without building it: which layer enforces which rule, and what the table
/// becomes by it.
pub fn weigh(policy: &Policy, facts: &Facts) -> Result<(view::Arranged, Vec<Feature>), Failure> {
    let identity = identity(policy);
    let arranged = view::weigh(policy, facts, &identity, &mut idmap::IdMaps::new(identity))?;
    let copies = !arranged.cow.is_empty();
    let mut features = features(policy, &arranged.rules, arranged.host_directories, copies, false);
    if policy.platform == Mechanism::Ptrace {
        features.push(Feature::Traced);
    }
    Ok((arranged, features))
}

fn try_run<P: Platform>(policy: &Policy, started: Instant, report: &mut Report) -> Result<(), Failure> {
    refuse_privileged_start()?;
    let facts = crate::host::user_facts()?;
    let identity = identity(policy);
    let mut ids = idmap::IdMaps::new(identity);
    let arranged = view::arrange(policy, &facts, &identity, &mut ids);
    let arranged = arranged?;
    // What cannot be remembered cannot be reviewed.
    let record = (!arranged.cow.is_empty()).then(|| record(policy, &arranged));
    let (presence, record) = match (&arranged.store, record) {
        (Some(store), Some(record)) => {
            let written = record.write(&store.directory);
            written.map_err(|error| store::io("write run.json in", &store.directory, &error))?;
            (None, Some(record))
        }
        _ if record::running_base().is_some() => (record::Presence::tell(&self::record(policy, &arranged)), None),
        _ => (None, None),
    };
    let (store, absent) = (arranged.store, arranged.absent);
    let result = (|| {
        let mut decided = limits::decide(policy, store.is_some())?;
        let mut notes = arranged.notes;
        notes.append(&mut ids.notes);
        notes.append(&mut decided.warnings);
        let clock = clock::decide(policy, &mut notes);
        if policy.net == Net::All {
            notes.push("--net all: the program has this host's network, its local services included".to_owned());
        }
        if !policy.quiet {
            for note in &notes {
                let _ = writeln!(std::io::stderr(), "sentry: {}", crate::report::escape(note));
            }
        }
        let mut standard = standard::Standard::new()?;
        let mut terminal = terminal::Terminal::new(standard.stdio);

        let log = policy.audit.as_deref().map(audit::Log::create).transpose()?;
        let copies = !arranged.cow.is_empty();
        let pinned = decided.cpus.is_some();
        let mut features = features(policy, &arranged.rules, arranged.host_directories, copies, pinned);
        if P::TRACES {
            features.push(Feature::Traced);
        }
        let routes = Routes::new(Arch::native(), policy.surface, &features);
        let home = policy.home(&facts).to_owned();
        let variables = variables(policy, &identity, &home)?;
        let mut view = arranged.view;
        numbers::add(&mut view, policy, decided.cpus.as_deref())?;
        let live = numbers::live(policy, decided.cpus.as_deref());
        let memory = view.size;
        let plan = Plan {
            identity,
            view,
            root: root::arrange(policy, &identity, &features)?,
            own_network: policy.net == Net::None,
            hostname: policy.hostname.clone(),
            filter: filter(policy, &features, &routes),
            traced: P::TRACES,
            trials: if P::TRACES { trials(&routes) } else { Vec::new() },
            profiles: policy.seccomp.iter().map(|path| profile::load(path)).collect::<Result<_, _>>()?,
            supervisor_filter: supervisor_filter(&features, !live.is_empty()),
            mounting: policy.allow.contains(&Ability::Mount).then(|| mounting(memory)),
            limits: std::mem::take(&mut decided.resources),
            cpus: decided.cpus.take(),
            stdio: standard.stdio,
            terminal: terminal.as_ref().map(terminal::Terminal::start),
            command: strings(policy.command.iter().map(OsString::as_os_str))?,
            search: search(&variables)?,
            environment: variables,
            workdir: arranged.workdir,
            allow_degraded: policy.allow_degraded,
            clock: clock.plan,
        };
        let mut rules = arranged.rules;
        rules.host_network = policy.net == Net::All;
        rules.judge_sockets = arranged.host_directories;
        rules.trace = policy.trace_denied;
        rules.fake_root = policy.fake_root == FakeRoot::Pretend;
        rules.real_ids = policy.fake_root == FakeRoot::Range;
        rules.pretend_namespaces = policy.userns == Userns::Emulate;
        rules.log_refusals = policy.audit.is_some();
        rules.audit = policy.audit.is_some() && !policy.patterns.iter().any(|rule| rule.log);
        let orders = wait::Once::new(Orders {
            dispatch: Dispatch::new(routes),
            rules,
            watched: decided.watched,
            live,
            clock: clock.order,
        });
        let launched = wait::launch::<P>(&plan, &orders, decided.cgroup.as_ref())?;
        // Ends of pipes that only the guest may hold, and mounts that are attached by now.
        standard.guest_ends.clear();
        let_go(plan);

        let mut run = wait::Run::new(policy, report, launched, &decided, &arranged.cow, started, log);
        run.until_the_end(&mut standard, terminal.as_mut());
        drop(terminal);
        run.finish(&mut decided, &arranged.cow)
    })();
    drop(presence);
    report.appeared = absent.into_iter().filter(|path| path.symlink_metadata().is_ok()).collect();
    if let (Some(store), Some(mut record)) = (&store, record) {
        keep(store, &mut record, report);
    }
    result
}

/// Closes the mounts that a plan of root's holds. The memory of any other stays as it is: the sandbox's processes share it
/// until somebody writes to it, and to free a thing is to write.
fn let_go(plan: Plan) {
    if plan.identity.by_root { drop(plan) } else { std::mem::forget(plan) }
}

fn refuse_privileged_start() -> Result<(), Failure> {
    if (getuid(), getgid()) == (geteuid(), getegid()) {
        return Ok(());
    }
    Err(Failure::check_text("sentry must not be installed set-user-id or set-group-id; remove those bits"))
}

/// What is remembered of this run from its beginning.
fn record(policy: &Policy, arranged: &view::Arranged) -> Record {
    let (id, started) = match &arranged.store {
        Some(store) => (store.id.clone(), store.started),
        None => {
            let (seconds, nanoseconds) = view::now();
            (record::fresh_id(), (seconds, nanoseconds.into()))
        }
    };
    let on_disk = arranged.cow.iter().filter(|directory| directory.layer.is_some());
    let mut directories: Vec<_> = on_disk.map(view::CowDirectory::record).collect();
    // Those that this run does not show are kept all the same.
    let earlier = arranged.store.iter().flat_map(|store| &store.earlier);
    let others: Vec<_> = earlier.filter(|old| directories.iter().all(|new| new.index != old.index)).cloned().collect();
    directories.extend(others);
    Record {
        version: record::VERSION,
        id,
        command: policy.command.iter().cloned().map(Argument).collect(),
        started,
        workdir: PathBuf::from(OsStr::from_bytes(arranged.workdir.as_bytes())),
        directories,
        ending: None,
    }
}

/// Looks through the copies; keeps the store if there is something in it, and says so.
fn keep(store: &store::Store, record: &mut Record, report: &mut Report) {
    for directory in &record.directories {
        match Layer::open(&store.directory, directory, record.started) {
            Ok(layer) => add_changes(&layer, layer.review(), report),
            Err(failure) => report.unseen.push(failure.to_string()),
        }
    }
    report.changes.sort_by(|one, other| (one.change, &one.path).cmp(&(other.change, &other.path)));
    if report.changes.is_empty() && report.unseen.is_empty() {
        let _ = record::remove(&store.directory);
        return;
    }
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let time = (i64::try_from(since.as_secs()).unwrap_or(i64::MAX), i64::from(since.subsec_nanos()));
    let cause = format!("{:?}", report.cause).to_lowercase();
    record.ending = Some(Ending { cause, exit_code: report.exit_code, time });
    // Without it the run counts as orphaned, and can be reviewed all the same.
    let _ = record.write(&store.directory);
    report.changes_kept = Some(store.directory.clone());
    report.run = Some(store.id.clone());
}

fn add_changes(layer: &Layer, review: Review, report: &mut Report) {
    report.unseen.extend(review.problems);
    let obeyed = Obeyed::new(layer, &review.changes);
    report.changes.extend(review.changes.into_iter().map(|change| ChangedFile {
        change: change.kind,
        within: change.within,
        detail: detail(layer, &change),
        obeyed: obeyed.root(&change).is_some(),
        path: layer.host_path.join(change.path),
    }));
}

fn identity(policy: &Policy) -> Identity {
    let (uid, gid) = (Uid::current().as_raw(), Gid::current().as_raw());
    let identity = if uid == 0 {
        let (host_uid, host_gid) = (UNPRIVILEGED, UNPRIVILEGED);
        Identity { host_uid, host_gid, uid: ORDINARY, gid: ORDINARY, by_root: true }
    } else {
        Identity { host_uid: uid, host_gid: gid, uid, gid, by_root: false }
    };
    if policy.fake_root.is_on() { Identity { uid: 0, gid: 0, ..identity } } else { identity }
}

/// Which parts of the table this policy changes.
fn features(
    policy: &Policy,
    rules: &syscalls::rules::Rules,
    host_directories: bool,
    copies: bool,
    pinned: bool,
) -> Vec<Feature> {
    let mut features = Vec::new();
    let mut add = |wanted: bool, feature| {
        if wanted {
            features.push(feature);
        }
    };
    let fakes = policy.fake_root == FakeRoot::Pretend;
    let pretends = fakes || policy.userns == Userns::Emulate;
    let every_path = policy.interpose == Interpose::Full
        || policy.audit.is_some()
        || pretends
        || !rules.paths.is_empty()
        || !rules.virtual_files.is_empty();
    add(copies, Feature::Copies);
    add(rules.are_about_names(), Feature::ProtectedNames);
    add(rules.are_about_moves(), Feature::AnchoredNames);
    add(every_path, Feature::PathCalls);
    add(rules.change_listings(), Feature::HiddenNames);
    add(rules.are_about_changes() || fakes, Feature::PathRules);
    add(fakes, Feature::FakeRoot);
    add(policy.fake_root == FakeRoot::Range, Feature::RealIds);
    add(pretends, Feature::PretendedIds);
    add(host_directories, Feature::SocketGrants);
    add(policy.net == Net::All, Feature::HostNetwork);
    add(policy.trace_denied, Feature::TracePaths);
    add(pinned, Feature::PinnedCpus);
    add(!policy.tracing_inside, Feature::NoTracing);
    add(rules.kernel.is_some(), Feature::NamedKernel);
    add(rules.memory.is_some(), Feature::MemoryLimit);
    add(policy.allow.contains(&Ability::Mount), Feature::Mounts);
    add(policy.clock != Clock::Hosts, Feature::VirtualClock);
    features
}

/// The main filter: built ahead for the common policies, compiled now for the others.
fn filter(policy: &Policy, features: &[Feature], routes: &Routes) -> Vec<syscalls::filter::Instruction> {
    use shim::filter::built_in;
    match (policy.surface, features) {
        (Surface::Judge, []) => built_in::JUDGE_ISOLATED.to_vec(),
        (Surface::Default, []) => built_in::DEFAULT_ISOLATED.to_vec(),
        (Surface::Compat, []) => built_in::COMPAT_ISOLATED.to_vec(),
        (Surface::Judge, [Feature::Copies]) => built_in::JUDGE_COPIES.to_vec(),
        (Surface::Default, [Feature::Copies]) => built_in::DEFAULT_COPIES.to_vec(),
        (Surface::Compat, [Feature::Copies]) => built_in::COMPAT_COPIES.to_vec(),
        (Surface::Judge, [Feature::HostNetwork]) => built_in::JUDGE_HOST_NETWORK.to_vec(),
        (Surface::Default, [Feature::HostNetwork]) => built_in::DEFAULT_HOST_NETWORK.to_vec(),
        (Surface::Compat, [Feature::HostNetwork]) => built_in::COMPAT_HOST_NETWORK.to_vec(),
        (Surface::Judge, [Feature::Copies, Feature::HostNetwork]) => built_in::JUDGE_COPIES_HOST_NETWORK.to_vec(),
        (Surface::Default, [Feature::Copies, Feature::HostNetwork]) => built_in::DEFAULT_COPIES_HOST_NETWORK.to_vec(),
        (Surface::Compat, [Feature::Copies, Feature::HostNetwork]) => built_in::COMPAT_COPIES_HOST_NETWORK.to_vec(),
        _ if features.contains(&Feature::Traced) => compile_traced(routes, crate::platform::ptrace::INJECTED),
        _ => compile(routes),
    }
}

/// Calls that take a path and are the sentry's to answer.
fn trials(routes: &Routes) -> Vec<(&'static str, i64)> {
    let rows = table::all().iter().filter(|row| row.declared().any(|(_, kind)| kind == "PathPtr"));
    let numbers = rows.filter_map(|row| Some((row.name, row.number(Arch::native())?)));
    let asked = numbers.filter(|(_, number)| routes.verdict(*number, &shim::sys::TRIAL) == Verdict::Notify);
    asked.filter_map(|(name, number)| Some((name, i64::try_from(number).ok()?))).collect()
}

/// The filter that a supervisor puts on itself.
pub fn supervisor_filter(features: &[Feature], live: bool) -> Vec<syscalls::filter::Instruction> {
    let mut calls = own_calls::ALWAYS.to_vec();
    let any = |wanted: &[Feature]| features.iter().any(|feature| wanted.contains(feature));
    if any(&[Feature::ProtectedNames, Feature::AnchoredNames, Feature::PathCalls, Feature::Copies]) {
        calls.extend(own_calls::FOR_NAMES);
    }
    if any(&[Feature::Copies]) {
        calls.extend(own_calls::FOR_COPIES);
    }
    if any(&[Feature::PathCalls]) {
        calls.extend(own_calls::FOR_PATHS);
    }
    if any(&[Feature::FakeRoot]) {
        calls.extend(own_calls::FOR_FAKE_ROOT);
    }
    if any(&[Feature::RealIds, Feature::Container]) {
        calls.extend(own_calls::FOR_REAL_IDS);
    }
    if any(&[Feature::Container]) {
        calls.extend(own_calls::FOR_CONTAINERS);
    }
    if any(&[Feature::SocketGrants, Feature::PathCalls]) {
        calls.extend(own_calls::FOR_SOCKETS);
    }
    if any(&[Feature::NamedKernel, Feature::MemoryLimit]) {
        calls.extend(own_calls::FOR_NUMBERS);
    }
    if any(&[Feature::PretendedIds]) {
        calls.extend(own_calls::FOR_NAMESPACES);
    }
    if live {
        calls.extend(own_calls::FOR_LIVE_FILES);
    }
    if any(&[Feature::Traced]) {
        calls.extend(own_calls::FOR_TRACING);
    }
    if any(&[Feature::VirtualClock]) {
        calls.extend(own_calls::FOR_CLOCK);
    }
    compile_list(Arch::native(), &calls, Verdict::Kill)
}

/// What the process that mounts for the guest works with; `bytes` are what private directories may hold, too.
fn mounting(bytes: u64) -> Mounting {
    /// More than any program makes, and a tenth of what the kernel allows (`fs.mount-max`).
    const COUNT: u64 = 10_000;
    let filter = compile_list(Arch::native(), shim::mounter::OWN_CALLS, Verdict::Kill);
    Mounting { filter, bytes, count: COUNT }
}

fn variables(policy: &Policy, identity: &Identity, home: &Path) -> Result<Vec<CString>, Failure> {
    let user = system::guest_name(identity);
    let mut variables = environment::compose(&policy.environment, std::env::vars_os(), OsStr::new(&user), home);
    if policy.fake_root.is_on() {
        environment::add_roots_directories(&policy.environment, &mut variables);
    }
    let joined = variables.into_iter().map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes()].concat());
    joined.map(|bytes| CString::new(bytes).map_err(|_| Failure::check("pass a variable with a NUL byte"))).collect()
}

fn strings<'a>(strings: impl Iterator<Item = &'a OsStr>) -> Result<Vec<CString>, Failure> {
    strings
        .map(|text| CString::new(text.as_bytes()).map_err(|_| Failure::check("pass an argument with a NUL byte")))
        .collect()
}

/// The directories of the guest's own `PATH`; relative ones would mean the working directory of the moment.
fn search(variables: &[CString]) -> Result<Vec<CString>, Failure> {
    let path = variables.iter().find_map(|variable| variable.as_bytes().strip_prefix(b"PATH="));
    let directories = path.unwrap_or(b"/usr/local/bin:/usr/bin:/bin").split(|byte| *byte == b':');
    strings(directories.filter(|directory| directory.starts_with(b"/")).map(OsStr::from_bytes))
}

/// Where machine-readable reports go; opened before anything runs, so that a wrong name is an error at start.
struct Sinks {
    json: Option<std::fs::File>,
    meta: Option<std::fs::File>,
}

impl Sinks {
    fn open(policy: &Policy) -> Result<Self, Failure> {
        let failed = |what: String, error: &std::io::Error| {
            let errno = nix::errno::Errno::from_raw(error.raw_os_error().unwrap_or(nix::libc::EIO));
            Failure::new(what, errno).remedy("choose another place for the report")
        };
        let file = |path: &Path| {
            std::fs::File::create(path).map_err(|error| failed(format!("write the report {}", path.display()), &error))
        };
        let json = match &policy.json {
            None => None,
            Some(Sink::File(path)) => Some(file(path)?),
            Some(Sink::Descriptor(number)) => {
                let fd = crate::raw::inherited(*number).map_err(|errno| {
                    Failure::new(format!("write the report to descriptor {number}"), errno)
                        .remedy(format!("open it for sentry, as in {number}>report.json"))
                })?;
                Some(std::fs::File::from(fd))
            }
        };
        Ok(Self { json, meta: policy.meta.as_deref().map(file).transpose()? })
    }

    fn write(self, report: &Report) {
        let complain = |error: std::io::Error| {
            let _ = writeln!(std::io::stderr(), "sentry: cannot write the report: {error}");
        };
        if let Some(mut file) = self.json {
            let text = serde_json::to_string(report).unwrap_or_default();
            file.write_all(text.as_bytes()).and_then(|()| file.write_all(b"\n")).unwrap_or_else(complain);
        }
        if let Some(mut file) = self.meta {
            file.write_all(report.isolate().as_bytes()).unwrap_or_else(complain);
        }
    }
}
