//! What interposition costs on this machine, against native and peers.
//!
//! Two programs share this library. `micro` is the guest: one static program that times one operation in a loop. The
//! runner, `sentry-bench`, starts `micro` under each *subject* (a command prefix: nothing at all, bubblewrap, ours, or
//! whatever a list names), round after round in turning order, and compares each subject with native in the same round.
//!
//! It has to be hard to look fast by accident: a subject that fails is reported as failed, native runs a second time
//! as a control that must come out at 1.0, and what cannot be measured is an error and not a zero.

pub mod launch;
pub mod machine;
pub mod place;
pub mod questions;
pub mod results;
pub mod rounds;
pub mod statistics;
pub mod stopwatch;
pub mod subjects;
pub mod sys;
pub mod table;
