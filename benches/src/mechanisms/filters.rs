//! How long a filter may be: what it costs to load, and at each call.

use std::io;
use std::time::Instant;

use nix::libc::sock_filter;

use super::calls::{MANY, time_null};
use super::filter::{ALLOW, instruction, look_at_argument};
use super::pair::Seats;
use super::sys;
use super::{Family, filter, lacking};

/// The heading.
pub const GROUP: &str = "filter length";
const LENGTHS: [usize; 5] = [8, 64, 256, 1024, 4000];
const STACKS: [usize; 3] = [1, 4, 16];

const REMEMBERED: &str = "remembered call";
const LOOKED_AT: &str = "looked at call";
const LOAD: &str = "load a filter";

const LOAD_WORD: u16 = 0x20;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER_EQUAL: u16 = 0x35;
const RETURN: u16 = 0x06;
/// No number and no argument here is as large.
const FAR: u32 = 0x4000_0000;

/// What a filter looks at.
#[derive(Clone, Copy, PartialEq)]
enum At {
    /// The number alone, so that the kernel can remember what is allowed.
    Number,
    /// The last argument.
    Argument,
}

impl At {
    fn load(self) -> sock_filter {
        instruction(LOAD_WORD, 0, 0, if self == Self::Number { 0 } else { 16 + 8 * 5 })
    }
}

/// The value is compared with one after the other.
fn chain(at: At, length: usize) -> Vec<sock_filter> {
    let mut program = vec![at.load()];
    program.extend((FAR..).take(length - 2).map(|value| instruction(JUMP_EQUAL, 0, 0, value)));
    program.push(instruction(RETURN, 0, 0, ALLOW));
    program
}

/// The value is searched for in a balanced tree with about as many instructions.
fn tree(at: At, length: usize) -> Vec<sock_filter> {
    fn search(from: u32, leaves: usize, program: &mut Vec<sock_filter>) {
        if leaves < 2 {
            program.push(instruction(RETURN, 0, 0, ALLOW));
            return;
        }
        let left = leaves / 2;
        let middle = from + u32::try_from(left).unwrap_or(0);
        program.push(instruction(JUMP_GREATER_EQUAL, 0, 1, middle));
        let jump = program.len();
        program.push(instruction(JUMP, 0, 0, 0));
        search(from, left, program);
        program[jump].k = u32::try_from(program.len() - jump - 1).unwrap_or(0);
        search(middle, leaves - left, program);
    }
    let mut program = vec![at.load()];
    // Each leaf is an instruction, and each fork above it two.
    search(FAR, length / 3, &mut program);
    program
}

type Shape = fn(At, usize) -> Vec<sock_filter>;

fn called_under(programs: &[Vec<sock_filter>], times: u64) -> io::Result<f64> {
    Seats::One.guest()?;
    sys::no_new_privileges()?;
    programs.iter().try_for_each(|program| sys::load(program, 0).map(drop))?;
    time_null(times, None)
}

/// Loads a filter twice, and times the second.
fn loaded(program: &[sock_filter]) -> io::Result<f64> {
    Seats::One.guest()?;
    sys::no_new_privileges()?;
    sys::load(program, 0)?;
    let start = Instant::now();
    sys::load(program, 0)?;
    Ok(start.elapsed().as_nanos() as f64)
}

/// The family.
pub fn family() -> Family {
    let mut family = Family::default();
    family.question(GROUP, REMEMBERED, "`getppid` under a filter that looks at the number only");
    family.question(GROUP, LOOKED_AT, "`getppid` under a filter that looks at an argument of every call");
    family.question(GROUP, LOAD, "load it (native: one of three instructions)");
    for question in [REMEMBERED, LOOKED_AT] {
        family.native(question, MANY, |times| Seats::One.guest().and_then(|()| time_null(times, None)));
    }
    family.native(LOAD, 1, |_| loaded(&look_at_argument()));
    let missing = lacking("seccomp filters", || {
        sys::no_new_privileges()?;
        sys::load(&filter::allow(), 0).map(drop)
    });
    let shapes: [(&str, &str, Shape); 2] =
        [("row", "compared one after the other", chain), ("tree", "searched in a balanced tree", tree)];
    for (shape, how, build) in shapes {
        for length in LENGTHS {
            let name = format!("filter, {length} in a {shape}");
            family.subject(&name, &format!("{length} instructions, {how}"), missing.clone());
            family.cell(REMEMBERED, &name, MANY, move |times| called_under(&[build(At::Number, length)], times));
            family.cell(LOOKED_AT, &name, MANY, move |times| called_under(&[build(At::Argument, length)], times));
            family.cell(LOAD, &name, 1, move |_| loaded(&build(At::Number, length)));
        }
    }
    for count in STACKS {
        let name = format!("filters, {count} stacked");
        family.subject(&name, &format!("{count} filter(s) of 8 instructions, one on the other"), missing.clone());
        for (question, at) in [(REMEMBERED, At::Number), (LOOKED_AT, At::Argument)] {
            family.cell(question, &name, MANY, move |times| called_under(&vec![chain(at, 8); count], times));
        }
    }
    family
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_as_long_as_they_say() {
        for length in LENGTHS {
            assert_eq!(chain(At::Number, length).len(), length);
            let tree = tree(At::Argument, length).len();
            assert!(tree <= length && tree + 4 > length, "{tree} for {length}");
        }
    }
}
