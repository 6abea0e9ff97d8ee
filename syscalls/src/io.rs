//! Reading, writing and waiting on descriptors the guest already has.
//!
//! A descriptor was judged when it was opened or handed in, so what is done through it is the kernel's business. What is
//! kept away here are requests that reach past the descriptor: typing into a terminal, reconfiguring a network
//! interface, freezing a file system, and rings that would make calls behind the filter's back.

use crate::table::{Check, Op, Test, Verdict};
use nix::errno::Errno;

/// Which argument of `ioctl(2)` is the request.
const REQUEST: usize = 1;

const fn request(op: Op) -> Test {
    Test { arg: REQUEST, op }
}

const fn refuse(all: &'static [Test]) -> Check {
    Check { all, then: Verdict::Fail(Errno::EPERM) }
}

const fn allow(all: &'static [Test]) -> Check {
    Check { all, then: Verdict::Allow }
}

/// One request.
const fn exactly(number: u64) -> Test {
    request(Op::Equal(number))
}

/// The sixteen requests that begin at `first`.
const fn sixteen(first: u64) -> Test {
    request(Op::Masked { mask: 0xFFFF_FFF0, value: first })
}

/// `ioctl(2)` requests, masked to 32 bits as the kernel does (CVE-2019-10063 and its like were a compare of 64).
///
/// Ordered so that what programs ask of terminals and files all day is through after a few comparisons.
macro_rules! requests {
    ($($first:expr,)*) => {
        &[
            $($first,)*
            refuse(&[exactly(0x5412)]), // TIOCSTI: types into the terminal
            refuse(&[exactly(0x541C)]), // TIOCLINUX: pastes, reads the console
            refuse(&[exactly(0x5423)]), // TIOCSETD: loads line disciplines, a rich source of kernel bugs
            refuse(&[exactly(0x541D)]), // TIOCCONS: redirects the console
            refuse(&[exactly(0x5437)]), // TIOCVHANGUP
            allow(&[request(Op::Masked { mask: 0xFFFF_FF00, value: 0x5400 })]),
            refuse(&[exactly(0xC004_5877)]), // FIFREEZE
            refuse(&[exactly(0xC004_5878)]), // FITHAW
            refuse(&[exactly(0xC018_5879)]), // FITRIM
            allow(&[request(Op::Greater(0x89FF))]),
            refuse(&[exactly(0x890B)]), // SIOCADDRT
            refuse(&[exactly(0x890C)]), // SIOCDELRT
            refuse(&[exactly(0x8911)]), // SIOCSIFLINK
            refuse(&[exactly(0x8914)]), // SIOCSIFFLAGS
            refuse(&[exactly(0x8916)]), // SIOCSIFADDR
            refuse(&[exactly(0x8918)]), // SIOCSIFDSTADDR
            refuse(&[exactly(0x891A)]), // SIOCSIFBRDADDR
            refuse(&[exactly(0x891C)]), // SIOCSIFNETMASK
            refuse(&[exactly(0x891E)]), // SIOCSIFMETRIC
            refuse(&[exactly(0x8920)]), // SIOCSIFMEM
            refuse(&[exactly(0x8922)]), // SIOCSIFMTU
            refuse(&[exactly(0x8923)]), // SIOCSIFNAME
            refuse(&[exactly(0x8924)]), // SIOCSIFHWADDR
            refuse(&[exactly(0x8926)]), // SIOCSIFENCAP
            refuse(&[exactly(0x8930)]), // SIOCSIFSLAVE
            refuse(&[exactly(0x8931)]), // SIOCADDMULTI
            refuse(&[exactly(0x8932)]), // SIOCDELMULTI
            refuse(&[exactly(0x8934)]), // SIOCSIFPFLAGS
            refuse(&[exactly(0x8936)]), // SIOCDIFADDR
            refuse(&[exactly(0x8937)]), // SIOCSIFHWBROADCAST
            refuse(&[exactly(0x8941)]), // SIOCSIFBR
            refuse(&[exactly(0x8943)]), // SIOCSIFTXQLEN
            refuse(&[exactly(0x8946)]), // SIOCETHTOOL
            refuse(&[exactly(0x8949)]), // SIOCSMIIREG
            refuse(&[exactly(0x8953)]), // SIOCDARP
            refuse(&[exactly(0x8955)]), // SIOCSARP
            refuse(&[exactly(0x8960)]), // SIOCDRARP
            refuse(&[exactly(0x8962)]), // SIOCSRARP
            refuse(&[exactly(0x8971)]), // SIOCSIFMAP
            refuse(&[sixteen(0x8980)]), // DLCI and VLAN: SIOCADDDLCI, SIOCSIFVLAN
            refuse(&[sixteen(0x8990)]), // SIOCBOND*
            refuse(&[sixteen(0x89A0)]), // SIOCBR*
            refuse(&[exactly(0x89B0)]), // SIOCSHWTSTAMP
            refuse(&[sixteen(0x89E0)]), // SIOCPROTOPRIVATE
            refuse(&[sixteen(0x89F0)]), // SIOCDEVPRIVATE
        ]
    };
}
const REQUESTS: &[Check] = requests!();
/// While paths are judged: attributes of a file that may only be read are set by these, whatever it was opened for.
const REQUESTS_JUDGED: &[Check] = requests!(
    refuse(&[exactly(0x4008_6602)]), // FS_IOC_SETFLAGS
    refuse(&[exactly(0x401C_5820)]), // FS_IOC_FSSETXATTR
    refuse(&[exactly(0x4008_7602)]), // FS_IOC_SETVERSION
    refuse(&[exactly(0x4008_6604)]), // EXT4_IOC_SETVERSION
    refuse(&[exactly(0x4080_6685)]), // FS_IOC_ENABLE_VERITY
    refuse(&[exactly(0x800C_6613)]), // FS_IOC_SET_ENCRYPTION_POLICY
    refuse(&[exactly(0x4004_7211)]), // FAT_IOCTL_SET_ATTRIBUTES
    refuse(&[exactly(0x5000_940E)]), // BTRFS_IOC_SUBVOL_CREATE: makes a name in a directory that is open for reading
    refuse(&[exactly(0x5000_9418)]), // BTRFS_IOC_SUBVOL_CREATE_V2
    refuse(&[exactly(0x5000_9401)]), // BTRFS_IOC_SNAP_CREATE
    refuse(&[exactly(0x5000_9417)]), // BTRFS_IOC_SNAP_CREATE_V2
    refuse(&[exactly(0x5000_940F)]), // BTRFS_IOC_SNAP_DESTROY
    refuse(&[exactly(0x5000_943F)]), // BTRFS_IOC_SNAP_DESTROY_V2
);

