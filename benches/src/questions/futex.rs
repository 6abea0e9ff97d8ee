//! What does it cost that two threads wait for each other?
//!
//! Two threads take turns; whoever waits sleeps in the kernel (`park` is a futex). A futex takes no path and no descriptor, so only
//! a sandbox that has a scheduler of its own pays here. A round trip by futexes is the floor of all blocking
//! communication, and of a supervisor's answer too.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use super::{Granted, Question};
use crate::stopwatch::Stint;

pub(super) const QUESTION: Question = Question::call("futex", "to another thread and back, by futexes", 9000, ask);

/// Says that there are no more turns.
const OVER: u64 = u64::MAX;

fn ask(_: &Granted, stint: Stint) -> io::Result<f64> {
    // Odd turns are the other thread's.
    let turn = AtomicU64::new(0);
    let here = thread::current();
    thread::scope(|scope| {
        let other = scope.spawn(|| {
            loop {
                match turn.load(Ordering::Acquire) {
                    OVER => return,
                    odd if odd % 2 == 1 => {
                        turn.store(odd + 1, Ordering::Release);
                        here.unpark();
                    }
                    _ => thread::park(),
                }
            }
        });
        let answer = stint.per_operation(|| {
            let next = turn.load(Ordering::Acquire) + 1;
            turn.store(next, Ordering::Release);
            other.thread().unpark();
            while turn.load(Ordering::Acquire) == next {
                thread::park();
            }
            Ok(())
        });
        turn.store(OVER, Ordering::Release);
        other.thread().unpark();
        answer
    })
}
