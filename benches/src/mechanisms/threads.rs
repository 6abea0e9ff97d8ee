//! Many threads on one listener: how a supervisor's threads and its guest's get on.

use std::io;
use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use nix::libc;

use super::calls::{NULL, wrong};
use super::notify::{Answer, Waiting, answer_all, listen, listener};
use super::pair::{Seats, processors, serve};
use super::sys::{self, TOKEN};
use super::{Family, filter, lacking};

/// The heading.
pub const GROUP: &str = "many threads";
/// Threads of the guest, and of the server.
const COUNTS: [usize; 3] = [1, 2, 4];
const TIMES: u64 = 12_000;
/// So many that a turn of another thread on the same CPU does not decide.
const NATIVE_TIMES: u64 = 3_000_000;

/// Has `threads` threads make `times` calls each; nanoseconds for one call, as its thread sees it.
fn side_by_side(threads: usize, times: u64, answer: Option<i64>) -> io::Result<f64> {
    let gate = Barrier::new(threads);
    let run = || -> io::Result<f64> {
        gate.wait();
        let start = Instant::now();
        for _ in 0..times {
            match (sys::null_call(), answer) {
                (found, Some(wanted)) if found != wanted => return Err(wrong(found)),
                _ => {}
            }
        }
        Ok(start.elapsed().as_nanos() as f64 / times as f64)
    };
    let results: Vec<io::Result<f64>> = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        let ended = |thread: thread::ScopedJoinHandle<'_, _>| {
            thread.join().unwrap_or_else(|_| Err(io::Error::other("a thread ended badly")))
        };
        threads.into_iter().map(ended).collect()
    });
    let times: Vec<f64> = results.into_iter().collect::<io::Result<_>>()?;
    Ok(times.iter().sum::<f64>() / times.len() as f64)
}

fn served(workers: usize, guests: usize, seats: Seats, times: u64) -> io::Result<f64> {
    let channel = serve(move |_, channel| {
        seats.server()?;
        let listener = listener(&channel)?;
        // All of them share the flag of the listener.
        sys::wake_synchronously(&listener)?;
        thread::scope(|scope| {
            for _ in 1..workers {
                scope.spawn(|| answer_all(&listener, Answer::Reply, Waiting::Asleep));
            }
            answer_all(&listener, Answer::Reply, Waiting::Asleep)
        })
    })?;
    seats.guest()?;
    listen(libc::SYS_getppid, &channel)?;
    drop(channel);
    side_by_side(guests, times, Some(TOKEN))
}

/// The family.
pub fn family() -> Family {
    let mut family = Family::default();
    let no_listener = lacking("a seccomp listener with SYNC_WAKE_UP", || {
        sys::no_new_privileges()?;
        let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER as libc::c_ulong;
        let listener = sys::load(&filter::on(libc::SYS_getppid, filter::USER_NOTIF), flags)?;
        sys::wake_synchronously(&listener.ok_or_else(|| io::Error::other("no listener"))?)
    });
    for seats in [Seats::One, Seats::Free] {
        for guests in COUNTS.into_iter().filter(|count| *count <= 2 * processors().len()) {
            let question = format!("{guests} guest thread{}, {}", if guests == 1 { "" } else { "s" }, seats.words());
            let asks =
                format!("{NULL}: {guests} thread(s) of the guest at once, {}, as each of them sees it", seats.words());
            family.question(GROUP, &question, &asks);
            family.native(&question, NATIVE_TIMES, move |times| {
                seats.guest()?;
                side_by_side(guests, times, None)
            });
            for workers in COUNTS {
                let name = format!("notify, sync, {workers} worker{}", if workers == 1 { "" } else { "s" });
                family.subject(
                    &name,
                    &format!("{workers} thread(s) of the server wait on the listener"),
                    no_listener.clone(),
                );
                family.cell(&question, &name, TIMES, move |times| served(workers, guests, seats, times));
            }
        }
    }
    family
}
