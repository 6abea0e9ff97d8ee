//! The other platform: the tests that matter most, tried once more with a tracer in the listener's place, and what is particular
//! to it.
//!
//! `make test-ptrace` runs all tests that way.
#![allow(clippy::unwrap_used)] // a panic is how a test fails

#[path = "escapes.rs"]
mod escapes;
#[path = "lifecycle.rs"]
mod lifecycle;
#[path = "programs.rs"]
mod programs;
#[path = "semantics.rs"]
mod semantics;
#[path = "traced/mod.rs"]
mod traced;
