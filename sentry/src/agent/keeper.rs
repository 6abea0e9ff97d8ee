//! The keeper of one container: takes over the listeners of its filters, hands each to the container's supervisor, writes
//! the audit log, and ends the container if its supervisor dies.

use std::os::fd::OwnedFd;
use std::path::Path;

use nix::unistd::Pid;
use shim::failure::Failure;

use super::Container;
use super::policy::ContainerPolicy;

/// A keeper that was started.
#[derive(Debug)]
pub struct Keeper {
    /// Its process: a child of the caller's, which it outlives.
    pub pid: Pid,
    /// What init says to it: [`shim::keeper::announce`], then [`shim::keeper::hand_over`].
    pub channel: OwnedFd,
}

/// Starts the keeper of a container that is about to be made. The caller must be single-threaded. It listens at `socket` for
/// processes that enter the container later ([`shim::keeper::connect`], [`shim::keeper::hand_over`]).
pub fn start(container: &Container, policy: &ContainerPolicy, socket: &Path) -> Result<Keeper, Failure> {
    let (here, there) = nix::sys::socket::socketpair(
        nix::sys::socket::AddressFamily::Unix,
        nix::sys::socket::SockType::SeqPacket,
        None,
        nix::sys::socket::SockFlag::SOCK_CLOEXEC,
    )
    .map_err(|errno| Failure::new("make a channel", errno))?;
    match shim::sys::clone(0).map_err(|errno| Failure::new("start the container's keeper", errno))? {
        Some(pid) => Ok(Keeper { pid: Pid::from_raw(pid), channel: here }),
        None => {
            drop(here);
            shim::sys::exit_now(run(container, policy, socket, there))
        }
    }
}

fn run(_container: &Container, _policy: &ContainerPolicy, _socket: &Path, _channel: OwnedFd) -> i32 {
    125
}
