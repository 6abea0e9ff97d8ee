//! `unlink(2)`, `rmdir(2)`: names that go. The view decides where they may; removing cannot make a hidden name appear.

crate::syscalls! {
    /// Removes a name, and the file when it was the last.
    unlink(path: PathPtr) File Judge Allow;
    /// Removes a name or an empty directory, relative to a directory.
    unlinkat(dir: DirFd, path: PathPtr, flags: Flags) File Judge Allow;
    /// Removes an empty directory.
    rmdir(path: PathPtr) File Judge Allow;
}
