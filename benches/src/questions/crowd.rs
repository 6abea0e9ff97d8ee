//! What do many sandboxes cost, all started at once?
//!
//! `micro` starts them one after the other without waiting, and then waits for all. The time is that of the whole crowd,
//! shared out. The CPU time is that of every process which was waited for, by `getrusage` of the children: what leaves its
//! parent comes to `micro`, for it adopts orphans, and is waited for as well. What `micro` itself spends on starting them is
//! not in it. If one of them fails, all have.

use std::ffi::OsString;
use std::io;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::prctl::set_child_subreaper;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

use super::startup::command;
use super::{Method, Question};
use crate::proof::Token;

/// Which of the two answers of a crowd a question is after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// The time that passed.
    Time,
    /// The CPU time.
    Processor,
}

const GROUP: &str = "many at once";

pub(super) const fn time(count: usize, name: &'static str, asks: &'static str) -> Question {
    Question::new(name, asks, GROUP, 1, Method::Crowd(count, Told::Time))
}

pub(super) const fn processor(count: usize, name: &'static str, asks: &'static str) -> Question {
    Question::new(name, asks, GROUP, 1, Method::Crowd(count, Told::Processor))
}

/// How long processes that left their parents may stay on.
const PATIENCE: Duration = Duration::from_secs(1);

/// Starts `count` of `words` at once: nanoseconds for each, and nanoseconds of CPU time of each.
pub fn run(words: &[OsString], count: usize, mut token: Token) -> io::Result<(f64, f64)> {
    set_child_subreaper(true)?;
    let before = processor_time()?;
    let start = Instant::now();
    let mut crowd = Vec::with_capacity(count);
    for number in 1..=count {
        token = token.next();
        let started = command(words, token).and_then(|mut command| command.stdout(Stdio::null()).spawn());
        crowd.push((started.map_err(|error| io::Error::other(format!("number {number} of {count}: {error}")))?, token));
    }
    let mut failed = None;
    for (number, (child, token)) in (1..).zip(&mut crowd) {
        let status = child.wait()?;
        if status.code() != Some(i32::from(token.exit_code())) {
            failed.get_or_insert_with(|| format!("the guest of number {number} of {count} did not run: {status}"));
        }
    }
    let elapsed = start.elapsed().as_nanos() as f64;
    wait_for_orphans()?;
    let spent = processor_time()? - before;
    match failed {
        Some(why) => Err(io::Error::other(why)),
        None => Ok((elapsed / count as f64, spent / count as f64)),
    }
}

fn wait_for_orphans() -> io::Result<()> {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) => std::thread::sleep(Duration::from_millis(2)),
            Err(Errno::ECHILD) => break,
            other => drop(other?),
        }
    }
    Ok(())
}

/// Nanoseconds that all children which were waited for have spent.
fn processor_time() -> io::Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let microseconds = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Ok(microseconds as f64 * 1e3)
}
