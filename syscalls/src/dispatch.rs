//! From a syscall number to its handler: the only place where a call may be continued.

use nix::errno::Errno;

use crate::credentials::Credentials;
use crate::guest::Guest;
use crate::reply::{Answer, Continue, Response, Rewritten};
use crate::table::{Routes, Verdict};

/// An emulating handler, with its arguments still in registers.
pub type Emulator = fn(&dyn Guest, [u64; 6]) -> Answer;
/// An observing handler: it may look and record, and has no say.
pub type Observer = fn(&dyn Guest, [u64; 6]);

/// Says whether pretended credentials allow a call. It sees nothing else, the guest's memory least of all.
pub type Permission = fn(&Credentials) -> Result<(), Errno>;

/// Says what values the argument registers are to have, or who answers the call instead. It sees the registers alone.
pub type Rewriter = fn([u64; 6]) -> Result<[u64; 6], Emulator>;

/// How a notified call is answered.
#[derive(Clone, Copy, Debug)]
pub enum Handler {
    /// Answered by us; quick enough for the receiving thread.
    Emulate(Emulator),
    /// Answered by us; may sleep in the kernel, so another thread takes over receiving first.
    EmulateSlow(Emulator),
    /// Looked at, then run by the kernel. Only for calls that ring 1 makes harmless whatever their memory says.
    Observe(Observer),
    /// Refused to those who pretend to have no right to it, and otherwise run by the kernel. As above, only for calls that
    /// ring 1 makes harmless.
    Permit(Permission),
    /// Run by the kernel with other values in its registers. Only where a tracer answers.
    Rewrite(Rewriter),
}

/// Looks up and runs handlers for the routes of one policy.
pub struct Dispatch {
    routes: Routes,
}

impl Dispatch {
    /// Answers by `routes`.
    pub fn new(routes: Routes) -> Self {
        Self { routes }
    }

    /// What our filter says of a call: with a tracer, calls that a filter of the guest's asks about come here as well.
    pub fn verdict(&self, number: usize, registers: &[u64; 6]) -> Verdict {
        self.routes.verdict(number, registers)
    }

    /// How many registers are arguments of `number`.
    pub fn arguments(&self, number: usize) -> usize {
        self.routes.parameters(number).len()
    }

    /// The handler of `number`, if the filter can notify us of it at all.
    pub fn handler(&self, number: usize) -> Option<Handler> {
        self.routes.get(number)?.handler
    }

    /// Answers one call. A call without a handler fails with `ENOSYS`: it cannot have come through our filter.
    pub fn answer(&self, guest: &dyn Guest, number: usize, registers: [u64; 6]) -> Response {
        match self.handler(number) {
            Some(Handler::Emulate(handler) | Handler::EmulateSlow(handler)) => handler(guest, registers).into(),
            Some(Handler::Observe(observe)) => {
                observe(guest, registers);
                Response::Continue(Continue(()))
            }
            Some(Handler::Permit(permit)) => match guest.credentials().and_then(|credentials| permit(&credentials)) {
                Ok(()) => {
                    guest.changes_root();
                    Response::Continue(Continue(()))
                }
                Err(errno) => Response::Fail(errno),
            },
            Some(Handler::Rewrite(rewrite)) => match rewrite(registers) {
                Ok(registers) => Response::Rewrite(Rewritten(registers)),
                Err(handler) => handler(guest, registers).into(),
            },
            None => Response::Fail(Errno::ENOSYS),
        }
    }
}
