//! Seccomp filters of the study, in BPF.

use nix::libc::{self, sock_filter};

/// Lets the call run.
pub const ALLOW: u32 = 0x7fff_0000;
/// Asks the listener.
pub const USER_NOTIF: u32 = 0x7fc0_0000;
/// Asks the tracer.
pub const TRACE: u32 = 0x7ff0_0000;
/// Makes a `SIGSYS` of the call.
pub const TRAP: u32 = 0x0003_0000;
/// Fails with the errno in the low bits.
pub const ERRNO: u32 = 0x0005_0000;

const LOAD: u16 = 0x20;
const JUMP_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;
/// Of the number in `struct seccomp_data`.
const NUMBER: u32 = 0;
/// Of the low half of an argument.
fn argument(index: u32) -> u32 {
    16 + 8 * index
}

/// One instruction.
pub fn instruction(code: u16, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

/// Answers one call with `answer`, by its number alone: for every other the kernel remembers that it is allowed and does not run the
/// filter at all.
pub fn on(number: libc::c_long, answer: u32) -> Vec<sock_filter> {
    vec![
        instruction(LOAD, 0, 0, NUMBER),
        instruction(JUMP_EQUAL, 0, 1, u32::try_from(number).unwrap_or(u32::MAX)),
        instruction(RETURN, 0, 0, answer),
        instruction(RETURN, 0, 0, ALLOW),
    ]
}

/// Allows everything by number.
pub fn allow() -> Vec<sock_filter> {
    vec![instruction(LOAD, 0, 0, NUMBER), instruction(RETURN, 0, 0, ALLOW)]
}

/// Allows everything, but looks at an argument of every call before: nothing can be remembered.
pub fn look_at_argument() -> Vec<sock_filter> {
    vec![
        instruction(LOAD, 0, 0, argument(5)),
        instruction(JUMP_EQUAL, 0, 0, 0x5e47_5e47),
        instruction(RETURN, 0, 0, ALLOW),
    ]
}
