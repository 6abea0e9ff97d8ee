//! What does a connection cost?
//!
//! Connects to a listener of its own over loopback, accepts, and closes both ends. `connect` carries its address in
//! memory, so a sandbox that names refused hosts has to look at it.

use std::io;
use std::net::{TcpListener, TcpStream};

use nix::sys::socket::{setsockopt, sockopt};

use super::{Granted, Method, Question};
use crate::stopwatch::per_operation;

pub(super) const QUESTION: Question = Question {
    name: "connect",
    asks: "`connect`, `accept`, `close` over loopback",
    times: 900,
    method: Method::Inside(ask),
    prepare: None,
};

fn ask(_: &Granted, times: u64) -> io::Result<f64> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    per_operation(times, || {
        let caller = TcpStream::connect(address)?;
        // Closed with a reset: a port in TIME_WAIT for each turn of the loop would run out of ports.
        setsockopt(&caller, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 0 })?;
        let (_called, _) = listener.accept()?;
        Ok(())
    })
}
