//! `utimensat(2)`, `truncate(2)`: the times and sizes of files that the view lets the guest write.

crate::syscalls! {
    /// Sets the times of a file, in seconds.
    utime(path: PathPtr, times: UserPtr) File Compat Allow;
    /// Sets the times of a file, in microseconds.
    utimes(path: PathPtr, times: UserPtr) File Compat Allow;
    /// Sets the times of a file, in nanoseconds.
    utimensat(dir: DirFd, path: PathPtr, times: UserPtr, flags: Flags) File Default Allow;
    /// Sets the times of a file, in microseconds, relative to a directory.
    futimesat(dir: DirFd, path: PathPtr, times: UserPtr) File Compat Allow;
    /// Sets the size of a file.
    truncate(path: PathPtr, length: Offset) File Default Allow;
    /// Sets the size of an open file.
    ftruncate(file: Fd, length: Offset) File Judge Allow;
}
