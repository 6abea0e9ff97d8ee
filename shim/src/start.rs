//! From the monitor to a running sandbox: who is cloned, in which order, with which rights.
//!
//! ```text
//! monitor ── clone ── outer sandbox (becomes the supervisor, pid 1 of the outer pid namespace)
//!                       ├─ clone ── init (pid 1 for the guest): view, inner namespaces
//!                       │             └─ vfork ── guest
//!                       └─ clone ── the process that mounts, with --allow mount
//! ```
//!
//! Init builds the view while the supervisor gets ready; both share one mount namespace until init leaves it for the
//! guest's own. The guest's pid namespace is owned by the *outer* user namespace, so its `/proc` can be mounted and
//! covered before the guest's user namespace exists, and every one of those mounts is locked for the guest.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::time::ClockId;
use nix::unistd::{Pid, chdir, pipe2, read, write};

use crate::failure::{Failure, Step};
use crate::init::{self, Channels};
use crate::message::{ToMonitor, send};
use crate::plan::{Plan, Root};
use crate::{capabilities, identity, landlock, mounter, network, ranges, sys};

/// A sandbox that was started, as the monitor holds it.
#[derive(Debug)]
pub struct Launched {
    /// The supervisor; when it is dead, so is everything below.
    pub supervisor: Pid,
    /// Messages from the supervisor.
    pub from_supervisor: OwnedFd,
    /// Messages from and to init.
    pub init: OwnedFd,
}

/// What the supervisor starts with.
#[derive(Debug)]
pub struct Seat {
    /// Receives the guest's mount namespace and then the listener, each as the one descriptor of a message.
    pub listener: OwnedFd,
    /// A procfs of the outer pid namespace, mounted nowhere.
    pub proc: OwnedFd,
    /// To the monitor.
    pub monitor: OwnedFd,
    /// Init, as the supervisor's pid namespace numbers it.
    pub init: Pid,
    /// Who mounts for the guest, with `--allow mount`.
    pub mounter: Option<mounter::Started>,
}

pub(crate) fn channel() -> Result<(OwnedFd, OwnedFd), Failure> {
    socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).step(|| "make a channel")
}

/// Namespaces of the outer sandbox. The pid namespace for the guest comes later, within this one.
fn namespaces(plan: &Plan) -> i32 {
    let network = if plan.own_network { libc::CLONE_NEWNET } else { 0 };
    libc::CLONE_NEWUSER
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWNS
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWCGROUP
        | network
}

/// Clones the outer sandbox, which ends in `supervise`. The caller must be single-threaded.
pub fn launch(plan: &Plan, supervise: &dyn Fn(&Plan, Seat) -> i32) -> Result<Launched, Failure> {
    let (supervisor_here, supervisor_there) = channel()?;
    let (init_here, init_there) = channel()?;
    let (mapped, map_done) = pipe2(nix::fcntl::OFlag::O_CLOEXEC).step(|| "make a pipe")?;
    let remedy = "unprivileged user namespaces seem to be switched off; run sentry doctor for the command that helps";
    let Some(pid) =
        sys::clone(namespaces(plan)).step(|| "make namespaces").map_err(|failure| failure.remedy(remedy))?
    else {
        drop((supervisor_here, init_here, map_done));
        let code = match outer(plan, &mapped, &supervisor_there, init_there) {
            Ok(seat) => supervise(plan, Seat { monitor: supervisor_there, ..seat }),
            Err(failure) => {
                let _ = send(supervisor_there.as_fd(), &ToMonitor::Failed(failure), None);
                125
            }
        };
        sys::exit_now(code)
    };
    let pid = Pid::from_raw(pid);
    if plan.identity.by_root {
        identity::map_outer_of(pid, &plan.identity)?;
        write(&map_done, b"m").step(|| "start the sandbox")?;
    } else if let Root::Mapped(ranges) = &plan.root {
        ranges::map_outer_of(pid, &plan.identity, ranges)?;
        write(&map_done, b"m").step(|| "start the sandbox")?;
    }
    Ok(Launched { supervisor: pid, from_supervisor: supervisor_here, init: init_here })
}

