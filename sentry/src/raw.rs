//! Raw calls of the supervisor and the monitor that no library wraps.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::libc;

fn descriptor(result: libc::c_long) -> Result<OwnedFd, Errno> {
    let fd = Errno::result(result)?;
    let fd = RawFd::try_from(fd).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// pidfd_open(2) for a thread, which need not lead its group; before Linux 6.9 only leaders can be opened.
pub fn open_thread(tid: i32) -> Result<OwnedFd, Errno> {
    const PIDFD_THREAD: libc::c_uint = libc::O_EXCL as libc::c_uint;
    // SAFETY: integers only.
    match descriptor(unsafe { libc::syscall(libc::SYS_pidfd_open, tid, PIDFD_THREAD) }) {
        // SAFETY: integers only.
        Err(Errno::EINVAL) => descriptor(unsafe { libc::syscall(libc::SYS_pidfd_open, tid, 0) }),
        other => other,
    }
}

/// pidfd_getfd(2): a duplicate of another process's descriptor.
pub fn take_descriptor(pidfd: &OwnedFd, fd: i32) -> Result<OwnedFd, Errno> {
    // SAFETY: integers only.
    descriptor(unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), fd, 0) })
}

/// Changes the supplementary groups of this thread, by the call itself: the C library would change all threads.
pub fn set_own_groups(groups: &[u32]) -> Result<(), Errno> {
    // SAFETY: the kernel reads as many numbers as are there.
    Errno::result(unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) }).map(drop)
}

/// The same for the effective group, and that for files.
pub fn set_own_effective_group(group: u32) -> Result<(), Errno> {
    // SAFETY: integers only.
    Errno::result(unsafe { libc::syscall(libc::SYS_setresgid, -1, group, -1) }).map(drop)
}

/// The same for the effective user, and that for files.
pub fn set_own_effective_user(user: u32) -> Result<(), Errno> {
    // SAFETY: integers only.
    Errno::result(unsafe { libc::syscall(libc::SYS_setresuid, -1, user, -1) }).map(drop)
}

/// The soft limit of the size of another thread's files, prlimit(2) with `RLIMIT_FSIZE`.
pub fn file_size_limit(tid: i32) -> Result<u64, Errno> {
    limit(tid, libc::RLIMIT_FSIZE)
}

/// The soft limit of the numbers of another thread's descriptors, `RLIMIT_NOFILE`.
pub fn descriptor_limit(tid: i32) -> Result<u64, Errno> {
    limit(tid, libc::RLIMIT_NOFILE)
}

/// The soft limit `RLIMIT_RTTIME` of another thread's process.
pub fn real_time_limit(tid: i32) -> Result<u64, Errno> {
    limit(tid, libc::RLIMIT_RTTIME)
}

/// Sets that soft limit, and the hard one to what it is, unlimited.
pub fn set_real_time_limit(tid: i32, soft: u64) -> Result<(), Errno> {
    let limit = libc::rlimit { rlim_cur: soft, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: the kernel reads the structure and writes nothing.
    Errno::result(unsafe { libc::prlimit(tid, libc::RLIMIT_RTTIME, &raw const limit, std::ptr::null_mut()) }).map(drop)
}

fn limit(tid: i32, resource: libc::__rlimit_resource_t) -> Result<u64, Errno> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: nothing is set, and the kernel fills in the structure.
    Errno::result(unsafe { libc::prlimit(tid, resource, std::ptr::null(), &raw mut limit) })?;
    Ok(limit.rlim_cur)
}

/// Sends a signal to a thread, tkill(2); that it may be gone is nobody's concern.
pub fn signal_thread(tid: i32, signal: i32) {
    // SAFETY: integers only.
    unsafe { libc::syscall(libc::SYS_tkill, tid, signal) };
}

/// Sends a signal to the process behind a pidfd, pidfd_send_signal(2).
pub fn signal_process(process: BorrowedFd, signal: i32) -> Result<(), Errno> {
    let nothing = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: integers, and no information.
    let sent = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, process.as_raw_fd(), signal, nothing, 0) };
    Errno::result(sent).map(drop)
}

/// Takes ownership of a descriptor that a control message just brought.
pub fn own_received(fd: RawFd) -> OwnedFd {
    // SAFETY: the kernel has put this descriptor into our table for us, and nobody else knows its number.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// One of the descriptors 0, 1, 2, which nobody in this process closes or owns. Looking at a closed one is `EBADF`.
pub fn standard(number: RawFd) -> BorrowedFd<'static> {
    debug_assert!((0..=2).contains(&number));
    // SAFETY: the monitor never closes its standard descriptors, and a number that was closed from the start is only
    // handed to calls that report EBADF.
    unsafe { BorrowedFd::borrow_raw(number) }
}

/// A duplicate of an inherited descriptor, such as the one of `--json 3`.
pub fn inherited(number: RawFd) -> Result<OwnedFd, Errno> {
    // SAFETY: integers only; a number that is not open is EBADF.
    descriptor(libc::c_long::from(unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) }))
}

