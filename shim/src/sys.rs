//! Raw calls that no library wraps yet, or that must happen between clone and exec.
//!
//! The only file of this crate with `unsafe`. Each function is one syscall (or one ioctl), takes descriptors and C
//! strings, and returns the kernel's errno.

use std::ffi::{CStr, c_void};
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::libc;
use syscalls::filter::Instruction;

/// Result of a raw call.
pub type Sys<T> = Result<T, Errno>;

fn check(result: libc::c_long) -> Sys<libc::c_long> {
    if result < 0 { Err(Errno::last()) } else { Ok(result) }
}

fn descriptor(result: libc::c_long) -> Sys<OwnedFd> {
    let fd = RawFd::try_from(check(result)?).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel just returned this descriptor to us, so nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn raw(at: Option<BorrowedFd>) -> RawFd {
    at.map_or(libc::AT_FDCWD, |fd| fd.as_raw_fd())
}

/// Forks with new namespaces, see clone(2). `None` in the child. The caller must be single-threaded.
pub fn clone(flags: libc::c_int) -> Sys<Option<libc::pid_t>> {
    let flags = libc::c_long::from(flags | libc::SIGCHLD);
    // SAFETY: without CLONE_VM this is a fork: the child gets its own copy of everything, and, as the caller has one
    // thread only, no lock is held by a thread that the child lacks.
    let pid = check(unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) })?;
    Ok((pid != 0).then_some(libc::pid_t::try_from(pid).map_err(|_| Errno::EOVERFLOW)?))
}

/// Runs `child` in a new process that shares our memory while we wait for it to exec or exit (`CLONE_VFORK`): no page
/// table is copied. `child` must not return but by exit or exec.
pub fn spawn_sharing_memory(stack: &mut [u8], child: &mut dyn FnMut() -> i32) -> Sys<libc::pid_t> {
    extern "C" fn enter(argument: *mut c_void) -> libc::c_int {
        // SAFETY: `argument` is the pointer made below; the parent, which owns the closure, sleeps until we are gone.
        let child = unsafe { &mut *argument.cast::<&mut dyn FnMut() -> i32>() };
        child()
    }
    let mut child = child;
    let top = stack.as_mut_ptr_range().end;
    let aligned = top.wrapping_sub(top as usize % 16);
    // SAFETY: the stack outlives the child's use of it, for CLONE_VFORK suspends us until it has left it; 16-byte
    // alignment is what both ABIs ask for.
    let pid = unsafe {
        libc::clone(
            enter,
            aligned.cast(),
            libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD,
            (&raw mut child).cast::<c_void>(),
        )
    };
    Errno::result(pid)
}

/// Makes a call with [`TRIAL`] as its arguments, and returns its errno. Only for calls of which one is the address of a path:
/// there is nothing at such an address.
pub fn attempt(number: libc::c_long) -> Errno {
    let [a, b, c, d, e, f] = TRIAL;
    // SAFETY: the kernel takes a path from an address that is never mapped, and fails.
    match check(unsafe { libc::syscall(number, a, b, c, d, e, f) }) {
        Ok(_) => Errno::UnknownErrno,
        Err(errno) => errno,
    }
}

/// The arguments of a call that is only tried.
pub const TRIAL: [u64; 6] = [1; 6];

/// pidfd_open(2).
pub fn open_process(pid: libc::pid_t) -> Sys<OwnedFd> {
    // SAFETY: integers only.
    descriptor(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })
}

/// Makes a process that ends at once, for the sake of whether it can be made. It shares our memory, so that no page table is
/// copied, and nobody waits for it: others may stop it.
pub fn spawn_nothing() -> Sys<libc::pid_t> {
    extern "C" fn end(_: *mut c_void) -> libc::c_int {
        0
    }
    // Never freed: it is the process's stack for as long as that lives.
    let stack: &'static mut [u8] = Box::leak(Box::new([0; 4096]));
    let top = stack.as_mut_ptr_range().end;
    let aligned = top.wrapping_sub(top as usize % 16);
    // SAFETY: the child uses nothing but its stack, which is its own for ever.
    Errno::result(unsafe { libc::clone(end, aligned.cast(), libc::CLONE_VM | libc::SIGCHLD, std::ptr::null_mut()) })
}

