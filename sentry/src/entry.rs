//! Names of entries of procfs, written where they are needed: nearly every call opens one, and needs no heap for it.

use std::ffi::CStr;
use std::fmt::{Arguments, Write};

use nix::errno::Errno;

/// A short name with the NUL behind it.
pub struct Entry {
    bytes: [u8; 48],
    length: usize,
}

impl Entry {
    /// Writes the name; `ENAMETOOLONG` if it is not short.
    pub fn new(name: Arguments) -> Result<Self, Errno> {
        let mut entry = Self { bytes: [0; 48], length: 0 };
        entry.write_fmt(name).map_err(|_| Errno::ENAMETOOLONG)?;
        Ok(entry)
    }

    /// The name, for the kernel.
    pub fn name(&self) -> Result<&CStr, Errno> {
        CStr::from_bytes_with_nul(&self.bytes[..=self.length]).map_err(|_| Errno::EINVAL)
    }
}

impl Write for Entry {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let end = self.length + text.len();
        // The last byte stays the NUL.
        let room = self.bytes[..47].get_mut(self.length..end).ok_or(std::fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.length = end;
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn names_end_with_a_nul_and_are_short() {
        let name =
            |text: &str| Entry::new(format_args!("{text}/{}", 7)).and_then(|entry| entry.name().map(CStr::to_owned));
        assert_eq!(name("12").unwrap().as_c_str(), c"12/7");
        assert_eq!(name(&"x".repeat(45)).unwrap().count_bytes(), 47);
        assert_eq!(name(&"x".repeat(46)), Err(Errno::ENAMETOOLONG));
        assert_eq!(name("a\0b"), Err(Errno::EINVAL));
    }
}
