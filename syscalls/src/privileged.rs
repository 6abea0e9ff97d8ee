//! What only an administrator of the host should do, and interfaces that are gone.
//!
//! The guest has no capability, so the kernel would refuse most of these itself. They are refused here because the code
//! behind them is large, rarely used, or has a history: what is not reachable cannot be exploited.

crate::syscalls! {
    /// Loads and controls programs in the kernel; fails with `EPERM`.
    bpf(command: Int, attributes: UserPtr, size: Uint) Privileged Compat Errno(EPERM);
    /// Counts events of processors and kernel; fails with `EACCES`, as where `perf_event_paranoid` forbids it.
    perf_event_open(attributes: UserPtr, process: Pid, cpu: Int, group: Fd, flags: Word)
        Privileged Compat Errno(EACCES);
    /// Puts a key into a kernel keyring, which no namespace separates from the host's; fails with `ENOSYS`.
    add_key(kind: UserPtr, description: UserPtr, payload: UserPtr, length: Size, keyring: Int)
        Privileged Compat Errno(ENOSYS);
    /// Asks for a key, running a program of the host to make it; fails with `ENOSYS`.
    request_key(kind: UserPtr, description: UserPtr, information: UserPtr, keyring: Int)
        Privileged Compat Errno(ENOSYS);
    /// Controls kernel keyrings, which no namespace separates from the host's; fails with `ENOSYS`.
    keyctl(operation: Int, a: Word, b: Word, c: Word, d: Word) Privileged Compat Errno(ENOSYS);

    /// Loads a kernel to start next; fails with `EPERM`.
    kexec_load(entry: Word, count: Word, segments: UserPtr, flags: Word) Privileged Compat Errno(EPERM);
    /// Loads a kernel to start next, from files; fails with `EPERM`.
    kexec_file_load(kernel: Fd, initrd: Fd, length: Word, command_line: UserPtr, flags: Word)
        Privileged Compat Errno(EPERM);
    /// Loads a kernel module; fails with `EPERM`.
    init_module(image: UserPtr, length: Size, parameters: UserPtr) Privileged Compat Errno(EPERM);
    /// Loads a kernel module from a file; fails with `EPERM`.
    finit_module(file: Fd, parameters: UserPtr, flags: Flags) Privileged Compat Errno(EPERM);
    /// Removes a kernel module; fails with `EPERM`.
    delete_module(name: UserPtr, flags: Flags) Privileged Compat Errno(EPERM);
    /// Restarts or halts the machine; fails with `EPERM`.
    reboot(magic: Int, magic2: Int, command: Uint, argument: UserPtr) Privileged Compat Errno(EPERM);
    /// Begins swapping to a file; fails with `EPERM`.
    swapon(path: PathPtr, flags: Flags) Privileged Compat Errno(EPERM);
    /// Ends swapping to a file; fails with `EPERM`.
    swapoff(path: PathPtr) Privileged Compat Errno(EPERM);
    /// Controls disk quotas; fails with `EPERM`.
    quotactl(command: Uint, device: PathPtr, id: Id, argument: UserPtr) Privileged Compat Errno(EPERM);
    /// Controls disk quotas of the file system behind a descriptor; fails with `EPERM`.
    quotactl_fd(fd: Fd, command: Uint, id: Id, argument: UserPtr) Privileged Compat Errno(EPERM);
    /// Writes a record of every process that ends; fails with `EPERM`.
    acct(path: PathPtr) Privileged Compat Errno(EPERM);
    /// Reads and clears the kernel's log, which tells addresses and events of the host; fails with `EPERM`.
    syslog(kind: Int, buffer: UserPtr, length: Int) Privileged Compat Errno(EPERM);
    /// Hangs up the terminal; fails with `EPERM`.
    vhangup() Privileged Compat Errno(EPERM);
    /// Gives access to all input and output ports; fails with `EPERM`.
    iopl(level: Uint) Privileged Compat Errno(EPERM);
    /// Gives access to some input and output ports; fails with `EPERM`.
    ioperm(from: Word, count: Word, on: Int) Privileged Compat Errno(EPERM);
    /// Changes the descriptor table of the processor, a way to 16-bit code; fails with `EPERM`.
    modify_ldt(operation: Int, buffer: UserPtr, size: Size) Privileged Compat Errno(EPERM);
    /// Watches whole file systems and may delay other programs; fails with `EPERM`.
    fanotify_init(flags: Flags, event_flags: Flags) Privileged Compat Errno(EPERM);
    /// Chooses what a fanotify group watches; fails with `EPERM`, for there can be no such group.
    fanotify_mark(group: Fd, flags: Flags, mask: Word, at: DirFd, path: PathPtr) Privileged Compat Errno(EPERM);
    /// Resolved cookies of the old profiler; gone from the kernel, fails with `ENOSYS`.
    lookup_dcookie(cookie: Word, buffer: UserPtr, length: Size) Privileged Compat Errno(ENOSYS);
    /// Returns from a function that a probe of the host watches; only the kernel's own trampoline may call it.
    /// Fails with `ENOSYS`. Since Linux 6.14 the trampoline's call is not shown to filters, so probes keep working.
    uretprobe() Privileged Compat Errno(ENOSYS);
    /// Enters a probe of the host; only the kernel's own trampoline may call it.
    /// Fails with `ENOSYS`. The trampoline's call is not shown to filters, so probes keep working.
    uprobe() Privileged Compat Errno(ENOSYS);

    /// Served the old in-kernel NFS daemon; gone from the kernel, fails with `ENOSYS`.
    nfsservctl() Privileged Compat Errno(ENOSYS);
    /// Made an entry for a kernel module; gone from the kernel, fails with `ENOSYS`.
    create_module() Privileged Compat Errno(ENOSYS);
    /// Listed kernel symbols; gone from the kernel, fails with `ENOSYS`.
    get_kernel_syms() Privileged Compat Errno(ENOSYS);
    /// Described a kernel module; gone from the kernel, fails with `ENOSYS`.
    query_module() Privileged Compat Errno(ENOSYS);
    /// Reserved for the Andrew File System, never used; fails with `ENOSYS`.
    afs_syscall() Privileged Compat Errno(ENOSYS);
    /// Reserved for a web server in the kernel, never used; fails with `ENOSYS`.
    tuxcall() Privileged Compat Errno(ENOSYS);
    /// Reserved for security modules, never used; fails with `ENOSYS`.
    security() Privileged Compat Errno(ENOSYS);
    /// Reserved for virtual servers, never used; fails with `ENOSYS`.
    vserver() Privileged Compat Errno(ENOSYS);
}
