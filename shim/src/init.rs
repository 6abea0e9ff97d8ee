//! Pid 1 of the guest's world: builds the view, starts the guest, reaps, forwards signals, reports the end.
//!
//! It shares the guest's user id and user namespace, so it gives up everything it does not need before the guest exists:
//! no capability, not dumpable (its memory, descriptors and executable cannot be opened from inside, CVE-2019-5736), and
//! signals from inside do not move it.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::stat::{Mode, umask};
use nix::sys::time::TimeValLike;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, chdir, tcgetpgrp, write};

use crate::failure::{Failure, Step};
use crate::message::{ToInit, ToMonitor, Usage, receive, send};
use crate::plan::{Plan, Root};
use crate::{capabilities, exec, identity, ranges, sys, terminal, vdso, view};

/// The descriptors that init works with.
pub struct Channels {
    /// To and from the monitor.
    pub monitor: OwnedFd,
    /// To the supervisor: takes the listener.
    pub supervisor: OwnedFd,
    /// To whom may map a range of ids, if there is one.
    pub maps: Option<OwnedFd>,
}

/// Runs init to its end. `proc` is a procfs that knows it, mounted nowhere.
pub fn run(plan: &Plan, channels: Channels, proc: OwnedFd) -> ! {
    let code = match begin(plan, &channels, proc) {
        Ok((guest, terminal)) => {
            drop(channels.supervisor);
            serve(guest, terminal.as_ref(), channels.monitor.as_fd())
        }
        Err(failure) => {
            let _ = send(channels.monitor.as_fd(), &ToMonitor::Failed(failure), None);
            125
        }
    };
    sys::exit_now(code)
}

/// From a fresh clone to a running guest.
fn begin(plan: &Plan, channels: &Channels, proc: OwnedFd) -> Result<(Pid, Option<OwnedFd>), Failure> {
    let monitor = channels.monitor.as_fd();
    let guest_umask = umask(Mode::empty());
    chdir(c"/").step(|| "leave the host's directory")?;
    view::build(
        plan,
        &mut |what| {
            let _ = send(monitor, &ToMonitor::Lost(what.to_owned()), None);
        },
        &mut |place: &CStr, directory: BorrowedFd| {
            let place = place.to_string_lossy().into_owned();
            let _ = send(monitor, &ToMonitor::Upper(place), Some(directory));
        },
    )?;
    become_inner(plan, channels.maps.as_ref())?;
    forbid_nested(&proc);
    share_mounts(&proc, channels.supervisor.as_fd())?;
    drop(proc);
    let terminal = terminal::begin_session(plan.terminal.as_ref(), monitor)?;

    // From here on every signal waits in the signalfd; the guest unblocks them for itself.
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), None).step(|| "block signals")?;
    match plan.root {
        Root::No => capabilities::drop_all(),
        Root::Pretended => capabilities::keep_chroot(),
        Root::Mapped(_) => capabilities::keep_roots(),
    }?;
    // Before there is a guest to look: its own exec makes it dumpable again. Only a tracer must get hold of the guest's process
    // while that has our memory; it stops the program before its first instruction until we have said that we are out of reach.
    let out_of_reach = || sys::prctl(libc::PR_SET_DUMPABLE, 0, 0).step(|| "protect init from the guest");
    if plan.traced {
        sys::prctl(libc::PR_SET_DUMPABLE, 1, 0).step(|| "let the supervisor trace the guest")?;
    } else {
        out_of_reach()?;
    }
    let seat = exec::Seat { terminal: terminal.as_ref(), supervisor: channels.supervisor.as_fd(), umask: guest_umask };
    let mut failed = None;
    let mut stack = vec![0; 256 * 1024];
    let guest = sys::spawn_sharing_memory(&mut stack, &mut || {
        let failure = exec::become_guest(plan, &seat);
        let exit = i32::from(failure.exit);
        failed = Some(failure);
        exit
    });
    let guest = Pid::from_raw(guest.step(|| "start the guest")?);
    if let Some(failure) = failed {
        return Err(failure);
    }
    if plan.traced {
        out_of_reach()?;
        write(&channels.supervisor, exec::OUT_OF_REACH).step(|| "let the program begin")?;
    } else if let Some(patch) = plan.clock.as_ref().and_then(|clock| clock.patch.as_ref()) {
        patch_first_program(guest, patch, monitor)?;
    }
    Ok((guest, terminal))
}

/// The first program sees the pretended clock like every later one, which the supervisor patches. This one it cannot: the
/// process that runs it shares our memory until then, and nobody may look into that.
fn patch_first_program(guest: Pid, patch: &vdso::Patch, monitor: BorrowedFd) -> Result<(), Failure> {
    let mut lost = None;
    vdso::trace::follow_child(guest.as_raw(), || {
        let maps = std::fs::read_to_string(format!("/proc/{guest}/maps"));
        let maps = maps.map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)));
        lost = maps
            .and_then(|maps| {
                vdso::trace::patch(guest.as_raw(), patch, &maps, |at, bytes| {
                    vdso::trace::write(guest.as_raw(), at, bytes)
                })
            })
            .err();
        Ok(())
    })
    .step(|| "let the program begin with its own clock")?;
    if let Some(errno) = lost {
        let what = format!("the clock: the program reads the host's ({}), for it cannot be looked into", errno.desc());
        let _ = send(monitor, &ToMonitor::Lost(what), None);
    }
    Ok(())
}

