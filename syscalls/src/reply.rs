//! What a handler may answer, as types.
//!
//! [`Reply`] cannot say "continue". Only the dispatcher can build a [`Continue`], and it does so only for entries whose
//! route is `Observe`, where the view, the empty network and the missing capabilities make every meaning of the call
//! harmless. A handler that judged memory cannot let the kernel read that memory again: it does not compile.

use std::os::fd::OwnedFd;

use nix::errno::Errno;

/// What an emulating handler returns; `?` on an errno is the deny path.
pub type Answer = Result<Reply, Errno>;

/// The outcome of an emulated call that did not fail.
#[derive(Debug)]
pub enum Reply {
    /// The call returns this value.
    Return(i64),
    /// The call returns a new descriptor: `file` is put into the guest's table and its number returned, in one step.
    Inject {
        /// The open file to hand over. Must not be `O_PATH`: the kernel refuses those.
        file: OwnedFd,
        /// Whether the guest asked for close-on-exec.
        cloexec: bool,
    },
}

/// Permission to let the kernel run the call as it stands. Built only in [`crate::dispatch`].
#[derive(Debug)]
pub struct Continue(pub(crate) ());

/// Permission to let the kernel run the call with other values in its argument registers: never with other memory. Built only
/// in [`crate::dispatch`], for the route `Rewrite`, which only a tracer can carry out.
#[derive(Debug)]
pub struct Rewritten(pub(crate) [u64; 6]);

impl Rewritten {
    /// The six argument registers that the call runs with.
    pub fn registers(&self) -> [u64; 6] {
        self.0
    }
}

/// What goes back to the kernel for one notification.
#[derive(Debug)]
pub enum Response {
    /// The call was answered by us.
    Reply(Reply),
    /// The call fails with this errno.
    Fail(Errno),
    /// The call runs in the kernel.
    Continue(Continue),
    /// The call runs in the kernel with other values in its registers.
    Rewrite(Rewritten),
}

impl From<Answer> for Response {
    fn from(answer: Answer) -> Self {
        match answer {
            Ok(reply) => Self::Reply(reply),
            // An errno without a name, such as the kernel's inner ENOTSUPP (524), arrives here as 0: to the guest that
            // would be success.
            Err(Errno::UnknownErrno) => Self::Fail(Errno::EIO),
            Err(errno) => Self::Fail(errno),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_failure_looks_like_success() {
        for (raw, wanted) in [(13, Errno::EACCES), (524, Errno::EIO), (0, Errno::EIO)] {
            let response = Response::from(Err(Errno::from_raw(raw)));
            assert!(matches!(response, Response::Fail(errno) if errno == wanted), "{raw}: {response:?}");
        }
    }
}
