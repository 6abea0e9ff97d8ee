//! `create`: everything up to where the container's first process waits for `start`.
//!
//! The runtime's side of [`shim::container::process`]. Whatever fails takes back all that was made before it.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use oci_spec::runtime::{Capability, LinuxNamespaceType, Spec};
use shim::container::hooks;
use shim::container::launch::{self, Joined, Namespaces, ToContainer, ToRuntime};
use shim::container::process::{Entry as Seat, Init};
use shim::failure::{Failure, Step};
use shim::{keeper, sys};

use super::cgroup::{Groups, Wish};
use super::cli::{Global, Making};
use super::config::{self, Config};
use super::log::Log;
use super::maps::Maps;
use super::state::{self, Entry, Record, Store};
use super::{console, protect};
use crate::agent::Container;
use crate::agent::keeper::Keeper;
use crate::agent::policy::ContainerPolicy;

/// A container that waits for `start`.
#[derive(Debug)]
pub struct Made {
    /// Where it is kept.
    pub entry: Entry,
    /// What is known of it.
    pub record: Record,
    /// The master of its terminal, if no engine asked for it.
    pub terminal: Option<OwnedFd>,
}

/// Makes a container.
pub fn create(store: &Store, global: &Global, making: &Making, log: &Log) -> Result<Made, Failure> {
    let preserved = preserved(making.preserve_fds)?;
    // The container's first process waits for `start` before it runs a program, and must not hold a caller's locks and pipes
    // meanwhile. Nothing of ours is open yet.
    sys::close_range(3 + preserved, u32::MAX);
    let bundle = bundle(&making.bundle)?;
    let file = making.config.clone().unwrap_or_else(|| PathBuf::from("config.json"));
    let config = config::load(&bundle, &file)?;
    for warning in &config.warnings {
        log.warn(warning);
    }
    let has_terminal = config.spec.process().as_ref().and_then(|process| process.terminal()) == Some(true);
    if making.console_socket.is_some() && !has_terminal {
        return Err(Failure::check_text("--console-socket makes no sense: process.terminal is not set in config.json"));
    }
    // This may start us anew: nothing that others notice may come before.
    protect::own_program(&config.spec)?;
    let console = making.console_socket.as_deref().map(console::connect).transpose()?;

    let annotations = config::annotations(&config.spec);
    let policy = ContainerPolicy::decide(&annotations)?;
    let (entry, lock) = store.create(&making.id)?;
    let record = Record {
        oci_version: config.spec.version().clone(),
        id: making.id.clone(),
        bundle,
        rootfs: config.rootfs.clone(),
        created: state::now(),
        owner: state::own_name(),
        annotations,
        ..Record::default()
    };
    let mut attempt = Attempt { entry, record, keeper: None, init: None };
    let order = Order { config: &config, policy: &policy, global, making, preserved, log, lock: lock.as_raw_fd() };
    match attempt.run(&order, console) {
        Ok(terminal) => {
            drop(lock);
            Ok(Made { entry: attempt.entry, record: attempt.record, terminal })
        }
        Err(failure) => {
            attempt.take_back(&config.spec, log);
            drop(lock);
            Err(failure)
        }
    }
}

/// How many descriptors from 3 on the caller passes on: those it says, and those of `LISTEN_FDS`, sd_listen_fds(3). Each must
/// be there, for otherwise one of ours would come to have its number.
pub fn preserved(asked: u32) -> Result<u32, Failure> {
    let listening = std::env::var("LISTEN_FDS").ok().and_then(|count| count.parse::<u32>().ok()).unwrap_or(0);
    let count = asked.saturating_add(listening).min(4096);
    for number in 3..3 + count {
        if !Path::new(&format!("/proc/self/fd/{number}")).exists() {
            return Err(Failure::check_text(format!(
                "descriptor {number} is to be passed on ({count} from 3 on), but is not open"
            )));
        }
    }
    Ok(count)
}

/// What sd_listen_fds(3) reads in the container. Its first process has pid 1 there.
pub fn listening() -> Vec<String> {
    let Ok(count) = std::env::var("LISTEN_FDS") else { return Vec::new() };
    let names = std::env::var("LISTEN_FDNAMES").ok().map(|names| format!("LISTEN_FDNAMES={names}"));
    [Some(format!("LISTEN_FDS={count}")), Some("LISTEN_PID=1".to_owned()), names].into_iter().flatten().collect()
}

