//! What interposition costs on this machine, against native and peers.
//!
//! Two programs share this library. `micro` is the guest: one static program that times one operation in a loop. The
//! runner, `sentry-bench`, starts `micro` under each *subject* (a command prefix: nothing at all, bubblewrap, ours),
//! round after round in turning order, and compares each subject with native in the same round.
//!
//! It has to be hard to look fast by accident: a subject has to prove that its guest ran, one that fails or takes too long
//! is reported as failed, native runs a second time as a control that must come out at 1.0, a round that warms up is not
//! counted, and what cannot be measured is an error and not a zero.
#![allow(clippy::cast_precision_loss)] // nanoseconds and bytes, far below 2^53

pub mod compare;
pub mod containers;
pub mod limited;
pub mod machine;
pub mod mechanisms;
pub mod patience;
pub mod place;
pub mod proof;
pub mod published;
pub mod questions;
pub mod record;
pub mod report;
pub mod results;
pub mod rounds;
pub mod sitting;
pub mod statistics;
pub mod stopwatch;
pub mod subjects;
pub mod sys;
pub mod tables;
pub mod targets;