/// Ends the process at once, running no destructors.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: exit_group has no memory effects.
    unsafe { libc::_exit(code) }
}

/// open_tree(2): a detached copy of the mounts at `path`, with all that is mounted beneath.
pub fn clone_tree(at: Option<BorrowedFd>, path: &CStr, recursive: bool) -> Sys<OwnedFd> {
    let mut flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= libc::AT_RECURSIVE as u32;
    }
    if path.is_empty() {
        flags |= libc::AT_EMPTY_PATH as u32;
    }
    // SAFETY: `path` is NUL-terminated and outlives the call.
    descriptor(unsafe { libc::syscall(libc::SYS_open_tree, raw(at), path.as_ptr(), flags) })
}

/// move_mount(2): attaches the detached tree `tree` at `name` in `parent`; a link there is not followed.
pub fn attach_at(tree: BorrowedFd, parent: BorrowedFd, name: &CStr) -> Sys<()> {
    const FROM_EMPTY: libc::c_uint = 0x4;
    // SAFETY: both paths are NUL-terminated; the descriptors are borrowed for the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            c"".as_ptr(),
            parent.as_raw_fd(),
            name.as_ptr(),
            FROM_EMPTY,
        )
    })
    .map(drop)
}

/// move_mount(2): attaches the detached tree `tree` at the object `onto`.
pub fn attach(tree: BorrowedFd, onto: BorrowedFd) -> Sys<()> {
    const FROM_EMPTY: libc::c_uint = 0x4;
    const TO_EMPTY: libc::c_uint = 0x40;
    // SAFETY: both paths are static and empty; the descriptors are borrowed for the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            c"".as_ptr(),
            onto.as_raw_fd(),
            c"".as_ptr(),
            FROM_EMPTY | TO_EMPTY,
        )
    })
    .map(drop)
}

/// What mount_setattr(2) takes.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct MountAttributes {
    /// `MOUNT_ATTR_*` to set.
    pub set: u64,
    /// `MOUNT_ATTR_*` to clear.
    pub clear: u64,
    /// `MS_PRIVATE` and the like, or 0.
    pub propagation: u64,
    /// The user namespace of an id-mapped mount.
    pub userns: u64,
}

/// `MOUNT_ATTR_RDONLY`
pub const READ_ONLY: u64 = 0x1;
/// `MOUNT_ATTR_NOSUID`
pub const NO_SUID: u64 = 0x2;
/// `MOUNT_ATTR_NODEV`
pub const NO_DEV: u64 = 0x4;
/// `MOUNT_ATTR_NOEXEC`
pub const NO_EXEC: u64 = 0x8;
/// `MOUNT_ATTR_IDMAP`
pub const ID_MAP: u64 = 0x0010_0000;

/// mount_setattr(2) on the tree that `mount` is the root of.
pub fn set_mount_attributes(mount: BorrowedFd, recursive: bool, attributes: &MountAttributes) -> Sys<()> {
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the structure is `struct mount_attr` version 0 and its size is passed along.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            attributes,
            size_of::<MountAttributes>(),
        )
    })
    .map(drop)
}

/// fsopen(2).
pub fn fs_open(kind: &CStr) -> Sys<OwnedFd> {
    // SAFETY: `kind` is NUL-terminated; FSOPEN_CLOEXEC is 1.
    descriptor(unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), 1) })
}