fn bundle(path: &Path) -> Result<PathBuf, Failure> {
    path.canonicalize().map_err(|error| {
        Failure::check_text(format!("bundle {}: {}", path.display(), crate::policy::path::reason(&error)))
    })
}

/// What is wanted.
struct Order<'a> {
    config: &'a Config,
    policy: &'a ContainerPolicy,
    global: &'a Global,
    making: &'a Making,
    preserved: u32,
    log: &'a Log,
    /// The lock of the container's directory, which whoever has a copy of it holds as well.
    lock: RawFd,
}

/// What there is of a container so far.
struct Attempt {
    entry: Entry,
    record: Record,
    keeper: Option<Keeper>,
    init: Option<Pid>,
}

impl Attempt {
    /// Makes it all; returns the terminal if nobody else wants it.
    fn run(&mut self, order: &Order, console: Option<OwnedFd>) -> Result<Option<OwnedFd>, Failure> {
        let (config, log) = (order.config, order.log);
        let spec = &config.spec;
        self.entry.write("config.json", &config.text)?;
        self.entry.record(&self.record)?;
        let mut warnings = Vec::new();
        self.record.groups = Groups::make(spec, &self.record.id, wish(order.global), &mut warnings)?;
        // They must be found by whoever cleans up after us, at whatever moment we are killed.
        self.entry.record(&self.record)?;
        warnings.drain(..).for_each(|warning| log.warn(&warning));

        let container = container(&self.record, spec);
        let filter = order.policy.filter(&container);
        let keeper = crate::agent::keeper::start(&container, order.policy, &self.entry.keeper_socket())?;
        let keeper = self.keeper.insert(keeper);
        let start = listen_for_start(&self.entry)?;
        let namespaces = namespaces(spec)?;
        let maps = maps(spec);
        let sources = shim::container::sources(spec, &self.record.bundle)?;
        let record = &self.record;
        let state = |status: &str, pid: i32| record.state(status, pid).to_string().into_bytes();
        let seat = || Seat {
            filter: filter.clone(),
            preserved: order.preserved,
            environment: listening(),
            no_new_keyring: order.making.no_new_keyring,
        };
        let lock = order.lock.cast_unsigned();
        let launched = launch::launch(&namespaces, &mut |pid| maps.write(pid), &|channel| {
            // Init waits for `start`, whatever becomes of us: it must not keep `delete` out.
            sys::close_range(lock, lock);
            let init = Init {
                spec,
                bundle: &record.bundle,
                rootfs: &record.rootfs,
                groups: record.groups.hierarchies(),
                sources: &sources,
                state: &state,
                keeper: keeper.channel.as_fd(),
                start: start.as_fd(),
                entry: seat(),
                profile: config.seccomp.is_some(),
                own_cgroup: namespaces.new & libc::CLONE_NEWCGROUP != 0,
                watched: namespaces.new & libc::CLONE_NEWPID == 0,
                no_pivot: order.making.no_pivot,
            };
            shim::container::process::init(&init, channel)
        })?;
        drop((start, sources));
        let pid = launched.pid;
        self.init = Some(pid);
        self.record.groups.enter(pid, &mut warnings)?;
        warnings.iter().for_each(|warning| log.warn(warning));
        self.record.pid = pid.as_raw();
        self.record.began =
            state::began(pid).ok_or_else(|| Failure::check_text("the container's first process has ended"))?;
        self.entry.record(&self.record)?;

        let channel = launched.channel.as_fd();
        launch::tell(channel, &ToContainer::Go(pid.as_raw()), None)?;
        // While the process makes its mounts.
        let profile = config.seccomp.as_ref().map(compiled).transpose()?;
        let mut terminal = None;
        loop {
            match launch::expect(channel)? {
                (ToRuntime::Hooks, _) => {
                    self.run_hooks(spec)?;
                    launch::tell(channel, &ToContainer::HooksRan, None)?;
                }
                (ToRuntime::Profile, _) => send_profile(channel, profile.as_ref())?,
                (ToRuntime::Terminal, master) => terminal = master,
                (ToRuntime::Warning(text), _) => log.warn(&text),
                (ToRuntime::Created, _) => break,
                _ => return Err(Failure::check("understand the container's first process")),
            }
        }
        if let (Some(console), Some(master)) = (&console, terminal.take_if(|_| console.is_some())) {
            console::send_terminal(console, &master)?;
        }
        self.entry.write("made", b"")?;
        if let Some(path) = &order.making.pid_file {
            write_pid(path, pid)?;
        }
        Ok(terminal)
    }

