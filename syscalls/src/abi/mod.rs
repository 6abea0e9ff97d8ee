//! Syscall numbers by architecture.
//!
//! Rows are known by name; a name that is absent on one architecture is normal. What is not normal is a number that the
//! kernel knows and the table does not: the filter refuses it with `ENOSYS`, and a test fails.

mod aarch64;
mod x86_64;

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
        const LINES: super::Lines = &[$(($first, &[$(stringify!($name)),+])),+];
        pub(super) static INDEX: super::Index = super::Index {
            lines: LINES,
            by_number: &super::by_number::<{ super::last(LINES) + 1 }>(LINES),
            by_name: &super::by_name::<{ super::count(LINES) }>(LINES),
        };
    };
}
use numbers;

/// The first number of a line, and the names of the line.
type Lines = &'static [(usize, &'static [&'static str])];

/// Where a name stands: the line, and the place within it.
type Spot = (u8, u8);

/// For a number without a name.
const NOWHERE: Spot = (u8::MAX, u8::MAX);

/// The names of one architecture in both orders, sorted when this crate was compiled: a start only looks things up, and
/// positions, unlike strings, are nothing that a position-independent program has to relocate first.
struct Index {
    lines: Lines,
    by_number: &'static [Spot],
    by_name: &'static [Spot],
}

impl Index {
    const fn name(&self, spot: Spot) -> &'static str {
        self.lines[spot.0 as usize].1[spot.1 as usize]
    }

    const fn number(&self, name: &str) -> Option<usize> {
        let (mut low, mut high) = (0, self.by_name.len());
        while low < high {
            let middle = usize::midpoint(low, high);
            let spot = self.by_name[middle];
            match order(self.name(spot), name) {
                0 => return Some(self.lines[spot.0 as usize].0 + spot.1 as usize),
                1 => high = middle,
                _ => low = middle + 1,
            }
        }
        None
    }
}

/// How two names compare: 0 equal, 1 the first is greater, -1 it is less. What `str::cmp` says, at compile time too.
const fn order(one: &str, other: &str) -> i8 {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    let mut at = 0;
    while at < one.len() && at < other.len() {
        if one[at] != other[at] {
            return if one[at] > other[at] { 1 } else { -1 };
        }
        at += 1;
    }
    (one.len() > other.len()) as i8 - (one.len() < other.len()) as i8
}

const fn count(lines: Lines) -> usize {
    let (mut count, mut line) = (0, 0);
    while line < lines.len() {
        count += lines[line].1.len();
        line += 1;
    }
    count
}

const fn last(lines: Lines) -> usize {
    let (first, names) = lines[lines.len() - 1];
    first + names.len() - 1
}

/// Where the names of all numbers stand.
#[allow(clippy::cast_possible_truncation)] // checked by the assertion
const fn by_number<const N: usize>(lines: Lines) -> [Spot; N] {
    assert!(lines.len() < NOWHERE.0 as usize);
    let mut spots = [NOWHERE; N];
    let mut line = 0;
    while line < lines.len() {
        let mut place = 0;
        while place < lines[line].1.len() {
            spots[lines[line].0 + place] = (line as u8, place as u8);
            place += 1;
        }
        line += 1;
    }
    spots
}

/// Where all names stand, in the order of the names: a binary insertion sort.
#[allow(clippy::cast_possible_truncation)] // as above
const fn by_name<const N: usize>(lines: Lines) -> [Spot; N] {
    let mut spots = [NOWHERE; N];
    let (mut sorted, mut line) = (0, 0);
    while line < lines.len() {
        let mut place = 0;
        while place < lines[line].1.len() {
            let (mut low, mut high) = (0, sorted);
            while low < high {
                let middle = usize::midpoint(low, high);
                let spot = spots[middle];
                if order(lines[spot.0 as usize].1[spot.1 as usize], lines[line].1[place]) > 0 {
                    high = middle;
                } else {
                    low = middle + 1;
                }
            }
            let mut moved = sorted;
            while moved > low {
                spots[moved] = spots[moved - 1];
                moved -= 1;
            }
            spots[low] = (line as u8, place as u8);
            sorted += 1;
            place += 1;
        }
        line += 1;
    }
    spots
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
    pub const fn number(self, name: &str) -> Option<usize> {
        self.index().number(name)
    }

    /// The name of the call `number`, if it exists here.
    pub fn name(self, number: usize) -> Option<&'static str> {
        let index = self.index();
        index.by_number.get(number).filter(|spot| **spot != NOWHERE).map(|spot| index.name(*spot))
    }

    /// The greatest number that has a name.
    pub fn last_number(self) -> usize {
        self.index().by_number.len() - 1
    }

    /// All names, in the order of their numbers.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        (0..=self.last_number()).filter_map(move |number| self.name(number))
    }

    const fn index(self) -> &'static Index {
        match self {
            Arch::X86_64 => &x86_64::INDEX,
            Arch::Aarch64 => &aarch64::INDEX,
        }
    }
}

#[cfg(test)]
mod tests;