/// fsconfig(2), `FSCONFIG_SET_STRING`, or `FSCONFIG_SET_FLAG` without a value.
pub fn fs_set(context: BorrowedFd, key: &CStr, value: Option<&CStr>) -> Sys<()> {
    const SET_FLAG: libc::c_uint = 0;
    const SET_STRING: libc::c_uint = 1;
    let (command, pointer) = value.map_or((SET_FLAG, std::ptr::null()), |value| (SET_STRING, value.as_ptr()));
    // SAFETY: key and value are NUL-terminated and outlive the call; a flag takes a null value.
    check(unsafe { libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), command, key.as_ptr(), pointer, 0) })
        .map(drop)
}

/// fsconfig(2) `FSCONFIG_CMD_CREATE` and fsmount(2): the configured file system as a detached mount.
pub fn fs_mount(context: BorrowedFd, attributes: u64) -> Sys<OwnedFd> {
    const CREATE: libc::c_uint = 6;
    let nothing = std::ptr::null::<libc::c_char>();
    // SAFETY: CREATE takes neither key nor value.
    check(unsafe { libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), CREATE, nothing, nothing, 0) })?;
    // SAFETY: plain integers; FSMOUNT_CLOEXEC is 1.
    descriptor(unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), 1, attributes) })
}

/// fsconfig(2), `FSCONFIG_SET_FD`.
pub fn fs_set_file(context: BorrowedFd, key: &CStr, value: BorrowedFd) -> Sys<()> {
    const SET_FD: libc::c_uint = 5;
    let nothing = std::ptr::null::<libc::c_char>();
    // SAFETY: the key is NUL-terminated; a descriptor takes a null value.
    check(unsafe {
        libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), SET_FD, key.as_ptr(), nothing, value.as_raw_fd())
    })
    .map(drop)
}

/// fsconfig(2), `FSCONFIG_CMD_RECONFIGURE`.
pub fn fs_reconfigure(context: BorrowedFd) -> Sys<()> {
    const RECONFIGURE: libc::c_uint = 7;
    let nothing = std::ptr::null::<libc::c_char>();
    // SAFETY: RECONFIGURE takes neither key nor value.
    check(unsafe { libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), RECONFIGURE, nothing, nothing, 0) }).map(drop)
}

/// fspick(2) of the file system at `place`.
pub fn fs_pick(place: BorrowedFd) -> Sys<OwnedFd> {
    const CLOEXEC: libc::c_uint = 1;
    const EMPTY_PATH: libc::c_uint = 8;
    // SAFETY: the path is static and empty.
    descriptor(unsafe { libc::syscall(libc::SYS_fspick, place.as_raw_fd(), c"".as_ptr(), CLOEXEC | EMPTY_PATH) })
}

/// The identifier of the mount that an object lies on, as `mountinfo` has it: statx(2).
pub fn mount_id(object: BorrowedFd) -> Sys<u64> {
    // SAFETY: all zero bytes are a valid statx structure.
    let mut found: libc::statx = unsafe { MaybeUninit::zeroed().assume_init() };
    // SAFETY: the path is NUL-terminated and empty, and the kernel fills the structure.
    check(unsafe {
        libc::syscall(
            libc::SYS_statx,
            object.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            libc::STATX_MNT_ID,
            &raw mut found,
        )
    })?;
    if found.stx_mask & libc::STATX_MNT_ID == 0 { Err(Errno::ENOSYS) } else { Ok(found.stx_mnt_id) }
}

/// umount2(2).
pub fn unmount(path: &CStr, flags: libc::c_int) -> Sys<()> {
    // SAFETY: `path` is NUL-terminated.
    Errno::result(unsafe { libc::umount2(path.as_ptr(), flags) }).map(drop)
}

/// Takes ownership of a descriptor that a control message just brought.
pub fn own_received(fd: RawFd) -> OwnedFd {
    // SAFETY: the kernel has put this descriptor into our table for us, and nobody else knows its number.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// pivot_root(2) of `.` onto itself: the old root ends up mounted on top, to be detached.
pub fn pivot_here() -> Sys<()> {
    // SAFETY: static strings.
    check(unsafe { libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) }).map(drop)
}

