//! The sandbox's own terminal: pty(7) on the view's own devpts.
//!
//! The guest never holds the user's terminal, so it cannot push keystrokes into it (CVE-2017-5226). Init leads the
//! session that has the new terminal as its controlling one; the monitor holds the master and relays.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::libc;
use nix::sys::termios::{self, OutputFlags, SetArg};
use nix::unistd::setsid;

use crate::failure::{Failure, Step};
use crate::message::{ToMonitor, send};
use crate::plan::TerminalStart;
use crate::sys;

/// Starts a new session and, if asked, gives it a terminal whose master goes to the monitor.
pub fn begin_session(start: Option<&TerminalStart>, monitor: BorrowedFd) -> Result<Option<OwnedFd>, Failure> {
    setsid().step(|| "start a session")?;
    let Some(start) = start else { return Ok(None) };
    let step = || "open the sandbox's terminal";
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    let master = sys::open_at(None, c"/dev/pts/ptmx", flags, 0, 0).step(step)?;
    let terminal = sys::open_peer(master.as_fd()).step(step)?;
    sys::set_window_size(terminal.as_fd(), &start.size).step(step)?;
    if !start.post_process {
        let mut settings = termios::tcgetattr(&terminal).step(step)?;
        settings.output_flags.remove(OutputFlags::OPOST);
        termios::tcsetattr(&terminal, SetArg::TCSANOW, &settings).step(step)?;
    }
    sys::set_controlling_terminal(terminal.as_fd()).step(step)?;
    send(monitor, &ToMonitor::Terminal, Some(master.as_fd())).step(|| "hand the terminal to the monitor")?;
    Ok(Some(terminal))
}
