//! The text of mount options, for the file systems that a guest may mount.
//!
//! Read here and turned into numbers, so that no text of the guest reaches the kernel's parsers with the rights of the
//! process that mounts.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;

use super::order::{MOST_LAYERS, Order, PERCENT};
use crate::owners::Owner;

const PAGE: u64 = 4096;

/// `key` or `key=value`, as they stand between commas.
fn pairs(text: &[u8]) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
    text.split(|byte| *byte == b',').filter(|option| !option.is_empty()).map(|option| {
        match option.iter().position(|byte| *byte == b'=') {
            Some(at) => (&option[..at], Some(&option[at + 1..])),
            None => (option, None),
        }
    })
}

fn text(value: Option<&[u8]>) -> Result<&str, Errno> {
    std::str::from_utf8(value.ok_or(Errno::EINVAL)?).map_err(|_| Errno::EINVAL)
}

/// A number with one of the suffixes that the kernel's `memparse` knows.
fn amount(value: &str) -> Result<u64, Errno> {
    let digits = value.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let shift = match value[digits.len()..].to_ascii_lowercase().as_str() {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return Err(Errno::EINVAL),
    };
    let number: u64 = digits.parse().map_err(|_| Errno::EINVAL)?;
    number.checked_mul(1 << shift).ok_or(Errno::EINVAL)
}

/// tmpfs(5): what is about sizes and the root is obeyed, what is about pages is accepted and left to the kernel.
pub(super) fn memory(order: &mut Order, options: &[u8], owner: Owner) -> Result<(), Errno> {
    for (key, value) in pairs(options) {
        match key {
            b"size" => match text(value)?.strip_suffix('%') {
                Some(percent) => {
                    order.size = percent.parse().map_err(|_| Errno::EINVAL)?;
                    order.flags |= PERCENT;
                }
                None => {
                    order.size = amount(text(value)?)?;
                    order.flags &= !PERCENT;
                }
            },
            b"nr_blocks" => order.size = amount(text(value)?)?.checked_mul(PAGE).ok_or(Errno::EINVAL)?,
            b"nr_inodes" => order.inodes = amount(text(value)?)?,
            // A file system that nobody else sees needs no set-id bits.
            b"mode" => order.mode = u32::from_str_radix(text(value)?, 8).map_err(|_| Errno::EINVAL)? & 0o1777,
            // There is one id of each kind, and the root belongs to it.
            b"uid" if id(value)? == owner.user => {}
            b"gid" if id(value)? == owner.group => {}
            b"huge" | b"mpol" => text(value).map(drop)?,
            b"inode32" | b"inode64" | b"noswap" if value.is_none() => {}
            _ => return Err(Errno::EINVAL),
        }
    }
    Ok(())
}

fn id(value: Option<&[u8]>) -> Result<u32, Errno> {
    text(value)?.parse().map_err(|_| Errno::EINVAL)
}

/// devpts: who owns terminals is given already; modes that are said are checked and left as they are.
pub(super) fn terminals(options: &[u8], owner: Owner) -> Result<(), Errno> {
    for (key, value) in pairs(options) {
        match key {
            b"newinstance" if value.is_none() => {}
            b"mode" | b"ptmxmode" => u32::from_str_radix(text(value)?, 8).map(drop).map_err(|_| Errno::EINVAL)?,
            b"max" => amount(text(value)?).map(drop)?,
            b"uid" if id(value)? == owner.user => {}
            // The group of terminals, `tty`, is nobody's here; asking for it does no harm.
            b"gid" => id(value).map(drop)?,
            _ => return Err(Errno::EINVAL),
        }
    }
    Ok(())
}

/// The directories of an overlay, as paths of the guest.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Layers {
    /// From the top down.
    pub lower: Vec<Vec<u8>>,
    pub upper: Option<Vec<u8>>,
    pub work: Option<Vec<u8>>,
}

/// Options of an overlay, see Documentation/filesystems/overlayfs.rst: commas and backslashes are escaped by a backslash,
/// and colons within `lowerdir`.
pub(super) fn layers(options: &[u8]) -> Result<Layers, Errno> {
    let mut layers = Layers::default();
    for option in split(options, b',') {
        let (key, value) = match option.iter().position(|byte| *byte == b'=') {
            Some(at) => (&option[..at], &option[at + 1..]),
            None => (&option[..], &b""[..]),
        };
        match (key, value) {
            (b"lowerdir", _) => layers.lower = split(value, b':').iter().map(|path| unescape(path)).collect(),
            (b"lowerdir+", _) => layers.lower.push(value.to_vec()),
            (b"upperdir", _) => layers.upper = Some(unescape(value)),
            (b"workdir", _) => layers.work = Some(unescape(value)),
            // What is the case anyway, or makes no difference that anybody could see.
            (b"", _) | (b"userxattr", b"") | (b"index" | b"nfs_export" | b"metacopy", b"off") => {}
            (b"redirect_dir", b"off" | b"nofollow") | (b"xino", b"on" | b"off" | b"auto") => {}
            _ => return Err(Errno::EINVAL),
        }
    }
    let missing = |path: &Vec<u8>| path.is_empty();
    if layers.lower.is_empty() || layers.lower.len() > MOST_LAYERS || layers.lower.iter().any(missing) {
        return Err(Errno::EINVAL);
    }
    if layers.upper.is_some() != layers.work.is_some() {
        return Err(Errno::EINVAL);
    }
    Ok(layers)
}