/// umount2(2) of `.`, lazily.
pub fn detach_here() -> Sys<()> {
    // SAFETY: static string.
    Errno::result(unsafe { libc::umount2(c".".as_ptr(), libc::MNT_DETACH) }).map(drop)
}

/// openat2(2).
pub fn open_at(at: Option<BorrowedFd>, path: &CStr, flags: i32, mode: u32, resolve: u64) -> Sys<OwnedFd> {
    let how = [u64::from(flags.cast_unsigned()), u64::from(mode), resolve];
    // SAFETY: `how` has the layout of `struct open_how` (three u64) and its size is passed.
    descriptor(unsafe { libc::syscall(libc::SYS_openat2, raw(at), path.as_ptr(), how.as_ptr(), size_of::<[u64; 3]>()) })
}

/// unshare(2).
pub fn unshare(flags: libc::c_int) -> Sys<()> {
    // SAFETY: changes this process's namespaces only.
    Errno::result(unsafe { libc::unshare(flags) }).map(drop)
}

/// Enters the namespace behind an open `/proc/PID/ns/...`, setns(2). Of a mount namespace the root becomes root and working
/// directory; in a user namespace that a parent of it enters, it has all capabilities.
pub fn join(namespace: BorrowedFd) -> Sys<()> {
    // SAFETY: changes this process's namespaces only.
    Errno::result(unsafe { libc::setns(namespace.as_raw_fd(), 0) }).map(drop)
}

/// prctl(2) with integer arguments.
pub fn prctl(option: libc::c_int, a: u64, b: u64) -> Sys<i32> {
    // SAFETY: the options used here take integers, no pointers.
    Errno::result(unsafe { libc::prctl(option, a, b, 0, 0) })
}

/// The three sets of capget(2) and capset(2), each 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Capabilities {
    /// In force.
    pub effective: u64,
    /// May be put in force.
    pub permitted: u64,
    /// Kept across exec by files that ask for it.
    pub inheritable: u64,
}

const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

/// capset(2) for this thread.
#[allow(clippy::cast_possible_truncation)] // the call takes low and high halves
pub fn set_capabilities(wanted: Capabilities) -> Sys<()> {
    let header = [CAPABILITY_VERSION_3, 0];
    let half = |shift: u32| {
        [wanted.effective >> shift, wanted.permitted >> shift, wanted.inheritable >> shift].map(|set| set as u32)
    };
    let data = [half(0), half(32)];
    // SAFETY: header and data have the layout of version 3: two u32, and two times three u32.
    check(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()) }).map(drop)
}

/// capget(2) for this thread.
pub fn capabilities() -> Sys<Capabilities> {
    let header = [CAPABILITY_VERSION_3, 0];
    let mut data = [[0u32; 3]; 2];
    // SAFETY: as above; the kernel fills `data`.
    check(unsafe { libc::syscall(libc::SYS_capget, header.as_ptr(), data.as_mut_ptr()) })?;
    let whole = |set: usize| u64::from(data[0][set]) | u64::from(data[1][set]) << 32;
    Ok(Capabilities { effective: whole(0), permitted: whole(1), inheritable: whole(2) })
}

/// Loads a seccomp filter; with `SECCOMP_FILTER_FLAG_NEW_LISTENER` among `flags` the listener is returned.
pub fn load_filter(program: &[Instruction], flags: libc::c_ulong) -> Sys<Option<OwnedFd>> {
    let len = u16::try_from(program.len()).map_err(|_| Errno::E2BIG)?;
    let program = libc::sock_fprog { len, filter: program.as_ptr().cast_mut().cast() };
    // SAFETY: `Instruction` has the layout of `struct sock_filter`; the kernel only reads the program.
    let result = check(unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, std::ptr::from_ref(&program))
    })?;
    if flags & libc::SECCOMP_FILTER_FLAG_NEW_LISTENER as libc::c_ulong != 0 {
        return descriptor(result).map(Some);
    }
    Ok(None)
}

