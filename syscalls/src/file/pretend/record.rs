//! What is kept of a file's pretended owner, as the text of one extended attribute.
//!
//! The attribute may have been written by anyone who may write to the tree: an archive, another program, an older
//! version. So there is one spelling of each record, and whatever is spelt otherwise is no record.

use std::fmt;
use std::str::FromStr;

/// The name of the attribute; ordinary users may set it on their own files and directories.
pub const NAME: &std::ffi::CStr = c"user.sentry.owner";
/// What the names of all our attributes begin with: the guest neither sees nor changes them.
pub(crate) const OURS: &[u8] = b"user.sentry.";
/// The longest record is shorter.
pub(crate) const LONGEST: usize = 128;
/// How it begins: the only version there is.
const VERSION: &str = "1";
/// Nobody: no file has this owner.
const NONE: u32 = u32::MAX;

/// A device that a regular file stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    /// A block device, not a character device.
    pub block: bool,
    /// Its major number, 12 bits.
    pub major: u32,
    /// Its minor number, 20 bits.
    pub minor: u32,
}

/// The value of `security.capability`, in one of the two forms that are in use: see capabilities(7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileCapability(Vec<u8>);

impl FileCapability {
    /// Takes over a value as it is set; `None` if the kernel would not.
    pub fn new(value: &[u8]) -> Option<Self> {
        const REVISION_2: u8 = 2;
        const REVISION_3: u8 = 3;
        let revision = match value.len() {
            20 => REVISION_2,
            24 => REVISION_3,
            _ => return None,
        };
        // The revision is the last byte of the first, little-endian, word.
        (value[3] == revision).then(|| Self(value.to_vec()))
    }

    /// The value.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// What a file is said to be, as far as it differs from what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its owner.
    pub user: u32,
    /// Its group.
    pub group: u32,
    /// Its permissions with set-id and sticky bits; `None`: those that it has.
    pub mode: Option<u32>,
    /// The device that it is.
    pub device: Option<Device>,
    /// What running it gives.
    pub capability: Option<FileCapability>,
}

impl Record {
    /// Understands the value of the attribute.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(value).ok().filter(|text| text.len() < LONGEST)?;
        let fields: Vec<&str> = text.split(' ').collect();
        let [VERSION, user, group, mode, device, capability] = fields[..] else { return None };
        let record = Self {
            user: user.parse().ok()?,
            group: group.parse().ok()?,
            mode: optional(mode, |text| u32::from_str_radix(text, 8).ok())?,
            device: optional(device, |text| text.parse().ok())?,
            capability: optional(capability, |text| FileCapability::new(&from_hex(text)?))?,
        };
        let sound = record.user != NONE && record.group != NONE && record.mode.is_none_or(|mode| mode <= 0o7777);
        // Whatever has a second spelling (a sign, a zero in front) is not ours.
        (sound && record.to_string() == text).then_some(record)
    }
}

impl fmt::Display for Record {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        write!(out, "{VERSION} {} {} ", self.user, self.group)?;
        match self.mode {
            Some(mode) => write!(out, "{mode:o} ")?,
            None => write!(out, "- ")?,
        }
        match self.device {
            Some(Device { block, major, minor }) => write!(out, "{}{major}:{minor} ", if block { 'b' } else { 'c' })?,
            None => write!(out, "- ")?,
        }
        match &self.capability {
            Some(capability) => capability.bytes().iter().try_for_each(|byte| write!(out, "{byte:02x}")),
            None => write!(out, "-"),
        }
    }
}

impl FromStr for Device {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (kind, numbers) = text.split_at_checked(1).ok_or(())?;
        let (major, minor) = numbers.split_once(':').ok_or(())?;
        let (major, minor) = (major.parse().map_err(drop)?, minor.parse().map_err(drop)?);
        let known = matches!(kind, "b" | "c") && major < 1 << 12 && minor < 1 << 20;
        if known { Ok(Self { block: kind == "b", major, minor }) } else { Err(()) }
    }
}

/// A field that may be left out.
fn optional<T>(text: &str, parse: impl Fn(&str) -> Option<T>) -> Option<Option<T>> {
    if text == "-" { Some(None) } else { parse(text).map(Some) }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes().chunks_exact(2);
    if !digits.remainder().is_empty() {
        return None;
    }
    digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn all() -> Record {
        let mut value = vec![0; 24];
        (value[0], value[3], value[23]) = (1, 3, 0xfe);
        Record {
            user: 33,
            group: 4_294_967_294,
            mode: Some(0o4755),
            device: Some(Device { block: true, major: 4095, minor: 1_048_575 }),
            capability: FileCapability::new(&value),
        }
    }

    #[test]
    fn what_was_written_is_read() {
        let plain = Record { user: 0, group: 8, mode: None, device: None, capability: None };
        assert_eq!(plain.to_string(), "1 0 8 - - -");
        let null = Record { device: Some(Device { block: false, major: 1, minor: 3 }), mode: Some(0), ..plain.clone() };
        assert_eq!(null.to_string(), "1 0 8 0 c1:3 -");
        for record in [plain, null, all()] {
            let text = record.to_string();
            assert!(text.len() < LONGEST, "{text}");
            assert_eq!(Record::parse(text.as_bytes()), Some(record));
        }
    }

    #[test]
    fn what_is_spelt_otherwise_is_no_record() {
        for text in [
            "",
            " ",
            "1",
            "2 0 0 - - -",
            "1 0 0 - -",
            "1 0 0 - - - ",
            "1 0 0 - - - -",
            " 1 0 0 - - -",
            "1  0 0 - - -",
            "01 0 0 - - -",
            "1 +1 0 - - -",
            "1 01 0 - - -",
            "1 -1 0 - - -",
            "1 4294967295 0 - - -",
            "1 0 4294967295 - - -",
            "1 4294967296 0 - - -",
            "1 0 0 10000 - -",
            "1 0 0 0755 - -",
            "1 0 0 +755 - -",
            "1 0 0 8 - -",
            "1 0 0 - d1:3 -",
            "1 0 0 - c1 -",
            "1 0 0 - c4096:0 -",
            "1 0 0 - c0:1048576 -",
            "1 0 0 - c01:3 -",
            "1 0 0 - c+1:3 -",
            "1 0 0 - é:3 -",
            "1 0 0 - - 0",
            "1 0 0 - - 00",
            "1 0 0 - - 0100000100000000000000000000000000000000",
            "1 0 0 - - 010000020000000000000000000000000000000g",
            "1 0 0 - - 01000002000000000000000000000000000000FF",
            "1\t0 0 - - -",
            "1 0 0 - - -\n",
            "1 0 0 - - -\0",
        ] {
            assert_eq!(Record::parse(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(Record::parse(b"1 0 0 - - \xff"), None);
        assert_eq!(Record::parse(&[b'1'; 4096]), None);
    }

    /// Every change of one byte either gives no record or one that is spelt just so.
    #[test]
    fn a_damaged_record_is_never_misread() {
        let whole = all().to_string().into_bytes();
        let mut understood = 0;
        for at in 0..whole.len() {
            for byte in 0..=u8::MAX {
                let mut text = whole.clone();
                text[at] = byte;
                if let Some(record) = Record::parse(&text) {
                    assert_eq!(record.to_string().into_bytes(), text);
                    understood += 1;
                }
            }
            assert_eq!(Record::parse(&whole[..at]), None);
            let without = [&whole[..at], &whole[at + 1..]].concat();
            assert!(Record::parse(&without).is_none_or(|record| record.to_string().into_bytes() == without));
        }
        assert!(understood > whole.len());
    }
}
