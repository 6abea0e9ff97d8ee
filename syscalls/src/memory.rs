//! Address spaces.
//!
//! A program's own memory is its own business. Refused is what poisons pages of the host, moves pages between its
//! memory nodes, hides memory from everyone, or hands page faults to user space, which turns kernel races into reliable
//! exploits.

use nix::errno::Errno;

use crate::table::{Check, Op, Test, Verdict};

/// `MADV_HWPOISON` and `MADV_SOFT_OFFLINE` take pages of the host out of use.
const ADVICE: &[Check] = &[
    Check { all: &[Test { arg: 2, op: Op::Equal(100) }], then: Verdict::Fail(Errno::EPERM) },
    Check { all: &[Test { arg: 2, op: Op::Equal(101) }], then: Verdict::Fail(Errno::EPERM) },
];

crate::syscalls! {
    /// Maps a file or anonymous memory.
    mmap(address: UserPtr, length: Size, protection: Word, flags: Word, fd: Fd, offset: Offset) Memory Judge Allow;
    /// Unmaps memory.
    munmap(address: UserPtr, length: Size) Memory Judge Allow;
    /// Moves or resizes a mapping.
    mremap(address: UserPtr, length: Size, new_length: Size, flags: Word, new_address: UserPtr) Memory Judge Allow;
    /// Changes what may be done with memory.
    mprotect(address: UserPtr, length: Size, protection: Word) Memory Judge Allow;
    /// Moves the end of the heap.
    brk(end: UserPtr) Memory Judge Allow;
    /// Says how memory will be used.
    /// `MADV_HWPOISON` and `MADV_SOFT_OFFLINE` fail with `EPERM`: they take memory of the host out of use.
    madvise(address: UserPtr, length: Size, advice: Int) Memory Judge Filter(ADVICE);
    /// Says how another process of the sandbox will use its memory.
    /// Refused everywhere: few programs use it, and they have another way.
    process_madvise(process: Fd, vectors: UserPtr, count: Size, advice: Int, flags: Flags) Memory Compat Errno(ENOSYS);
    /// Frees the memory of a dying process of the sandbox.
    /// Refused everywhere: few programs use it, and they have another way.
    process_mrelease(process: Fd, flags: Flags) Memory Compat Errno(ENOSYS);
    /// Writes a mapped file back.
    msync(address: UserPtr, length: Size, flags: Flags) Memory Judge Allow;
    /// Says which pages are in memory.
    mincore(address: UserPtr, length: Size, pages: UserPtr) Memory Compat Allow;
    /// Keeps memory from being swapped out, within `RLIMIT_MEMLOCK`.
    mlock(address: UserPtr, length: Size) Memory Default Allow;
    /// Keeps memory from being swapped out once it is touched, within `RLIMIT_MEMLOCK`.
    mlock2(address: UserPtr, length: Size, flags: Flags) Memory Compat Allow;
    /// Lets memory be swapped out again.
    munlock(address: UserPtr, length: Size) Memory Default Allow;
    /// Keeps all memory from being swapped out, within `RLIMIT_MEMLOCK`.
    mlockall(flags: Flags) Memory Compat Allow;
    /// Lets all memory be swapped out again.
    munlockall() Memory Compat Allow;
    /// Forbids all later changes of a mapping.
    mseal(address: UserPtr, length: Size, flags: Word) Memory Compat Allow;
    /// Orders memory accesses between threads.
    membarrier(command: Int, flags: Uint, cpu: Int) Memory Default Allow;
    /// Changes what may be done with memory, and its protection key.
    pkey_mprotect(address: UserPtr, length: Size, protection: Word, key: Int) Memory Compat Allow;
    /// Takes a memory protection key.
    pkey_alloc(flags: Word, rights: Word) Memory Compat Allow;
    /// Gives a memory protection key back.
    pkey_free(key: Int) Memory Compat Allow;
    /// Makes a file that lives in memory and has no name.
    memfd_create(name: UserPtr, flags: Flags) Memory Default Allow;
    /// Makes memory that not even the kernel maps.
    /// Fails with `ENOSYS`: the sentry could not see what a call refers to.
    memfd_secret(flags: Flags) Memory Compat Errno(ENOSYS);
    /// Maps a file's pages out of order; superseded, fails with `ENOSYS`.
    remap_file_pages(address: UserPtr, size: Size, protection: Word, page: Word, flags: Word)
        Memory Compat Errno(ENOSYS);
    /// Makes a shadow stack for a thread.
    map_shadow_stack(address: UserPtr, size: Size, flags: Flags) Memory Compat Allow;
    /// Hands page faults to user space; fails with `EPERM`, for it lets a program stop the kernel at a place of its choice.
    userfaultfd(flags: Flags) Memory Compat Errno(EPERM);
    /// Reads the memory policy of a thread or an address.
    get_mempolicy(mode: UserPtr, nodes: UserPtr, count: Word, address: UserPtr, flags: Word) Memory Compat Allow;
    /// Sets the calling thread's memory policy.
    set_mempolicy(mode: Int, nodes: UserPtr, count: Word) Memory Compat Allow;
    /// Sets the home node of a range under a memory policy.
    /// Refused everywhere: few programs use it, and they have another way.
    set_mempolicy_home_node(address: UserPtr, length: Size, node: Word, flags: Word) Memory Compat Errno(ENOSYS);
    /// Sets the memory policy of a range; fails with `EPERM`, for placement belongs to the host.
    mbind(address: UserPtr, length: Size, mode: Word, nodes: UserPtr, count: Word, flags: Flags)
        Memory Compat Errno(EPERM);
    /// Moves a process to other memory nodes; fails with `EPERM`, for placement belongs to the host.
    migrate_pages(process: Pid, count: Word, from: UserPtr, to: UserPtr) Memory Compat Errno(EPERM);
    /// Says where pages are, or moves them; fails with `EPERM`, for placement belongs to the host.
    move_pages(process: Pid, count: Word, pages: UserPtr, nodes: UserPtr, status: UserPtr, flags: Flags)
        Memory Compat Errno(EPERM);
}
