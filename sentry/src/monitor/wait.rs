//! From launch to the last byte: the monitor's loop.

use std::cell::Cell;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, raise, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitStatus, waitpid};
use shim::failure::{Failure, Step};
use shim::message::{ToInit, ToMonitor, Usage, receive, send};
use shim::plan::Plan;
use shim::start::Launched;

use super::audit::Log;
use super::cgroup::Cgroup;
use super::limits::{Decided, Name};
use super::standard::Standard;
use super::store;
use super::terminal::Terminal;
use super::view::CowDirectory;
use crate::changes::layer::Layer;
use crate::changes::record::How;
use crate::changes::scan::used;
use crate::platform::Platform;
use crate::policy::clock::Clock;
use crate::policy::{FakeRoot, Policy};
use crate::report::{Cause, DeniedCall, Report};
use crate::supervise::{self, Orders};

/// Something that the child of a fork takes; the parent's copy is dropped unused.
pub struct Once<T>(Cell<Option<T>>);

impl<T> Once<T> {
    /// Holds `value`.
    pub fn new(value: T) -> Self {
        Self(Cell::new(Some(value)))
    }
}

/// Signals that are passed on to the program, or that change what the monitor does.
const SIGNALS: [Signal; 10] = [
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGWINCH,
    Signal::SIGCONT,
    Signal::SIGTSTP,
    Signal::SIGCHLD,
];

/// Signals of `SIGNALS` that the caller has not chosen to ignore (nohup).
fn watched_signals() -> SigSet {
    let watched =
        |signal: &Signal| *signal == Signal::SIGCHLD || shim::sys::ignores_signal(*signal as libc::c_int) != Ok(true);
    SIGNALS.into_iter().filter(watched).collect()
}

/// Launches the sandbox, within its control group if it has one.
pub fn launch<P: Platform>(plan: &Plan, orders: &Once<Orders>, cgroup: Option<&Cgroup>) -> Result<Launched, Failure> {
    let io = |error: std::io::Error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO));
    if let Some(cgroup) = cgroup {
        cgroup.join().map_err(io).step(|| "join the sandbox's control group")?;
    }
    let launched = shim::start::launch(plan, &|plan, seat| match orders.0.take() {
        Some(orders) => supervise::run::<P>(plan, seat, orders),
        None => 125,
    });
    if let Some(cgroup) = cgroup {
        cgroup.leave().map_err(io).step(|| "leave the sandbox's control group")?;
    }
    launched
}

/// How the guest ended.
#[derive(Clone, Copy, Debug)]
struct End {
    code: Option<i32>,
    signal: Option<i32>,
    usage: Usage,
    pids_exhausted: bool,
}

/// A run in progress.
pub struct Run<'a> {
    policy: &'a Policy,
    report: &'a mut Report,
    launched: Launched,
    started: Instant,
    deadline: Option<Instant>,
    store_limit: Option<u64>,
    next_look: Option<Instant>,
    layers: Vec<(std::path::PathBuf, How)>,
    memory_uppers: Vec<(String, OwnedFd)>,
    log: Option<Log>,
    end: Option<End>,
    failure: Option<Failure>,
    fatal: Option<Name>,
    kill_at: Option<Instant>,
    hit: Vec<Name>,
    peak_memory: Option<u64>,
    supervisor_gone: bool,
    init_gone: bool,
}

impl<'a> Run<'a> {
    /// Watches over `launched`.
    pub fn new(
        policy: &'a Policy,
        report: &'a mut Report,
        launched: Launched,
        decided: &Decided,
        cow: &[CowDirectory],
        started: Instant,
        log: Option<Log>,
    ) -> Self {
        Self {
            log,
            policy,
            report,
            launched,
            started,
            deadline: decided.timeout.map(|timeout| Instant::now() + timeout),
            store_limit: decided.store,
            next_look: decided.store.map(|_| Instant::now()),
            layers: cow.iter().filter_map(|one| Some((one.layer.clone()?, one.how))).collect(),
            memory_uppers: Vec::new(),
            end: None,
            failure: None,
            fatal: None,
            kill_at: None,
            hit: Vec::new(),
            peak_memory: None,
            supervisor_gone: false,
            init_gone: false,
        }
    }

