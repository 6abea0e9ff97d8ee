//! Answers that could not be given, for calls that must not be done twice.
//!
//! Where a filter was loaded without `SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV`, any signal takes a caller away from the call that we
//! are working on. The kernel then starts the call anew, or it fails with `EINTR` and the program calls again; we do not
//! hear of it before the answer finds nobody. By then the file system is mounted, and a second one would lie on top of it. Our own
//! filters have the flag. The profiles of runc cannot, so what came of such a call is kept for its thread: when the same
//! call comes again, with the same in its registers and in the memory that was read, it is answered and not done. When
//! the thread calls something else in between, it has taken notice, and what was kept is forgotten.
//!
//! Only success is kept: what failed has done nothing, and may be tried again.
//!
//! The kernel does not say so when a signal comes in the moment of the answer: it takes the answer, and the caller goes without
//! it. So where signals interrupt calls at all, an answer is kept for a moment even if it seems to have been heard. A thread that
//! makes the very same call twice within that moment is then answered twice and served once: where it unmounts until there is
//! nothing left it goes on until the moment is over.

use std::collections::HashMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use syscalls::abi::Arch;

use crate::platform::Notification;

/// Calls that do something which a second time would be something else, and whose arguments in memory are strings.
const WITH_STRINGS: &[&str] = &["mknod", "mknodat", "mount", "pivot_root", "umount2"];
/// The same with structures.
const WITH_STRUCTURES: &[&str] = &["adjtimex", "clock_adjtime"];
/// Threads for which something is kept, at most.
const MOST: usize = 1024;
/// How long an answer is kept that may have been heard: a call that is started anew comes at once.
const MOMENT: Duration = Duration::from_millis(100);
/// How long after a call was interrupted the next may be.
const UNREST: Duration = Duration::from_secs(5);
/// How long to wait until the caller is looked at again.
const PATIENCE: Duration = Duration::from_millis(20);

/// A call, as its registers say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    number: i32,
    registers: [u64; 6],
    instruction_pointer: u64,
}

impl Call {
    /// That of a notification. Registers that are no arguments of it do not count: they are anything.
    pub fn of(notification: &Notification, arguments: usize) -> Self {
        let mut registers = notification.registers;
        registers[arguments.min(6)..].fill(0);
        Self { number: notification.number, registers, instruction_pointer: notification.instruction_pointer }
    }
}

/// A piece of the caller's memory, and what was in it.
pub type Read = (u64, Vec<u8>);

/// What is kept of a call whose caller was gone.
#[derive(Debug)]
pub struct Kept {
    /// The call.
    pub call: Call,
    /// What was read for it.
    pub reads: Vec<Read>,
    /// When its thread began: thread ids are used again.
    pub began: u64,
    /// What it returned.
    pub value: i64,
    /// Until when it counts, if the answer may have been heard.
    pub until: Option<Instant>,
}

impl Kept {
    /// Kept for a moment only.
    pub fn perhaps(self) -> Self {
        Self { until: Some(Instant::now() + MOMENT), ..self }
    }
}

#[derive(Debug)]
enum State {
    /// Somebody is working on a call of this thread.
    Busy,
    Kept(Kept),
}

/// What to do about a call.
#[derive(Debug, PartialEq, Eq)]
pub enum Begin {
    /// It is to be done. [`Untold::end`] must follow.
    Do,
    /// It has been done, and this came of it. [`Untold::end`] must follow.
    Done(i64),
    /// Its caller has gone again.
    Gone,
}

/// Who is asked about the caller.
pub trait Caller {
    /// Whether the call is still pending.
    fn waits(&self) -> bool;
    /// Whether all of this is still in its memory.
    fn has(&self, reads: &[Read]) -> bool;
    /// When its thread began.
    fn began(&self) -> Option<u64>;
    /// Whether a signal is about to take it away.
    fn is_called_away(&self) -> bool;
}

/// What is kept, by thread.
#[derive(Debug)]
pub struct Untold {
    with_strings: Vec<i32>,
    with_structures: Vec<i32>,
    threads: Mutex<HashMap<i32, State>>,
    /// When a call was last interrupted.
    interrupted: Mutex<Option<Instant>>,
    ended: Condvar,
}

