//! Namespaces, one by one: what they add to the start and the end of a process.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use nix::libc;
use nix::sched::CloneFlags;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use super::own_tree::enter;
use super::pair::Seats;
use super::sys;
use super::{Family, lacking};
use crate::stopwatch::per_operation;

/// The heading.
pub const GROUP: &str = "namespaces";
const ONE: &str = "process";
const MADE: &str = "process, until it is made";
const TWENTY: &str = "processes in a row";
const TIMES: u64 = 150;
/// How long the kernel may take to clean up after whoever was measured before.
const CLEAN_UP: Duration = Duration::from_millis(300);

/// A namespace that nix has no name for.
const NEW_TIME: CloneFlags = CloneFlags::from_bits_retain(libc::CLONE_NEWTIME);
const ALL: CloneFlags = CloneFlags::from_bits_retain(
    libc::CLONE_NEWUSER
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWNS
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWCGROUP
        | libc::CLONE_NEWNET
        | libc::CLONE_NEWTIME,
);

fn wait(child: Pid) -> io::Result<()> {
    match waitpid(child, None)? {
        WaitStatus::Exited(_, 0) => Ok(()),
        other => Err(io::Error::other(format!("the process ended badly: {other:?}"))),
    }
}

/// Makes a process in new namespaces that ends at once, and waits for it.
fn start_and_end(flags: CloneFlags) -> io::Result<()> {
    wait(sys::clone_that_ends(flags.bits())?)
}

fn one(flags: CloneFlags, times: u64) -> io::Result<f64> {
    thread::sleep(CLEAN_UP);
    // The child of one that may run anywhere is now on this CPU, now on the other, and that decides more than a namespace.
    Seats::One.guest()?;
    if !flags.contains(CloneFlags::CLONE_NEWUSER) {
        enter(CloneFlags::empty())?;
    }
    per_operation(times, || start_and_end(flags))
}

/// The same, but the clock stands still from when the process is made until it has been waited for: namespaces are made
/// within the call, and what is missing to [`one`] is the process's turn and its end.
fn made(flags: CloneFlags, times: u64) -> io::Result<f64> {
    thread::sleep(CLEAN_UP);
    Seats::One.guest()?;
    if !flags.contains(CloneFlags::CLONE_NEWUSER) {
        enter(CloneFlags::empty())?;
    }
    start_and_end(flags)?;
    let mut samples = Vec::new();
    for _ in 0..times {
        let start = Instant::now();
        let child = sys::clone_that_ends(flags.bits())?;
        samples.push(start.elapsed().as_nanos() as f64);
        wait(child)?;
    }
    samples.sort_by(f64::total_cmp);
    samples.get(samples.len() / 2).copied().ok_or_else(|| io::Error::other("nothing was made"))
}

/// Starts that do not wait for one another's ends: what the kernel cleans up later is paid here.
fn in_a_row(flags: CloneFlags) -> io::Result<f64> {
    const COUNT: usize = 20;
    thread::sleep(CLEAN_UP);
    if !flags.contains(CloneFlags::CLONE_NEWUSER) {
        enter(CloneFlags::empty())?;
    }
    start_and_end(flags)?;
    let start = Instant::now();
    let children: Vec<_> = (0..COUNT).map(|_| sys::clone_that_ends(flags.bits())).collect::<io::Result<_>>()?;
    for child in children {
        waitpid(child, None)?;
    }
    Ok(start.elapsed().as_nanos() as f64 / COUNT as f64)
}

/// The family.
pub fn family() -> Family {
    let mut family = Family::default();
    family.question(GROUP, ONE, "make a process that ends at once, and wait for it");
    family.question(GROUP, MADE, "of that, what the parent waits for until the process is made");
    family.question(GROUP, TWENTY, "the same for twenty at once, each");
    let none = CloneFlags::empty();
    family.native(ONE, TIMES * 4, move |times| one(none, times));
    family.native(MADE, TIMES * 4, move |times| made(none, times));
    family.native(TWENTY, 1, move |_| in_a_row(none));
    let each = [
        ("user", CloneFlags::CLONE_NEWUSER),
        ("pid", CloneFlags::CLONE_NEWPID),
        ("mount", CloneFlags::CLONE_NEWNS),
        ("ipc", CloneFlags::CLONE_NEWIPC),
        ("uts", CloneFlags::CLONE_NEWUTS),
        ("cgroup", CloneFlags::CLONE_NEWCGROUP),
        ("network", CloneFlags::CLONE_NEWNET),
        ("time", NEW_TIME),
        ("all eight", ALL),
        ("all but network", ALL.difference(CloneFlags::CLONE_NEWNET)),
    ];
    for (name, flags) in each {
        let missing = lacking("these namespaces", || one(flags, 1).map(drop));
        let name = format!("namespaces, {name}");
        family.subject(&name, "new for the process, in a user namespace of ours", missing);
        family.cell(ONE, &name, TIMES, move |times| one(flags, times));
        family.cell(MADE, &name, TIMES, move |times| made(flags, times));
        family.cell(TWENTY, &name, 1, move |_| in_a_row(flags));
    }
    family
}