/// What the outer sandbox does before it becomes the supervisor.
fn outer(plan: &Plan, mapped: &OwnedFd, monitor: &OwnedFd, init_channel: OwnedFd) -> Result<Seat, Failure> {
    // The kernel ends us with the monitor; that it died before this line shows as the end of its channel.
    sys::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as u64, 0).step(|| "tie the sandbox to its monitor")?;
    if plan.identity.by_root {
        read(mapped, &mut [0]).step(|| "wait for the id maps")?;
        identity::become_mapped()?;
        // Changing ids made us non-dumpable, which would keep init from its own id maps; there is no guest yet.
        sys::prctl(libc::PR_SET_DUMPABLE, 1, 0).step(|| "write the guest's id maps")?;
        // It also cleared this, see PR_SET_PDEATHSIG(2const).
        sys::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as u64, 0).step(|| "tie the sandbox to its monitor")?;
    } else if let Root::Mapped(_) = plan.root {
        if read(mapped, &mut [0]).step(|| "wait for the id maps")? == 0 {
            // The monitor says why.
            return Err(Failure::check("wait for the id maps"));
        }
        // Those of the host have no number in the maps; who acts for another could not take them up again.
        nix::unistd::setgroups(&[]).step(|| "drop supplementary groups")?;
    } else {
        identity::map_own_outer(&plan.identity)?;
    }
    chdir(c"/").step(|| "leave the host's directory")?;
    nix::unistd::sethostname(&plan.hostname).step(|| format!("set the host name {}", plan.hostname))?;
    if plan.own_network {
        network::raise_loopback()?;
    }

    let step = || "mount a private /proc for the supervisor";
    let remedy =
        "the host's /proc is partly covered (inside a container?); run sentry doctor for the option that helps";
    let context = sys::fs_open(c"proc").step(step)?;
    let proc = sys::fs_mount(context.as_fd(), sys::NO_SUID | sys::NO_DEV | sys::NO_EXEC).step(step);
    let proc = proc.map_err(|failure| failure.remedy(remedy))?;
    // One user namespace may exist below this one, the guest's; a nested one would exceed the limit.
    if !limit_user_namespaces(&proc, plan.allow_degraded)? {
        let lost = "a limit on user namespaces: this kernel has none; the supervisor alone refuses nested ones";
        let _ = send(monitor.as_fd(), &ToMonitor::Lost(lost.to_owned()), None);
    }
    if plan.root != Root::No && plan.own_network {
        free_low_ports(&proc)?;
    }

    sys::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0).step(|| "set no_new_privs")?;
    if !landlock::enter(plan.allow_degraded)? {
        let lost = "Landlock scopes: this kernel has none; signals and abstract sockets are held by namespaces alone";
        let _ = send(monitor.as_fd(), &ToMonitor::Lost(lost.to_owned()), None);
    }
    // In a time namespace the vDSO looks at one page more for each reading. Who has a clock of its own pays for a function
    // more already, and the namespace by itself keeps nothing apart.
    let own_time = plan.clock.as_ref().is_none_or(|clock| clock.uptime.is_some());
    match if own_time { sys::unshare(libc::CLONE_NEWTIME) } else { Ok(()) } {
        Err(Errno::EINVAL) if plan.allow_degraded => {
            let _ = send(monitor.as_fd(), &ToMonitor::Lost("time namespace: this kernel has none".to_owned()), None);
        }
        other => other.step(|| "make a time namespace")?,
    }
    if let Some(uptime) = plan.clock.as_ref().and_then(|clock| clock.uptime) {
        pretend_uptime(&proc, uptime)?;
    }

    let (listener, listener_there) = channel()?;
    let (asked, asks) = match plan.root {
        Root::Mapped(_) => channel().map(|(here, there)| (Some(here), Some(there)))?,
        _ => (None, None),
    };
    let Some(init) = sys::clone(libc::CLONE_NEWPID).step(|| "make the guest's pid namespace")? else {
        drop((listener, asked));
        init::run(plan, Channels { monitor: init_channel, supervisor: listener_there, maps: asks }, proc)
    };
    drop((listener_there, init_channel, asks));
    if let Some(asked) = asked {
        ranges::map_inner_of(init, &asked, &proc)?;
    }
    let mounter = mounter::start(plan, &proc)?;
    if let Root::Mapped(_) = plan.root {
        capabilities::keep_for_joining_and_acting()?;
    } else {
        capabilities::keep_for_joining()?;
    }
    sys::prctl(libc::PR_SET_DUMPABLE, 0, 0).step(|| "protect the supervisor from the guest")?;
    let monitor = monitor.try_clone().map_err(|_| Failure::new("hold the monitor's channel", Errno::last()))?;
    Ok(Seat { listener, proc, monitor, init: Pid::from_raw(init), mounter })
}