/// close_range(2) with `CLOSE_RANGE_CLOEXEC`: everything from `first` on is closed by exec.
pub fn close_on_exec_from(first: u32) -> Sys<()> {
    const CLOEXEC: libc::c_uint = 4;
    // SAFETY: marks descriptors; no memory effects.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, CLOEXEC) }).map(drop)
}

/// Closes every descriptor in `first..=last`.
pub fn close_range(first: u32, last: u32) {
    if first > last {
        return;
    }
    // SAFETY: the caller owns no `OwnedFd` in the range that it will use again.
    let _ = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
}

/// Landlock: makes a domain that handles nothing but the scopes in `scoped`, and enters it.
pub fn enter_scopes(scoped: u64) -> Sys<()> {
    landlock_enter(landlock_ruleset(0, 0, scoped)?.as_fd())
}

/// landlock_create_ruleset(2): a domain in which what it handles is refused unless a rule allows it.
pub fn landlock_ruleset(files: u64, network: u64, scoped: u64) -> Sys<OwnedFd> {
    let attributes = [files, network, scoped];
    // SAFETY: three u64 are `struct landlock_ruleset_attr` since ABI 6, and the size is passed; older kernels take it as
    // long as what they do not know is zero.
    descriptor(unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, attributes.as_ptr(), size_of::<[u64; 3]>(), 0)
    })
}

/// landlock_add_rule(2), `LANDLOCK_RULE_PATH_BENEATH`: allows `rights` on `object` and what lies beneath it.
pub fn landlock_allow(ruleset: BorrowedFd, rights: u64, object: BorrowedFd) -> Sys<()> {
    const PATH_BENEATH: libc::c_int = 1;
    // `struct landlock_path_beneath_attr` is packed.
    let mut rule = [0; 12];
    rule[..8].copy_from_slice(&rights.to_ne_bytes());
    rule[8..].copy_from_slice(&object.as_raw_fd().to_ne_bytes());
    // SAFETY: the kernel reads the twelve bytes of the rule.
    check(unsafe { libc::syscall(libc::SYS_landlock_add_rule, ruleset.as_raw_fd(), PATH_BENEATH, rule.as_ptr(), 0) })
        .map(drop)
}

/// landlock_restrict_self(2).
pub fn landlock_enter(ruleset: BorrowedFd) -> Sys<()> {
    // SAFETY: plain integers.
    check(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0) }).map(drop)
}

/// Landlock's version.
pub fn landlock_version() -> Sys<u32> {
    const VERSION: libc::c_uint = 1;
    let none = std::ptr::null::<u8>();
    // SAFETY: with this flag the kernel takes no structure and only returns a number.
    let version = check(unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, none, 0_usize, VERSION) })?;
    u32::try_from(version).map_err(|_| Errno::EOVERFLOW)
}

/// setrlimit(2) with soft and hard limit.
pub fn set_limit(resource: u32, soft: u64, hard: u64) -> Sys<()> {
    let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
    // SAFETY: passes a valid structure.
    Errno::result(unsafe { libc::setrlimit(resource as libc::__rlimit_resource_t, &raw const limit) }).map(drop)
}

/// getrlimit(2): soft and hard limit.
pub fn limit(resource: u32) -> Sys<(u64, u64)> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel fills the structure.
    Errno::result(unsafe { libc::getrlimit(resource as libc::__rlimit_resource_t, &raw mut limit) })?;
    Ok((limit.rlim_cur, limit.rlim_max))
}