    /// Those of the runtime's own namespaces, in the order of the specification.
    #[allow(deprecated)] // by the specification; engines still use them
    fn run_hooks(&self, spec: &Spec) -> Result<(), Failure> {
        let Some(all) = spec.hooks() else { return Ok(()) };
        let state = self.record.state("creating", self.record.pid).to_string().into_bytes();
        hooks::run(all.prestart().as_ref(), "prestart", &state)?;
        hooks::run(all.create_runtime().as_ref(), "createRuntime", &state)
    }

    /// Ends and removes what was made.
    fn take_back(&mut self, spec: &Spec, log: &Log) {
        if let Some(pid) = self.init {
            let _ = sys::kill(pid.as_raw(), libc::SIGKILL);
            let _ = waitpid(pid, None);
        }
        if let Some(keeper) = self.keeper.take() {
            // It ends with the container, or with the last who could have told it of one.
            drop(keeper.channel);
            let _ = waitpid(keeper.pid, None);
        }
        super::delete::remove_groups(&self.record.groups, log);
        if self.init.is_some() {
            super::delete::run_poststop(spec, &self.record, log);
        }
        if let Err(failure) = self.entry.remove() {
            log.warn(&failure.to_string());
        }
    }
}

fn wish(global: &Global) -> Wish {
    Wish {
        systemd: global.systemd_cgroup || global.cgroup_manager.as_deref() == Some("systemd"),
        disabled: global.cgroup_manager.as_deref() == Some("disabled"),
        rootless: !nix::unistd::Uid::effective().is_root() || !crate::agent::is_in_initial_namespace(),
    }
}

/// The container as its keeper knows it.
pub fn container(record: &Record, spec: &Spec) -> Container {
    let namespaces = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_deref()).unwrap_or_default();
    let own_pids =
        namespaces.iter().any(|namespace| namespace.typ() == LinuxNamespaceType::Pid && path_of(namespace).is_none());
    let memory = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref()?.memory().as_ref()?.limit());
    let names =
        ["io.kubernetes.cri.container-name", "io.kubernetes.container.name", "io.kubernetes.cri-o.ContainerName"];
    Container {
        id: record.id.clone(),
        name: names.iter().find_map(|name| record.annotations.get(*name)).cloned(),
        bundle: record.bundle.clone(),
        annotations: record.annotations.clone(),
        rootfs: record.rootfs.clone(),
        shares_pids: !own_pids,
        memory: memory.and_then(|bytes| u64::try_from(bytes).ok()).filter(|bytes| *bytes > 0),
        own_name: shim::container::has_namespace(spec, LinuxNamespaceType::Uts),
        real_root: !shim::container::has_namespace(spec, LinuxNamespaceType::User)
            && crate::agent::is_in_initial_namespace(),
        makes_devices: may_make_devices(spec),
        made_elsewhere: false,
    }
}

/// Whether its processes may have `CAP_MKNOD`.
fn may_make_devices(spec: &Spec) -> bool {
    let capabilities = spec.process().as_ref().and_then(|process| process.capabilities().as_ref());
    let bounding = capabilities.and_then(|sets| sets.bounding().as_ref());
    bounding.is_some_and(|set| set.contains(&Capability::Mknod))
}

/// The container's own profile as a program, in a file in memory, and how it is loaded.
pub fn compiled(profile: &crate::monitor::profile::Profile) -> Result<(File, u64), Failure> {
    let wrong = |why: String| Failure::check_text(format!("config.json: linux.seccomp cannot be honoured: {why}"));
    Ok((crate::monitor::profile::program(profile).map_err(wrong)?, profile.flags().map_err(wrong)?))
}