/// Enters the guest's own user and mount namespaces.
fn become_inner(plan: &Plan, maps: Option<&OwnedFd>) -> Result<(), Failure> {
    if maps.is_some() {
        ranges::limit_all_users(&plan.limits)?;
    }
    sys::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS).step(|| "make the guest's user namespace")?;
    match maps {
        Some(maps) => ranges::have_inner_mapped(maps, &plan.identity),
        None => identity::map_own_inner(&plan.identity),
    }
}

/// Programs that look before they ask find that there are no user namespaces to be had. Only to tell them so: what forbids
/// nested ones is the limit of the outer namespace, and where that cannot be set the user was told.
fn forbid_nested(proc: &OwnedFd) {
    let flags = libc::O_WRONLY | libc::O_CLOEXEC;
    if let Ok(limit) = sys::open_at(Some(proc.as_fd()), c"sys/user/max_user_namespaces", flags, 0, 0) {
        let _ = write(&limit, b"0\n");
    }
}

/// Lets the supervisor into the guest's mount namespace: a file that it opens for the guest must lie on the guest's own
/// mounts, or the kernel calls it unreachable (getcwd(2)) and on another file system (rename(2)).
fn share_mounts(proc: &OwnedFd, supervisor: BorrowedFd) -> Result<(), Failure> {
    let flags = libc::O_RDONLY | libc::O_CLOEXEC;
    let mounts = sys::open_at(Some(proc.as_fd()), c"self/ns/mnt", flags, 0, 0);
    let mounts = mounts.step(|| "open the guest's mount namespace")?;
    exec::pass_on(mounts, supervisor, b"M").step(|| "show the supervisor the guest's mounts")
}

/// Reaps and forwards until the guest is gone; the exit code of init itself means nothing.
fn serve(guest: Pid, terminal: Option<&OwnedFd>, monitor: BorrowedFd) -> i32 {
    let Ok(signals) = SignalFd::with_flags(&SigSet::all(), SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK) else {
        return 125;
    };
    loop {
        if let Some(status) = reap(guest, monitor) {
            report_end(status, monitor);
            return 0;
        }
        let mut waiting = [PollFd::new(signals.as_fd(), PollFlags::POLLIN), PollFd::new(monitor, PollFlags::POLLIN)];
        match poll(&mut waiting, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return 125,
        }
        if waiting[1].any() == Some(true) {
            match receive::<ToInit>(monitor) {
                Ok(Some((order, _))) => forward(order, guest, terminal),
                Ok(None) => return 125, // the monitor is gone: so is the sandbox
                Err(_) => {}
            }
        }
        while let Ok(Some(_)) = signals.read_signal() {}
    }
}

/// Collects every child that has something to say; `Some` when it was the guest that ended.
fn reap(guest: Pid, monitor: BorrowedFd) -> Option<WaitStatus> {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG | WaitPidFlag::WUNTRACED)) {
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return None,
            Ok(WaitStatus::Stopped(pid, signal)) if pid == guest => {
                let _ = send(monitor, &ToMonitor::Stopped(signal as i32), None);
            }
            Ok(status @ (WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..))) if pid == guest => {
                return Some(status);
            }
            Ok(_) | Err(_) => {}
        }
    }
}

fn forward(order: ToInit, guest: Pid, terminal: Option<&OwnedFd>) {
    let group = || {
        let foreground = terminal.and_then(|terminal| tcgetpgrp(terminal).ok()).filter(|group| group.as_raw() > 1);
        foreground.unwrap_or(guest)
    };
    let _ = match order {
        ToInit::Signal(signal) => sys::kill(guest.as_raw(), signal),
        ToInit::GroupSignal(signal) => sys::kill(-group().as_raw(), signal),
    };
}

/// Ends whatever the guest left behind, adds up what was used, and tells the monitor.
fn report_end(status: WaitStatus, monitor: BorrowedFd) {
    // Asked before the others are killed: is there room for one more process?
    let pids_exhausted = sys::spawn_nothing() == Err(Errno::EAGAIN);
    let _ = sys::kill(-1, libc::SIGKILL);
    while !matches!(waitpid(None, Some(WaitPidFlag::__WALL)), Err(Errno::ECHILD)) {}
    let (code, signal) = match status {
        WaitStatus::Exited(_, code) => (Some(code), None),
        WaitStatus::Signaled(_, signal, _) => (None, Some(signal as i32)),
        _ => (None, Some(Signal::SIGKILL as i32)),
    };
    let _ = send(monitor, &ToMonitor::Exited { code, signal, usage: usage(), pids_exhausted }, None);
}

/// What all children together used.
fn usage() -> Usage {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_CHILDREN) else { return Usage::default() };
    let microseconds = |time: nix::sys::time::TimeVal| u64::try_from(time.num_microseconds()).unwrap_or(0);
    Usage {
        user_us: microseconds(usage.user_time()),
        system_us: microseconds(usage.system_time()),
        peak_process: u64::try_from(usage.max_rss()).unwrap_or(0) * 1024,
    }
}