    /// The loop: until supervisor and init have said their last word and are gone.
    pub fn until_the_end(&mut self, standard: &mut Standard, mut terminal: Option<&mut Terminal>) {
        let set = watched_signals();
        let old = SigSet::thread_get_mask().unwrap_or_else(|_| SigSet::empty());
        let _ = sigprocmask(SigmaskHow::SIG_BLOCK, Some(&set), None);
        let signals = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).ok();
        while !(self.supervisor_gone && self.init_gone) {
            self.step(signals.as_ref(), standard, terminal.as_deref_mut());
        }
        let last = waitpid(self.launched.supervisor, None);
        if let (Ok(WaitStatus::Signaled(_, signal, _)), None, None) = (last, self.end, self.fatal) {
            let why = format!("the supervisor was killed by {signal}, and the sandbox with it");
            self.failure.get_or_insert_with(|| Failure::check_text(why));
        }
        standard.finish();
        if let Some(terminal) = terminal {
            terminal.finish();
        }
        let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&old), None);
    }

    fn timeout(&self) -> PollTimeout {
        let next = [self.deadline, self.next_look, self.kill_at].into_iter().flatten().min();
        let Some(next) = next else { return PollTimeout::NONE };
        // Rounded up, so that we do not spin through the last millisecond.
        let left = next.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
        PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
    }

    fn step(&mut self, signals: Option<&SignalFd>, standard: &mut Standard, terminal: Option<&mut Terminal>) {
        let (mut from_supervisor, mut from_init, mut signalled) = (false, false, false);
        let mut relays_ready = vec![false; standard.relays.len()];
        let (mut show, mut room, mut keys) = (false, false, false);
        {
            let mut waiting = Vec::with_capacity(8);
            let mut what: Vec<u32> = Vec::with_capacity(8);
            let mut wait = |fd, events, tag| {
                waiting.push(PollFd::new(fd, events));
                what.push(tag);
            };
            if !self.supervisor_gone {
                wait(self.launched.from_supervisor.as_fd(), PollFlags::POLLIN, 0);
            }
            if !self.init_gone {
                wait(self.launched.init.as_fd(), PollFlags::POLLIN, 1);
            }
            if let Some(signals) = signals {
                wait(signals.as_fd(), PollFlags::POLLIN, 2);
            }
            if let Some(terminal) = &terminal {
                for ((fd, events), tag) in terminal.waits_for().into_iter().zip(3..) {
                    wait(fd, events, tag);
                }
            }
            for (relay, tag) in standard.relays.iter().zip(5..) {
                if let Some((fd, writing)) = relay.waits_for() {
                    wait(fd, if writing { PollFlags::POLLOUT } else { PollFlags::POLLIN }, tag);
                }
            }
            if !matches!(poll(&mut waiting, self.timeout()), Ok(_) | Err(Errno::EINTR)) {
                return;
            }
            for (fd, tag) in waiting.iter().zip(what) {
                let events = fd.revents().unwrap_or(PollFlags::empty());
                if events.is_empty() {
                    continue;
                }
                match tag {
                    0 => from_supervisor = true,
                    1 => from_init = true,
                    2 => signalled = true,
                    3 => {
                        room = events.contains(PollFlags::POLLOUT);
                        show = events.intersects(PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR);
                    }
                    4 => keys = true,
                    tag => {
                        if let Some(ready) = usize::try_from(tag - 5).ok().and_then(|index| relays_ready.get_mut(index))
                        {
                            *ready = true;
                        }
                    }
                }
            }
        }
        for (relay, ready) in standard.relays.iter_mut().zip(relays_ready) {
            if ready {
                relay.step();
            }
        }
        let mut terminal = terminal;
        if let Some(terminal) = terminal.as_deref_mut() {
            if room {
                terminal.pass_keys();
            }
            if show {
                terminal.show();
            }
            if keys {
                terminal.take_keys();
            }
        }
        if from_init {
            self.hear_init(terminal.as_deref_mut());
        }
        if from_supervisor {
            self.hear_supervisor();
        }
        if let (true, Some(signals)) = (signalled, signals) {
            while let Ok(Some(signal)) = signals.read_signal() {
                self.on_signal(i32::try_from(signal.ssi_signo).unwrap_or(0), terminal.as_deref_mut());
            }
        }
        self.keep_time();
    }

    fn hear_init(&mut self, terminal: Option<&mut Terminal>) {
        match receive::<ToMonitor>(self.launched.init.as_fd()) {
            Ok(Some((ToMonitor::Terminal, Some(master)))) => {
                if let Some(terminal) = terminal {
                    terminal.attach(master);
                }
            }
            Ok(Some((ToMonitor::Upper(place), Some(directory)))) => self.memory_uppers.push((place, directory)),
            Ok(Some((ToMonitor::Stopped(signal), _))) => self.stop_with_the_program(signal, terminal),
            Ok(Some((ToMonitor::Exited { code, signal, usage, pids_exhausted }, _))) => {
                self.end.get_or_insert(End { code, signal, usage, pids_exhausted });
            }
            Ok(Some((message, _))) => self.hear(message),
            Ok(None) | Err(Errno::ECONNRESET) => self.init_gone = true,
            Err(_) => {}
        }
    }

    fn hear_supervisor(&mut self) {
        match receive::<ToMonitor>(self.launched.from_supervisor.as_fd()) {
            Ok(Some((message, _))) => self.hear(message),
            Ok(None) | Err(Errno::ECONNRESET) => self.supervisor_gone = true,
            Err(_) => {}
        }
    }

    /// What both may say.
    fn hear(&mut self, message: ToMonitor) {
        const KINDS: usize = 10_000;
        match message {
            ToMonitor::Failed(failure) => {
                self.failure.get_or_insert(failure);
            }
            ToMonitor::Lost(what) => {
                say(self.policy, &format!("without {what}"));
                self.report.protections.lost.push(what);
            }
            ToMonitor::Denied { call, what, remedy } => {
                if self.policy.trace_denied {
                    say(self.policy, &format!("{call} {what}: {remedy}"));
                }
                if self.report.denials.len() < KINDS {
                    self.report.denials.push(DeniedCall { call, what, remedy });
                }
            }
            message @ (ToMonitor::Decided { .. } | ToMonitor::DecisionsDropped(_)) => {
                if let Some(log) = &mut self.log {
                    log.note(&message);
                }
            }
            ToMonitor::DenialCount { total, dropped } => {
                self.report.denials_total = total;
                self.report.denials_dropped = dropped;
            }
            ToMonitor::Limit { name, fatal } => {
                let name = match name.as_str() {
                    "memory" => Name::Memory,
                    "cpu-time" => Name::CpuTime,
                    "pids" => Name::Pids,
                    _ => return,
                };
                self.reached(name, fatal);
            }
            ToMonitor::Peaks { memory, pids } => {
                self.peak_memory = Some(memory);
                self.report.peak_pids = Some(pids);
            }
            _ => {}
        }
    }

    /// A limit was reached; a fatal one ends the program, at once or, should init not be able to, in two seconds.
    fn reached(&mut self, name: Name, fatal: bool) {
        if !self.hit.contains(&name) {
            self.hit.push(name);
        }
        if fatal && self.fatal.is_none() && self.end.is_none() {
            self.fatal = Some(name);
            self.order(ToInit::Signal(libc::SIGKILL));
            self.kill_at = Some(Instant::now() + Duration::from_secs(2));
        }
    }

    fn order(&self, order: ToInit) {
        let _ = send(self.launched.init.as_fd(), &order, None);
    }

    fn keep_time(&mut self) {
        let now = Instant::now();
        if self.deadline.is_some_and(|deadline| now >= deadline) {
            self.deadline = None;
            self.reached(Name::Timeout, true);
        }
        if self.next_look.is_some_and(|next| now >= next) {
            let copies = self.layers.iter().filter_map(|(layer, how)| store::open_copy(layer, *how));
            let used: u64 = copies.map(|copy| used(&copy)).sum();
            if self.store_limit.is_some_and(|limit| used > limit) {
                self.reached(Name::Disk, true);
            }
            // A large tree takes long to look through: never more than a tenth of the time.
            let pause = (now.elapsed() * 10).max(Duration::from_millis(100));
            self.next_look = Some(Instant::now() + pause);
        }
        if self.kill_at.is_some_and(|at| now >= at) {
            self.kill_at = None;
            let _ = shim::sys::kill(self.launched.supervisor.as_raw(), libc::SIGKILL);
        }
    }

    fn on_signal(&mut self, signal: i32, terminal: Option<&mut Terminal>) {
        match signal {
            // The supervisor's channel tells of its end; the signal only wakes us.
            libc::SIGCHLD => {}
            libc::SIGWINCH => {
                if let Some(terminal) = terminal {
                    terminal.resize();
                }
            }
            libc::SIGCONT => {
                if let Some(terminal) = terminal {
                    terminal.enter_raw();
                    terminal.resize();
                }
                self.order(ToInit::GroupSignal(libc::SIGCONT));
            }
            libc::SIGTSTP => {
                self.order(ToInit::GroupSignal(libc::SIGTSTP));
                self.stop_with_the_program(signal, terminal);
            }
            libc::SIGINT | libc::SIGQUIT | libc::SIGHUP => self.order(ToInit::GroupSignal(signal)),
            other => self.order(ToInit::Signal(other)),
        }
    }

    /// The program stopped: so do we, that the shell may go on; `fg` brings both back.
    fn stop_with_the_program(&mut self, signal: i32, terminal: Option<&mut Terminal>) {
        let mut terminal = terminal;
        if let Some(terminal) = terminal.as_deref_mut() {
            terminal.leave_raw();
        }
        let signal = Signal::try_from(signal).unwrap_or(Signal::SIGSTOP);
        let stop = if signal == Signal::SIGTTIN || signal == Signal::SIGTTOU { Signal::SIGTSTP } else { signal };
        let mut only = SigSet::empty();
        only.add(stop);
        let _ = sigprocmask(SigmaskHow::SIG_UNBLOCK, Some(&only), None);
        let _ = raise(stop);
        // Here we were continued.
        let _ = sigprocmask(SigmaskHow::SIG_BLOCK, Some(&only), None);
        if let Some(terminal) = terminal {
            terminal.enter_raw();
            terminal.resize();
        }
        self.order(ToInit::GroupSignal(libc::SIGCONT));
    }

    /// Turns what was heard into the report. `Err`: there was no sandbox, or it broke.
    pub fn finish(self, decided: &mut Decided, cow: &[CowDirectory]) -> Result<(), Failure> {
        let counted = decided.cgroup.as_ref().map(Cgroup::counted).unwrap_or_default();
        if let Some(cgroup) = &decided.cgroup {
            cgroup.remove();
        }
        let mut hit = self.hit;
        let report = self.report;
        for (place, upper) in self.memory_uppers {
            let found =
                cow.iter().find(|directory| directory.inside.to_string_lossy().trim_start_matches('/') == place);
            if let Some(directory) = found {
                match Layer::in_memory(&directory.host, upper) {
                    Ok(layer) => super::add_changes(&layer, layer.review(), report),
                    Err(errno) => report.unseen.push(format!("{}: {}", directory.host.display(), errno.desc())),
                }
            }
        }
        if counted.out_of_memory {
            hit.push(Name::Memory);
        }
        let end = self.end;
        if end.is_some_and(|end| end.pids_exhausted) && self.policy.limits.pids.is_some() {
            hit.push(Name::Pids);
        }
        let mut limits = std::mem::take(&mut decided.enforced);
        for limit in &mut limits {
            limit.hit = hit.contains(&limit.name);
        }
        report.limits = limits;
        report.denials_total = report.denials_total.max(report.denials.len() as u64);
        report.used(
            self.started.elapsed(),
            end.map(|end| end.usage).unwrap_or_default(),
            counted.peak_memory.or(self.peak_memory),
        );
        if let (Some(failure), None) = (self.failure, self.fatal) {
            return Err(failure);
        }
        report.protections.held = held(self.policy, &report.protections.lost);
        let code = |code: i32| u8::try_from(code & 0xff).unwrap_or(255);
        let (exit, cause) = match (self.fatal, end) {
            (Some(Name::Timeout | Name::CpuTime), _) => (124, Cause::Timeout),
            (Some(Name::Memory), _) => (137, Cause::Memory),
            (Some(_), _) => (137, Cause::Disk),
            (None, None) => return Err(Failure::check_text("the supervisor ended before the program did")),
            (None, Some(end)) => match (end.code, end.signal) {
                (Some(0), _) => (0, Cause::Exited),
                (Some(exit), _) if hit.contains(&Name::Pids) => (code(exit), Cause::Pids),
                (Some(exit), _) if !report.denials.is_empty() && !self.policy.trace_denied => {
                    (code(exit), Cause::Denied)
                }
                (Some(exit), _) => (code(exit), Cause::Exited),
                (None, signal) => {
                    let number = signal.unwrap_or(libc::SIGKILL);
                    let cause = match number {
                        libc::SIGKILL if counted.out_of_memory => Cause::Memory,
                        libc::SIGXCPU => Cause::Timeout,
                        _ => Cause::Signal,
                    };
                    (if cause == Cause::Timeout { 124 } else { code(128 + number) }, cause)
                }
            },
        };
        if cause == Cause::Timeout && self.fatal.is_none() {
            for limit in report.limits.iter_mut().filter(|limit| limit.name == Name::CpuTime) {
                limit.hit = true;
            }
        }
        report.exit_code = exit;
        report.cause = cause;
        report.program_exit_code = end.and_then(|end| end.code).filter(|_| self.fatal.is_none());
        report.signal = end.and_then(|end| end.signal);
        self.log.map_or(Ok(()), Log::finish)
    }
}

