//! A container's first process: from its namespaces to its program.
//!
//! It takes each step when the runtime has taken its own, waits for `start` at a socket of the state directory, and becomes
//! the program. Whoever shares its pid namespace could look into it meanwhile: it is not dumpable, and of the host it holds
//! no more than the descriptors that it still needs, all of which close at exec.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::sys::socket::{SockFlag, accept4};
use nix::unistd::{getpid, setsid};
use oci_spec::runtime::{Process, Spec};
use syscalls::filter::Instruction;

use super::console::Console;
use super::launch::{ToContainer, ToRuntime, await_runtime};
use super::program::Program;
use super::seccomp::{self, Filters};
use super::{Context, Hierarchy, Proc, ProcessContext, hooks, label, terminal};
use crate::failure::{Failure, Step};
use crate::keeper::{self, Place};
use crate::message::send;
use crate::sys;

/// What a container's first process needs.
pub struct Init<'a> {
    /// Its configuration.
    pub spec: &'a Spec,
    /// The directory of that.
    pub bundle: &'a Path,
    /// The image.
    pub rootfs: &'a Path,
    /// The container's control groups.
    pub groups: &'a [Hierarchy],
    /// Mounts that were made outside, by their index in the configuration.
    pub sources: &'a [(usize, OwnedFd)],
    /// The container's state as hooks read it, by status and pid.
    pub state: &'a dyn Fn(&str, i32) -> Vec<u8>,
    /// To the keeper.
    pub keeper: BorrowedFd<'a>,
    /// Where `start` comes to, listening.
    pub start: BorrowedFd<'a>,
    /// What makes a program of the container.
    pub entry: Entry,
    /// Whether the container's own seccomp profile will come.
    pub profile: bool,
    /// Whether its cgroup namespace is new.
    pub own_cgroup: bool,
    /// Whether other processes live in its pid namespace.
    pub watched: bool,
    /// Keep off pivot_root(2).
    pub no_pivot: bool,
}

/// How a process of a container becomes its program.
#[derive(Debug, Default)]
pub struct Entry {
    /// The sentry's filter.
    pub filter: Vec<Instruction>,
    /// So many descriptors from 3 on are passed on.
    pub preserved: u32,
    /// Variables besides those of the configuration.
    pub environment: Vec<String>,
    /// Stay in the caller's session keyring.
    pub no_new_keyring: bool,
}

/// Runs the container's first process; its exit code if it does not become the program.
pub fn init(init: &Init, channel: OwnedFd) -> i32 {
    match create(init, channel.as_fd()) {
        Ok(made) => {
            drop(channel);
            start(init, &made)
        }
        Err(failure) => {
            let _ = send(channel.as_fd(), &ToRuntime::Failed(failure), None);
            1
        }
    }
}

type Profile = Option<(Vec<Instruction>, libc::c_ulong)>;

/// A container that waits for `start`.
struct Made {
    process: Process,
    profile: Profile,
    pid: i32,
    proc: Proc,
}