/// Splits where `between` stands without a backslash before it; backslashes stay.
fn split(text: &[u8], between: u8) -> Vec<Vec<u8>> {
    let mut parts = vec![Vec::new()];
    let mut escaped = false;
    for &byte in text {
        if byte == between && !escaped {
            parts.push(Vec::new());
            continue;
        }
        escaped = byte == b'\\' && !escaped;
        if let Some(last) = parts.last_mut() {
            last.push(byte);
        }
    }
    parts
}

fn unescape(text: &[u8]) -> Vec<u8> {
    let mut escaped = false;
    let mut plain = Vec::with_capacity(text.len());
    for &byte in text {
        escaped = byte == b'\\' && !escaped;
        if !escaped {
            plain.push(byte);
        }
    }
    plain
}

/// Whether the kernels of this world know a file system of that name; what they do not know is `ENODEV`.
pub(super) fn is_known(kind: &[u8]) -> bool {
    const KNOWN: &[&str] = &[
        "9p",
        "adfs",
        "affs",
        "afs",
        "autofs",
        "bdev",
        "bfs",
        "binder",
        "binfmt_misc",
        "bpf",
        "btrfs",
        "ceph",
        "cgroup",
        "cgroup2",
        "cifs",
        "coda",
        "configfs",
        "cramfs",
        "debugfs",
        "devtmpfs",
        "ecryptfs",
        "efivarfs",
        "erofs",
        "exfat",
        "ext2",
        "ext3",
        "ext4",
        "f2fs",
        "fuse",
        "fuseblk",
        "fusectl",
        "gfs2",
        "hfs",
        "hfsplus",
        "hugetlbfs",
        "iso9660",
        "jffs2",
        "jfs",
        "minix",
        "msdos",
        "nfs",
        "nfs4",
        "nfsd",
        "nilfs2",
        "ntfs",
        "ntfs3",
        "ocfs2",
        "omfs",
        "orangefs",
        "pstore",
        "qnx4",
        "qnx6",
        "reiserfs",
        "resctrl",
        "romfs",
        "rpc_pipefs",
        "securityfs",
        "selinuxfs",
        "smb3",
        "squashfs",
        "sysv",
        "tracefs",
        "ubifs",
        "udf",
        "ufs",
        "vfat",
        "virtiofs",
        "xenfs",
        "xfs",
        "zonefs",
    ];
    OsStr::from_bytes(kind).to_str().is_some_and(|kind| {
        // `fuse.sshfs` is a fuse.
        let kind = kind.split('.').next().unwrap_or(kind);
        KNOWN.binary_search(&kind).is_ok()
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::mount::order::Kind;

    fn parsed(options: &str) -> Result<Order, Errno> {
        let mut order = Order::new(Kind::Memory);
        memory(&mut order, options.as_bytes(), Owner { user: 1000, group: 100 }).map(|()| order)
    }

    #[test]
    fn sizes_are_read_as_the_kernel_reads_them() {
        assert_eq!(parsed("size=64k,mode=755,nr_inodes=1K").unwrap().size, 65536);
        assert_eq!(parsed("size=64k,mode=755,nr_inodes=1K").unwrap().inodes, 1024);
        assert_eq!(parsed("mode=6755").unwrap().mode, 0o755);
        assert_eq!(parsed("nr_blocks=2").unwrap().size, 8192);
        let percent = parsed("size=50%").unwrap();
        assert_eq!((percent.size, percent.flags), (50, PERCENT));
        assert!(parsed("uid=1000,gid=100,huge=never,inode64,").is_ok());
        for wrong in
            ["size=", "size", "size=1x", "size=99999999999t", "mode=9", "uid=0", "gid=7", "sise=1", "mode=7,=,"]
        {
            assert_eq!(parsed(wrong), Err(Errno::EINVAL), "{wrong}");
        }
    }

    #[test]
    fn layers_are_separated_by_colons_that_are_not_escaped() {
        let found = layers(br"lowerdir=/a\:b:/c\,d:/e\\,upperdir=/u\:,workdir=/w,userxattr").unwrap();
        assert_eq!(found.lower, [&b"/a:b"[..], b"/c,d", br"/e\"]);
        assert_eq!((found.upper.unwrap(), found.work.unwrap()), (b"/u:".to_vec(), b"/w".to_vec()));
        for wrong in
            ["", "lowerdir=", "lowerdir=/a:", "lowerdir=/a,upperdir=/u", "lowerdir=/a,redirect_dir=on", "lowerdir=/a,x"]
        {
            assert_eq!(layers(wrong.as_bytes()), Err(Errno::EINVAL), "{wrong}");
        }
        assert_eq!(layers(["lowerdir=/a", &":/a".repeat(100)].concat().as_bytes()), Err(Errno::EINVAL));
    }

    #[test]
    fn names_of_file_systems_are_looked_up_whole() {
        for kind in ["ext4", "squashfs", "fuse.sshfs", "9p", "zonefs", "cgroup2"] {
            assert!(is_known(kind.as_bytes()), "{kind}");
        }
        for kind in ["", "ext", "ext44", "nonesuch"] {
            assert!(!is_known(kind.as_bytes()), "{kind}");
        }
    }
}