/// Root binds ports below 1024. In the sandbox's own network that concerns nobody else.
fn free_low_ports(proc: &OwnedFd) -> Result<(), Failure> {
    let step = || "let the sandbox's root bind low ports (net.ipv4.ip_unprivileged_port_start)";
    let flags = libc::O_WRONLY | libc::O_CLOEXEC;
    let setting = c"sys/net/ipv4/ip_unprivileged_port_start";
    let file = sys::open_at(Some(proc.as_fd()), setting, flags, 0, 0).step(step)?;
    write(&file, b"0\n").step(step).map(drop)
}

/// Lets the clocks that count from the start of the machine begin with `uptime`: time_namespaces(7). Only before there is a
/// process in the new namespace.
fn pretend_uptime(proc: &OwnedFd, uptime: Duration) -> Result<(), Failure> {
    let step = || "make the machine seem to run since --clock uptime=";
    let since = |clock: ClockId| -> Result<(i64, i64), Errno> {
        let now = clock.now()?;
        let wanted = i64::try_from(uptime.as_secs()).map_err(|_| Errno::ERANGE)?;
        Ok(match i64::from(uptime.subsec_nanos()) - now.tv_nsec() {
            nanoseconds @ 0.. => (wanted - now.tv_sec(), nanoseconds),
            nanoseconds => (wanted - now.tv_sec() - 1, nanoseconds + 1_000_000_000),
        })
    };
    let (monotonic, boot) = (since(ClockId::CLOCK_MONOTONIC).step(step)?, since(ClockId::CLOCK_BOOTTIME).step(step)?);
    let text = format!("monotonic {} {}\nboottime {} {}\n", monotonic.0, monotonic.1, boot.0, boot.1);
    let flags = libc::O_WRONLY | libc::O_CLOEXEC;
    let file = sys::open_at(Some(proc.as_fd()), c"self/timens_offsets", flags, 0, 0).step(step)?;
    write(&file, text.as_bytes()).step(step).map(drop)
}

/// `Ok(false)`: the kernel has no such limit and the user allowed to do without.
fn limit_user_namespaces(proc: &OwnedFd, allow_degraded: bool) -> Result<bool, Failure> {
    let step = || "forbid nested user namespaces (user.max_user_namespaces)";
    let flags = libc::O_WRONLY | libc::O_CLOEXEC;
    match sys::open_at(Some(proc.as_fd()), c"sys/user/max_user_namespaces", flags, 0, 0) {
        Ok(file) => write(&file, b"1\n").step(step).map(|_| true),
        Err(Errno::ENOENT) if allow_degraded => Ok(false),
        Err(errno) => {
            Err(Failure::new(step(), errno)
                .remedy("it needs a kernel with CONFIG_SYSCTL; --allow-degraded does without"))
        }
    }
}
