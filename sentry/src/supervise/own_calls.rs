//! The syscalls that the supervisor itself needs: its own filter allows these and kills it for any other.
//!
//! What is not here is what a hijacked supervisor cannot do: no exec, no sockets of its own, no mounts, no ptrace(2), no
//! signals to others.

/// Needed by every policy: memory, threads, waiting, the listener's ioctls, looking at guests.
pub const ALWAYS: &[&str] = &[
    "brk",
    "clock_gettime",
    "clock_nanosleep",
    "clone",
    "clone3",
    "close",
    "epoll_pwait",
    "exit",
    "exit_group",
    "fcntl",
    "fstat",
    "futex",
    "getdents64",
    "geteuid",
    "getpid",
    "getrandom",
    "gettid",
    "ioctl",
    "lseek",
    "madvise",
    "mmap",
    "mprotect",
    "mremap",
    "munmap",
    "newfstatat",
    "openat",
    "openat2",
    "pidfd_getfd",
    "pidfd_open",
    "poll",
    "ppoll",
    "prlimit64",
    "process_vm_readv",
    "process_vm_writev",
    "read",
    "readlinkat",
    "restart_syscall",
    "rseq",
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "sched_getaffinity",
    "sched_yield",
    "sendmsg",
    "set_robust_list",
    "sigaltstack",
    "statx",
    "tgkill",
    "umask",
    "unshare",
    "wait4",
    "write",
    // Emulated: reading the clock's state, opening with openat2, looking for what a program missed.
    "adjtimex",
    "clock_adjtime",
    "faccessat",
    "faccessat2",
    "fstatfs",
    // Emulated: calls that make, change and remove files by their path.
    "chdir",
    "fchdir",
];

/// Needed when names are protected: the calls that make and move names are done by the supervisor.
/// The C library turns a `renameat2` without flags into a `renameat`.
pub const FOR_NAMES: &[&str] =
    &["bind", "fchownat", "linkat", "mkdirat", "mknodat", "renameat", "renameat2", "symlinkat", "unlinkat"];

/// Needed when there are copy-on-write directories: a directory that is moved by us looks like the old one.
pub const FOR_COPIES: &[&str] = &["fchmod", "fgetxattr", "flistxattr", "fsetxattr", "utimensat"];

/// Needed when every path goes through the supervisor: what changes an object's metadata, and what tells about it.
pub const FOR_PATHS: &[&str] = &[
    "fchmod",
    "fchmodat",
    "fchmodat2",
    "fchown",
    "fgetxattr",
    "fremovexattr",
    "fsetxattr",
    "ftruncate",
    "getdents",
    "getxattr",
    "inotify_add_watch",
    "lgetxattr",
    "listxattr",
    "llistxattr",
    "lremovexattr",
    "lsetxattr",
    "removexattr",
    "setxattr",
    "tkill",
    "utimensat",
];

/// Needed when the guest is root for itself: it may change its root, in which its paths are walked then; its servers ask who
/// their peers are; and files have records.
pub const FOR_FAKE_ROOT: &[&str] =
    &["chroot", "flistxattr", "getpeername", "getxattrat", "removexattrat", "setxattrat"];

/// Needed when sockets in grants are decided by the supervisor.
pub const FOR_SOCKETS: &[&str] = &["connect", "getsockname", "getsockopt", "sendto"];