/// In a container, whose capabilities say whether it may configure its network.
const REQUESTS_CONTAINER: &[Check] = &[
    refuse(&[exactly(0x5412)]), // TIOCSTI
    refuse(&[exactly(0x541C)]), // TIOCLINUX
    refuse(&[exactly(0x5423)]), // TIOCSETD
    refuse(&[exactly(0x541D)]), // TIOCCONS
    refuse(&[exactly(0x5437)]), // TIOCVHANGUP
    allow(&[request(Op::Masked { mask: 0xFFFF_FF00, value: 0x5400 })]),
    refuse(&[exactly(0xC004_5877)]), // FIFREEZE
    refuse(&[exactly(0xC004_5878)]), // FITHAW
    refuse(&[exactly(0xC018_5879)]), // FITRIM
];

/// `O_NOTIFICATION_PIPE` (the value of `O_EXCL`): a queue for kernel events. A kernel built without it says the same.
const PIPE_FLAGS: &[Check] =
    &[Check { all: &[Test { arg: 1, op: Op::AnyOf(0x80) }], then: Verdict::Fail(Errno::ENOPKG) }];

crate::syscalls! {
    /// Reads from a descriptor.
    read(fd: Fd, buffer: UserPtr, count: Size) Io Judge Allow;
    /// Writes to a descriptor.
    write(fd: Fd, buffer: UserPtr, count: Size) Io Judge Allow;
    /// Reads at an offset.
    pread64(fd: Fd, buffer: UserPtr, count: Size, offset: Offset) Io Judge Allow;
    /// Writes at an offset.
    pwrite64(fd: Fd, buffer: UserPtr, count: Size, offset: Offset) Io Judge Allow;
    /// Reads into several buffers.
    readv(fd: Fd, vectors: UserPtr, count: Size) Io Judge Allow;
    /// Writes from several buffers.
    writev(fd: Fd, vectors: UserPtr, count: Size) Io Judge Allow;
    /// Reads into several buffers at an offset.
    preadv(fd: Fd, vectors: UserPtr, count: Size, low: Word, high: Word) Io Default Allow;
    /// Writes from several buffers at an offset.
    pwritev(fd: Fd, vectors: UserPtr, count: Size, low: Word, high: Word) Io Default Allow;
    /// Reads into several buffers at an offset, with flags.
    preadv2(fd: Fd, vectors: UserPtr, count: Size, low: Word, high: Word, flags: Flags) Io Compat Allow;
    /// Writes from several buffers at an offset, with flags.
    pwritev2(fd: Fd, vectors: UserPtr, count: Size, low: Word, high: Word, flags: Flags) Io Compat Allow;
    /// Moves a file's offset.
    lseek(fd: Fd, offset: Offset, whence: Uint) Io Judge Allow;
    /// Closes a descriptor.
    close(fd: Fd) Io Judge Allow;
    /// Closes a range of descriptors, or marks them close-on-exec.
    close_range(first: Uint, last: Uint, flags: Flags) Io Judge Allow;
    /// Copies a descriptor to the lowest free number.
    dup(fd: Fd) Io Judge Allow;
    /// Copies a descriptor to a given number.
    dup2(from: Fd, to: Fd) Io Judge Allow;
    /// Copies a descriptor to a given number, with flags.
    dup3(from: Fd, to: Fd, flags: Flags) Io Judge Allow;
    /// Reads and changes the flags, locks and owner of a descriptor.
    fcntl(fd: Fd, command: Uint, argument: Word) Io Judge Allow;
    /// Talks to the device, terminal, socket or file system behind a descriptor.
    /// Refused with `EPERM` are requests that type into a terminal or change its line discipline (`TIOCSTI`,
    /// `TIOCLINUX`, `TIOCSETD`, `TIOCCONS`), that configure network interfaces, and that freeze a file system.
    /// While paths are judged, also those that set attributes of a file that is open for reading only (chattr(1)).
    ioctl(fd: Fd, request: Uint, argument: Word) Io Judge Filter(REQUESTS) {
        PathRules => Filter(REQUESTS_JUDGED),
        Container => Filter(REQUESTS_CONTAINER),
    };
    /// Locks a whole file, advisorily.
    flock(fd: Fd, operation: Uint) Io Default Allow;
    /// Makes a pipe.
    pipe(ends: UserPtr) Io Judge Allow;
    /// Makes a pipe, with flags.
    /// Notification pipes (`O_NOTIFICATION_PIPE`) fail with `ENOPKG`: they carry kernel events that are not the guest's.
    pipe2(ends: UserPtr, flags: Flags) Io Judge Filter(PIPE_FLAGS);
    /// Copies bytes from a file to a descriptor, within the kernel.
    sendfile(output: Fd, input: Fd, offset: UserPtr, count: Size) Io Judge Allow;
    /// Copies a part of a file to another file, within the kernel.
    copy_file_range(input: Fd, at_input: UserPtr, output: Fd, at_output: UserPtr, count: Size, flags: Flags)
        Io Judge Allow;
    /// Moves bytes between a pipe and a descriptor.
    splice(input: Fd, at_input: UserPtr, output: Fd, at_output: UserPtr, count: Size, flags: Flags) Io Default Allow;
    /// Duplicates what is in a pipe.
    tee(input: Fd, output: Fd, count: Size, flags: Flags) Io Compat Allow;
    /// Maps memory of the caller into a pipe.
    /// Refused everywhere: few programs use it, and they have another way.
    vmsplice(fd: Fd, vectors: UserPtr, count: Size, flags: Flags) Io Compat Errno(ENOSYS);
    /// Writes a file's data and metadata to its disk.
    fsync(fd: Fd) Io Judge Allow;
    /// Writes a file's data to its disk.
    fdatasync(fd: Fd) Io Judge Allow;
    /// Writes all file systems to their disks.
    sync() Io Default Allow;
    /// Writes one file system to its disk.
    syncfs(fd: Fd) Io Compat Allow;
    /// Writes a part of a file to its disk.
    sync_file_range(fd: Fd, offset: Offset, count: Offset, flags: Flags) Io Compat Allow;
    /// Reserves or frees the space of a part of a file.
    fallocate(fd: Fd, mode: Int, offset: Offset, length: Offset) Io Default Allow;
    /// Says how a part of a file will be read.
    fadvise64(fd: Fd, offset: Offset, length: Size, advice: Int) Io Judge Allow;
    /// Reads a part of a file ahead into the page cache.
    readahead(fd: Fd, offset: Offset, count: Size) Io Compat Allow;
    /// Counts the pages of a file that are in the page cache.
    /// Refused everywhere: few programs use it, and they have another way.
    cachestat(fd: Fd, range: UserPtr, result: UserPtr, flags: Flags) Io Compat Errno(ENOSYS);

    /// Waits until one of several descriptors is ready.
    poll(descriptors: UserPtr, count: Uint, timeout: Int) Io Judge Allow;
    /// Waits until one of several descriptors is ready or a signal arrives.
    ppoll(descriptors: UserPtr, count: Uint, timeout: UserPtr, mask: UserPtr, mask_size: Size) Io Judge Allow;
    /// Waits until one of several descriptors is ready.
    select(count: Int, read: UserPtr, write: UserPtr, except: UserPtr, timeout: UserPtr) Io Judge Allow;
    /// Waits until one of several descriptors is ready or a signal arrives.
    pselect6(count: Int, read: UserPtr, write: UserPtr, except: UserPtr, timeout: UserPtr, mask: UserPtr)
        Io Judge Allow;
    /// Makes a set of descriptors to wait on.
    epoll_create(size: Int) Io Default Allow;
    /// Makes a set of descriptors to wait on, with flags.
    epoll_create1(flags: Flags) Io Judge Allow;
    /// Adds to, changes or removes from a set of descriptors.
    epoll_ctl(set: Fd, operation: Int, fd: Fd, event: UserPtr) Io Judge Allow;
    /// Waits on a set of descriptors.
    epoll_wait(set: Fd, events: UserPtr, count: Int, timeout: Int) Io Judge Allow;
    /// Waits on a set of descriptors or for a signal.
    epoll_pwait(set: Fd, events: UserPtr, count: Int, timeout: Int, mask: UserPtr, mask_size: Size) Io Judge Allow;
    /// Waits on a set of descriptors or for a signal, with a timeout in nanoseconds.
    epoll_pwait2(set: Fd, events: UserPtr, count: Int, timeout: UserPtr, mask: UserPtr, mask_size: Size)
        Io Compat Allow;
    /// Never part of a released kernel; fails with `ENOSYS`.
    epoll_ctl_old(set: Fd, operation: Int, fd: Fd, event: UserPtr) Io Compat Errno(ENOSYS);
    /// Never part of a released kernel; fails with `ENOSYS`.
    epoll_wait_old(set: Fd, events: UserPtr, count: Int, timeout: Int) Io Compat Errno(ENOSYS);
    /// Makes a counter that can be waited on.
    eventfd(initial: Uint) Io Compat Allow;
    /// Makes a counter that can be waited on, with flags.
    eventfd2(initial: Uint, flags: Flags) Io Judge Allow;

    /// Makes a queue for asynchronous input and output.
    /// Refused everywhere: few programs use it, and they have another way.
    io_setup(count: Uint, context: UserPtr) Io Compat Errno(ENOSYS);
    /// Removes a queue for asynchronous input and output.
    /// Refused everywhere: few programs use it, and they have another way.
    io_destroy(context: Word) Io Compat Errno(ENOSYS);
    /// Queues operations on descriptors that are open.
    /// Refused everywhere: few programs use it, and they have another way.
    io_submit(context: Word, count: Long, operations: UserPtr) Io Compat Errno(ENOSYS);
    /// Cancels a queued operation.
    /// Refused everywhere: few programs use it, and they have another way.
    io_cancel(context: Word, operation: UserPtr, result: UserPtr) Io Compat Errno(ENOSYS);
    /// Waits for queued operations.
    /// Refused everywhere: few programs use it, and they have another way.
    io_getevents(context: Word, least: Long, most: Long, events: UserPtr, timeout: UserPtr) Io Compat Errno(ENOSYS);
    /// Waits for queued operations or a signal.
    /// Refused everywhere: few programs use it, and they have another way.
    io_pgetevents(context: Word, least: Long, most: Long, events: UserPtr, timeout: UserPtr, mask: UserPtr)
        Io Compat Errno(ENOSYS);
    /// Makes a ring that opens files and connects sockets without syscalls, so that no filter sees them.
    /// Fails with `ENOSYS`, and programs fall back to ordinary calls.
    io_uring_setup(entries: Uint, parameters: UserPtr) Io Compat Errno(ENOSYS);
    /// Runs a ring; fails with `ENOSYS` like `io_uring_setup`.
    io_uring_enter(ring: Fd, submit: Uint, complete: Uint, flags: Flags, argument: UserPtr, size: Size)
        Io Compat Errno(ENOSYS);
    /// Configures a ring; fails with `ENOSYS` like `io_uring_setup`.
    io_uring_register(ring: Fd, operation: Uint, argument: UserPtr, count: Uint) Io Compat Errno(ENOSYS);
    /// Part of STREAMS, which Linux never had; fails with `ENOSYS`.
    getpmsg() Io Compat Errno(ENOSYS);
    /// Part of STREAMS, which Linux never had; fails with `ENOSYS`.
    putpmsg() Io Compat Errno(ENOSYS);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Width;
    use crate::table::{Feature, Surface, find};

    fn ioctl(request: u64) -> Verdict {
        let row = find("ioctl").expect("there is a row");
        assert_eq!(row.parameters[REQUEST].width, Width::W32);
        row.route.verdict(row.parameters, &[0, request, 0, 0, 0, 0])
    }

    #[test]
    fn keystrokes_cannot_be_injected_whatever_the_upper_half_says() {
        for upper in [0, 1 << 32, 0xFFFF_FFFF << 32] {
            assert_eq!(ioctl(upper | libc::TIOCSTI), Verdict::Fail(Errno::EPERM));
            assert_eq!(ioctl(upper | libc::TIOCLINUX), Verdict::Fail(Errno::EPERM));
            assert_eq!(ioctl(upper | libc::TIOCCONS), Verdict::Fail(Errno::EPERM));
        }
    }

    #[test]
    fn terminals_files_and_interface_queries_work() {
        for request in [libc::TCGETS, libc::TIOCGWINSZ, libc::TIOCSCTTY, libc::FIONREAD, libc::FIONBIO, libc::FICLONE] {
            assert_eq!(ioctl(request), Verdict::Allow, "{request:#x}");
        }
        assert_eq!(ioctl(0x8927), Verdict::Allow, "SIOCGIFHWADDR");
        assert_eq!(ioctl(0x8912), Verdict::Allow, "SIOCGIFCONF");
        assert_eq!(ioctl(0x8914), Verdict::Fail(Errno::EPERM), "SIOCSIFFLAGS");
        let row = find("ioctl").expect("there is a row");
        let judged = row.route_with(Surface::Default, &[Feature::PathRules]);
        for (request, wanted) in [(0x4008_6602, Verdict::Fail(Errno::EPERM)), (0x8008_6601, Verdict::Allow)] {
            assert_eq!(ioctl(request), Verdict::Allow, "flags of a file: {request:#x}");
            assert_eq!(judged.verdict(row.parameters, &[0, request, 0, 0, 0, 0]), wanted, "{request:#x}");
        }
        assert_eq!(ioctl(0x8983), Verdict::Fail(Errno::EPERM), "SIOCSIFVLAN");
        assert_eq!(ioctl(0xC004_5877), Verdict::Fail(Errno::EPERM), "FIFREEZE");
    }
}
