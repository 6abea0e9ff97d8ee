//! The empty network namespace: nothing but its own loopback.

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use std::os::fd::AsFd;

use crate::failure::{Failure, Step};
use crate::sys;

/// Brings loopback up, so that servers and clients inside can meet.
pub fn raise_loopback() -> Result<(), Failure> {
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)
        .step(|| "open a socket in the sandbox's network")?;
    sys::loopback_up(socket.as_fd()).step(|| "bring up the sandbox's loopback interface")
}
