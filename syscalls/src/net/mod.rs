//! Sockets.
//!
//! The guest's network namespace is empty but for its own loopback, so the kernel by itself lets no packet out. What is
//! left for us: few families of sockets (each is kernel code that a guest could attack), a word to the user when a host
//! could not be reached, and socket files inside granted directories, through which a service outside would answer.

mod address;
mod bind;
mod connect;
mod exchange;
mod introduced;
mod send;
mod socket;

/// The rows of all sockets.
pub(crate) const ROWS: &[&[crate::table::Syscall]] =
    &[bind::ROWS, connect::ROWS, exchange::ROWS, send::ROWS, socket::ROWS];
