//! What is mounted where on the host, from `/proc/self/mountinfo`, see proc_pid_mountinfo(5).

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use shim::mountinfo::unescaped;

/// A mount of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mounted {
    /// Where.
    pub point: PathBuf,
    /// The file system's name.
    pub kind: String,
}

/// All mounts strictly beneath `path`, in the order in which they were made.
pub fn beneath(path: &Path) -> Vec<Mounted> {
    let info = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
    let mounts = info.split(|byte| *byte == b'\n').filter_map(parse);
    mounts.filter(|mount| mount.point != path && mount.point.starts_with(path)).collect()
}

fn parse(line: &[u8]) -> Option<Mounted> {
    let mut fields = line.split(|byte| *byte == b' ');
    let point = PathBuf::from(OsString::from_vec(unescaped(fields.nth(4)?)));
    // Optional fields end with a dash.
    fields.find(|field| *field == b"-")?;
    Some(Mounted { point, kind: String::from_utf8_lossy(fields.next()?).into_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mountinfo_is_unescaped() {
        assert_eq!(unescaped(b"/a\\040b\\134c\\0"), b"/a b\\c\\0");
        let line = b"36 35 98:0 /mnt1 /mnt/x\\040y rw,noatime master:1 shared:2 - ext3 /dev/root rw,errors=continue";
        assert_eq!(parse(line), Some(Mounted { point: "/mnt/x y".into(), kind: "ext3".into() }));
    }

    #[test]
    fn the_root_has_mounts_beneath_it() {
        assert!(!beneath(Path::new("/")).is_empty());
        assert!(beneath(Path::new("/proc/self/fdinfo")).is_empty());
    }
}
