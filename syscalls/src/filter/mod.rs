//! The seccomp filter: the table as a program of classic BPF.
//!
//! The filter runs in the kernel before every call of the guest and is inherited by all its children; nothing that the
//! guest does can take it away. It is the ring that holds when the sentry is wrong or dead, so it is compiled by little
//! code that can be read, and [`simulate`] runs the result as the kernel would: tests hold it against the table itself
//! and against libseccomp's idea of the same rules.
//!
//! * Another architecture (`int 0x80`, AArch32) is killed, and so is x32: their numbers mean other calls.
//! * Number -1 fails with `ENOSYS`. No call has it; it is what the filter sees when a tracer inside the sandbox skips a
//!   call (`strace --inject`), and killing there would punish the debugger.
//! * Numbers newer than the table fail with `ENOSYS`, which programs take for an older kernel.
//! * Where nobody can listen, a tracer is asked instead ([`compile_traced`]); without one the call fails with `ENOSYS`.
//! * An `int` is compared at 32 bits: the kernel ignores the rest of the register, so a check must not look at it.

mod compile;
mod simulate;

use crate::table::Verdict;

pub use compile::{compile, compile_alone, compile_list, compile_traced};
pub use simulate::{SeccompData, simulate};

/// One instruction, laid out as the kernel's `struct sock_filter`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// What to do.
    pub code: u16,
    /// How many instructions to skip if the comparison holds.
    pub jt: u8,
    /// How many to skip if it does not.
    pub jf: u8,
    /// The constant.
    pub k: u32,
}

impl Instruction {
    /// A program from its bytes; `None` if they do not end with an instruction.
    pub fn read_all(bytes: &[u8]) -> Option<Vec<Self>> {
        if !bytes.len().is_multiple_of(8) {
            return None;
        }
        let one = |bytes: &[u8]| Self {
            code: u16::from_ne_bytes([bytes[0], bytes[1]]),
            jt: bytes[2],
            jf: bytes[3],
            k: u32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
        };
        Some(bytes.chunks_exact(8).map(one).collect())
    }
}

/// The longest program that the kernel takes, `BPF_MAXINSNS`.
pub const MAX_INSTRUCTIONS: usize = 4096;

/// `SECCOMP_RET_*`: what a program returns.
pub mod ret {
    /// The whole process dies of `SIGSYS`.
    pub const KILL_PROCESS: u32 = 0x8000_0000;
    /// The call fails; the low 16 bits are the errno.
    pub const ERRNO: u32 = 0x0005_0000;
    /// The listener is asked.
    pub const USER_NOTIF: u32 = 0x7FC0_0000;
    /// The tracer is asked; without one the call fails with `ENOSYS`. The low 16 bits are told to the tracer.
    pub const TRACE: u32 = 0x7FF0_0000;
    /// The call runs.
    pub const ALLOW: u32 = 0x7FFF_0000;
}

/// Opcodes: the few of classic BPF that programs of ours use.
mod op {
    pub const LOAD: u16 = 0x20;
    pub const AND: u16 = 0x54;
    pub const JUMP: u16 = 0x05;
    pub const IF_EQUAL: u16 = 0x15;
    pub const IF_GREATER: u16 = 0x25;
    pub const IF_AT_LEAST: u16 = 0x35;
    pub const IF_ANY_BIT: u16 = 0x45;
    pub const RETURN: u16 = 0x06;
}

impl Verdict {
    /// The value that a filter returns for it.
    pub const fn encode(self) -> u32 {
        match self {
            Verdict::Allow => ret::ALLOW,
            #[allow(clippy::cast_sign_loss)] // an errno is positive
            Verdict::Fail(errno) => ret::ERRNO | (errno as i32 as u32 & 0xFFFF),
            Verdict::Notify => ret::USER_NOTIF,
            Verdict::Kill => ret::KILL_PROCESS,
        }
    }
}

#[cfg(all(test, target_arch = "x86_64"))]
mod oracle;
#[cfg(test)]
mod probes;
#[cfg(test)]
mod tests;