/// Brings up the loopback interface of this network namespace.
#[allow(clippy::cast_possible_truncation)] // IFF_UP is 1
pub fn loopback_up(socket: BorrowedFd) -> Sys<()> {
    // SAFETY: an all-zero ifreq is valid.
    let mut request: libc::ifreq = unsafe { MaybeUninit::zeroed().assume_init() };
    for (slot, byte) in request.ifr_name.iter_mut().zip(b"lo") {
        *slot = byte.cast_signed() as libc::c_char;
    }
    // SAFETY: SIOCGIFFLAGS fills, SIOCSIFFLAGS reads, an ifreq; reading the flags is reading the union's active field.
    unsafe {
        Errno::result(libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS as _, &raw mut request))?;
        request.ifr_ifru.ifru_flags |= libc::IFF_UP as libc::c_short;
        Errno::result(libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request)).map(drop)
    }
}

/// Makes `tty` the controlling terminal of our session (`TIOCSCTTY`).
pub fn set_controlling_terminal(tty: BorrowedFd) -> Sys<()> {
    // SAFETY: the ioctl takes an integer.
    Errno::result(unsafe { libc::ioctl(tty.as_raw_fd(), libc::TIOCSCTTY as _, 0) }).map(drop)
}

/// Unlocks the other end of a pseudo-terminal and opens it (`TIOCSPTLCK`, `TIOCGPTPEER`), without a path.
pub fn open_peer(master: BorrowedFd) -> Sys<OwnedFd> {
    let unlock: libc::c_int = 0;
    // SAFETY: TIOCSPTLCK reads an int; TIOCGPTPEER takes flags and returns a descriptor.
    unsafe {
        Errno::result(libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK as _, &raw const unlock))?;
        let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
        descriptor(libc::c_long::from(libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER as _, flags)))
    }
}

/// The window size of a terminal.
pub fn window_size(tty: BorrowedFd) -> Sys<libc::winsize> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ fills a winsize.
    Errno::result(unsafe { libc::ioctl(tty.as_raw_fd(), libc::TIOCGWINSZ as _, &raw mut size) })?;
    Ok(size)
}

/// Sets the window size of a terminal; the foreground group gets `SIGWINCH`.
pub fn set_window_size(tty: BorrowedFd, size: &libc::winsize) -> Sys<()> {
    // SAFETY: TIOCSWINSZ reads a winsize.
    Errno::result(unsafe { libc::ioctl(tty.as_raw_fd(), libc::TIOCSWINSZ as _, std::ptr::from_ref(size)) }).map(drop)
}

/// Bytes waiting in a pipe (`FIONREAD`).
pub fn waiting_bytes(fd: BorrowedFd) -> Sys<usize> {
    let mut count: libc::c_int = 0;
    // SAFETY: FIONREAD fills an int.
    Errno::result(unsafe { libc::ioctl(fd.as_raw_fd(), libc::FIONREAD as _, &raw mut count) })?;
    usize::try_from(count).map_err(|_| Errno::EOVERFLOW)
}

