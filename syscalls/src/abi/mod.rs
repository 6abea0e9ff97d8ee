//! Syscall numbers by architecture.
//!
//! Rows are known by name; a name that is absent on one architecture is normal. What is not normal is a number that the
//! kernel knows and the table does not: the filter refuses it with `ENOSYS`, and a test fails.

mod aarch64;
mod x86_64;

use std::sync::LazyLock;

/// An architecture that the filter can be compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Arch {
    /// 64-bit x86; never x32, never the 32-bit calls.
    X86_64,
    /// 64-bit Arm; never AArch32.
    Aarch64,
}

/// Writes down numbers ten to a line, each line beginning with its first number; keeps them in ascending order.
macro_rules! numbers {
    ($($first:literal: $($name:ident)+;)+) => {
        pub(super) const LINES: &[(usize, &[&str])] = &[$(($first, &[$(stringify!($name)),+])),+];
    };
}
use numbers;

/// The names of one architecture in both orders.
struct Index {
    by_number: Vec<Option<&'static str>>,
    by_name: Vec<(&'static str, usize)>,
}

impl Index {
    fn new(lines: &[(usize, &[&'static str])]) -> Self {
        let all = lines.iter().flat_map(|(first, names)| names.iter().copied().zip(*first..));
        let mut by_name: Vec<(&'static str, usize)> = all.collect();
        let last = by_name.iter().map(|(_, number)| *number).max().unwrap_or(0);
        let mut by_number = vec![None; last + 1];
        for (name, number) in &by_name {
            by_number[*number] = Some(*name);
        }
        by_name.sort_unstable();
        Self { by_number, by_name }
    }
}

impl Arch {
    /// Every architecture.
    pub const ALL: [Arch; 2] = [Arch::X86_64, Arch::Aarch64];

    /// The one this program was compiled for.
    pub const fn native() -> Self {
        #[cfg(target_arch = "x86_64")]
        return Arch::X86_64;
        #[cfg(target_arch = "aarch64")]
        return Arch::Aarch64;
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        compile_error!("the table knows x86-64 and aarch64 only");
    }

    /// Its name as the kernel and `uname -m` spell it.
    pub const fn label(self) -> &'static str {
        match self {
            Arch::X86_64 => "x86_64",
            Arch::Aarch64 => "aarch64",
        }
    }

    /// What `seccomp_data.arch` holds for it: `AUDIT_ARCH_*` of `<linux/audit.h>`.
    pub const fn audit(self) -> u32 {
        const LITTLE_ENDIAN_64: u32 = 0xC000_0000;
        match self {
            Arch::X86_64 => LITTLE_ENDIAN_64 | 62,
            Arch::Aarch64 => LITTLE_ENDIAN_64 | 183,
        }
    }

    /// The number of the call `name`, if it exists here.
    pub fn number(self, name: &str) -> Option<usize> {
        let by_name = &self.index().by_name;
        by_name.binary_search_by_key(&name, |(known, _)| known).ok().map(|found| by_name[found].1)
    }

    /// The name of the call `number`, if it exists here.
    pub fn name(self, number: usize) -> Option<&'static str> {
        self.index().by_number.get(number).copied().flatten()
    }

    /// The greatest number that has a name.
    pub fn last_number(self) -> usize {
        self.index().by_number.len() - 1
    }

    /// All names, in the order of their numbers.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        self.index().by_number.iter().filter_map(|name| *name)
    }

    fn index(self) -> &'static Index {
        static X86_64: LazyLock<Index> = LazyLock::new(|| Index::new(x86_64::LINES));
        static AARCH64: LazyLock<Index> = LazyLock::new(|| Index::new(aarch64::LINES));
        match self {
            Arch::X86_64 => &X86_64,
            Arch::Aarch64 => &AARCH64,
        }
    }
}

#[cfg(test)]
mod tests;
