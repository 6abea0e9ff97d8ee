//! Run code you do not trust: a rootless, syscall-interposing sandbox for Linux.
//!
//! This crate is the command line, the monitor with the user's rights, and the supervisor inside the sandbox. What each
//! syscall means is in `syscalls`, how the sandbox is built in `shim`.
#![deny(unsafe_code)]

pub mod agent;
pub mod changes;
pub mod cli;
mod entry;
pub mod host;
pub mod monitor;
pub mod oci;
pub mod platform;
pub mod policy;
mod pretended;
#[allow(unsafe_code)]
pub mod raw;
pub mod report;
pub mod supervise;
pub mod task;
