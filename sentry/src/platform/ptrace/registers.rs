//! The registers of a system call, by architecture.

use nix::libc;

/// The general registers, as `NT_PRSTATUS` has them.
pub type Registers = libc::user_regs_struct;

/// Whether a single step over the instruction of a call ends behind the call: one stop, where the two edges of the call are two.
pub const STEPS_OVER_CALLS: bool = cfg!(target_arch = "x86_64");

/// What a system call is made of.
pub trait Call {
    /// Its number.
    fn number(&self) -> i32;
    /// Its six arguments.
    fn arguments(&self) -> [u64; 6];
    /// Changes these.
    fn set_arguments(&mut self, arguments: [u64; 6]);
    /// What it has returned.
    fn result(&self) -> i64;
    /// The same registers when nothing is called any more and this is returned.
    fn returning(&self, result: i64) -> Self;
    /// The same registers just before an instruction that makes this call, `here` being behind it.
    fn before(&self, number: i32, arguments: [u64; 6]) -> Self;
    /// The same registers within such a call.
    fn within(&self, number: i32, arguments: [u64; 6]) -> Self;
    /// Where the program goes on.
    fn instruction_pointer(&self) -> u64;
    /// The top of its stack.
    fn stack(&self) -> u64;
}

#[cfg(target_arch = "x86_64")]
impl Call for Registers {
    #[allow(clippy::cast_possible_truncation)] // as the kernel takes it
    fn number(&self) -> i32 {
        self.orig_rax as i32
    }

    fn arguments(&self) -> [u64; 6] {
        [self.rdi, self.rsi, self.rdx, self.r10, self.r8, self.r9]
    }

    fn set_arguments(&mut self, arguments: [u64; 6]) {
        [self.rdi, self.rsi, self.rdx, self.r10, self.r8, self.r9] = arguments;
    }

    fn result(&self) -> i64 {
        self.rax.cast_signed()
    }

    fn returning(&self, result: i64) -> Self {
        Self { rax: result.cast_unsigned(), orig_rax: u64::MAX, ..*self }
    }

    fn before(&self, number: i32, arguments: [u64; 6]) -> Self {
        // The instruction is two bytes long.
        let mut registers = self.returning(number.into());
        registers.rip = self.rip.wrapping_sub(2);
        registers.set_arguments(arguments);
        registers
    }

    fn within(&self, number: i32, arguments: [u64; 6]) -> Self {
        let mut registers = Self { orig_rax: i64::from(number).cast_unsigned(), ..*self };
        registers.set_arguments(arguments);
        registers
    }

    fn instruction_pointer(&self) -> u64 {
        self.rip
    }

    fn stack(&self) -> u64 {
        self.rsp
    }
}

#[cfg(target_arch = "aarch64")]
impl Call for Registers {
    #[allow(clippy::cast_possible_truncation)] // as the kernel takes it
    fn number(&self) -> i32 {
        self.regs[8] as i32
    }

    fn arguments(&self) -> [u64; 6] {
        std::array::from_fn(|index| self.regs[index])
    }

    fn set_arguments(&mut self, arguments: [u64; 6]) {
        self.regs[..6].copy_from_slice(&arguments);
    }

    fn result(&self) -> i64 {
        self.regs[0].cast_signed()
    }

    fn returning(&self, result: i64) -> Self {
        let mut registers = *self;
        registers.regs[0] = result.cast_unsigned();
        registers
    }

    fn before(&self, number: i32, arguments: [u64; 6]) -> Self {
        let mut registers = self.within(number, arguments);
        registers.pc = self.pc.wrapping_sub(4);
        registers
    }

    fn within(&self, number: i32, arguments: [u64; 6]) -> Self {
        let mut registers = *self;
        registers.set_arguments(arguments);
        registers.regs[8] = i64::from(number).cast_unsigned();
        registers
    }

    fn instruction_pointer(&self) -> u64 {
        self.pc
    }

    fn stack(&self) -> u64 {
        self.sp
    }
}
