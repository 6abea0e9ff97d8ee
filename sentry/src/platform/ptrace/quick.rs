//! Which calls the tracer answers itself.
//!
//! While it does, no other call is answered, so it must not wait. Where a handler finds out in the middle that it might
//! ([`Guest::wait_or_leave`](syscalls::guest::Guest::wait_or_leave)), the call is begun anew by a worker: so here are calls only
//! that change nothing before that. Every other call goes to a worker at once.

use nix::libc;
use syscalls::abi::Arch;
use syscalls::dispatch::{Dispatch, Handler};

/// They only look, or refuse.
const LOOKS: &[&str] = &[
    "access",
    "capget",
    "clock_gettime",
    "clone",
    "faccessat",
    "faccessat2",
    "getcwd",
    "getegid",
    "geteuid",
    "getgid",
    "getgroups",
    "getresgid",
    "getresuid",
    "getrlimit",
    "getsockopt",
    "gettimeofday",
    "getuid",
    "getxattr",
    "lgetxattr",
    "listxattr",
    "llistxattr",
    "lstat",
    "newfstatat",
    "ptrace",
    "readlink",
    "readlinkat",
    "stat",
    "statfs",
    "statx",
    "sysinfo",
    "time",
    "uname",
];

/// They make nothing without a flag in a register, whose position this is.
const OPENS: [(&str, usize); 2] = [("open", 1), ("openat", 2)];
/// `__O_TMPFILE`, without `O_DIRECTORY`.
const TEMPORARY: i32 = 0o20_000_000;
const MAKES: u64 = (libc::O_CREAT | libc::O_TRUNC | TEMPORARY).cast_unsigned() as u64;

/// The calls of one policy, by number.
pub struct Quick(Vec<How>);

#[derive(Clone, Copy, PartialEq)]
enum How {
    Slow,
    Quick,
    /// Quick without these bits in this argument.
    Unless(usize, u64),
}

impl Quick {
    /// Goes through the handlers.
    pub fn new(dispatch: &Dispatch, arch: Arch) -> Self {
        let how = |number: usize| match dispatch.handler(number) {
            Some(Handler::Observe(_) | Handler::Permit(_) | Handler::Rewrite(_)) => How::Quick,
            Some(Handler::Emulate(_)) => match OPENS.iter().find(|(name, _)| arch.number(name) == Some(number)) {
                Some((_, flags)) => How::Unless(*flags, MAKES),
                None if LOOKS.iter().any(|name| arch.number(name) == Some(number)) => How::Quick,
                None => How::Slow,
            },
            Some(Handler::EmulateSlow(_)) | None => How::Slow,
        };
        Self((0..=arch.last_number()).map(how).collect())
    }

    /// Whether the tracer may begin to answer this call.
    pub fn is(&self, number: usize, registers: &[u64; 6]) -> bool {
        match self.0.get(number) {
            Some(How::Quick) => true,
            Some(How::Unless(argument, bits)) => registers[*argument] & bits == 0,
            Some(How::Slow) | None => false,
        }
    }
}
