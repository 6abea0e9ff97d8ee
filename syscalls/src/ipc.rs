//! Futexes, System V objects and POSIX message queues.
//!
//! The sandbox has an ipc namespace of its own, so every key and queue name means an object inside it.

crate::syscalls! {
    /// Waits on and wakes a word of memory: what locks are made of.
    futex(word: UserPtr, operation: Int, value: Uint, timeout: UserPtr, word2: UserPtr, value3: Uint) Ipc Judge Allow;
    /// Waits on several words at once.
    futex_waitv(waiters: UserPtr, count: Uint, flags: Flags, timeout: UserPtr, clock: ClockId) Ipc Compat Allow;
    /// Wakes waiters of a word of a given size.
    /// Refused everywhere: few programs use it, and they have another way.
    futex_wake(word: UserPtr, mask: Word, count: Int, flags: Flags) Ipc Compat Errno(ENOSYS);
    /// Waits on a word of a given size.
    /// Refused everywhere: few programs use it, and they have another way.
    futex_wait(word: UserPtr, value: Word, mask: Word, flags: Flags, timeout: UserPtr, clock: ClockId)
        Ipc Compat Errno(ENOSYS);
    /// Moves waiters from one word to another.
    /// Refused everywhere: few programs use it, and they have another way.
    futex_requeue(waiters: UserPtr, flags: Flags, wake: Int, requeue: Int) Ipc Compat Errno(ENOSYS);
    /// Registers the list of locks that the kernel releases when the thread dies.
    set_robust_list(head: UserPtr, length: Size) Ipc Judge Allow;
    /// Reads a thread's list of locks.
    get_robust_list(thread: Pid, head: UserPtr, length: UserPtr) Ipc Compat Allow;

    /// Finds or makes a System V shared memory segment.
    shmget(key: Int, size: Size, flags: Flags) Ipc Default Allow;
    /// Attaches a System V shared memory segment.
    shmat(segment: Int, address: UserPtr, flags: Flags) Ipc Default Allow;
    /// Detaches a System V shared memory segment.
    shmdt(address: UserPtr) Ipc Default Allow;
    /// Controls a System V shared memory segment.
    shmctl(segment: Int, command: Int, buffer: UserPtr) Ipc Default Allow;
    /// Finds or makes a System V semaphore set.
    semget(key: Int, count: Int, flags: Flags) Ipc Default Allow;
    /// Operates on a System V semaphore set.
    semop(set: Int, operations: UserPtr, count: Uint) Ipc Default Allow;
    /// Operates on a System V semaphore set, with a timeout.
    semtimedop(set: Int, operations: UserPtr, count: Uint, timeout: UserPtr) Ipc Compat Allow;
    /// Controls a System V semaphore set.
    semctl(set: Int, index: Int, command: Int, argument: Word) Ipc Default Allow;
    /// Finds or makes a System V message queue.
    msgget(key: Int, flags: Flags) Ipc Compat Allow;
    /// Sends to a System V message queue.
    msgsnd(queue: Int, message: UserPtr, size: Size, flags: Flags) Ipc Compat Allow;
    /// Receives from a System V message queue.
    msgrcv(queue: Int, message: UserPtr, size: Size, kind: Long, flags: Flags) Ipc Compat Allow;
    /// Controls a System V message queue.
    msgctl(queue: Int, command: Int, buffer: UserPtr) Ipc Compat Allow;

    /// Opens or makes a POSIX message queue.
    mq_open(name: PathPtr, flags: Flags, mode: Mode, attributes: UserPtr) Ipc Compat Allow;
    /// Removes a POSIX message queue.
    mq_unlink(name: PathPtr) Ipc Compat Allow;
    /// Sends to a POSIX message queue.
    mq_timedsend(queue: Fd, message: UserPtr, length: Size, priority: Uint, timeout: UserPtr) Ipc Compat Allow;
    /// Receives from a POSIX message queue.
    mq_timedreceive(queue: Fd, message: UserPtr, length: Size, priority: UserPtr, timeout: UserPtr)
        Ipc Compat Allow;
    /// Asks to be told when a message arrives.
    mq_notify(queue: Fd, event: UserPtr) Ipc Compat Allow;
    /// Reads and sets the attributes of a POSIX message queue.
    mq_getsetattr(queue: Fd, new: UserPtr, old: UserPtr) Ipc Compat Allow;
}