/// Hands the program of a profile over.
pub fn send_profile(channel: BorrowedFd, profile: Option<&(File, u64)>) -> Result<(), Failure> {
    let Some((program, flags)) = profile else { return Err(Failure::check("find a seccomp profile to send")) };
    launch::tell(channel, &ToContainer::Profile(*flags), Some(program.as_fd()))
}

fn listen_for_start(entry: &Entry) -> Result<OwnedFd, Failure> {
    let step = || "make the socket that start comes to";
    let socket = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).step(step)?;
    keeper::within(&entry.start_socket(), |short| bind(socket.as_raw_fd(), &UnixAddr::new(short)?)).step(step)?;
    listen(&socket, Backlog::new(1).unwrap_or(Backlog::MAXCONN)).step(step)?;
    Ok(socket)
}

fn path_of(namespace: &oci_spec::runtime::LinuxNamespace) -> Option<&PathBuf> {
    namespace.path().as_ref().filter(|path| !path.as_os_str().is_empty())
}

/// `CLONE_NEW*` of a namespace.
pub fn kind(kind: LinuxNamespaceType) -> i32 {
    match kind {
        LinuxNamespaceType::Mount => libc::CLONE_NEWNS,
        LinuxNamespaceType::Cgroup => libc::CLONE_NEWCGROUP,
        LinuxNamespaceType::Uts => libc::CLONE_NEWUTS,
        LinuxNamespaceType::Ipc => libc::CLONE_NEWIPC,
        LinuxNamespaceType::User => libc::CLONE_NEWUSER,
        LinuxNamespaceType::Pid => libc::CLONE_NEWPID,
        LinuxNamespaceType::Network => libc::CLONE_NEWNET,
        LinuxNamespaceType::Time => libc::CLONE_NEWTIME,
    }
}

fn namespaces(spec: &Spec) -> Result<Namespaces, Failure> {
    let linux = spec.linux().as_ref();
    let mut wanted = Namespaces::default();
    for namespace in linux.and_then(|linux| linux.namespaces().as_ref()).into_iter().flatten() {
        let kind = kind(namespace.typ());
        match path_of(namespace) {
            None => wanted.new |= kind,
            Some(path) => wanted.joined.push(Joined {
                kind,
                namespace: open_namespace(path, kind)?,
                name: path.display().to_string(),
            }),
        }
    }
    let offsets = linux.and_then(|linux| linux.time_offsets().as_ref()).filter(|offsets| !offsets.is_empty());
    wanted.offsets = offsets.map(|offsets| {
        offsets
            .iter()
            .map(|(clock, offset)| {
                format!("{clock} {} {}\n", offset.secs().unwrap_or(0), offset.nanosecs().unwrap_or(0))
            })
            .collect()
    });
    Ok(wanted)
}

/// Opens a namespace by its path, and sees that it is one of the kind that was asked for.
fn open_namespace(path: &Path, kind: i32) -> Result<OwnedFd, Failure> {
    let step = || format!("open the namespace {}", path.display());
    let file =
        File::open(path).map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))).step(step)?;
    match sys::namespace_kind(file.as_fd()) {
        Ok(found) if found == kind => Ok(file.into()),
        Ok(_) => {
            Err(Failure::check_text(format!("{} is a namespace of another kind than config.json says", path.display())))
        }
        Err(_) => Err(Failure::check_text(format!("{} is not a namespace", path.display()))),
    }
}

fn maps(spec: &Spec) -> Maps<'_> {
    let linux = spec.linux().as_ref();
    Maps {
        users: linux.and_then(|linux| linux.uid_mappings().as_deref()).unwrap_or_default(),
        groups: linux.and_then(|linux| linux.gid_mappings().as_deref()).unwrap_or_default(),
    }
}

/// Writes a pid file, wholly or not at all.
pub fn write_pid(path: &Path, pid: Pid) -> Result<(), Failure> {
    let step = || format!("write {}", path.display());
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let write = || {
        // In a directory that others can write to, it may be a link to a file of ours.
        let mut options = File::options();
        let mut file = options.write(true).create(true).truncate(true).custom_flags(libc::O_NOFOLLOW).open(&new)?;
        file.write_all(pid.to_string().as_bytes())?;
        std::fs::rename(&new, path)
    };
    write().map_err(|error: std::io::Error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))).step(step)
}
