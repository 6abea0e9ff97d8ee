//! The user's terminal, while a guest works on one of its own.
//!
//! The monitor puts the user's terminal into raw mode and carries bytes both ways, so that Ctrl-C, Ctrl-Z and everything
//! else are interpreted by the sandbox's terminal. The old settings come back however the run ends.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::PollFlags;
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use nix::unistd::{getpgrp, read, tcgetpgrp, write};
use shim::plan::{Stdio, TerminalStart};

use crate::raw;

/// The two terminals and what is on its way between them.
#[derive(Debug)]
pub struct Terminal {
    /// The master of the sandbox's terminal, once init has sent it.
    master: Option<OwnedFd>,
    /// Which of our standard descriptors shows output.
    output: i32,
    /// Whether standard input is a terminal, to be read from.
    input: bool,
    settings: Option<Termios>,
    raw: bool,
    to_guest: Vec<u8>,
}

impl Terminal {
    /// For these standard descriptors; `None` if none is a terminal.
    pub fn new(stdio: [Stdio; 3]) -> Option<Self> {
        let output =
            [1, 2, 0].into_iter().find(|&number| stdio[usize::try_from(number).unwrap_or(0)] == Stdio::Terminal)?;
        let input = stdio[0] == Stdio::Terminal;
        let settings = if input { tcgetattr(raw::standard(0)).ok() } else { None };
        Some(Self { master: None, output, input, settings, raw: false, to_guest: Vec::new() })
    }

    /// How the sandbox's terminal begins: the size of ours. Where ours keeps post-processing output, the other must not.
    pub fn start(&self) -> TerminalStart {
        let zero = nix::libc::winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        let size = shim::sys::window_size(raw::standard(self.output)).unwrap_or(zero);
        TerminalStart { size, post_process: self.input }
    }

    /// Takes the master and begins to relay.
    pub fn attach(&mut self, master: OwnedFd) {
        self.master = Some(master);
        self.resize();
        self.enter_raw();
    }

    /// Raw mode, if we are in the terminal's foreground; a background job must leave it alone.
    pub fn enter_raw(&mut self) {
        let Some(settings) = &self.settings else { return };
        if self.master.is_none() || tcgetpgrp(raw::standard(0)) != Ok(getpgrp()) {
            return;
        }
        let mut changed = settings.clone();
        cfmakeraw(&mut changed);
        self.raw = tcsetattr(raw::standard(0), SetArg::TCSADRAIN, &changed).is_ok();
    }

    /// The user's settings again.
    pub fn leave_raw(&mut self) {
        if let (true, Some(settings)) = (std::mem::take(&mut self.raw), &self.settings) {
            let _ = tcsetattr(raw::standard(0), SetArg::TCSADRAIN, settings);
        }
    }

    /// Passes the window's size on.
    pub fn resize(&self) {
        if let (Some(master), Ok(size)) = (&self.master, shim::sys::window_size(raw::standard(self.output))) {
            let _ = shim::sys::set_window_size(master.as_fd(), &size);
        }
    }

    /// What to wait for: the master, and the user's keys while we may read them and have room.
    pub fn waits_for(&self) -> Vec<(BorrowedFd<'_>, PollFlags)> {
        let Some(master) = &self.master else { return Vec::new() };
        let mut events = PollFlags::POLLIN;
        events.set(PollFlags::POLLOUT, !self.to_guest.is_empty());
        let mut all = vec![(master.as_fd(), events)];
        if self.input && self.raw && self.to_guest.is_empty() {
            all.push((raw::standard(0), PollFlags::POLLIN));
        }
        all
    }

    /// Shows what the guest wrote. `false` at the end, when no process holds the terminal any more.
    pub fn show(&mut self) -> bool {
        let Some(master) = &self.master else { return false };
        let mut buffer = [0; 16 * 1024];
        match read(master, &mut buffer) {
            Ok(0) | Err(Errno::EIO) => {
                self.master = None;
                false
            }
            Ok(length) => {
                let mut rest = &buffer[..length];
                while !rest.is_empty() {
                    match write(raw::standard(self.output), rest) {
                        Ok(written) => rest = &rest[written..],
                        Err(Errno::EINTR) => {}
                        Err(Errno::EAGAIN) => std::thread::yield_now(),
                        Err(_) => return false,
                    }
                }
                true
            }
            Err(_) => true,
        }
    }

    /// Takes the user's keys; at the end of input the guest sees an end of file, as Ctrl-D gives it.
    pub fn take_keys(&mut self) {
        let mut buffer = [0; 4096];
        match read(raw::standard(0), &mut buffer) {
            Ok(0) => self.input = false,
            Ok(length) => self.to_guest.extend_from_slice(&buffer[..length]),
            Err(Errno::EIO) => self.input = false,
            Err(_) => {}
        }
        self.pass_keys();
    }

    /// Passes keys on as far as there is room.
    pub fn pass_keys(&mut self) {
        let Some(master) = &self.master else { return };
        if self.to_guest.is_empty() {
            return;
        }
        if let Ok(written) = write(master, &self.to_guest) {
            self.to_guest.drain(..written);
        }
    }

    /// After the run: shows what is left, then gives the terminal back.
    pub fn finish(&mut self) {
        while self.master.is_some() {
            let Some(master) = &self.master else { break };
            let mut waiting = [nix::poll::PollFd::new(master.as_fd(), PollFlags::POLLIN)];
            match nix::poll::poll(&mut waiting, 200u16) {
                Ok(0) | Err(_) => break,
                Ok(_) => {
                    self.show();
                }
            }
        }
        self.leave_raw();
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.leave_raw();
    }
}
