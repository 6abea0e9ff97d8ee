//! Memory that two processes share: the floor of every mechanism in which another process answers.
//!
//! No call is trapped here. The guest writes a number into shared memory where it would make a call, as a program whose call sites
//! were patched could, and the server writes an answer. How the two wait for each other is what costs.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::unistd::{pipe, read, write};

use super::Family;
use super::calls::{NULL, SOME, wrong};
use super::pair::{Seats, serve};
use super::sys;
use crate::stopwatch::per_operation;

/// Times the two words turn while nobody sleeps, before somebody does.
const PATIENCE: u32 = 2000;

/// A word that one writes and the other waits for.
struct Ring {
    asked: Word,
    answered: Word,
}

/// What is told, and whether somebody sleeps until it is.
#[derive(Clone, Copy)]
struct Word {
    value: &'static AtomicU32,
    sleeper: &'static AtomicU32,
}

#[derive(Clone, Copy, PartialEq)]
enum Waiting {
    /// Never in the kernel.
    Spin,
    /// For some time, then in the kernel.
    SpinThenSleep,
    /// In the kernel at once: the futex ping-pong.
    Sleep,
}

impl Ring {
    fn new() -> io::Result<Self> {
        let words = sys::shared_words()?;
        // On cache lines of their own.
        let word = |at: usize| Word { value: &words[at], sleeper: &words[at + 64] };
        Ok(Self { asked: word(0), answered: word(256) })
    }

    fn tell(word: Word, value: u32, waiting: Waiting) {
        word.value.store(value, Ordering::SeqCst);
        match waiting {
            Waiting::Spin => {}
            Waiting::SpinThenSleep if word.sleeper.swap(0, Ordering::SeqCst) == 0 => {}
            Waiting::SpinThenSleep | Waiting::Sleep => sys::futex_wake(word.value),
        }
    }

    /// Waits until the word is no longer `old`.
    fn hear(word: Word, old: u32, waiting: Waiting) -> u32 {
        let mut left = PATIENCE;
        loop {
            let found = word.value.load(Ordering::SeqCst);
            if found != old {
                return found;
            }
            left = left.saturating_sub(1);
            match waiting {
                Waiting::Spin => std::hint::spin_loop(),
                Waiting::SpinThenSleep if left > 0 => std::hint::spin_loop(),
                // Whoever tells after this sees it; whoever told before is seen by the kernel, which compares once more.
                Waiting::SpinThenSleep => {
                    word.sleeper.store(1, Ordering::SeqCst);
                    sys::futex_wait(word.value, old);
                }
                Waiting::Sleep => sys::futex_wait(word.value, old),
            }
        }
    }
}

fn through_memory(waiting: Waiting, seats: Seats, times: u64) -> io::Result<f64> {
    let ring = Ring::new()?;
    let (asked, answered) = (ring.asked, ring.answered);
    let channel = serve(move |_, _| {
        seats.server()?;
        let mut last = 0;
        loop {
            last = Ring::hear(asked, last, waiting);
            // So that the guest can tell an answer from its own question.
            Ring::tell(answered, !last, waiting);
        }
    })?;
    seats.guest()?;
    let mut turn = 0_u32;
    let mut answer = 0;
    let result = per_operation(times, || {
        turn += 1;
        Ring::tell(asked, turn, waiting);
        answer = Ring::hear(answered, answer, waiting);
        if answer == !turn { Ok(()) } else { Err(wrong(answer.into())) }
    });
    drop(channel);
    result
}

fn through_pipes(seats: Seats, times: u64) -> io::Result<f64> {
    let ((hear, tell), (other_hear, other_tell)) = (pipe()?, pipe()?);
    let echo = move |from: &OwnedFd, to: &OwnedFd| -> io::Result<()> {
        let mut byte = [0];
        loop {
            read(from, &mut byte)?;
            write(to, &[!byte[0]])?;
        }
    };
    let channel = serve(|_, _| {
        seats.server()?;
        echo(&other_hear, &tell)
    })?;
    seats.guest()?;
    let mut byte = [0];
    let result = per_operation(times, || {
        write(other_tell.as_fd(), &[7])?;
        read(hear.as_fd(), &mut byte)?;
        if byte[0] == !7 { Ok(()) } else { Err(wrong(byte[0].into())) }
    });
    drop(channel);
    result
}

/// The family.
pub fn family() -> Family {
    let mut family = Family::default();
    for seats in Seats::ALL {
        let place = seats.words();
        let mut ring = |name: &str, how: &str, waiting| {
            let name = format!("{name}, {place}");
            family.subject(&name, &format!("{how}; {place}"), seats.missing());
            family.cell(NULL, &name, seats.times(SOME), move |times| through_memory(waiting, seats, times));
        };
        if seats != Seats::One {
            ring("ring, spinning", "shared memory; both wait without sleeping", Waiting::Spin);
            ring("ring, futexes", "shared memory; both wait a little, then sleep", Waiting::SpinThenSleep);
        }
        ring(
            "futex ping-pong",
            "two processes wake each other: the least that another process's answer costs",
            Waiting::Sleep,
        );
        let name = format!("pipe ping-pong, {place}");
        family.subject(&name, &format!("a byte through one pipe and back through another; {place}"), seats.missing());
        family.cell(NULL, &name, seats.times(SOME), move |times| through_pipes(seats, times));
    }
    family
}