/// Everything up to where `start` is waited for.
fn create(init: &Init, channel: BorrowedFd) -> Result<Made, Failure> {
    let pid = await_runtime(channel, |message, _| match message {
        ToContainer::Go(pid) => Some(pid),
        _ => None,
    })?;
    // At once: whatever the runtime says later must not have to wait behind it.
    let profile = if init.profile { Some(receive_profile(channel)?) } else { None };
    let mut process = process_of(init.spec)?.clone();
    badness(&mut process, channel)?;
    if init.watched {
        hide()?;
    }
    if init.own_cgroup {
        sys::unshare(libc::CLONE_NEWCGROUP).step(|| "make a cgroup namespace")?;
    }
    let home = Home::look()?;
    begin_session()?;
    let hooks = init.spec.hooks().as_ref();
    let asks = hooks.is_some_and(|hooks| {
        [hooks.create_runtime(), prestart(hooks)].into_iter().flatten().any(|hooks| !hooks.is_empty())
    });
    let mut context = Context {
        rootfs: init.rootfs.to_owned(),
        no_pivot: init.no_pivot,
        terminal: process.terminal() == Some(true),
        groups: init.groups,
        sources: Vec::new(),
    };
    for (index, mount) in init.sources {
        context.sources.push((*index, mount.try_clone().map_err(|_| Failure::check("hold a mount"))?));
    }
    let prepared = super::prepare(init.spec, init.bundle, &context, &mut || {
        if asks {
            send(channel, &ToRuntime::Hooks, None).step(|| "ask for the hooks")?;
            await_runtime(channel, |message, _| matches!(message, ToContainer::HooksRan).then_some(()))?;
        }
        let own = hooks.and_then(|hooks| hooks.create_container().as_ref());
        hooks::run(own, "createContainer", &(init.state)("creating", pid))
    })?;
    drop(context);
    warn(channel, prepared.warnings)?;
    if let Some(console) = prepared.console {
        take_terminal(&process, console, channel)?;
    }
    super::personality::set(init.spec)?;
    Program::new(&process, &[])?.check()?;
    home.announce(init.keeper)?;
    hide()?;
    send(channel, &ToRuntime::Created, None).step(|| "tell the runtime that the container is made")?;
    Ok(Made { process, profile, pid, proc: prepared.proc })
}

#[allow(deprecated)] // by the specification; engines still use them
fn prestart(hooks: &oci_spec::runtime::Hooks) -> &Option<Vec<oci_spec::runtime::Hook>> {
    hooks.prestart()
}

fn process_of(spec: &Spec) -> Result<&Process, Failure> {
    spec.process().as_ref().ok_or_else(|| Failure::check_text("config.json has no process"))
}

/// Keeps others of our user from looking into this process: ptrace(2), "Ptrace access mode checking".
pub fn hide() -> Result<(), Failure> {
    sys::prctl(libc::PR_SET_DUMPABLE, 0, 0).step(|| "protect the runtime from the container").map(drop)
}

/// A session of its own; who leads one already keeps it.
pub fn begin_session() -> Result<(), Failure> {
    match setsid() {
        Err(Errno::EPERM) => Ok(()),
        other => other.step(|| "start a session").map(drop),
    }
}

/// Sets `oomScoreAdj` as long as the file is our own: of a process that is not dumpable it belongs to root. What is done
/// here need not be done again.
pub fn badness(process: &mut Process, channel: BorrowedFd) -> Result<(), Failure> {
    let Some(score) = process.oom_score_adj() else { return Ok(()) };
    process.set_oom_score_adj(None);
    match Proc::open()?.write("self/oom_score_adj", &score.to_string()) {
        Err(errno @ (Errno::EACCES | Errno::EPERM)) => {
            warn(channel, vec![format!("oomScoreAdj {score} is not set: {}", errno.desc())])
        }
        other => other.step(|| format!("set oomScoreAdj to {score}")),
    }
}

/// Tells the runtime what was done without.
pub fn warn(channel: BorrowedFd, warnings: Vec<String>) -> Result<(), Failure> {
    warnings.into_iter().try_for_each(|text| send(channel, &ToRuntime::Warning(text), None)).step(|| "warn the runtime")
}

/// Sends the terminal's master to the runtime and sits down at it.
pub fn take_terminal(process: &Process, console: Console, channel: BorrowedFd) -> Result<(), Failure> {
    terminal::set_size(process, &console.slave)?;
    terminal::sit_down(&console.slave)?;
    send(channel, &ToRuntime::Terminal, Some(console.master.as_fd())).step(|| "hand the terminal to the runtime")
}

/// The process's own namespaces, by a procfs that is still the host's.
struct Home {
    users: OwnedFd,
    mounts: OwnedFd,
}

impl Home {
    fn look() -> Result<Self, Failure> {
        let open = |name: &std::ffi::CStr| {
            sys::open_at(None, name, libc::O_RDONLY | libc::O_CLOEXEC, 0, 0).step(|| "open the process's namespaces")
        };
        Ok(Self { users: open(c"/proc/self/ns/user")?, mounts: open(c"/proc/self/ns/mnt")? })
    }

