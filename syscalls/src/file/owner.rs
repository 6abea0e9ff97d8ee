//! `chown(2)`: owners. The guest has one unprivileged identity, so the kernel refuses what would matter.

crate::syscalls! {
    /// Changes the owner of a file.
    chown(path: PathPtr, user: Id, group: Id) File Default Allow;
    /// Changes the owner of a file or link.
    lchown(path: PathPtr, user: Id, group: Id) File Default Allow;
    /// Changes the owner of an open file.
    fchown(file: Fd, user: Id, group: Id) File Default Allow;
    /// Changes the owner of a file or link, relative to a directory.
    fchownat(dir: DirFd, path: PathPtr, user: Id, group: Id, flags: Flags) File Default Allow;
}
