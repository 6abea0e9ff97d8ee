//! Signals.
//!
//! The sandbox has a pid namespace of its own and a Landlock scope: a signal reaches nothing outside. So sending is as
//! free as receiving.

crate::syscalls! {
    /// Says what to do on a signal.
    rt_sigaction(signal: Signal, action: UserPtr, old: UserPtr, mask_size: Size) Signal Judge Allow;
    /// Blocks and unblocks signals.
    rt_sigprocmask(how: Int, mask: UserPtr, old: UserPtr, mask_size: Size) Signal Judge Allow;
    /// Returns from a signal handler.
    rt_sigreturn() Signal Judge Allow;
    /// Says which blocked signals are waiting.
    rt_sigpending(mask: UserPtr, mask_size: Size) Signal Compat Allow;
    /// Takes a signal that is waiting, with a timeout.
    rt_sigtimedwait(mask: UserPtr, info: UserPtr, timeout: UserPtr, mask_size: Size) Signal Judge Allow;
    /// Sends a signal and a value to a process.
    rt_sigqueueinfo(process: Pid, signal: Signal, info: UserPtr) Signal Compat Allow;
    /// Sends a signal and a value to a thread.
    rt_tgsigqueueinfo(process: Pid, thread: Pid, signal: Signal, info: UserPtr) Signal Compat Allow;
    /// Waits for a signal with another mask.
    rt_sigsuspend(mask: UserPtr, mask_size: Size) Signal Judge Allow;
    /// Sets the stack that handlers run on.
    sigaltstack(stack: UserPtr, old: UserPtr) Signal Judge Allow;
    /// Sends a signal to a process or a group.
    kill(process: Pid, signal: Signal) Signal Judge Allow;
    /// Sends a signal to a thread, by its id alone.
    tkill(thread: Pid, signal: Signal) Signal Default Allow;
    /// Sends a signal to a thread.
    tgkill(process: Pid, thread: Pid, signal: Signal) Signal Judge Allow;
    /// Waits for a signal.
    pause() Signal Default Allow;
    /// Makes a descriptor that signals are read from.
    signalfd(fd: Fd, mask: UserPtr, mask_size: Size) Signal Compat Allow;
    /// Makes a descriptor that signals are read from, with flags.
    signalfd4(fd: Fd, mask: UserPtr, mask_size: Size, flags: Flags) Signal Default Allow;
    /// Continues a sleep that a stop interrupted; called by the kernel itself.
    restart_syscall() Signal Judge Allow;
}
