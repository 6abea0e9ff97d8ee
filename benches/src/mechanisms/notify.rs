//! Seccomp user notification: another process answers, by a listener; see seccomp_unotify(2).

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::fcntl::{OFlag, open};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, recvmsg, sendmsg};
use nix::sys::stat::Mode;

use super::calls::{MANY, NULL, OPEN, PASS, SOME, time_null, time_open, time_pass};
use super::pair::{Seats, serve};
use super::sys::{self, TOKEN};
use super::{Family, filter, lacking};

/// How the server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// With the token.
    Reply,
    /// It lets the call run.
    Continue,
    /// With a descriptor of its own.
    Descriptor,
}

/// How the server waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// In the kernel; the answered thread is woken as any sleeper.
    Asleep,
    /// In the kernel; the answered thread is woken on the CPU of the answer (`SYNC_WAKE_UP`).
    Synchronous,
    /// It asks again and again whether there is a call.
    Busy,
}

/// Loads a filter that asks about `number`, and passes the listener on.
pub fn listen(number: libc::c_long, channel: &OwnedFd) -> io::Result<()> {
    sys::no_new_privileges()?;
    let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER as libc::c_ulong;
    let listener = sys::load(&filter::on(number, filter::USER_NOTIF), flags)?;
    let listener = listener.ok_or_else(|| io::Error::other("no listener"))?;
    let files = [listener.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&files)];
    sendmsg::<UnixAddr>(channel.as_raw_fd(), &[IoSlice::new(b"L")], &rights, MsgFlags::empty(), None)?;
    Ok(())
}

/// Takes the listener that was passed on.
pub fn listener(channel: &OwnedFd) -> io::Result<OwnedFd> {
    let mut byte = [0];
    let mut space = nix::cmsg_space!([i32; 1]);
    let mut payload = [IoSliceMut::new(&mut byte)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<UnixAddr>(channel.as_raw_fd(), &mut payload, Some(&mut space), flags)?;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(files) = control
            && let [file] = files[..]
        {
            return Ok(sys::own_received(file));
        }
    }
    Err(io::Error::other("no listener came"))
}

/// Answers call after call.
pub fn answer_all(listener: &OwnedFd, answer: Answer, waiting: Waiting) -> io::Result<()> {
    let file = open("/dev/null", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    if waiting == Waiting::Synchronous {
        sys::wake_synchronously(listener)?;
    }
    loop {
        if waiting == Waiting::Busy {
            let mut ready = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
            while poll(&mut ready, PollTimeout::ZERO)? == 0 {}
        }
        let id = sys::receive(listener)?;
        match answer {
            Answer::Reply => sys::respond(listener, id, Some(TOKEN))?,
            Answer::Continue => sys::respond(listener, id, None)?,
            Answer::Descriptor => sys::respond_with(listener, id, &file)?,
        }
    }
}

/// Times `timed` while a server answers the calls with this number.
fn notified(
    number: libc::c_long,
    how: (Answer, Waiting, Seats),
    times: u64,
    timed: impl FnOnce(u64) -> io::Result<f64>,
) -> io::Result<f64> {
    let (answer, waiting, seats) = how;
    let channel = serve(move |_, channel| {
        seats.server()?;
        answer_all(&listener(&channel)?, answer, waiting)
    })?;
    seats.guest()?;
    listen(number, &channel)?;
    drop(channel);
    timed(times)
}

/// The descriptor that comes is of `/dev/null`, whatever was asked for; the kernel would have opened another.
fn time_null_open(times: u64) -> io::Result<f64> {
    let file = open("/etc/passwd", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    let kind = nix::sys::stat::fstat(&file)?.st_mode & libc::S_IFMT;
    if kind != libc::S_IFCHR {
        return Err(io::Error::other("the call was not answered by the mechanism"));
    }
    time_open(times)
}

/// The family.
pub fn family() -> Family {
    let mut family = Family::default();
    let no_listener = lacking("a seccomp listener", || {
        sys::no_new_privileges()?;
        let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER as libc::c_ulong;
        sys::load(&filter::on(libc::SYS_getppid, filter::USER_NOTIF), flags).map(drop)
    });
    let no_sync = no_listener.clone().or_else(|| {
        lacking("SYNC_WAKE_UP (Linux 6.6)", || {
            sys::no_new_privileges()?;
            let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER as libc::c_ulong;
            let listener = sys::load(&filter::on(libc::SYS_getppid, filter::USER_NOTIF), flags)?;
            sys::wake_synchronously(&listener.ok_or_else(|| io::Error::other("no listener"))?)
        })
    });
    for seats in Seats::ALL {
        for waiting in [Waiting::Asleep, Waiting::Synchronous, Waiting::Busy] {
            // On one CPU the guest would wait for the end of the server's turn.
            if waiting == Waiting::Busy && seats == Seats::One {
                continue;
            }
            let (manner, how) = match waiting {
                Waiting::Asleep => ("", "the server sleeps in the kernel"),
                Waiting::Synchronous => (", sync", "the server sleeps, and wakes the guest on its own CPU"),
                Waiting::Busy => (", busy", "the server never sleeps"),
            };
            let missing = if waiting == Waiting::Synchronous { &no_sync } else { &no_listener };
            let missing = missing.clone().or(seats.missing());
            let place = seats.words();

            let name = format!("notify, reply{manner}, {place}");
            family.subject(&name, &format!("another process answers; {how}; {place}"), missing.clone());
            family.cell(NULL, &name, seats.times(SOME), move |times| {
                let how = (Answer::Reply, waiting, seats);
                notified(libc::SYS_getppid, how, times, |times| time_null(times, Some(TOKEN)))
            });

            let name = format!("notify, continue{manner}, {place}");
            family.subject(&name, &format!("another process lets the call run; {how}; {place}"), missing.clone());
            let continued = (Answer::Continue, waiting, seats);
            family.cell(NULL, &name, seats.times(SOME), move |times| {
                notified(libc::SYS_getppid, continued, times, |times| time_null(times, None))
            });
            family.cell(PASS, &name, seats.times(SOME), move |times| {
                notified(libc::SYS_pread64, continued, times, time_pass)
            });
            family.cell(OPEN, &name, seats.times(SOME), move |times| {
                notified(libc::SYS_openat, continued, times, time_open)
            });

            let name = format!("notify, descriptor{manner}, {place}");
            let text = format!("another process gives a descriptor (ADDFD with SEND); {how}; {place}");
            family.subject(&name, &text, missing.clone());
            family.cell(OPEN, &name, seats.times(SOME), move |times| {
                notified(libc::SYS_openat, (Answer::Descriptor, waiting, seats), times, time_null_open)
            });
        }
    }
    let name = "notify, other calls";
    family.subject(name, "a listener exists, for another call", no_listener);
    family.cell(PASS, name, MANY, |times| {
        let how = (Answer::Reply, Waiting::Asleep, Seats::One);
        notified(libc::SYS_getppid, how, times, time_pass)
    });
    family
}
