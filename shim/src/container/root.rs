//! The container's root while it is being made, and how a path is found in it.
//!
//! An image is a stranger's tree of files: any name in it may be a symlink that leads to the host, and a volume that another
//! container shares may change while we look. So each path is resolved by the kernel with the root as `/`
//! (`RESOLVE_IN_ROOT`), never through `/proc/self/...` (`RESOLVE_NO_MAGICLINKS`), ends as a descriptor, and whatever is done
//! there is done to the descriptor (CVE-2019-16884, CVE-2021-30465, CVE-2023-27561).

use std::collections::VecDeque;
use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::readlinkat;
use nix::libc;
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, mkdirat, mknodat};

use crate::failure::{Failure, Step};
use crate::sys;

const PATH: i32 = libc::O_PATH | libc::O_CLOEXEC;
const INSIDE: u64 = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS;
/// As many as the kernel follows.
const MOST_LINKS: usize = 40;

/// What is to be at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// Anything else.
    File,
}

/// A C string of a path's bytes.
pub fn c_path(path: impl AsRef<OsStr>) -> Result<CString, Errno> {
    CString::new(path.as_ref().as_bytes()).map_err(|_| Errno::EINVAL)
}

/// The file type bits.
pub fn type_of(stat: &FileStat) -> libc::mode_t {
    stat.st_mode & libc::S_IFMT
}

/// The container's root.
#[derive(Debug)]
pub struct Root {
    tree: OwnedFd,
}

impl Root {
    /// The root that `tree` is a descriptor of.
    pub fn new(tree: OwnedFd) -> Self {
        Self { tree }
    }

    /// Its descriptor.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.tree.as_fd()
    }

    /// Opens `path` inside, with `flags`; symlinks stay inside.
    pub fn open(&self, path: &Path, flags: i32) -> Result<OwnedFd, Errno> {
        self.resolve(path, flags, 0)
    }

    /// Opens `path` inside as `O_PATH`; there may be no symlink on the way or at its end.
    pub fn open_plain(&self, path: &Path) -> Result<OwnedFd, Errno> {
        self.resolve(path, PATH, libc::RESOLVE_NO_SYMLINKS)
    }

    /// Opens the object that `seen` is, at `path`, with rights; there may be no symlink on the way, and nothing else.
    pub fn open_existing(&self, seen: &OwnedFd, path: &Path, flags: i32) -> Result<OwnedFd, Errno> {
        let open = self.resolve(path, flags, libc::RESOLVE_NO_SYMLINKS)?;
        let (seen, found) = (fstat(seen)?, fstat(&open)?);
        let same = (seen.st_dev, seen.st_ino) == (found.st_dev, found.st_ino);
        if same { Ok(open) } else { Err(Errno::ESTALE) }
    }

    fn resolve(&self, path: &Path, flags: i32, more: u64) -> Result<OwnedFd, Errno> {
        // Of `/` too: an absolute path begins at the root, and so does an empty one.
        let path = if path.as_os_str().is_empty() { Path::new("/") } else { path };
        sys::open_at(Some(self.as_fd()), &c_path(path)?, flags | libc::O_CLOEXEC, 0, INSIDE | more)
    }

    /// The object at `path`, made if nothing is there, with its parents: an empty directory or an empty file.
    /// With `nofollow` a symlink at the end is the object.
    pub fn target(&self, path: &Path, kind: Kind, nofollow: bool) -> Result<OwnedFd, Failure> {
        let step = || format!("find or make {} in the container's root", path.display());
        let last = if nofollow { libc::O_NOFOLLOW } else { 0 };
        match self.open(path, PATH | last) {
            Err(Errno::ENOENT) => {}
            other => return other.step(step),
        }
        let place = self.make(path, kind).step(step)?;
        self.open_plain(&place).step(step)
    }

    /// The directory that holds `path`, made with its parents if need be, and the last component.
    pub fn parent(&self, path: &Path) -> Result<(OwnedFd, OsString), Failure> {
        let name = path.file_name().ok_or_else(|| Failure::check(format!("use {} as a name", path.display())))?;
        let parent = path.parent().unwrap_or(Path::new("/"));
        Ok((self.target(parent, Kind::Directory, false)?, name.to_owned()))
    }

    /// Walks along `path` and makes what is missing; returns the path without symlinks. A symlink that leads nowhere is
    /// followed too: what it names is made, inside.
    fn make(&self, path: &Path, kind: Kind) -> Result<PathBuf, Errno> {
        let mut rest: VecDeque<OsString> = names(path).collect();
        let (mut done, mut links) = (PathBuf::from("/"), 0);
        while let Some(name) = rest.pop_front() {
            if name == ".." {
                done.pop();
                continue;
            }
            let here = done.join(&name);
            // The way here has no symlinks, or somebody has just put one there.
            let found = self.resolve(&done, PATH, libc::RESOLVE_NO_SYMLINKS)?;
            let object = sys::open_at(Some(found.as_fd()), &c_path(&name)?, PATH | libc::O_NOFOLLOW, 0, INSIDE);
            match object {
                Ok(object) if type_of(&fstat(&object)?) == libc::S_IFLNK => {
                    links += 1;
                    if links > MOST_LINKS {
                        return Err(Errno::ELOOP);
                    }
                    let to = PathBuf::from(readlinkat(&object, c"")?);
                    if to.is_absolute() {
                        done = PathBuf::from("/");
                    }
                    for name in names(&to).collect::<Vec<_>>().into_iter().rev() {
                        rest.push_front(name);
                    }
                    continue;
                }
                Ok(_) => {}
                Err(Errno::ENOENT) => {
                    let made = if rest.is_empty() && kind == Kind::File {
                        mknodat(&found, name.as_os_str(), SFlag::S_IFREG, Mode::from_bits_truncate(0o644), 0)
                    } else {
                        mkdirat(&found, name.as_os_str(), Mode::from_bits_truncate(0o755))
                    };
                    match made {
                        // Somebody else was faster: what it is shows when it is opened.
                        Ok(()) | Err(Errno::EEXIST) => {}
                        Err(errno) => return Err(errno),
                    }
                }
                Err(errno) => return Err(errno),
            }
            done = here;
        }
        Ok(done)
    }
}

