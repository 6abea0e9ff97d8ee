//! What the supervisor of a container does: joins it, lets go of everything else, and answers.
//!
//! It shares the caller's pid namespace, so that the container's processes have numbers for it, and holds a procfs of that
//! namespace by a descriptor. It has no Landlock domain: tasks outside of one's own domain cannot be looked into, and the
//! container has been started already. Of capabilities it keeps those to look into tasks, and in reserve what it takes to
//! be its caller; they reach as far as the container's user namespace. Where that is the host's own, so is the right to look
//! into processes: its filter, which knows no exec, mount or socket, is what is left there.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use shim::failure::{Failure, Step};
use shim::keeper::{LISTENER, READY, receive, send};
use shim::message::{self, ToMonitor};
use shim::plan::Mounting;
use shim::vdso::Patch;
use shim::{mounter, sys};
use syscalls::Remembered;
use syscalls::abi::Arch;
use syscalls::credentials::Credentials;
use syscalls::dispatch::Dispatch;
use syscalls::filter::compile_list;
use syscalls::owners::Owner;
use syscalls::table::Verdict;

use super::join::{containers_proc, join, keep_only, own_proc, resting};
use super::{Container, ContainerPolicy, Place};
use crate::agent::policy::Audited;
use crate::monitor::supervisor_filter;
use crate::platform::Listener;
use crate::policy::clock::Clock;
use crate::pretended::Pretended;
use crate::supervise::audit::Audit;
use crate::supervise::clock::{self, Order};
use crate::supervise::denials::{Denials, Told};
use crate::supervise::live::Live;
use crate::supervise::pool::Pool;
use crate::supervise::root::Roots;
use crate::supervise::untold::Untold;
use crate::supervise::watch::Usage;
use crate::supervise::{Shared, World, tracer};

/// More mounts than any program makes, and a tenth of what the kernel allows (`fs.mount-max`).
const MOUNTS: u64 = 10_000;

/// Runs it to its end; the exit code only says whether it did its work.
pub(super) fn run<L: Listener>(
    container: &Container,
    policy: &ContainerPolicy,
    place: &Place,
    orders: &OwnedFd,
    messages: &OwnedFd,
) -> i32 {
    // A bug of ours ends the supervisor, and its keeper ends the container.
    std::panic::set_hook(Box::new(|_| sys::exit_now(125)));
    let result = begin(container, policy, place, orders, messages)
        .and_then(|world| serve::<L>(&Arc::new(world), container, place, orders, messages));
    match result {
        Ok(()) => 0,
        Err(failure) => {
            let _ = message::send(messages.as_fd(), &ToMonitor::Failed(failure), None);
            125
        }
    }
}

/// From a fresh fork to one that can answer.
fn begin(
    container: &Container,
    policy: &ContainerPolicy,
    place: &Place,
    orders: &OwnedFd,
    messages: &OwnedFd,
) -> Result<World, Failure> {
    crate::raw::scrub_environment();
    let proc = own_proc()?;
    let files = [&place.users, &place.mounts, &place.root, &place.init, orders, messages, &proc];
    keep_only(&files.map(AsFd::as_fd))?;
    // By this process's own procfs, which the container's root has not.
    let order = match policy.clock {
        Clock::Hosts => None,
        Clock::Own { setting, .. } => Some(Order { setting, patch: Patch::new() }),
    };
    join(place, proc.as_fd())?;
    let resting = resting()?;
    let features = policy.features(container);
    let mounts = policy.mknod || !policy.mount.is_empty();
    let mounter = if mounts { Some(mounter::start_inside(&mounting(), &proc)?) } else { None };
    let usage = match containers_proc() {
        Some(proc) => Usage::of_container(proc),
        None => Usage::of_container(proc.try_clone().map_err(|_| Failure::check("hold /proc"))?),
    };
    shim::capabilities::keep_for_acting().map_err(|failure| {
        failure.remedy("whoever makes the container must have CAP_SYS_PTRACE, CAP_SETUID and CAP_SETGID over it")
    })?;
    let denials = Denials::new().step(|| "make the queue of denials")?;
    let audit = Audit::new().step(|| "make the queue of the audit")?;
    let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
    let descriptors =
        sys::open_at(Some(proc.as_fd()), c"self/fd", flags, 0, 0).step(|| "open the supervisor's own descriptors")?;
    let clock = order.map(|order| clock::Clock::start(order, proc.as_fd())).transpose()?;
    let roots = Roots::new().step(|| "hold the container's root")?;
    // Whoever has the capability may have another root, and the kernel does not tell us of it.
    roots.may_differ_from_now_on();
    // A limit on files must not kill the supervisor.
    sys::ignore_signal(libc::SIGXFSZ).step(|| "ignore SIGXFSZ")?;
    let filter = supervisor_filter(&features, false);
    sys::load_filter(&filter, 0).step(|| "confine the supervisor by its own filter")?;
    Ok(World {
        dispatch: Dispatch::new(policy.routes(container)),
        rules: policy.rules(container),
        owner: Owner { user: 0, group: 0 },
        remembered: Remembered::default(),
        proc,
        descriptors,
        denials,
        audit,
        roots,
        pretended: Pretended::beginning(Credentials::default()),
        usage,
        live: Live::default(),
        mounter,
        clock,
        resting,
        // Who loaded the filter of another runtime's container may not have asked that signals wait.
        untold: container.made_elsewhere.then(Untold::new),
        tells_deeds: policy.audited == Audited::All,
    })
}

