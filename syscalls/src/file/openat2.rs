//! `openat2(2)`: always answered by the sentry, for its flags and mode lie in memory, where no filter can see them.
//!
//! A filter that refuses set-id modes by register let this call create a file with mode 04755. What cannot be handed over
//! or followed is answered `ENOSYS`: programs then use `openat`.

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2 as kernels_openat2};
use nix::libc;
use nix::sys::stat::Mode;
use zerocopy::{FromBytes, Immutable, KnownLayout};

use super::object::Otherwise;
use super::open::Opening;
use super::walk::Start;
use super::{CREATES, SET_ID, TEMPORARY};
use crate::args::{DirFd, PathPtr, Size, UserPtr};
use crate::guest::{Denial, Guest};
use crate::reply::Answer;

crate::syscalls! {
    /// Opens a file, with limits on how its path is resolved.
    /// Fails with `EPERM` when it would create one with set-id bits, and with `ENOSYS`, so that programs use `openat`, for
    /// what the sentry cannot open on behalf of the caller.
    /// Limit: `O_PATH` and unusual devices fail with `ENOSYS`; so does creating through a link under `RESOLVE_BENEATH` or `RESOLVE_IN_ROOT`.
    /// Limit: FIFOs and `/dev/tty` as for `open`.
    /// Limit: `RESOLVE_CACHED` always fails with `EAGAIN`.
    openat2(dir: DirFd, path: PathPtr, how: UserPtr, size: Size) File Default Emulate(openat2) {
        RealIds => Errno(ENOSYS),
        Container => Allow,
    };
}

/// `struct open_how` as its first version has it; later ones may only be longer.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct How {
    flags: u64,
    mode: u64,
    resolve: u64,
}

const FIRST_SIZE: usize = size_of::<How>();
const RESOLVE_CACHED: u64 = 0x20;

fn openat2(guest: &dyn Guest, dir: DirFd, path: PathPtr, how: UserPtr, size: Size) -> Answer {
    let how = How::copy(guest, how, size)?;
    let (kernels, flags, mode) = how.checked()?;
    let path = guest.read_path(path)?;
    if how.flags & (CREATES | TEMPORARY) != 0 && how.mode & SET_ID != 0 && !guest.rules().fake_root {
        let what = format!("{} with mode {:o}", path.to_string_lossy(), how.mode);
        guest.record(Denial { call: "openat2", what, remedy: "no set-id file may be made in a sandbox".into() });
        return Err(Errno::EPERM);
    }
    if how.resolve & RESOLVE_CACHED != 0 {
        return Err(Errno::EAGAIN);
    }
    if flags & libc::O_PATH != 0 {
        return Err(Errno::ENOSYS);
    }
    Open { guest, dir, path: path.as_bytes(), flags, mode, resolve: kernels }.answer()
}

impl How {
    /// Copies the guest's structure, as `copy_struct_from_user` does: what we do not know must be zero.
    fn copy(guest: &dyn Guest, at: UserPtr, size: Size) -> Result<Self, Errno> {
        let bytes = guest.read_struct(at, size, FIRST_SIZE)?;
        Self::read_from_prefix(&bytes).map(|(how, _)| how).map_err(|_| Errno::EINVAL)
    }

    /// Lets the kernel judge the combination, with a path that leads nowhere, and returns it in the types that calls take.
    fn checked(&self) -> Result<(ResolveFlag, i32, Mode), Errno> {
        let flags = i32::try_from(self.flags).map_err(|_| Errno::EINVAL)?;
        let mode = u32::try_from(self.mode).ok().and_then(Mode::from_bits).ok_or(Errno::EINVAL)?;
        let resolve = ResolveFlag::from_bits_retain(self.resolve);
        let how = OpenHow::new().flags(OFlag::from_bits_retain(flags)).mode(mode).resolve(resolve);
        match kernels_openat2(AT_FDCWD, "", how) {
            // RESOLVE_CACHED cannot be had together with what needs to write.
            Err(errno @ (Errno::EINVAL | Errno::ENOSYS | Errno::E2BIG | Errno::EAGAIN)) => Err(errno),
            _ => Ok((resolve, flags, mode)),
        }
    }
}

/// A call whose structure has been copied and found valid.
struct Open<'a> {
    guest: &'a dyn Guest,
    dir: DirFd,
    path: &'a [u8],
    flags: i32,
    mode: Mode,
    resolve: ResolveFlag,
}