impl Untold {
    /// Nothing is kept yet.
    pub fn new() -> Self {
        let numbers = |names: &[&str]| {
            let numbers = names.iter().filter_map(|name| Arch::native().number(name));
            numbers.filter_map(|number| i32::try_from(number).ok()).collect()
        };
        Self {
            with_strings: numbers(WITH_STRINGS),
            with_structures: numbers(WITH_STRUCTURES),
            threads: Mutex::default(),
            interrupted: Mutex::default(),
            ended: Condvar::new(),
        }
    }

    /// Whether a call is one of those.
    pub fn is_about(&self, number: i32) -> bool {
        self.with_strings.contains(&number) || self.with_structures.contains(&number)
    }

    /// A call was interrupted by a signal.
    pub fn saw_interruption(&self) {
        *self.interrupted.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Whether signals interrupt calls these days.
    pub fn is_restless(&self) -> bool {
        let last = *self.interrupted.lock().unwrap_or_else(PoisonError::into_inner);
        last.is_some_and(|last| last.elapsed() < UNREST)
    }

    /// An answer that was kept has been given, and perhaps not been heard.
    pub fn gave_again(&self, tid: i32) {
        if let Some(State::Kept(kept)) = self.threads().get_mut(&tid) {
            // Not longer each time: who makes the call over and over must get through.
            kept.until.get_or_insert_with(|| Instant::now() + MOMENT);
        }
    }

    /// What of the memory that was read for a call belongs to it: what stands behind a string is anything.
    pub fn meant(&self, number: i32, mut reads: Vec<Read>) -> Vec<Read> {
        if self.with_strings.contains(&number) {
            for (_, bytes) in &mut reads {
                let end = bytes.iter().position(|byte| *byte == 0).map_or(bytes.len(), |end| end + 1);
                bytes.truncate(end);
            }
        }
        reads
    }

    fn threads(&self) -> MutexGuard<'_, HashMap<i32, State>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a call of the thread `tid`. If an earlier one of it is still being worked on, this waits for that: the caller was taken
    /// away from it, and has come again.
    pub fn begin(&self, tid: i32, call: &Call, caller: &dyn Caller) -> Begin {
        let mut threads = self.threads();
        loop {
            match threads.get(&tid) {
                Some(State::Busy) => {
                    threads = self.ended.wait_timeout(threads, PATIENCE).unwrap_or_else(PoisonError::into_inner).0;
                    if !caller.waits() {
                        return Begin::Gone;
                    }
                }
                Some(State::Kept(kept)) => {
                    let counts = kept.until.is_none_or(|until| Instant::now() < until);
                    let same =
                        counts && kept.call == *call && caller.began() == Some(kept.began) && caller.has(&kept.reads);
                    // What was looked at may be another's memory by now.
                    if !caller.waits() {
                        return Begin::Gone;
                    }
                    if same {
                        return Begin::Done(kept.value);
                    }
                    threads.insert(tid, State::Busy);
                    return Begin::Do;
                }
                None if !caller.waits() => return Begin::Gone,
                None => {
                    if threads.len() >= MOST {
                        threads.retain(|_, state| matches!(state, State::Busy));
                    }
                    threads.insert(tid, State::Busy);
                    return Begin::Do;
                }
            }
        }
    }

    /// The call was answered, or its caller was gone, and then this is kept.
    pub fn end(&self, tid: i32, kept: Option<Kept>) {
        let mut threads = self.threads();
        match kept {
            Some(kept) => threads.insert(tid, State::Kept(kept)),
            None => threads.remove(&tid),
        };
        drop(threads);
        self.ended.notify_all();
    }
}

impl Default for Untold {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    use super::*;

    struct Fake {
        waits: AtomicBool,
        memory: Vec<Read>,
        began: u64,
    }

    impl Caller for Fake {
        fn waits(&self) -> bool {
            self.waits.load(Ordering::SeqCst)
        }
        fn has(&self, reads: &[Read]) -> bool {
            reads == self.memory
        }
        fn began(&self) -> Option<u64> {
            Some(self.began)
        }
        fn is_called_away(&self) -> bool {
            false
        }
    }

    fn caller(memory: &str) -> Fake {
        Fake { waits: true.into(), memory: vec![(8, memory.as_bytes().to_vec())], began: 5 }
    }

    fn call(first: u64) -> Call {
        Call { number: 165, registers: [first, 0, 0, 0, 0, 0], instruction_pointer: 9 }
    }

