//! From routes to a program: a binary tree over ranges of numbers, with the argument checks as its leaves.
//!
//! The program is written from its end to its beginning. Jumps of classic BPF go forward only and skip at most 255
//! instructions, so when a jump is written its target is already there and its distance known; a target that is too far
//! away is reached through an unconditional jump put in between.

use nix::errno::Errno;

use crate::abi::Arch;
use crate::args::{Parameter, Width};
use crate::dispatch::Handler;
use crate::table::{Check, Op, Routes, Test, Verdict, width};

use super::{Instruction, op, ret};

/// Where the kernel's `struct seccomp_data` keeps the number.
const NUMBER: u32 = 0;
/// And the architecture.
const ARCH: u32 = 4;
/// And the first argument; the others follow, 8 bytes each, low half first.
const ARGUMENTS: u32 = 16;

/// The first number that means x32 on x86-64, `__X32_SYSCALL_BIT`.
const X32: u32 = 0x4000_0000;

const UNKNOWN: Verdict = Verdict::Fail(Errno::ENOSYS);

/// Compiles the filter of the guest.
pub fn compile(routes: &Routes) -> Vec<Instruction> {
    compile_with(routes, |_| Verdict::Notify)
}

/// Compiles the filter of a guest that a tracer answers (`SECCOMP_RET_TRACE`). The calls in `injected` are the tracer's own
/// tools: where the policy refuses one of them, that refusal is left to the tracer, for what it puts in the place of another
/// call is filtered too, but for verdicts that ask it.
pub fn compile_traced(routes: &Routes, injected: &[&str]) -> Vec<Instruction> {
    let injected: Vec<usize> = injected.iter().filter_map(|name| routes.arch().number(name)).collect();
    let leaves = leaves(routes, &|_| Verdict::Notify).enumerate().map(|(number, leaf)| match leaf {
        Leaf::Always(Verdict::Fail(_)) if injected.contains(&number) => Leaf::Always(Verdict::Notify),
        leaf => leaf,
    });
    program(routes.arch(), leaves, UNKNOWN, ret::TRACE)
}

/// Compiles the filter of a guest that nobody listens to. What would only be watched runs; what the sentry would answer is
/// refused: without a reason to look, everything of it is.
pub fn compile_alone(routes: &Routes) -> Vec<Instruction> {
    let openat2 = routes.arch().number("openat2");
    compile_with(routes, |number| match routes.get(number).and_then(|route| route.handler) {
        Some(Handler::Observe(_)) => Verdict::Allow,
        // Programs fall back to `openat` where it does not exist; EPERM would be about the file.
        _ if Some(number) == openat2 => UNKNOWN,
        _ => Verdict::Fail(Errno::EPERM),
    })
}

fn compile_with(routes: &Routes, notified: impl Fn(usize) -> Verdict) -> Vec<Instruction> {
    program(routes.arch(), leaves(routes, &notified), UNKNOWN, ret::USER_NOTIF)
}

/// What stands for each number, in order.
fn leaves<'a>(routes: &'a Routes, notified: &'a dyn Fn(usize) -> Verdict) -> impl Iterator<Item = Leaf> + 'a {
    (0..routes.len()).map(move |number| {
        let notified = notified(number);
        match routes.get(number) {
            Some(route) if !route.checks.is_empty() => {
                let otherwise = answered(route.otherwise, notified);
                Leaf::Checks { checks: route.checks, parameters: routes.parameters(number), otherwise, notified }
            }
            Some(route) => Leaf::Always(answered(route.otherwise, notified)),
            None => Leaf::Always(UNKNOWN),
        }
    })
}

/// The verdict, with what stands for a notification.
fn answered(verdict: Verdict, notified: Verdict) -> Verdict {
    if verdict == Verdict::Notify { notified } else { verdict }
}

/// Compiles a list of allowed calls, such as the sentry's own filter. Every other call gets `otherwise`; names that
/// exist only on the other architecture are passed over.
///
/// # Panics
///
/// If a name exists nowhere: a misspelt name would be a call that is missing when it is needed.
pub fn compile_list(arch: Arch, allowed: &[&str], otherwise: Verdict) -> Vec<Instruction> {
    let mut verdicts = vec![otherwise; arch.last_number() + 1];
    for name in allowed {
        match arch.number(name) {
            Some(number) => verdicts[number] = Verdict::Allow,
            None => assert!(Arch::ALL.iter().any(|arch| arch.number(name).is_some()), "there is no syscall `{name}`"),
        }
    }
    program(arch, verdicts.into_iter().map(Leaf::Always), otherwise, ret::USER_NOTIF)
}

