//! What does a connection cost?
//!
//! Connects to a listener of its own over loopback, accepts, and closes both ends. `connect` carries its address in
//! memory, so a sandbox that names refused hosts has to look at it.

use std::io;
use std::net::{TcpListener, TcpStream};

use nix::sys::socket::{setsockopt, sockopt};

use super::{Granted, Question};
use crate::stopwatch::Stint;

pub(super) const QUESTION: Question = Question::call("connect", "`connect`, `accept`, `close` over loopback", 900, ask);

fn ask(_: &Granted, stint: Stint) -> io::Result<f64> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    stint.per_operation(|| {
        let caller = TcpStream::connect(address)?;
        // Closed with a reset: a port in TIME_WAIT for each turn of the loop would run out of ports.
        setsockopt(&caller, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 0 })?;
        let (_called, _) = listener.accept()?;
        Ok(())
    })
}