/// Whether two of our descriptors share one open file description, kcmp(2).
pub fn same_open_file(one: RawFd, other: RawFd) -> bool {
    const KCMP_FILE: libc::c_int = 0;
    let own = std::process::id();
    // SAFETY: integers only.
    unsafe { libc::syscall(libc::SYS_kcmp, own, own, KCMP_FILE, one, other) == 0 }
}

/// Overwrites the environment strings that this process was started with: a copy in a supervisor is a copy to steal.
/// Call it only while the process has one thread; `std::env` finds empty strings afterwards.
pub fn scrub_environment() {
    unsafe extern "C" {
        static mut environ: *mut *mut libc::c_char;
    }
    // SAFETY: `environ` is a null-terminated array of NUL-terminated strings in writable memory of this process (the
    // initial stack, or glibc's heap); with one thread nobody reads them meanwhile.
    unsafe {
        let mut entry = environ;
        while !entry.is_null() && !(*entry).is_null() {
            let string = *entry;
            let length = libc::strlen(string);
            std::ptr::write_bytes(string, 0, length);
            entry = entry.add(1);
        }
    }
}

/// fgetxattr(2), for short values.
pub fn attribute(file: BorrowedFd, name: &std::ffi::CStr) -> Option<Vec<u8>> {
    let mut value = vec![0u8; 64];
    // SAFETY: name is NUL-terminated, and the kernel writes at most `value.len()` bytes.
    let length = unsafe { libc::fgetxattr(file.as_raw_fd(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    value.truncate(usize::try_from(length).ok()?);
    Some(value)
}

/// A file in memory with these contents, which nobody can change any more (`F_SEAL_WRITE` and its like, fcntl(2)).
pub fn sealed_file(content: &[u8]) -> Result<OwnedFd, Errno> {
    sealed_copy(&mut &*content)
}

/// The same with what is read from `source`; of a file the kernel copies the pages, and they never come to this process.
pub fn sealed_copy<R: std::io::Read + ?Sized>(source: &mut R) -> Result<OwnedFd, Errno> {
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    // SAFETY: the name is NUL-terminated.
    let fd = unsafe { libc::memfd_create(c"sentry".as_ptr(), flags) };
    let mut file = std::fs::File::from(descriptor(libc::c_long::from(fd))?);
    let io = |error: std::io::Error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO));
    std::io::copy(source, &mut file).map_err(io)?;
    nix::sys::stat::fchmod(&file, nix::sys::stat::Mode::from_bits_truncate(0o444))?;
    let seals = libc::F_SEAL_WRITE | libc::F_SEAL_GROW | libc::F_SEAL_SHRINK | libc::F_SEAL_SEAL;
    // SAFETY: integers only.
    Errno::result(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) })?;
    Ok(file.into())
}

/// A file that lives in memory, memfd_create(2).
pub fn memory_file() -> Result<std::fs::File, Errno> {
    // SAFETY: the name is NUL-terminated.
    let fd = unsafe { libc::memfd_create(c"sentry".as_ptr(), libc::MFD_CLOEXEC) };
    descriptor(libc::c_long::from(fd)).map(std::fs::File::from)
}

/// A file's extended attributes by name, flistxattr(2).
pub fn attribute_names(file: BorrowedFd) -> Result<Vec<std::ffi::CString>, Errno> {
    // More than this the kernel does not hand out.
    let mut names = vec![0u8; 65536];
    // SAFETY: the kernel writes at most `names.len()` bytes.
    let length = unsafe { libc::flistxattr(file.as_raw_fd(), names.as_mut_ptr().cast(), names.len()) };
    let length = usize::try_from(Errno::result(length)?).unwrap_or(0);
    let names = names.get(..length).unwrap_or_default().split(|byte| *byte == 0);
    Ok(names.filter(|name| !name.is_empty()).filter_map(|name| std::ffi::CString::new(name).ok()).collect())
}

