//! What a pretended clock comes down to on this kernel.

use shim::plan;
use shim::vdso::Patch;

use crate::policy::Policy;
use crate::policy::clock::Clock;
use crate::supervise::clock::Order;

/// Each process's part.
#[derive(Debug, Default)]
pub struct Decided {
    /// For the start.
    pub plan: Option<plan::Clock>,
    /// For the supervisor.
    pub order: Option<Order>,
}

/// Looks at this kernel's vDSO, which is the one of every program. Where it cannot be made to adjust what it tells, programs
/// ask the sentry each time, and `notes` says so.
pub fn decide(policy: &Policy, notes: &mut Vec<String>) -> Decided {
    let Clock::Own { setting, uptime } = policy.clock else { return Decided::default() };
    let patch = Patch::new();
    if !patch.as_ref().is_some_and(Patch::adjusts) {
        notes.push(
            "--clock: this kernel's vDSO has no room for a pretended clock; each reading is a system call".to_owned(),
        );
    }
    Decided { plan: Some(plan::Clock { patch: patch.clone(), uptime }), order: Some(Order { setting, patch }) }
}