/// What stands at the end of a search by number.
#[derive(Clone, Copy, PartialEq)]
enum Leaf {
    Always(Verdict),
    Checks { checks: &'static [Check], parameters: &'static [Parameter], otherwise: Verdict, notified: Verdict },
}

/// `asks` is what the filter says where the sentry is to be asked.
fn program(arch: Arch, leaves: impl Iterator<Item = Leaf>, beyond: Verdict, asks: u32) -> Vec<Instruction> {
    let mut ranges: Vec<(u32, Leaf)> = Vec::new();
    for (number, leaf) in (0..).zip(leaves.chain([Leaf::Always(beyond)])) {
        // Neighbours with the same constant verdict are one range. Checks look at arguments, so they stay apart.
        let merges = matches!(leaf, Leaf::Always(_)) && ranges.last().is_some_and(|(_, last)| *last == leaf);
        if !merges {
            ranges.push((number, leaf));
        }
    }

    let mut writer = Writer { reversed: Vec::new(), answers: Vec::new(), asks };
    let search = writer.search(&ranges);
    let start = match arch {
        Arch::X86_64 => {
            // The tail of the number space: x32 is killed, but for -1, "no call".
            let killed = writer.answer(Verdict::Kill);
            let none = writer.answer(UNKNOWN);
            let tail = writer.branch(op::IF_EQUAL, u32::MAX, none, killed);
            writer.branch(op::IF_AT_LEAST, X32, tail, search)
        }
        Arch::Aarch64 => search,
    };
    let by_number = writer.load(NUMBER, start);
    let foreign = writer.answer(Verdict::Kill);
    let by_arch = writer.branch(op::IF_EQUAL, arch.audit(), by_number, foreign);
    writer.load(ARCH, by_arch);
    writer.finish()
}

/// A place in the program, counted from its end.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Place(usize);

/// Which word of the data is in the accumulator.
type Held = Option<u32>;

/// A program in reverse order.
struct Writer {
    reversed: Vec<Instruction>,
    answers: Vec<(Verdict, Place)>,
    asks: u32,
}

impl Writer {
    fn finish(mut self) -> Vec<Instruction> {
        self.reversed.reverse();
        self.reversed
    }

    fn push(&mut self, code: u16, jt: u8, jf: u8, k: u32) -> Place {
        self.reversed.push(Instruction { code, jt, jf, k });
        Place(self.reversed.len())
    }

    /// How many instructions lie between the next one to be written and `to`.
    fn distance(&self, to: Place) -> usize {
        self.reversed.len() - to.0
    }

    /// Makes `to` the very next instruction, through a jump if it is not.
    fn follow(&mut self, to: Place) {
        let distance = self.distance(to);
        if distance > 0 {
            self.push(op::JUMP, 0, 0, u32::try_from(distance).expect("a program is shorter than 2^32"));
        }
    }

    fn load(&mut self, offset: u32, then: Place) -> Place {
        self.follow(then);
        self.push(op::LOAD, 0, 0, offset)
    }

    fn and(&mut self, mask: u32, then: Place) -> Place {
        self.follow(then);
        self.push(op::AND, 0, 0, mask)
    }

    /// `if A <code> k then .. otherwise ..`, by way of intermediate jumps where a side is too far away.
    fn branch(&mut self, code: u16, k: u32, mut then: Place, mut otherwise: Place) -> Place {
        loop {
            match (u8::try_from(self.distance(then)), u8::try_from(self.distance(otherwise))) {
                (Ok(jt), Ok(jf)) => return self.push(code, jt, jf, k),
                (Err(_), _) => then = self.relay(then),
                (_, Err(_)) => otherwise = self.relay(otherwise),
            }
        }
    }

    fn relay(&mut self, to: Place) -> Place {
        self.follow(to);
        Place(self.reversed.len())
    }

    /// A return of `verdict`; one that was written nearby serves again.
    fn answer(&mut self, verdict: Verdict) -> Place {
        let written = self.answers.iter().rev().find(|(known, _)| *known == verdict).map(|(_, place)| *place);
        if let Some(near) = written.filter(|place| self.distance(*place) <= 128) {
            return near;
        }
        let says = if verdict == Verdict::Notify { self.asks } else { verdict.encode() };
        let place = self.push(op::RETURN, 0, 0, says);
        self.answers.push((verdict, place));
        place
    }

    /// Finds the range of the number, which is in the accumulator.
    fn search(&mut self, ranges: &[(u32, Leaf)]) -> Place {
        match ranges {
            [] => self.answer(UNKNOWN),
            [(_, Leaf::Always(verdict))] => self.answer(*verdict),
            [(_, Leaf::Checks { checks, parameters, otherwise, notified })] => {
                self.checks(checks, parameters, *otherwise, *notified)
            }
            _ => {
                let (low, high) = ranges.split_at(ranges.len() / 2);
                let from = high[0].0;
                let high = self.search(high);
                let low = self.search(low);
                self.branch(op::IF_AT_LEAST, from, high, low)
            }
        }
    }

