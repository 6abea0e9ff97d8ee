//! The syscalls that the supervisor itself needs: its own filter allows these and kills it for any other.
//!
//! What is not here is what a hijacked supervisor cannot do: no exec, no sockets of its own, no mounts, no signals to
//! others, and no ptrace(2) but with a pretended clock or where it is the platform.

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

/// Needed when user namespaces are pretended: their id maps are files in memory.
pub const FOR_NAMESPACES: &[&str] = &["memfd_create", "pread64"];

/// Needed when names are protected: the calls that make and move names are done by the supervisor.
/// The C library turns a `renameat2` without flags into a `renameat`.
pub const FOR_NAMES: &[&str] =
    &["bind", "fchownat", "linkat", "mkdirat", "mknodat", "renameat", "renameat2", "symlinkat", "unlinkat"];

/// Needed when guests are traced instead of listened to; waiting for them is among what is always needed.
pub const FOR_TRACING: &[&str] = &["ptrace"];

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

/// Needed when the guest has a range of ids: to be its task for a while, and what is done then.
pub const FOR_REAL_IDS: &[&str] =
    &["capset", "chroot", "fchmod", "fchmodat", "fchmodat2", "getgroups", "setgroups", "setresgid", "setresuid"];

/// Needed when the guest is a container: more listeners come, devices are made, and it is ended when nobody writes its log.
pub const FOR_CONTAINERS: &[&str] = &["mknodat", "pidfd_send_signal", "recvmsg", "unlinkat"];

/// Needed when sockets in grants are decided by the supervisor.
pub const FOR_SOCKETS: &[&str] = &["connect", "getsockname", "getsockopt", "sendto"];

/// Needed when the guest is told of another kernel or of less memory: what the host's are.
pub const FOR_NUMBERS: &[&str] = &["sysinfo", "uname"];

/// Needed when files are written anew for each open.
pub const FOR_LIVE_FILES: &[&str] = &["memfd_create"];
/// Needed when the sandbox has a clock of its own: programs are stopped at their exec and patched, timers are set.
pub const FOR_CLOCK: &[&str] = &["pread64", "ptrace", "pwrite64", "timerfd_settime"];