/// What the process that mounts works with. The memory of what it mounts counts as the container's own.
fn mounting() -> Mounting {
    let pages = nix::unistd::sysconf(nix::unistd::SysconfVar::_PHYS_PAGES).ok().flatten();
    let bytes = pages.and_then(|pages| u64::try_from(pages).ok()).unwrap_or(1 << 18).saturating_mul(4096) / 2;
    let calls: Vec<&str> = [mounter::OWN_CALLS, mounter::OWN_CALLS_INSIDE].concat();
    Mounting { filter: compile_list(Arch::native(), &calls, Verdict::Kill), bytes, count: MOUNTS }
}

/// Whoever makes calls by one listener.
struct Source<L> {
    shared: Arc<Shared<L>>,
    /// Whether a call has come: before that, no thread waits for one.
    answered: bool,
}

/// Takes over listeners and answers their calls until the last has hung up and no more will come.
fn serve<L: Listener>(
    world: &Arc<World>,
    container: &Container,
    place: &Place,
    orders: &OwnedFd,
    messages: &OwnedFd,
) -> Result<(), Failure> {
    /// What is waited for beside listeners.
    const OTHERS: usize = 3;
    if world.clock.is_some() {
        tracer::start(Arc::clone(world), None).step(|| "start the thread that patches programs")?;
    }
    let mut sources: Vec<Source<L>> = Vec::new();
    let mut told = Told::default();
    let mut more = true;
    let mut starved = false;
    while more || !sources.is_empty() {
        let mut waiting = vec![
            PollFd::new(messages.as_fd(), PollFlags::empty()),
            PollFd::new(world.denials.bell(), PollFlags::POLLIN),
            PollFd::new(orders.as_fd(), PollFlags::POLLIN),
        ];
        waiting.extend(sources.iter().map(|source| {
            let calls = if source.answered || starved { PollFlags::empty() } else { PollFlags::POLLIN };
            PollFd::new(source.shared.platform.bell(), calls)
        }));
        if !more {
            // Its end would be told all the time.
            waiting[2] = PollFd::new(world.denials.bell(), PollFlags::empty());
        }
        // Where no thread could be had for a first call, soon again.
        match poll(&mut waiting, if starved { PollTimeout::from(10_u8) } else { PollTimeout::NONE }) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(Failure::new("wait for the container", errno)),
        }
        let events: Vec<PollFlags> = waiting.iter().map(|each| each.revents().unwrap_or(PollFlags::empty())).collect();
        if events[0].intersects(PollFlags::POLLHUP | PollFlags::POLLERR) {
            end_of_keeper(container, place);
        }
        if events[1].contains(PollFlags::POLLIN) {
            told.drain(&world.denials, messages.as_fd());
        }
        let mut seen = events[OTHERS..].iter();
        starved = false;
        sources.retain_mut(|source| {
            let events = seen.next().copied().unwrap_or(PollFlags::empty());
            if events.contains(PollFlags::POLLIN) && !source.answered {
                source.answered = Pool::start(Arc::clone(&source.shared)).is_ok();
                starved |= !source.answered;
            }
            !events.intersects(PollFlags::POLLHUP | PollFlags::POLLERR)
        });
        if more && !events[2].is_empty() {
            match take_over(world, orders)? {
                Some(source) => sources.push(source),
                None => more = false,
            }
        }
    }
    told.finish(&world.denials, messages.as_fd());
    Ok(())
}

/// The next listener. `None`: no more will come.
fn take_over<L: Listener>(world: &Arc<World>, orders: &OwnedFd) -> Result<Option<Source<L>>, Failure> {
    let step = || "receive a listener";
    let (message, files) = receive(orders.as_fd()).step(step)?;
    if message.is_empty() {
        return Ok(None);
    }
    let Ok([listener]) = <[OwnedFd; 1]>::try_from(files) else { return Err(Failure::check(step())) };
    if message != [LISTENER] {
        return Err(Failure::check(step()));
    }
    let platform = L::new(listener).step(|| "set up the listener")?;
    let source = Source { shared: Arc::new(Shared { platform, world: Arc::clone(world) }), answered: false };
    send(orders.as_fd(), READY, &[]).step(|| "tell that a listener is served")?;
    Ok(Some(source))
}

/// Nobody is left who would end the container when this process dies: it ends now. One that another runtime made goes on, and what
/// was answered for it fails.
fn end_of_keeper(container: &Container, place: &Place) -> ! {
    if !container.made_elsewhere {
        let _ = crate::raw::signal_process(place.init.as_fd(), libc::SIGKILL);
    }
    sys::exit_now(125)
}