    fn checks(&mut self, checks: &[Check], parameters: &[Parameter], otherwise: Verdict, notified: Verdict) -> Place {
        // What is loaded when a check begins: consecutive checks of one word load it once.
        let mut held: Held = None;
        let mut begins = Vec::with_capacity(checks.len());
        for check in checks {
            begins.push(held);
            held = held_after_failure(check, parameters);
        }

        let mut next = self.answer(otherwise);
        for (check, held) in checks.iter().zip(begins).rev() {
            let before = [held].into_iter().chain(check.all.iter().map(|test| held_after(test, parameters)));
            let steps: Vec<(&Test, Held)> = check.all.iter().zip(before).collect();
            let mut place = self.answer(answered(check.then, notified));
            for (test, held) in steps.into_iter().rev() {
                place = self.test(test, width(parameters, test.arg), held, place, next);
            }
            next = place;
        }
        next
    }

    /// One comparison: goes on at `then` if it holds, else at `fail`.
    fn test(&mut self, test: &Test, width: Width, held: Held, then: Place, fail: Place) -> Place {
        let (low, high) = words(test.arg);
        let wide = width == Width::W64;
        match test.op {
            Op::Equal(x) => {
                let place = self.branch(op::IF_EQUAL, low_half(x), then, fail);
                self.halves(wide, held, low, place, |writer, place| {
                    (high, writer.branch(op::IF_EQUAL, high_half(x), place, fail))
                })
            }
            Op::NotEqual(x) => {
                let place = self.branch(op::IF_EQUAL, low_half(x), fail, then);
                self.halves(wide, held, low, place, |writer, place| {
                    (high, writer.branch(op::IF_EQUAL, high_half(x), place, then))
                })
            }
            Op::AnyOf(mask) => {
                let place = self.branch(op::IF_ANY_BIT, low_half(mask), then, fail);
                self.halves(wide, held, low, place, |writer, place| {
                    (high, writer.branch(op::IF_ANY_BIT, high_half(mask), then, place))
                })
            }
            Op::Masked { mask, value } => {
                let place = self.branch(op::IF_EQUAL, low_half(value), then, fail);
                let place = self.and(low_half(mask), place);
                self.halves(wide, held, low, place, |writer, place| {
                    let place = writer.branch(op::IF_EQUAL, high_half(value), place, fail);
                    (high, writer.and(high_half(mask), place))
                })
            }
            Op::Greater(x) => {
                let place = self.branch(op::IF_GREATER, low_half(x), then, fail);
                self.halves(wide, held, low, place, |writer, place| {
                    let same = writer.branch(op::IF_EQUAL, high_half(x), place, fail);
                    (high, writer.branch(op::IF_GREATER, high_half(x), then, same))
                })
            }
        }
    }

    /// Puts the loads before a comparison of the low word at `place`, and the comparison of the high word before that.
    fn halves(
        &mut self,
        wide: bool,
        held: Held,
        low: u32,
        place: Place,
        compare_high: impl FnOnce(&mut Self, Place) -> (u32, Place),
    ) -> Place {
        if !wide {
            return if held == Some(low) { place } else { self.load(low, place) };
        }
        let place = self.load(low, place);
        let (high, place) = compare_high(self, place);
        self.load(high, place)
    }
}

/// The offsets of the low and high words of an argument. Both architectures are little-endian.
fn words(arg: usize) -> (u32, u32) {
    let low = ARGUMENTS + 8 * u32::try_from(arg).expect("a call has six arguments");
    (low, low + 4)
}

/// What the accumulator holds after a test, whatever its outcome.
fn held_after(test: &Test, parameters: &[Parameter]) -> Held {
    match (test.op, width(parameters, test.arg)) {
        (Op::Masked { .. }, _) | (_, Width::W64) => None,
        _ => Some(words(test.arg).0),
    }
}

/// What the accumulator holds after a check failed, whichever of its tests it was.
fn held_after_failure(check: &Check, parameters: &[Parameter]) -> Held {
    let mut outcomes = check.all.iter().map(|test| held_after(test, parameters));
    let first = outcomes.next()?;
    outcomes.all(|outcome| outcome == first).then_some(first).flatten()
}

#[allow(clippy::cast_possible_truncation)]
const fn low_half(value: u64) -> u32 {
    value as u32
}

const fn high_half(value: u64) -> u32 {
    (value >> 32) as u32
}
