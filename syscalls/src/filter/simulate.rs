//! Runs a filter as the kernel does, to see what it says of a call without making it.
//!
//! The whole set of instructions that seccomp accepts is here, not only those that our compiler uses, so that programs
//! of libseccomp can be run too.

use super::{Instruction, ret};

/// What a filter may look at: the kernel's `struct seccomp_data`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeccompData {
    /// The syscall number.
    pub nr: u32,
    /// `AUDIT_ARCH_*`.
    pub arch: u32,
    /// Where the call was made.
    pub instruction_pointer: u64,
    /// The argument registers.
    pub args: [u64; 6],
}

impl SeccompData {
    /// The 32-bit word at `offset`, little-endian.
    #[allow(clippy::cast_possible_truncation)]
    fn word(&self, offset: u32) -> Option<u32> {
        let half = |value: u64| if offset.is_multiple_of(8) { value as u32 } else { (value >> 32) as u32 };
        match offset {
            _ if !offset.is_multiple_of(4) => None,
            0 => Some(self.nr),
            4 => Some(self.arch),
            8 | 12 => Some(half(self.instruction_pointer)),
            _ => self.args.get((offset as usize - 16) / 8).map(|value| half(*value)),
        }
    }
}

/// The class of an instruction, its low three bits.
mod class {
    pub const LD: u16 = 0;
    pub const LDX: u16 = 1;
    pub const ST: u16 = 2;
    pub const STX: u16 = 3;
    pub const ALU: u16 = 4;
    pub const JMP: u16 = 5;
    pub const RET: u16 = 6;
}

/// `BPF_X`: the operand is the index register, not the constant.
const FROM_INDEX: u16 = 0x08;

/// What `program` returns for `data`. A program that the kernel would not load (a jump or load out of bounds, an
/// instruction that seccomp does not know, no return) gives `KILL_PROCESS`.
pub fn simulate(program: &[Instruction], data: &SeccompData) -> u32 {
    run(program, data).unwrap_or(ret::KILL_PROCESS)
}

/// The same, with `None` for a program that the kernel would not load.
pub(super) fn run(program: &[Instruction], data: &SeccompData) -> Option<u32> {
    let (mut accumulator, mut index) = (0_u32, 0_u32);
    let mut scratch = [0_u32; 16];
    let mut at = 0_usize;
    loop {
        let Instruction { code, jt, jf, k } = *program.get(at)?;
        at += 1;
        let operand = if code & FROM_INDEX == 0 { k } else { index };
        let length = u32::try_from(size_of::<SeccompData>()).ok()?;
        match code & 0x07 {
            class::LD => {
                accumulator = match code {
                    0x20 => data.word(k)?,
                    0x80 => length,
                    0x00 => k,
                    0x60 => *scratch.get(k as usize)?,
                    _ => return None,
                }
            }
            class::LDX => {
                index = match code {
                    0x81 => length,
                    0x01 => k,
                    0x61 => *scratch.get(k as usize)?,
                    _ => return None,
                }
            }
            class::ST => *scratch.get_mut(k as usize)? = accumulator,
            class::STX => *scratch.get_mut(k as usize)? = index,
            class::ALU => accumulator = compute(code & 0xF0, accumulator, operand)?,
            class::JMP => {
                let skip = match code & 0xF0 {
                    0x00 => k as usize,
                    0x10 => usize::from(if accumulator == operand { jt } else { jf }),
                    0x20 => usize::from(if accumulator > operand { jt } else { jf }),
                    0x30 => usize::from(if accumulator >= operand { jt } else { jf }),
                    0x40 => usize::from(if accumulator & operand != 0 { jt } else { jf }),
                    _ => return None,
                };
                at = at.checked_add(skip)?;
            }
            class::RET => return Some(if code & 0x18 == 0x10 { accumulator } else { k }),
            _ if code == 0x07 => index = accumulator,
            _ if code == 0x87 => accumulator = index,
            _ => return None,
        }
    }
}

fn compute(operation: u16, left: u32, right: u32) -> Option<u32> {
    Some(match operation {
        0x00 => left.wrapping_add(right),
        0x10 => left.wrapping_sub(right),
        0x20 => left.wrapping_mul(right),
        0x30 => left.checked_div(right)?,
        0x40 => left | right,
        0x50 => left & right,
        0x60 => left.checked_shl(right)?,
        0x70 => left.checked_shr(right)?,
        0x80 => left.wrapping_neg(),
        0xA0 => left ^ right,
        _ => return None,
    })
}
