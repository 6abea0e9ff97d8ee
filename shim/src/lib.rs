//! Everything that happens before the guest runs, in order.
//!
//! [`start::launch`] clones the outer sandbox out of a single-threaded monitor; there the view is built, rights are
//! dropped, and the guest is started under its filter, while the supervisor takes the listener. Ring 1 is made here: what
//! this crate sets up must contain the guest even if the supervisor is wrong, hijacked or dead. Every step is checked
//! before the guest runs, and a step that fails ends the start with a [`failure::Failure`] that names its remedy.

pub mod capabilities;
pub mod confine;
pub mod container;
pub mod exec;
pub mod failure;
pub mod filter;
pub mod identity;
pub mod init;
pub mod keeper;
pub mod landlock;
pub mod limits;
pub mod message;
pub mod mounter;
pub mod mountinfo;
pub mod network;
pub mod plan;
mod ranges;
pub mod start;
pub mod sys;
pub mod terminal;
pub mod vdso;
pub mod view;
