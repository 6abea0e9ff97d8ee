//! What each Linux syscall is, and how the sentry answers it.
//!
//! One table ([`table::Syscall`]) is the only truth: the BPF program, the dispatcher, the compatibility page and
//! `sentry syscalls` are all derived from it. Its rows live beside their handlers, one file a topic. Handlers see the
//! guest through the small trait in [`guest`], so each can be tried with a fake one. This crate knows no command line.
#![deny(unsafe_code)]

pub mod abi;
pub mod args;
pub mod credentials;
pub mod dispatch;
pub mod filter;
pub mod guest;
pub mod owners;
pub mod page;
pub mod pattern;
pub mod reply;
pub mod rules;
pub mod table;
pub mod waits;

mod clock;
mod exec;
#[cfg(test)]
pub(crate) mod fake;
mod file;
mod identity;
mod io;
mod ipc;
mod memory;
mod mount;
mod names;
mod net;
mod peers;
mod privileged;
mod process;
mod signal;
mod sys;

pub use file::pretend::record as records;
pub use file::pretend::table::Table as Remembered;
