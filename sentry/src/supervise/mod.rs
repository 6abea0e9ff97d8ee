//! The supervisor: pid 1 of the outer sandbox, ring 2.
//!
//! It shares the guest's view and the guest's rights, and holds one capability, `CAP_SYS_PTRACE` over the guest's user
//! namespace, to read the memory of its guests. Before it answers the first call it lets go of everything else:
//! environment, descriptors, capabilities, and, by a filter of its own, most syscalls. When it dies, for whatever reason,
//! the kernel kills the sandbox with it.

pub mod audit;
pub mod clock;
pub mod denials;
pub mod live;
pub mod own_calls;
mod pace;
pub mod pool;
pub mod root;
pub mod tracer;
pub mod untold;
mod view_mounts;
pub mod watch;

use std::io::IoSliceMut;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixAddr, recvmsg};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use shim::failure::{Failure, Step};
use shim::message::{ToMonitor, send};
use shim::mounter;
use shim::plan::{Identity, Plan, Root};
use shim::start::Seat;
use syscalls::Remembered;
use syscalls::credentials::Credentials;
use syscalls::dispatch::Dispatch;
use syscalls::owners::Owner;
use syscalls::rules::Rules;

use crate::platform::Platform;
use crate::pretended::Pretended;
use crate::task::acting::Resting;
use audit::Audit;
use denials::{Denials, Told};
use live::Live;
use root::Roots;
use view_mounts::ViewMounts;
use watch::{Usage, Watch, Watched};

/// What the threads share that answer the calls of one source.
pub struct Shared<P> {
    /// Where calls come from and answers go.
    pub platform: P,
    /// What they share with those of every other.
    pub world: Arc<World>,
}

impl<P> std::ops::Deref for Shared<P> {
    type Target = World;

    fn deref(&self) -> &World {
        &self.world
    }
}

/// What is known of the guest, wherever its calls come from: a container has a listener for each process that entered it.
pub struct World {
    /// Who answers what.
    pub dispatch: Dispatch,
    /// What handlers may ask the policy.
    pub rules: Rules,
    /// The ids that its own files have for the guest.
    pub owner: Owner,
    /// What is said of the owners of objects that cannot bear an attribute.
    pub remembered: Remembered,
    /// A procfs of the outer pid namespace, mounted nowhere.
    pub proc: OwnedFd,
    /// The supervisor's own descriptors, as a directory of that procfs.
    pub descriptors: OwnedFd,
    /// Refusals on their way to the monitor.
    pub denials: Denials,
    /// Decisions on their way to the monitor.
    pub audit: Audit,
    /// The view's root, and whether guests may have others.
    pub roots: Roots,
    /// Who processes pretend to be.
    pub pretended: Pretended,
    /// What the sandbox uses.
    pub usage: Usage,
    /// Files that are written anew for each open.
    pub live: Live,
    /// Who mounts for the guest.
    pub mounter: Option<mounter::Orders>,
    /// The sandbox's own clock, if it has one.
    pub clock: Option<clock::Clock>,
    /// Who the supervisor's threads are when they act for nobody.
    pub resting: Resting,
    /// What is kept for callers whom signals may take away from a call that we are working on.
    pub untold: Option<untold::Untold>,
    /// Whether what was done for a container is told, and not only what was refused.
    pub tells_deeds: bool,
}

impl World {
    /// The supervisor cannot go on: it ends, and the kernel ends the sandbox with it.
    pub fn fail(&self) -> ! {
        sys_exit(125)
    }
}

/// What the user is told when a mount of the view is gone.
const REPLACED: &str = "a read-only mount: a program outside replaced a file or directory inside a --write grant that was read-only \
                        or protected, and the new one is not";

/// After what was refused has been told, the next is not listened for at once: to wake this thread for each of many costs the
/// guest more than the refusal.
const REST: Duration = Duration::from_millis(5);

