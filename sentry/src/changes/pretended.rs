//! Ownership that a run under `--fake-root` wrote down with its files: shown in words. A commit takes it over like any
//! other `user.*` attribute, so that later runs see it; it means nothing to anybody else.

use std::collections::BTreeMap;
use std::ffi::CString;

use syscalls::records::{self, Record};

/// Attributes by name.
pub type Attributes = BTreeMap<CString, Vec<u8>>;

/// Takes the record out of the attributes of a file: one that cannot be understood means nothing, and stays.
pub fn take(attributes: &mut Attributes) -> Option<Record> {
    let record = Record::parse(attributes.get(records::NAME)?)?;
    attributes.remove(records::NAME);
    Some(record)
}

/// What is said of a file, compared with what was said before.
pub fn words(before: Option<&Record>, after: Option<&Record>) -> Option<String> {
    if before == after {
        return None;
    }
    let Some(record) = after else { return Some("pretended owner gone".to_owned()) };
    let mut words = format!("pretended owner {}:{}", record.user, record.group);
    if let Some(mode) = record.mode {
        words.push_str(&format!(" mode {mode:o}"));
    }
    if let Some(device) = record.device {
        let kind = if device.block { "block" } else { "character" };
        words.push_str(&format!(" {kind} device {}:{}", device.major, device.minor));
    }
    if record.capability.is_some() {
        words.push_str(" with capabilities");
    }
    Some(words)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn records_are_told_in_words() {
        let of = |text: &str| {
            let mut attributes = Attributes::from([(records::NAME.to_owned(), text.as_bytes().to_vec())]);
            let record = take(&mut attributes);
            assert_eq!(attributes.is_empty(), record.is_some());
            record
        };
        let plain = of("1 33 34 - - -");
        let all = of("1 0 0 4755 c1:3 0100000200200000000000000000000000000000");
        assert_eq!(words(None, plain.as_ref()).unwrap(), "pretended owner 33:34");
        assert_eq!(
            words(plain.as_ref(), all.as_ref()).unwrap(),
            "pretended owner 0:0 mode 4755 character device 1:3 with capabilities"
        );
        assert_eq!(words(all.as_ref(), None).unwrap(), "pretended owner gone");
        assert_eq!(words(all.as_ref(), all.as_ref()), None);
        assert_eq!(of("33 34"), None, "an attribute like any other");
    }
}
