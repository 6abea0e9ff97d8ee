//! Calls on sockets that exist: whom they talk to was decided before.

crate::syscalls! {
    /// Waits for connections to a socket.
    listen(socket: Fd, backlog: Int) Network Default Allow;
    /// Takes a connection.
    accept(socket: Fd, address: UserPtr, length: UserPtr) Network Default Allow;
    /// Takes a connection, with flags.
    accept4(socket: Fd, address: UserPtr, length: UserPtr, flags: Flags) Network Default Allow;
    /// Receives data, and tells from whom.
    recvfrom(socket: Fd, buffer: UserPtr, size: Size, flags: Flags, address: UserPtr, length: UserPtr) Network Default Allow;
    /// Receives a message.
    recvmsg(socket: Fd, message: UserPtr, flags: Flags) Network Default Allow;
    /// Receives several messages.
    recvmmsg(socket: Fd, messages: UserPtr, count: Uint, flags: Flags, timeout: UserPtr) Network Compat Allow;
    /// Ends one or both directions of a connection.
    shutdown(socket: Fd, how: Int) Network Default Allow;
    /// Tells the address of a socket.
    getsockname(socket: Fd, address: UserPtr, length: UserPtr) Network Default Allow;
    /// Tells the address of a socket's peer.
    getpeername(socket: Fd, address: UserPtr, length: UserPtr) Network Default Allow;
    /// Reads an option of a socket.
    getsockopt(socket: Fd, level: Int, option: Int, value: UserPtr, length: UserPtr) Network Default Allow;
    /// Sets an option of a socket.
    setsockopt(socket: Fd, level: Int, option: Int, value: UserPtr, length: SockLen) Network Default Allow;
}