    fn kept(memory: &str) -> Option<Kept> {
        Some(Kept { call: call(1), reads: caller(memory).memory, began: 5, value: 0, until: None })
    }

    #[test]
    fn the_same_call_is_done_once() {
        let untold = Untold::new();
        assert_eq!(untold.begin(7, &call(1), &caller("/a")), Begin::Do);
        untold.end(7, kept("/a"));
        // As often as it comes without hearing the answer.
        assert_eq!(untold.begin(7, &call(1), &caller("/a")), Begin::Done(0));
        assert_eq!(untold.begin(7, &call(1), &caller("/a")), Begin::Done(0));
        untold.end(7, None);
        assert_eq!(untold.begin(7, &call(1), &caller("/a")), Begin::Do);
    }

    #[test]
    fn what_may_have_been_heard_is_soon_forgotten() {
        let untold = Untold::new();
        assert_eq!(untold.begin(7, &call(1), &caller("/a")), Begin::Do);
        untold.end(7, kept("/a").map(Kept::perhaps));
        assert_eq!(untold.begin(7, &call(1), &caller("/a")), Begin::Done(0));
        thread::sleep(MOMENT);
        assert_eq!(untold.begin(7, &call(1), &caller("/a")), Begin::Do);
    }

    #[test]
    fn registers_that_are_no_arguments_do_not_count() {
        let call = |last| {
            let registers = [1, 2, 3, 4, 5, last];
            Call::of(&Notification { id: 0, tid: 7, number: 165, registers, instruction_pointer: 9 }, 5)
        };
        assert_eq!(call(6), call(7));
    }

    #[test]
    fn unrest_is_noticed_and_who_insists_gets_through() {
        let untold = Untold::new();
        assert!(!untold.is_restless());
        untold.saw_interruption();
        assert!(untold.is_restless());
        assert_eq!(untold.begin(7, &call(1), &caller("/a")), Begin::Do);
        untold.end(7, kept("/a"));
        let until = Instant::now() + 2 * MOMENT;
        while untold.begin(7, &call(1), &caller("/a")) == Begin::Done(0) {
            untold.gave_again(7);
            assert!(Instant::now() < until);
        }
    }

    #[test]
    fn another_call_is_done() {
        for (other, fake, tid) in [
            (call(2), caller("/a"), 7),
            (call(1), caller("/b"), 7),
            (call(1), Fake { began: 6, ..caller("/a") }, 7),
            (call(1), caller("/a"), 8),
        ] {
            let untold = Untold::new();
            assert_eq!(untold.begin(7, &call(1), &caller("/a")), Begin::Do);
            untold.end(7, kept("/a"));
            assert_eq!(untold.begin(tid, &other, &fake), Begin::Do);
        }
    }

    #[test]
    fn a_call_that_comes_again_waits_for_the_first() {
        let untold = Untold::new();
        assert_eq!(untold.begin(7, &call(1), &caller("/a")), Begin::Do);
        let gone = Fake { waits: false.into(), ..caller("/a") };
        assert_eq!(untold.begin(7, &call(1), &gone), Begin::Gone);
        assert_eq!(untold.begin(8, &call(1), &gone), Begin::Gone);
        thread::scope(|scope| {
            let again = scope.spawn(|| untold.begin(7, &call(1), &caller("/a")));
            thread::sleep(Duration::from_millis(50));
            assert!(!again.is_finished());
            untold.end(7, kept("/a"));
            assert_eq!(again.join().unwrap(), Begin::Done(0));
        });
    }

    #[test]
    fn what_stands_behind_a_string_does_not_count() {
        let untold = Untold::new();
        let reads = || vec![(8, b"/mnt\0left over".to_vec()), (90, b"no end".to_vec())];
        let number = |name| i32::try_from(Arch::native().number(name).unwrap()).unwrap();
        let meant = untold.meant(number("mount"), reads());
        assert_eq!(meant, [(8, b"/mnt\0".to_vec()), (90, b"no end".to_vec())]);
        assert_eq!(untold.meant(number("adjtimex"), reads()), reads());
    }

    #[test]
    fn it_does_not_grow_without_end() {
        let untold = Untold::new();
        for tid in 0..i32::try_from(2 * MOST).unwrap() {
            assert_eq!(untold.begin(tid, &call(1), &caller("/a")), Begin::Do);
            untold.end(tid, kept("/a"));
        }
        assert!(untold.threads().len() <= MOST);
    }
}
