//! `inotify(7)`: watching files. It tells about files that the guest can reach anyway.

crate::syscalls! {
    /// Makes a queue of file events.
    inotify_init() File Compat Allow;
    /// Makes a queue of file events, with flags.
    inotify_init1(flags: Flags) File Default Allow;
    /// Watches a file or directory.
    inotify_add_watch(queue: Fd, path: PathPtr, mask: Uint) File Default Allow;
    /// Ends a watch.
    inotify_rm_watch(queue: Fd, watch: Int) File Default Allow;
}
