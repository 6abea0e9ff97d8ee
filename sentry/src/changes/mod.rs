//! What a run changed in its copies: found by one scanner, shown by `sentry diff`, taken over by `sentry commit`.
//!
//! Everything in a copy was made by the guest and is hostile: names are escaped before they reach a terminal, links are
//! never followed, FIFOs and devices never opened, modes not trusted. What lies on the host is reached from one
//! descriptor of the directory that was copied, never above it ([`root::Root`]).

pub mod baseline;
pub mod commit;
pub mod copy;
pub mod diff;
pub mod identity;
pub mod journal;
pub mod judge;
pub mod layer;
pub mod obeyed;
pub mod owned;
pub mod pretended;
pub mod record;
pub mod remove;
pub mod repository;
pub mod root;
pub mod scan;
pub mod skeleton;
pub mod tree;

use std::ffi::OsString;
use std::path::PathBuf;

use nix::libc;
use nix::sys::stat::FileStat;

/// A moment, in seconds and nanoseconds since 1970.
pub type Moment = (i64, i64);

/// What happened to a name; deletions sort first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// It was there and is not any more.
    Deleted,
    /// It was there and is different.
    Changed,
    /// It was not there.
    New,
}

impl Kind {
    /// The word for the report.
    pub fn word(self) -> &'static str {
        match self {
            Self::Deleted => "deleted",
            Self::Changed => "changed",
            Self::New => "new",
        }
    }
}

/// What kind of object stands at a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A device.
    Device,
}

impl Type {
    /// The word for the report.
    pub fn word(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Directory => "directory",
            Self::Symlink => "symlink",
            Self::Fifo => "fifo",
            Self::Socket => "socket",
            Self::Device => "device",
        }
    }
}

/// An object as it was looked at: never opened, never followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// What it is.
    pub kind: Type,
    /// Permission bits, set-id and sticky bits included.
    pub mode: u32,
    /// Bytes.
    pub size: u64,
    /// Blocks on disk, in bytes.
    pub used: u64,
    /// Device and inode.
    pub identity: (u64, u64),
    /// How many names it has.
    pub links: u64,
    /// Owner and group.
    pub owner: (u32, u32),
    /// When it was last read.
    pub accessed: Moment,
    /// When its content changed.
    pub modified: Moment,
    /// When anything about it changed; nobody can set this back.
    pub changed: Moment,
    /// The device's numbers.
    pub device: u64,
    /// Where a symlink leads.
    pub target: Option<OsString>,
}

impl Object {
    /// From what the kernel says; `target` is filled in by whoever can read the link.
    pub fn new(stat: &FileStat) -> Self {
        let kind = match stat.st_mode & libc::S_IFMT {
            libc::S_IFREG => Type::File,
            libc::S_IFDIR => Type::Directory,
            libc::S_IFLNK => Type::Symlink,
            libc::S_IFIFO => Type::Fifo,
            libc::S_IFSOCK => Type::Socket,
            _ => Type::Device,
        };
        Self {
            kind,
            mode: stat.st_mode & 0o7777,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            used: u64::try_from(stat.st_blocks).unwrap_or(0) * 512,
            identity: (stat.st_dev, stat.st_ino),
            links: stat.st_nlink,
            owner: (stat.st_uid, stat.st_gid),
            accessed: (stat.st_atime, stat.st_atime_nsec),
            modified: (stat.st_mtime, stat.st_mtime_nsec),
            changed: (stat.st_ctime, stat.st_ctime_nsec),
            device: stat.st_rdev,
            target: None,
        }
    }

    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        self.kind == Type::Directory
    }

    /// The permission bits that a commit may give: never set-user-id or set-group-id.
    pub fn harmless_mode(&self) -> u32 {
        self.mode & 0o1777
    }
}

/// One name that is not as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What happened.
    pub kind: Kind,
    /// Its name, relative to the copied directory.
    pub path: PathBuf,
    /// What stands there on the host now.
    pub before: Option<Object>,
    /// What stands there in the copy.
    pub after: Option<Object>,
    /// How many names go with a deleted directory.
    pub within: u64,
    /// Extended attributes or access lists differ.
    pub attributes: bool,
}

impl Change {
    /// What is different, in a few words: `mode 644 to 755`, `file to symlink`.
    pub fn detail(&self) -> String {
        let mut words = Vec::new();
        match (&self.before, &self.after) {
            (Some(before), Some(after)) => {
                if before.kind != after.kind {
                    words.push(format!("{} to {}", before.kind.word(), after.kind.word()));
                } else if before.kind != Type::Symlink && before.harmless_mode() != after.harmless_mode() {
                    words.push(format!("mode {:o} to {:o}", before.mode, after.mode));
                }
            }
            (None, Some(after)) => {
                if after.kind != Type::File && !after.is_directory() {
                    words.push(after.kind.word().to_owned());
                }
                if after.kind == Type::File && after.mode & 0o111 != 0 {
                    words.push("executable".to_owned());
                }
                if after.kind != Type::Symlink && after.mode & 0o022 != 0 {
                    words.push(format!("mode {:o}", after.mode));
                }
            }
            _ => {}
        }
        if let Some(after) = &self.after {
            if after.mode & 0o6000 != 0 && after.kind == Type::File {
                words.push("set-id bits, which no commit takes over".to_owned());
            }
            if let Some(target) = &after.target {
                words.push(format!("-> {}", crate::report::escape(&target.to_string_lossy())));
            }
        }
        words.join(", ")
    }
}

/// What a scan found.
#[derive(Debug, Default)]
pub struct Review {
    /// Deletions first, then by name.
    pub changes: Vec<Change>,
    /// Files of the copy with several names that are on the host as they are: device and inode in the copy, and a name.
    pub linked: Vec<((u64, u64), PathBuf)>,
    /// What could not be looked at, a sentence each.
    pub problems: Vec<String>,
}

impl Review {
    /// Puts deletions first.
    pub fn sort(&mut self) {
        self.changes.sort_by(|one, other| (one.kind, &one.path).cmp(&(other.kind, &other.path)));
    }
}
