//! The options of a mount, as mount(8) and the specification name them.
//!
//! They are of four kinds: attributes of the one mount (`nosuid`), the same for all mounts beneath (`rnosuid`), how mounts
//! spread (`rshared`), and flags of the file system (`sync`). What is none of these is handed to the file system, which
//! knows whether it makes sense (`size=64k`).

use nix::libc;

use crate::sys;

/// Attributes that mount_setattr(2) sets and clears.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// To be set.
    pub set: u64,
    /// To be cleared.
    pub clear: u64,
}

impl Attributes {
    /// The later of two words about the same thing holds.
    fn take(&mut self, bits: u64, on: bool) {
        let (into, out_of) = if on { (&mut self.set, &mut self.clear) } else { (&mut self.clear, &mut self.set) };
        *into |= bits;
        *out_of &= !bits;
    }

    /// How access times are kept is one field of several bits, of which all are cleared before one value is set.
    fn take_times(&mut self, value: u64) {
        self.clear |= ACCESS_TIMES;
        self.set = self.set & !ACCESS_TIMES | value;
    }

    /// Whether there is nothing to do.
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }
}

/// `MOUNT_ATTR__ATIME`, the field
const ACCESS_TIMES: u64 = 0x70;
const RELATIVE: u64 = 0;
/// `MOUNT_ATTR_NOATIME`
const NO_ACCESS_TIMES: u64 = 0x10;
/// `MOUNT_ATTR_STRICTATIME`
const STRICT: u64 = 0x20;
/// `MOUNT_ATTR_NODIRATIME`
const NO_DIRECTORY_TIMES: u64 = 0x80;
/// `MOUNT_ATTR_NOSYMFOLLOW`
const NO_SYMLINKS: u64 = 0x0020_0000;

/// All that is about access times.
pub const TIMES: u64 = ACCESS_TIMES | NO_DIRECTORY_TIMES;

/// How mounts spread between a mount and its peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Propagation {
    /// `MS_PRIVATE` and the like.
    pub kind: u64,
    /// Also of the mounts beneath.
    pub recursive: bool,
}

/// What a mount's options ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// `bind`, and whether with all mounts beneath: `rbind`.
    pub bind: Option<bool>,
    /// `remount`
    pub remount: bool,
    /// Of the mount itself.
    pub own: Attributes,
    /// Of the mount and all mounts beneath.
    pub recursive: Attributes,
    /// In the order given.
    pub propagation: Vec<Propagation>,
    /// Flags of the file system, such as `sync`.
    pub flags: Vec<&'static str>,
    /// For the file system.
    pub data: Vec<String>,
    /// `idmap` or `ridmap`: whether recursively.
    pub idmap: Option<bool>,
    /// `tmpcopyup`: fill it with what it covers.
    pub copy_up: bool,
    /// `copy-symlink`: a source that is a symlink is copied as one.
    pub copy_symlink: bool,
    /// `src-nofollow`: a source that is a symlink is mounted itself.
    pub source_nofollow: bool,
    /// `dest-nofollow`: a symlink at the destination is mounted on itself.
    pub target_nofollow: bool,
}

/// `MS_*` of a propagation option without its `r`.
pub fn propagation(name: &str) -> Option<u64> {
    Some(match name {
        "private" => libc::MS_PRIVATE,
        "slave" => libc::MS_SLAVE,
        "shared" => libc::MS_SHARED,
        "unbindable" => libc::MS_UNBINDABLE,
        _ => return None,
    })
}

/// The attribute that a word sets or clears.
fn attribute(name: &str) -> Option<(u64, bool)> {
    Some(match name {
        "ro" => (sys::READ_ONLY, true),
        "rw" => (sys::READ_ONLY, false),
        "nosuid" => (sys::NO_SUID, true),
        "suid" => (sys::NO_SUID, false),
        "nodev" => (sys::NO_DEV, true),
        "dev" => (sys::NO_DEV, false),
        "noexec" => (sys::NO_EXEC, true),
        "exec" => (sys::NO_EXEC, false),
        "nodiratime" => (NO_DIRECTORY_TIMES, true),
        "diratime" => (NO_DIRECTORY_TIMES, false),
        "nosymfollow" => (NO_SYMLINKS, true),
        "symfollow" => (NO_SYMLINKS, false),
        _ => return None,
    })
}

/// How access times are kept.
fn times(name: &str) -> Option<u64> {
    Some(match name {
        "noatime" => NO_ACCESS_TIMES,
        "strictatime" => STRICT,
        "relatime" | "atime" | "norelatime" | "nostrictatime" => RELATIVE,
        _ => return None,
    })
}

/// A flag of the file system, and what clears it.
fn flag(name: &str) -> Option<(&'static str, bool)> {
    Some(match name {
        "sync" => ("sync", true),
        "async" => ("sync", false),
        "dirsync" => ("dirsync", true),
        "lazytime" => ("lazytime", true),
        "nolazytime" => ("lazytime", false),
        "mand" => ("mand", true),
        "nomand" => ("mand", false),
        _ => return None,
    })
}