/// A word to the user while the program runs; the terminal may be in raw mode.
fn say(policy: &Policy, text: &str) {
    use std::io::Write;
    if !policy.quiet || policy.trace_denied {
        let _ = write!(std::io::stderr(), "sentry: {}\r\n", crate::report::escape(text));
    }
}

/// The protections that the shim put in place and checked: had one failed, nothing would have run.
fn held(policy: &Policy, lost: &[String]) -> Vec<String> {
    let mut held = vec![
        "user namespaces".to_owned(),
        "view (mount namespace)".to_owned(),
        "pid namespace".to_owned(),
        "ipc, uts, cgroup namespaces".to_owned(),
        format!("no capabilities{}, no_new_privs", capabilities(policy.fake_root)),
        "seccomp filter with supervisor".to_owned(),
    ];
    for (name, mark) in [("time namespace", "time namespace"), ("Landlock scopes", "Landlock"), ("own /proc", "/proc")]
    {
        let unused = name == "time namespace" && matches!(policy.clock, Clock::Own { uptime: None, .. });
        if !unused && !lost.iter().any(|what| what.starts_with(mark)) {
            held.push(name.to_owned());
        }
    }
    if policy.net == crate::policy::Net::None {
        held.push("empty network namespace".to_owned());
    }
    held
}

/// What is left of them.
fn capabilities(root: FakeRoot) -> &'static str {
    match root {
        FakeRoot::Off => "",
        FakeRoot::Pretend => " but CAP_SYS_CHROOT",
        FakeRoot::Range => " but root's over files and processes of its own ids",
    }
}
