//! Sitting down at a container's terminal, and whose the standard descriptors are.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::libc;
use nix::unistd::{Gid, Uid, fchown};
use oci_spec::runtime::Process;

use crate::failure::{Failure, Step};
use crate::sys;

/// Sets the terminal's size to the one of the configuration.
pub fn set_size(process: &Process, terminal: &OwnedFd) -> Result<(), Failure> {
    let Some(size) = process.console_size() else { return Ok(()) };
    let cells = |number: u64| u16::try_from(number).unwrap_or(u16::MAX);
    let size = libc::winsize { ws_row: cells(size.height()), ws_col: cells(size.width()), ws_xpixel: 0, ws_ypixel: 0 };
    sys::set_window_size(terminal.as_fd(), &size).step(|| "set the terminal's size")
}

/// Makes `terminal` what a session leader controls and has as standard input, output and error.
pub fn sit_down(terminal: &OwnedFd) -> Result<(), Failure> {
    sys::set_controlling_terminal(terminal.as_fd()).step(|| "take the terminal as the controlling one")?;
    for number in 0..=2 {
        sys::place_descriptor(terminal.as_raw_fd(), number).step(|| format!("set up descriptor {number}"))?;
    }
    Ok(())
}

/// Gives the standard descriptors that are pipes, sockets or terminals to the container's user, who could not open
/// `/dev/stdout` otherwise. Where that user has no id, they stay as they are.
pub fn give_stdio_to(process: &Process) {
    let (user, group) = (Uid::from_raw(process.user().uid()), Gid::from_raw(process.user().gid()));
    for number in 0..=2 {
        let stdio = sys::standard(number);
        let Ok(stat) = nix::sys::stat::fstat(stdio) else { continue };
        let kind = stat.st_mode & libc::S_IFMT;
        let is_terminal = kind == libc::S_IFCHR && (136..=143).contains(&libc::major(stat.st_rdev));
        if kind == libc::S_IFIFO || kind == libc::S_IFSOCK {
            let _ = fchown(stdio, Some(user), Some(group));
        } else if is_terminal {
            let _ = fchown(stdio, Some(user), None);
        }
    }
}