/// The whole value of an extended attribute, fgetxattr(2).
pub fn whole_attribute(file: BorrowedFd, name: &std::ffi::CStr) -> Result<Vec<u8>, Errno> {
    let mut value = vec![0u8; 65536];
    // SAFETY: name is NUL-terminated, and the kernel writes at most `value.len()` bytes.
    let length = unsafe { libc::fgetxattr(file.as_raw_fd(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    value.truncate(usize::try_from(Errno::result(length)?).unwrap_or(0));
    Ok(value)
}

/// Sets an extended attribute, fsetxattr(2).
pub fn set_attribute(file: BorrowedFd, name: &std::ffi::CStr, value: &[u8]) -> Result<(), Errno> {
    // SAFETY: name is NUL-terminated, and the kernel reads `value.len()` bytes.
    let set = unsafe { libc::fsetxattr(file.as_raw_fd(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    Errno::result(set).map(drop)
}

/// Removes an extended attribute, fremovexattr(2).
pub fn remove_attribute(file: BorrowedFd, name: &std::ffi::CStr) -> Result<(), Errno> {
    // SAFETY: name is NUL-terminated.
    Errno::result(unsafe { libc::fremovexattr(file.as_raw_fd(), name.as_ptr()) }).map(drop)
}

/// Shares the blocks of `from` with the empty file `to`, ioctl_ficlone(2); few file systems can.
pub fn share_blocks(from: BorrowedFd, to: BorrowedFd) -> Result<(), Errno> {
    // SAFETY: integers only.
    Errno::result(unsafe { libc::ioctl(to.as_raw_fd(), libc::FICLONE as _, from.as_raw_fd()) }).map(drop)
}

/// On which mount this object lies, and which it is there, by statx(2), and without asking any server. Before Linux 5.8
/// mounts are not told apart.
pub fn place(object: BorrowedFd) -> Result<(u64, u64), Errno> {
    // SAFETY: all zero bytes are a valid statx structure, which the kernel fills.
    let mut found: libc::statx = unsafe { std::mem::zeroed() };
    let flags = libc::AT_EMPTY_PATH | libc::AT_SYMLINK_NOFOLLOW | libc::AT_STATX_DONT_SYNC;
    // Since Linux 6.8 there are numbers of mounts that are never given again.
    const UNIQUE: libc::c_uint = 0x4000;
    let mask = libc::STATX_INO | libc::STATX_MNT_ID | UNIQUE;
    // SAFETY: the path is NUL-terminated and empty, the structure is ours.
    Errno::result(unsafe { libc::statx(object.as_raw_fd(), c"".as_ptr(), flags, mask, &raw mut found) })?;
    Ok((found.stx_mnt_id, found.stx_ino))
}

/// When an object came to be, by statx(2); few file systems do not know.
pub fn birth(object: BorrowedFd) -> Option<(i64, u32)> {
    // SAFETY: all zero bytes are a valid statx structure, which the kernel fills.
    let mut found: libc::statx = unsafe { std::mem::zeroed() };
    let flags = libc::AT_EMPTY_PATH | libc::AT_SYMLINK_NOFOLLOW;
    // SAFETY: the path is NUL-terminated and empty, the structure is ours.
    let result = unsafe { libc::statx(object.as_raw_fd(), c"".as_ptr(), flags, libc::STATX_BTIME, &raw mut found) };
    (result == 0 && found.stx_mask & libc::STATX_BTIME != 0)
        .then_some((found.stx_btime.tv_sec, found.stx_btime.tv_nsec))
}

/// The page of the pretended clock, as only the supervisor has it: writable.
#[derive(Debug)]
pub struct ClockPage(&'static [std::sync::atomic::AtomicI64; syscalls::clock::page::WORDS]);

impl ClockPage {
    /// Makes it, mapped for good, and the file that it is. Nobody can map that writable any more, or change its size.
    pub fn new() -> Result<(Self, OwnedFd), Errno> {
        let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
        // SAFETY: the name is NUL-terminated.
        let file = descriptor(libc::c_long::from(unsafe { libc::memfd_create(c"clock".as_ptr(), flags) }))?;
        nix::unistd::ftruncate(&file, 4096)?;
        // SAFETY: a new mapping of our own, at an address of the kernel's choice.
        let page = unsafe {
            let access = libc::PROT_READ | libc::PROT_WRITE;
            libc::mmap(std::ptr::null_mut(), 4096, access, libc::MAP_SHARED, file.as_raw_fd(), 0)
        };
        if page == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        const FUTURE_WRITE: libc::c_int = 0x0010;
        let seals = libc::F_SEAL_GROW | libc::F_SEAL_SHRINK | FUTURE_WRITE | libc::F_SEAL_SEAL;
        // SAFETY: integers only.
        Errno::result(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) })?;
        // SAFETY: the mapping is a page long, aligned, zero, and never unmapped; others only read it, and its size is
        // sealed, so that no access can fail.
        Ok((Self(unsafe { &*page.cast() }), file))
    }

    /// Tells new words: whoever reads meanwhile reads again. One thread at a time.
    pub fn publish(&self, words: [i64; syscalls::clock::page::WORDS]) {
        use std::sync::atomic::Ordering;
        use std::sync::atomic::fence;
        use syscalls::clock::page::{SEQUENCE, STEP, WRITTEN};
        let sequence = &self.0[SEQUENCE];
        let before = sequence.load(Ordering::Relaxed) & !(STEP - 1);
        sequence.store(before | WRITTEN, Ordering::Relaxed);
        fence(Ordering::Release);
        for (place, word) in self.0.iter().zip(words).skip(1) {
            place.store(word, Ordering::Relaxed);
        }
        sequence.store(before.wrapping_add(STEP) | words[SEQUENCE], Ordering::Release);
    }
}