    /// Tells the keeper where the container is.
    fn announce(&self, channel: BorrowedFd) -> Result<(), Failure> {
        let step = || "tell the keeper where the container is";
        let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
        let root = sys::open_at(None, c"/", flags, 0, 0).step(step)?;
        let init = sys::open_process(getpid().as_raw()).step(step)?;
        let (users, mounts) = (self.users.as_fd(), self.mounts.as_fd());
        keeper::announce(channel, &Place { users, mounts, root: root.as_fd(), init: init.as_fd() })
    }
}

/// The program of the container's own profile, out of a file in memory that the runtime has filled.
pub fn receive_profile(channel: BorrowedFd) -> Result<(Vec<Instruction>, libc::c_ulong), Failure> {
    send(channel, &ToRuntime::Profile, None).step(|| "ask for the container's seccomp profile")?;
    await_runtime(channel, |message, file| match (message, file) {
        (ToContainer::Profile(flags), Some(file)) => Some((Instruction::read_all(&contents(file)?)?, flags)),
        _ => None,
    })
}

fn contents(file: OwnedFd) -> Option<Vec<u8>> {
    use std::io::{Read, Seek};
    let mut file = std::fs::File::from(file);
    let mut bytes = Vec::new();
    file.rewind().ok()?;
    file.read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// Waits for `start`, and becomes the program.
fn start(init: &Init, made: &Made) -> i32 {
    let Ok(caller) = wait_for_start(init.start) else { return 1 };
    let begin = || {
        let hooks = init.spec.hooks().as_ref().and_then(|hooks| hooks.start_container().as_ref());
        hooks::run(hooks, "startContainer", &(init.state)("created", made.pid))?;
        let filters = Filters { main: &init.entry.filter, profile: made.profile.as_ref() };
        let (program, warnings) = enter(&made.process, &init.entry, &filters, &made.proc, init.keeper)?;
        // A profile may kill who sends.
        for warning in warnings.iter().filter(|_| made.profile.is_none()) {
            let _ = keeper::send(caller.as_fd(), format!("{WARNING}{warning}").as_bytes(), &[]);
        }
        Ok(program)
    };
    let failure = match begin() {
        Ok(program) => program.run(),
        Err(failure) => failure,
    };
    let _ = keeper::send(caller.as_fd(), failure.to_string().as_bytes(), &[]);
    i32::from(failure.exit)
}

fn wait_for_start(socket: BorrowedFd) -> Result<OwnedFd, Errno> {
    loop {
        match accept4(socket.as_raw_fd(), SockFlag::SOCK_CLOEXEC) {
            Err(Errno::EINTR | Errno::ECONNABORTED) => {}
            other => return other.map(sys::own_received),
        }
    }
}

/// What a message to `start` begins with that is only a warning.
pub const WARNING: &str = "warning: ";

/// Takes on the process's rights and filters: all that is left is to run the program. Returns what was done without.
pub fn enter(
    process: &Process,
    entry: &Entry,
    filters: &Filters,
    proc: &Proc,
    keeper: BorrowedFd,
) -> Result<(Program, Vec<String>), Failure> {
    sys::default_signals();
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None).step(|| "unblock signals")?;
    terminal::give_stdio_to(process);
    let program = Program::new(process, &entry.environment)?;
    // Not one descriptor of the host may leak in (CVE-2024-21626).
    sys::close_on_exec_from(3 + entry.preserved).step(|| "mark descriptors to be closed")?;
    label::apply(process, proc)?;
    let context = ProcessContext { proc, no_new_keyring: entry.no_new_keyring };
    let mut process = process.clone();
    if seccomp::is_narrow(filters.main) {
        process.set_no_new_privileges(Some(true));
    }
    let warnings = super::become_process(&process, context, &mut || seccomp::load(filters, keeper))?;
    Ok((program, warnings))
}