/// The components of a path below the root; `..` is kept, for it means something else after a symlink.
fn names(path: &Path) -> impl Iterator<Item = OsString> + '_ {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    /// An image below a directory that stands for the host.
    struct Host {
        place: PathBuf,
    }

    impl Host {
        fn new(name: &str) -> Self {
            let place = std::env::temp_dir().join(format!("container-root-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&place);
            fs::create_dir_all(place.join("image")).unwrap();
            fs::create_dir_all(place.join("secret")).unwrap();
            Self { place }
        }

        fn image(&self) -> PathBuf {
            self.place.join("image")
        }

        fn root(&self) -> Root {
            let path = c_path(self.image()).unwrap();
            Root::new(sys::open_at(None, &path, PATH, 0, 0).unwrap())
        }
    }

    impl Drop for Host {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.place);
        }
    }

    fn same(object: &OwnedFd, path: &Path) -> bool {
        use std::os::unix::fs::MetadataExt;
        let (object, path) = (fstat(object).unwrap(), fs::symlink_metadata(path).unwrap());
        (object.st_dev, object.st_ino) == (path.dev(), path.ino())
    }

    #[test]
    fn targets_are_made_with_their_parents() {
        let host = Host::new("made");
        let root = host.root();
        let made = root.target(Path::new("/a/b/c"), Kind::Directory, false).unwrap();
        assert!(same(&made, &host.image().join("a/b/c")) && host.image().join("a/b/c").is_dir());
        let made = root.target(Path::new("a/b/file"), Kind::File, false).unwrap();
        assert!(same(&made, &host.image().join("a/b/file")) && host.image().join("a/b/file").is_file());
        let again = root.target(Path::new("/a/b/file"), Kind::File, false).unwrap();
        assert!(same(&again, &host.image().join("a/b/file")));
    }

    #[test]
    fn cve_2021_30465_a_symlink_on_the_way_stays_inside() {
        let host = Host::new("symlinks");
        let secret = host.place.join("secret");
        symlink(&secret, host.image().join("absolute")).unwrap();
        symlink("../secret", host.image().join("upward")).unwrap();
        symlink("/", host.image().join("all")).unwrap();
        for link in ["absolute", "upward"] {
            let made = host.root().target(&Path::new(link).join("planted"), Kind::Directory, false).unwrap();
            assert!(!same(&made, &secret), "{link}");
        }
        assert_eq!(fs::read_dir(&secret).unwrap().count(), 0, "nothing was made outside");
        assert!(host.image().join("secret/planted").is_dir(), "`..` stops at the root");
        let all = host.root().target(Path::new("/all"), Kind::Directory, false).unwrap();
        assert!(same(&all, &host.image()), "/ is the container's");
    }

    #[test]
    fn a_symlink_that_leads_nowhere_is_made_inside() {
        let host = Host::new("nowhere");
        symlink("/var/run/../deep/place", host.image().join("dangling")).unwrap();
        let made = host.root().target(Path::new("dangling/x"), Kind::File, false).unwrap();
        assert!(same(&made, &host.image().join("var/deep/place/x")));
    }

    #[test]
    fn symlinks_that_go_round_are_an_error() {
        let host = Host::new("round");
        symlink("b", host.image().join("a")).unwrap();
        symlink("a", host.image().join("b")).unwrap();
        let failure = host.root().target(Path::new("a/x"), Kind::Directory, false).unwrap_err();
        assert_eq!(failure.errno, Errno::ELOOP as i32);
    }

    #[test]
    fn a_symlink_itself_can_be_a_target() {
        let host = Host::new("itself");
        symlink("/etc", host.image().join("link")).unwrap();
        let found = host.root().target(Path::new("link"), Kind::File, true).unwrap();
        assert!(same(&found, &host.image().join("link")));
    }

    #[test]
    fn magic_links_are_not_followed() {
        let root = Root::new(sys::open_at(None, c"/", PATH, 0, 0).unwrap());
        assert_eq!(root.open(Path::new("/proc/self/cwd"), PATH).unwrap_err(), Errno::ELOOP);
        assert_eq!(root.open(Path::new("/proc/self/root/etc"), PATH).unwrap_err(), Errno::ELOOP);
    }
}