/// Splits what is for the file system at commas, but not at those that a backslash protects: overlayfs has such names.
fn split(data: &str) -> Vec<String> {
    let (mut parts, mut part, mut protected) = (Vec::new(), String::new(), false);
    for letter in data.chars() {
        if letter == ',' && !protected {
            parts.push(std::mem::take(&mut part));
        } else {
            part.push(letter);
        }
        protected = letter == '\\' && !protected;
    }
    parts.push(part);
    parts.retain(|part| !part.is_empty());
    parts
}

impl Options {
    /// Sorts a mount's options; `kind` is its type.
    pub fn parse(kind: &str, options: &[String]) -> Self {
        let mut found = Self { bind: (kind == "bind").then_some(false), ..Self::default() };
        for option in options {
            found.take(option);
        }
        found
    }

    fn take(&mut self, option: &str) {
        let recursive = option.strip_prefix('r').filter(|_| attribute(option).is_none() && times(option).is_none());
        match option {
            "" | "defaults" | "silent" | "loud" | "iversion" | "noiversion" | "acl" | "noacl" => {}
            "bind" => self.bind = Some(self.bind.unwrap_or(false)),
            "rbind" => self.bind = Some(true),
            "remount" => self.remount = true,
            "idmap" => self.idmap = Some(self.idmap.unwrap_or(false)),
            "ridmap" => self.idmap = Some(true),
            "tmpcopyup" => self.copy_up = true,
            "copy-symlink" => self.copy_symlink = true,
            "src-nofollow" => self.source_nofollow = true,
            "dest-nofollow" => self.target_nofollow = true,
            _ => {
                if let Some((bits, on)) = attribute(option) {
                    self.own.take(bits, on);
                } else if let Some(value) = times(option) {
                    self.own.take_times(value);
                } else if let Some((bits, on)) = recursive.and_then(attribute) {
                    self.recursive.take(bits, on);
                } else if let Some(value) = recursive.and_then(times) {
                    self.recursive.take_times(value);
                } else if let Some(kind) = propagation(option) {
                    self.propagation.push(Propagation { kind, recursive: false });
                } else if let Some(kind) = recursive.and_then(propagation) {
                    self.propagation.push(Propagation { kind, recursive: true });
                } else if let Some((name, on)) = flag(option) {
                    self.flags.retain(|flag| *flag != name);
                    if on {
                        self.flags.push(name);
                    }
                } else {
                    self.data.extend(split(option));
                }
            }
        }
    }

    /// The value of `key=` among what is for the file system.
    pub fn datum(&self, key: &str) -> Option<&str> {
        self.data.iter().rev().find_map(|datum| datum.strip_prefix(key)?.strip_prefix('='))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(options: &[&str]) -> Options {
        Options::parse("tmpfs", &options.iter().map(|&option| option.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn the_later_word_holds() {
        assert_eq!(parse(&["ro", "rw"]).own, Attributes { set: 0, clear: sys::READ_ONLY });
        assert_eq!(parse(&["rw", "ro", "nosuid"]).own, Attributes { set: sys::READ_ONLY | sys::NO_SUID, clear: 0 });
        assert_eq!(parse(&["noatime", "strictatime"]).own, Attributes { set: STRICT, clear: ACCESS_TIMES });
        assert_eq!(parse(&["sync", "async"]).flags, [""; 0]);
    }

    #[test]
    fn an_r_before_it_makes_it_recursive() {
        let options = parse(&["rro", "rnosuid", "rnoatime", "rsymfollow", "rshared"]);
        assert_eq!(options.own, Attributes::default());
        assert_eq!(options.recursive.set, sys::READ_ONLY | sys::NO_SUID | NO_ACCESS_TIMES);
        assert_eq!(options.recursive.clear, ACCESS_TIMES | NO_SYMLINKS);
        assert_eq!(options.propagation, [Propagation { kind: libc::MS_SHARED, recursive: true }]);
    }

    #[test]
    fn words_that_begin_with_r_are_not_all_recursive() {
        let options = parse(&["ro", "rw", "relatime", "remount", "rbind"]);
        assert!(options.recursive.is_empty());
        assert_eq!((options.bind, options.remount), (Some(true), true));
        assert!(options.data.is_empty());
    }

    #[test]
    fn the_rest_is_for_the_file_system() {
        let options = parse(&["size=64k,mode=755", "newinstance", "lowerdir=/a\\,b:/c", "rock=1"]);
        assert_eq!(options.data, ["size=64k", "mode=755", "newinstance", "lowerdir=/a\\,b:/c", "rock=1"]);
        assert_eq!(options.datum("mode"), Some("755"));
        assert_eq!(options.datum("mod"), None);
    }

    #[test]
    fn the_type_bind_needs_no_option() {
        assert_eq!(Options::parse("bind", &[]).bind, Some(false));
        assert_eq!(Options::parse("none", &["rbind".to_owned()]).bind, Some(true));
        assert_eq!(Options::parse("tmpfs", &[]).bind, None);
    }
}