/// execve(2); returns only on failure.
pub fn execute(path: &CStr, arguments: &[*const libc::c_char], environment: &[*const libc::c_char]) -> Errno {
    debug_assert!(arguments.last().is_some_and(|last| last.is_null()));
    debug_assert!(environment.last().is_some_and(|last| last.is_null()));
    // SAFETY: both arrays end with a null pointer and point to C strings that live as long as the process image.
    unsafe { libc::execve(path.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    Errno::last()
}

/// Duplicates `from` onto the number `to`, without close-on-exec.
pub fn place_descriptor(from: RawFd, to: RawFd) -> Sys<()> {
    // SAFETY: `to` is one of 0, 1, 2, which no `OwnedFd` of ours owns.
    Errno::result(unsafe { libc::dup2(from, to) }).map(drop)
}

/// Puts every signal back to its default action.
pub fn default_signals() {
    for signal in 1..=64 {
        // SAFETY: SIG_DFL is valid for every signal; the calls that fail (SIGKILL, SIGSTOP, glibc's own) change nothing.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

/// Whether this process ignores a signal: sigaction(2).
pub fn ignores_signal(signal: libc::c_int) -> Sys<bool> {
    // SAFETY: all zero bytes are a valid sigaction, which the kernel fills; nothing is changed.
    unsafe {
        let mut action: libc::sigaction = MaybeUninit::zeroed().assume_init();
        Errno::result(libc::sigaction(signal, std::ptr::null(), &raw mut action))?;
        Ok(action.sa_sigaction == libc::SIG_IGN)
    }
}

/// Ignores a signal from here on.
pub fn ignore_signal(signal: libc::c_int) -> Sys<()> {
    // SAFETY: SIG_IGN is valid for every signal that can be ignored.
    if unsafe { libc::signal(signal, libc::SIG_IGN) } == libc::SIG_ERR { Err(Errno::last()) } else { Ok(()) }
}

/// Adds a process to its own CPU set: sched_setaffinity(2) with the CPUs in `cpus`.
pub fn set_affinity(cpus: &[usize]) -> Sys<()> {
    // SAFETY: an all-zero cpu_set_t is the empty set; CPU_SET checks its bounds.
    unsafe {
        let mut set: libc::cpu_set_t = MaybeUninit::zeroed().assume_init();
        for &cpu in cpus.iter().filter(|&&cpu| cpu < libc::CPU_SETSIZE as usize) {
            libc::CPU_SET(cpu, &mut set);
        }
        Errno::result(libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set)).map(drop)
    }
}

/// The CPUs this process may run on.
pub fn affinity() -> Sys<Vec<usize>> {
    // SAFETY: the kernel fills the set; CPU_ISSET checks its bounds.
    unsafe {
        let mut set: libc::cpu_set_t = MaybeUninit::zeroed().assume_init();
        Errno::result(libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set))?;
        Ok((0..libc::CPU_SETSIZE as usize).filter(|&cpu| libc::CPU_ISSET(cpu, &set)).collect())
    }
}

/// kill(2), also to groups and to everything (`-1`).
pub fn kill(pid: libc::pid_t, signal: i32) -> Sys<()> {
    // SAFETY: no memory effects.
    Errno::result(unsafe { libc::kill(pid, signal) }).map(drop)
}

/// One of the descriptors 0, 1, 2, which nobody in this process owns. Looking at a closed one is `EBADF`.
pub fn standard(number: RawFd) -> BorrowedFd<'static> {
    debug_assert!((0..=2).contains(&number));
    // SAFETY: nothing here closes these, and a number that is not open is only handed to calls that report EBADF.
    unsafe { BorrowedFd::borrow_raw(number) }
}

/// pidfd_send_signal(2).
pub fn signal_process(process: BorrowedFd, signal: i32) -> Sys<()> {
    let nothing = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: without a siginfo the kernel makes its own.
    check(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, process.as_raw_fd(), signal, nothing, 0) }).map(drop)
}

/// Of which kind a namespace is, `CLONE_NEW*`: ioctl_nsfs(2), `NS_GET_NSTYPE`.
pub fn namespace_kind(namespace: BorrowedFd) -> Sys<i32> {
    const GET_KIND: libc::c_ulong = 0xb703;
    // SAFETY: the ioctl takes no argument and returns a number; on any other file it fails.
    Errno::result(unsafe { libc::ioctl(namespace.as_raw_fd(), GET_KIND as _) })
}

/// execveat(2) of an open file; returns only on failure.
pub fn execute_file(file: BorrowedFd, arguments: &[std::ffi::CString], environment: &[std::ffi::CString]) -> Errno {
    let pointers = |strings: &[std::ffi::CString]| -> Vec<*const libc::c_char> {
        strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (arguments, environment) = (pointers(arguments), pointers(environment));
    // SAFETY: both arrays end with a null pointer and point to C strings that live until the call returns.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            file.as_raw_fd(),
            c"".as_ptr(),
            arguments.as_ptr(),
            environment.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    Errno::last()
}