/// The time in milliseconds, rounded up: what is due in a part of one must not be asked for until then.
fn rounded_up(time: Duration) -> PollTimeout {
    PollTimeout::try_from(time + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
}

fn sys_exit(code: i32) -> ! {
    shim::sys::exit_now(code)
}

/// What the monitor decided for the supervisor.
pub struct Orders {
    /// Handlers by number.
    pub dispatch: Dispatch,
    /// What handlers may ask.
    pub rules: Rules,
    /// Sums to watch over.
    pub watched: Watched,
    /// Files that are written anew for each open.
    pub live: Live,
    /// The sandbox's own clock.
    pub clock: Option<clock::Order>,
}

/// Runs the supervisor to its end; returns its exit code, which only says whether it did its work.
pub fn run<P: Platform>(plan: &Plan, seat: Seat, orders: Orders) -> i32 {
    // A bug of ours ends the sandbox; pid 1 of a namespace would shrug off the SIGABRT of an ordinary panic.
    std::panic::set_hook(Box::new(|_| sys_exit(125)));
    let Seat { listener, proc, monitor, init, mounter } = seat;
    match supervise::<P>(plan, listener, proc, monitor.as_fd(), init, mounter, orders) {
        Ok(()) => 0,
        Err(failure) => {
            let _ = send(monitor.as_fd(), &ToMonitor::Failed(failure), None);
            125
        }
    }
}

fn supervise<P: Platform>(
    plan: &Plan,
    channel: OwnedFd,
    proc: OwnedFd,
    monitor: BorrowedFd,
    init_pid: Pid,
    mounter: Option<mounter::Started>,
    orders: Orders,
) -> Result<(), Failure> {
    crate::raw::scrub_environment();
    // Not one descriptor of the host or of the user may stay: a hijacked supervisor would type into the user's terminal.
    let null = shim::sys::open_at(None, c"/dev/null", libc::O_RDWR | libc::O_CLOEXEC, 0, 0);
    let null = null.step(|| "open /dev/null for the supervisor")?;
    for number in 0..3 {
        shim::sys::place_descriptor(null.as_raw_fd(), number).step(|| "let go of the user's descriptors")?;
    }
    drop(null);
    let made = orders.rules.virtual_files.iter().map(|file| file.contents.as_raw_fd());
    let mounting = mounter.iter().map(|mounter| mounter.channel.as_raw_fd());
    let keep = made.chain(mounting).chain([channel.as_raw_fd(), proc.as_raw_fd(), monitor.as_raw_fd()]);
    let keep: Vec<RawFd> = keep.collect();
    keep_only(&keep);

    let mounter_pid = mounter.as_ref().map(|mounter| mounter.pid);
    let joined = join(&channel, mounter)?;
    let arrived = joined.and_then(|mounter| Some((P::receive_guest(channel, proc.as_fd()).transpose()?, mounter)));
    let Some((platform, mounter)) = arrived else {
        // Init failed before there was a guest, and has told the monitor why.
        let _ = waitpid(init_pid, None);
        return Ok(());
    };
    let platform = platform?;
    match plan.root {
        Root::No => shim::capabilities::keep_ptrace(),
        Root::Pretended => shim::capabilities::keep_ptrace_and_chroot(),
        Root::Mapped(_) => shim::capabilities::keep_for_acting(),
    }?;
    let init = crate::raw::open_thread(init_pid.as_raw()).step(|| "watch over init")?;
    let denials = Denials::new().step(|| "make the queue of denials")?;
    let audit = Audit::new().step(|| "make the queue of the audit")?;
    let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
    let descriptors = shim::sys::open_at(Some(proc.as_fd()), c"self/fd", flags, 0, 0)
        .step(|| "open the supervisor's own descriptors")?;
    let clock = orders.clock.map(|order| clock::Clock::start(order, proc.as_fd())).transpose()?;
    // A guest's limit on files must not kill the supervisor.
    shim::sys::ignore_signal(libc::SIGXFSZ).step(|| "ignore SIGXFSZ")?;
    shim::sys::load_filter(&plan.supervisor_filter, 0).step(|| "confine the supervisor by its own filter")?;

    let own_proc = proc.try_clone().map_err(|_| Failure::new("hold the private /proc", Errno::last()))?;
    let usage_proc = proc.try_clone().map_err(|_| Failure::new("hold the private /proc", Errno::last()))?;
    let Identity { uid, gid, .. } = plan.identity;
    let beginning = if orders.rules.fake_root { Credentials::default() } else { Credentials::ordinary(uid, gid) };
    let mut watch = Watch::new(own_proc, orders.watched, mounter_pid);
    let world = World {
        dispatch: orders.dispatch,
        rules: orders.rules,
        owner: Owner { user: plan.identity.uid, group: plan.identity.gid },
        remembered: Remembered::default(),
        proc,
        descriptors,
        denials,
        audit,
        pretended: Pretended::beginning(beginning),
        usage: Usage::new(usage_proc, init_pid.as_raw(), mounter_pid),
        roots: Roots::new().step(|| "hold the root of the view")?,
        live: orders.live,
        mounter,
        clock,
        resting: Resting::default(),
        untold: None,
        tells_deeds: false,
    };
    let shared = Arc::new(Shared { platform, world: Arc::new(world) });
    // Never dropped: threads may end before this one, and what the monitor opened and `keep_only` closed is not to be closed again.
    std::mem::forget(Arc::clone(&shared));
    // Many programs make no call that comes to us: the threads that answer are made for the first one. Whoever has a clock of
    // its own calls as soon as it begins.
    let start_threads = || P::serve(Arc::clone(&shared), init_pid.as_raw());
    let mut first_call = shared.platform.first_call().filter(|_| shared.clock.is_none());
    if first_call.is_none() {
        start_threads()?;
    }

    let flags = libc::O_RDONLY | libc::O_CLOEXEC;
    let mut mounts = shim::sys::open_at(Some(shared.proc.as_fd()), c"self/mountinfo", flags, 0, 0)
        .and_then(|table| ViewMounts::new(table, shared.mounter.is_some()))
        .step(|| "watch the view's mounts")?;
    let mut told = Told::default();
    // Of all that wakes this thread only the time asks for a look at every process: a guest can be refused all day long.
    let mut look = orders.watched.interval().map(|interval| (interval, Instant::now() + interval));
    let mut last_told: Option<Instant> = None;
    loop {
        let until_look = look.map(|(_, due)| due.saturating_duration_since(Instant::now()));
        let rest = last_told.map(|at| REST.saturating_sub(at.elapsed())).filter(|rest| !rest.is_zero());
        let soonest = until_look.into_iter().chain(mounts.due()).chain(rest).min();
        let bells = if rest.is_some() { PollFlags::empty() } else { PollFlags::POLLIN };
        let mut waiting = [
            PollFd::new(init.as_fd(), PollFlags::POLLIN),
            PollFd::new(monitor, PollFlags::empty()),
            PollFd::new(shared.denials.bell(), bells),
            PollFd::new(shared.audit.bell(), bells),
            PollFd::new(mounts.table(), PollFlags::POLLPRI),
            PollFd::new(first_call.unwrap_or(monitor), PollFlags::POLLIN),
        ];
        let polled = if first_call.is_some() { waiting.len() } else { waiting.len() - 1 };
        match poll(&mut waiting[..polled], soonest.map_or(PollTimeout::NONE, rounded_up)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(Failure::new("wait for the sandbox", errno)),
        }
        if waiting[1].revents().is_some_and(|events| events.contains(PollFlags::POLLHUP)) {
            sys_exit(125); // the monitor is gone
        }
        let has_ended = waiting[0].any() == Some(true);
        let has_rung = waiting[2].any() == Some(true) || waiting[3].any() == Some(true);
        if first_call.is_some() && waiting[5].any() == Some(true) {
            // Or a hang-up: there was none, and there is nobody left to make one.
            if waiting[5].revents().is_some_and(|events| events.contains(PollFlags::POLLIN)) {
                start_threads()?;
            }
            first_call = None;
        }
        if waiting[4].revents().is_some_and(|events| events.contains(PollFlags::POLLPRI)) {
            mounts.note();
        }
        if has_rung {
            told.drain(&shared.denials, monitor);
            shared.audit.drain(monitor);
            last_told = Some(Instant::now());
        }
        if mounts.is_one_missing() {
            let _ = send(monitor, &ToMonitor::Lost(REPLACED.to_owned()), None);
        }
        if has_ended {
            let _ = waitpid(init_pid, None);
            told.finish(&shared.denials, monitor);
            shared.audit.finish(monitor);
            watch.finish(monitor);
            return Ok(());
        }
        if let Some((interval, due)) = &mut look
            && *due <= Instant::now()
        {
            watch.look(init_pid.as_raw(), monitor);
            *due = Instant::now() + *interval;
        }
    }
}

/// Closes everything from 3 on but `keep`.
pub fn keep_only(keep: &[RawFd]) {
    let mut keep: Vec<u32> = keep.iter().filter_map(|fd| u32::try_from(*fd).ok()).collect();
    keep.sort_unstable();
    let mut next = 3;
    for fd in keep {
        if fd > next {
            shim::sys::close_range(next, fd - 1);
        }
        next = fd + 1;
    }
    shim::sys::close_range(next, u32::MAX);
}

/// Joins the guest's mount namespace, sent by init. `None`: it never came to that.
///
/// Not the guest's user namespace as well: the threads of the supervisor would count against the guest's limit on
/// processes ([`owners`](syscalls::owners) tells what has to be translated instead).
fn join(channel: &OwnedFd, mounter: Option<mounter::Started>) -> Result<Option<Option<mounter::Orders>>, Failure> {
    let Some(mounts) = receive(channel, *b"M", || "receive the guest's mounts")? else { return Ok(None) };
    shim::sys::join(mounts.as_fd()).step(|| "join the guest's mount namespace")?;
    let mounter = mounter.map(|started| mounter::Orders::begin(started.channel, mounts.as_fd())).transpose()?;
    Ok(Some(mounter))
}

/// The descriptor of the next message, which must bear this name. `None`: nobody is left to send one.
pub fn receive(channel: &OwnedFd, name: [u8; 1], step: fn() -> &'static str) -> Result<Option<OwnedFd>, Failure> {
    let mut byte = [0];
    let mut space = nix::cmsg_space!([RawFd; 1]);
    let mut payload = [IoSliceMut::new(&mut byte)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let received = recvmsg::<UnixAddr>(channel.as_raw_fd(), &mut payload, Some(&mut space), flags).step(step)?;
    let length = received.bytes;
    let mut file = None;
    for message in received.cmsgs().step(step)? {
        if let ControlMessageOwned::ScmRights(fds) = message
            && let [fd] = fds[..]
        {
            file = Some(crate::raw::own_received(fd));
        }
    }
    if length == 0 {
        return Ok(None);
    }
    if byte != name || file.is_none() { Err(Failure::check(step())) } else { Ok(file) }
}
