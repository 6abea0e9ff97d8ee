//! `xattr(7)`: extended attributes. Those that carry privileges (`security.capability`, `trusted.*`) need capabilities that
//! the guest has not got, in the user namespace that owns the file system; the kernel refuses them.

crate::syscalls! {
    /// Sets an extended attribute of a file.
    setxattr(path: PathPtr, name: UserPtr, value: UserPtr, size: Size, flags: Flags) File Default Allow;
    /// Sets an extended attribute of a file or link.
    lsetxattr(path: PathPtr, name: UserPtr, value: UserPtr, size: Size, flags: Flags) File Default Allow;
    /// Sets an extended attribute of an open file.
    fsetxattr(file: Fd, name: UserPtr, value: UserPtr, size: Size, flags: Flags) File Default Allow;
    /// Sets an extended attribute of a file, relative to a directory.
    setxattrat(dir: DirFd, path: PathPtr, flags: Flags, name: UserPtr, args: UserPtr, size: Size) File Compat Allow;
    /// Reads an extended attribute of a file.
    getxattr(path: PathPtr, name: UserPtr, value: UserPtr, size: Size) File Default Allow;
    /// Reads an extended attribute of a file or link.
    lgetxattr(path: PathPtr, name: UserPtr, value: UserPtr, size: Size) File Default Allow;
    /// Reads an extended attribute of an open file.
    fgetxattr(file: Fd, name: UserPtr, value: UserPtr, size: Size) File Default Allow;
    /// Reads an extended attribute of a file, relative to a directory.
    getxattrat(dir: DirFd, path: PathPtr, flags: Flags, name: UserPtr, args: UserPtr, size: Size) File Compat Allow;
    /// Lists the extended attributes of a file.
    listxattr(path: PathPtr, list: UserPtr, size: Size) File Default Allow;
    /// Lists the extended attributes of a file or link.
    llistxattr(path: PathPtr, list: UserPtr, size: Size) File Default Allow;
    /// Lists the extended attributes of an open file.
    flistxattr(file: Fd, list: UserPtr, size: Size) File Compat Allow;
    /// Lists the extended attributes of a file, relative to a directory.
    listxattrat(dir: DirFd, path: PathPtr, flags: Flags, list: UserPtr, size: Size) File Compat Allow;
    /// Removes an extended attribute of a file.
    removexattr(path: PathPtr, name: UserPtr) File Default Allow;
    /// Removes an extended attribute of a file or link.
    lremovexattr(path: PathPtr, name: UserPtr) File Compat Allow;
    /// Removes an extended attribute of an open file.
    fremovexattr(file: Fd, name: UserPtr) File Compat Allow;
    /// Removes an extended attribute of a file, relative to a directory.
    removexattrat(dir: DirFd, path: PathPtr, flags: Flags, name: UserPtr) File Compat Allow;
}