impl Open<'_> {
    fn answer(&self) -> Answer {
        let confined = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_IN_ROOT;
        if self.path.is_empty() {
            return Err(Errno::ENOENT);
        }
        if self.resolve.contains(ResolveFlag::RESOLVE_BENEATH) && self.path.starts_with(b"/") {
            return Err(Errno::EXDEV);
        }
        let start = if self.resolve.intersects(confined) {
            Start::exactly(self.guest.directory(self.dir)?, self.path)
        } else {
            Start::of(self.guest, self.dir, self.path)?
        };
        let mut opening = Opening {
            call: "openat2",
            flags: self.flags,
            mode: self.mode,
            resolve: self.resolve,
            otherwise: Otherwise::AnotherCall,
        };
        if !self.resolve.intersects(confined) || self.flags & libc::O_CREAT == 0 {
            return opening.from(self.guest, start);
        }
        // What a link leads to must stay below a directory that is no longer at hand, so no link is followed by hand:
        // the kernel looks whether it leads to something that exists.
        opening.flags |= libc::O_NOFOLLOW;
        match opening.from(self.guest, start) {
            Err(Errno::ELOOP) if self.flags & (libc::O_NOFOLLOW | libc::O_EXCL) == 0 => {
                let start = Start::exactly(self.guest.directory(self.dir)?, self.path);
                match start.object(self.guest, OFlag::empty(), self.resolve) {
                    Err(Errno::ENOENT) => Err(Errno::ENOSYS),
                    object => Opening { flags: self.flags, ..opening }.existing(self.guest, object?),
                }
            }
            answer => answer,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::file::trial::{CWD, DONE, Trial, contents};

    const CREATE: u64 = (libc::O_CREAT | libc::O_RDWR) as u64;
    const BENEATH: u64 = libc::RESOLVE_BENEATH;

    fn words(how: &[u64]) -> Vec<u8> {
        how.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    fn args(trial: &Trial, path: &str, how: &[u64]) -> [u64; 4] {
        let bytes = words(how);
        [CWD, trial.path(path), trial.guest.put(&bytes).0, bytes.len() as u64]
    }

    fn errno(trial: &Trial, path: &str, how: &[u64]) -> Errno {
        trial.errno("openat2", &args(trial, path, how))
    }

    #[test]
    fn no_set_id_file_is_made() {
        let trial = Trial::new(&[]);
        let temporary = (libc::O_TMPFILE | libc::O_RDWR) as u64;
        for (path, flags) in [("a", CREATE), (".", temporary)] {
            for mode in [0o4755, 0o2755, 0o6755] {
                assert_eq!(errno(&trial, path, &[flags, mode, 0]), Errno::EPERM);
            }
        }
        assert!(!trial.exists("a"));
        assert_eq!(trial.denied()[0], ("openat2", "a with mode 4755".into()));
        assert_eq!(errno(&trial, "a", &[CREATE, 0o1777, 0]), DONE);
        assert_eq!(trial.mode("a"), 0o1755);
    }

    #[test]
    fn the_structure_is_measured_as_the_kernel_does() {
        let trial = Trial::new(&[]);
        trial.write("a", "text");
        let path = trial.path("a");
        let huge = trial.guest.put(&[0; 8192]).0;
        for (size, wanted) in [(0, Errno::EINVAL), (23, Errno::EINVAL), (24, DONE), (4096, DONE)] {
            assert_eq!(trial.errno("openat2", &[CWD, path, huge, size]), wanted, "{size}");
        }
        for size in [4097, 8192, u64::MAX] {
            assert_eq!(trial.errno("openat2", &[CWD, path, huge, size]), Errno::E2BIG);
        }
        assert_eq!(errno(&trial, "a", &[0, 0, 0, 0]), DONE);
        assert_eq!(errno(&trial, "a", &[0, 0, 0, 1]), Errno::E2BIG);
        let short = trial.guest.put_at_end(&[0; 16]).0;
        assert_eq!(trial.errno("openat2", &[CWD, path, short, 24]), Errno::EFAULT);
    }

    #[test]
    fn the_kernel_validates_what_it_would() {
        let trial = Trial::new(&[]);
        trial.write("a", "");
        let flags = |flags: i32| flags as u64;
        for how in [
            [1 << 32, 0, 0],
            [1 << 63, 0, 0],
            [0, 0o644, 0],
            [CREATE, 0o10000, 0],
            [CREATE, 1 << 40, 0],
            [0, 0, 1 << 20],
            [0, 0, 1 << 40],
            [0, 0, libc::RESOLVE_BENEATH | libc::RESOLVE_IN_ROOT],
            [flags(libc::O_PATH | libc::O_RDWR), 0, 0],
            [CREATE | TEMPORARY, 0o644, 0],
        ] {
            assert_eq!(errno(&trial, "a", &how), Errno::EINVAL, "{how:?}");
        }
        assert_eq!(errno(&trial, "a", &[flags(libc::O_PATH), 0, 0]), Errno::ENOSYS);
        assert_eq!(errno(&trial, "a", &[0, 0, RESOLVE_CACHED]), Errno::EAGAIN);
        assert_eq!(errno(&trial, "", &[0, 0, 0]), Errno::ENOENT);
    }

    #[test]
    fn resolution_is_limited_as_asked() {
        let mut trial = Trial::new(&["d/.env"]);
        fs::create_dir(trial.root.join("d")).unwrap();
        trial.write("d/file", "text");
        trial.write("secret", "");
        symlink("file", trial.root.join("d/in")).unwrap();
        symlink("../secret", trial.root.join("d/out")).unwrap();
        symlink("nothing", trial.root.join("d/dead")).unwrap();
        symlink(".env", trial.root.join("d/sly")).unwrap();
        trial.guest.cwd.push("d");
        assert_eq!(contents(trial.opened("openat2", &args(&trial, "in", &[0, 0, BENEATH]))), "text");
        assert_eq!(errno(&trial, "out", &[0, 0, BENEATH]), Errno::EXDEV);
        assert_eq!(errno(&trial, "../secret", &[0, 0, BENEATH]), Errno::EXDEV);
        assert_eq!(errno(&trial, "/d/file", &[0, 0, BENEATH]), Errno::EXDEV);
        assert_eq!(errno(&trial, "in", &[0, 0, libc::RESOLVE_NO_SYMLINKS]), Errno::ELOOP);
        assert_eq!(errno(&trial, "in", &[libc::O_NOFOLLOW as u64, 0, 0]), Errno::ELOOP);
        assert_eq!(errno(&trial, "/file", &[0, 0, libc::RESOLVE_IN_ROOT]), DONE);
        assert_eq!(errno(&trial, "/../../file", &[CREATE, 0o644, libc::RESOLVE_IN_ROOT]), DONE);

        assert_eq!(errno(&trial, "../new", &[CREATE, 0o644, BENEATH]), Errno::EXDEV);
        assert_eq!(errno(&trial, "in", &[CREATE, 0o644, BENEATH]), DONE);
        assert_eq!(errno(&trial, "out", &[CREATE, 0o644, BENEATH]), Errno::EXDEV);
        assert_eq!(errno(&trial, "in", &[CREATE, 0o644, libc::RESOLVE_NO_SYMLINKS]), Errno::ELOOP);
        assert_eq!(errno(&trial, "dead", &[CREATE, 0o644, BENEATH]), Errno::ENOSYS);
        assert_eq!(errno(&trial, "new", &[CREATE, 0o644, BENEATH]), DONE);
        assert!(trial.exists("d/new") && !trial.exists("new") && !trial.exists("d/nothing"));

        assert_eq!(errno(&trial, ".env", &[CREATE, 0o644, 0]), Errno::EACCES);
        assert_eq!(errno(&trial, ".env", &[CREATE, 0o644, BENEATH]), Errno::EACCES);
        assert_eq!(errno(&trial, "/.env", &[CREATE, 0o644, libc::RESOLVE_IN_ROOT]), Errno::EACCES);
        assert_eq!(errno(&trial, "sly", &[CREATE, 0o644, 0]), Errno::EACCES);
        assert!(!trial.exists("d/.env"));
    }

    #[test]
    fn what_cannot_be_handed_over_falls_back() {
        let mut trial = Trial::new(&[]);
        nix::unistd::mkfifo(&trial.root.join("fifo"), Mode::from_bits_truncate(0o644)).unwrap();
        trial.write("file", "text");
        trial.guest.files.insert(3, fs::File::open(trial.root.join("file")).unwrap().into());
        trial.guest.files.insert(4, fs::File::open("/proc").unwrap().into());
        assert_eq!(errno(&trial, "fifo", &[libc::O_PATH as u64, 0, 0]), Errno::ENOSYS);
        assert_eq!(errno(&trial, "fifo", &[(libc::O_RDONLY | libc::O_NONBLOCK) as u64, 0, 0]), DONE);
        assert_eq!(errno(&trial, "fifo", &[(libc::O_WRONLY | libc::O_NONBLOCK) as u64, 0, 0]), Errno::ENXIO);
        assert_eq!(errno(&trial, "/dev/tty", &[0, 0, 0]), Errno::ENXIO, "none of its descriptors is a terminal");
        for path in ["/proc/self/status", "/proc/self/exe", "/proc/thread-self/root/etc/passwd"] {
            assert_eq!(errno(&trial, path, &[0, 0, 0]), DONE, "{path}");
        }
        let [_, path, how, size] = args(&trial, "self/status", &[0, 0, 0]);
        assert_eq!(trial.errno("openat2", &[4, path, how, size]), DONE);
        assert_eq!(errno(&trial, "/dev/null", &[CREATE, 0o644, 0]), DONE);
        assert_eq!(contents(trial.opened("openat2", &args(&trial, "/proc/self/fd/3", &[0, 0, 0]))), "text");
        assert_eq!(errno(&trial, "/proc/self/fd/3", &[0, 0, libc::RESOLVE_NO_MAGICLINKS]), Errno::ELOOP);
        assert_eq!(errno(&trial, "/proc/self/fd/9", &[0, 0, 0]), Errno::ENOENT);
    }

    #[test]
    fn files_without_a_name_can_be_made() {
        let trial = Trial::new(&["hidden"]);
        let file = trial.opened("openat2", &args(&trial, ".", &[(libc::O_TMPFILE | libc::O_RDWR) as u64, 0o666, 0]));
        let stat = nix::sys::stat::fstat(&file).unwrap();
        assert_eq!((stat.st_nlink, stat.st_mode & 0o7777), (0, 0o644));
    }
}
