//! What an OCI container's own processes do before its program runs: namespaces, mounts, devices, rights.

pub mod terminal;
pub mod exec;
pub mod hooks;
pub mod launch;
pub mod process;
pub mod program;
pub mod provisional;
pub mod seccomp;

pub use provisional::{become_process, prepare};
