//! Standard descriptors: which of them the guest may hold itself, and relays for the others.
//!
//! A regular file that was opened for reading can be opened for writing again through `/proc/self/fd` (tried: it works
//! under bubblewrap). So a file reaches the guest through a pipe, and the monitor, who keeps the file, moves the bytes.

use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice};
use nix::libc;
use nix::sys::stat::fstat;
use nix::unistd::{Whence, lseek, pipe2, read, write};
use shim::failure::{Failure, Step};
use shim::plan::Stdio;

use crate::raw;

/// What a standard descriptor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Closed,
    Terminal,
    File,
    Other,
}

fn classify(number: RawFd) -> Result<Kind, Failure> {
    let name = ["standard input", "standard output", "standard error"][usize::try_from(number).unwrap_or(0)];
    let fd = raw::standard(number);
    let stat = match fstat(fd) {
        Err(Errno::EBADF) => return Ok(Kind::Closed),
        other => other.step(|| format!("look at {name}"))?,
    };
    let flags = fcntl(fd, FcntlArg::F_GETFL).step(|| format!("look at {name}"))?;
    let refuse = |what: &str| {
        Err(Failure::check(format!("give {name} to the sandbox"))
            .remedy(format!("it is {what}; redirect it elsewhere")))
    };
    if flags & libc::O_PATH != 0 {
        return refuse("a descriptor that only names a path (O_PATH)");
    }
    match stat.st_mode & libc::S_IFMT {
        libc::S_IFDIR => refuse("a directory"),
        libc::S_IFBLK => refuse("a block device"),
        libc::S_IFREG => Ok(Kind::File),
        libc::S_IFCHR if nix::unistd::isatty(fd).unwrap_or(false) => Ok(Kind::Terminal),
        libc::S_IFCHR if libc::major(stat.st_rdev) != 1 => refuse("a device"),
        _ => Ok(Kind::Other),
    }
}

/// One relay between a file of the user and a pipe of the guest.
#[derive(Debug)]
pub struct Relay {
    /// 0, 1 or 2.
    number: RawFd,
    /// Our end of the pipe.
    pipe: Option<OwnedFd>,
    /// Bytes read from the file that the pipe had no room for yet.
    pending: Vec<u8>,
}

impl Relay {
    fn file(&self) -> BorrowedFd<'static> {
        raw::standard(self.number)
    }

    /// The descriptor to poll, and whether for writing.
    pub fn waits_for(&self) -> Option<(BorrowedFd<'_>, bool)> {
        self.pipe.as_ref().map(|pipe| (pipe.as_fd(), self.number == 0))
    }

    /// Moves what can be moved now. Ends the relay at the end of the file, or when the other end is gone.
    pub fn step(&mut self) {
        let moved = if self.number == 0 { self.feed() } else { self.take() };
        if !moved {
            self.pipe = None;
        }
    }

    fn feed(&mut self) -> bool {
        let mut buffer = vec![0; 64 * 1024];
        if self.pending.is_empty() {
            match read(self.file(), &mut buffer) {
                Ok(0) => return false,
                Ok(length) => self.pending.extend_from_slice(&buffer[..length]),
                Err(Errno::EINTR | Errno::EAGAIN) => return true,
                Err(_) => return false,
            }
        }
        let Some(pipe) = &self.pipe else { return false };
        match write(pipe, &self.pending) {
            Ok(length) => {
                self.pending.drain(..length);
                true
            }
            Err(errno) => matches!(errno, Errno::EAGAIN | Errno::EINTR),
        }
    }

    fn take(&mut self) -> bool {
        let Some(pipe) = &self.pipe else { return false };
        // Not into a file that is opened for appending: the kernel refuses that with EINVAL.
        match splice(pipe, None, self.file(), None, 1 << 20, SpliceFFlags::SPLICE_F_NONBLOCK) {
            Ok(0) => false,
            Ok(_) | Err(Errno::EAGAIN | Errno::EINTR) => true,
            Err(Errno::EINVAL) => self.copy(),
            Err(errno) => self.complain(errno),
        }
    }

    fn copy(&self) -> bool {
        let Some(pipe) = &self.pipe else { return false };
        let mut buffer = vec![0; 64 * 1024];
        let length = match read(pipe, &mut buffer) {
            Ok(0) => return false,
            Ok(length) => length,
            Err(errno) => return matches!(errno, Errno::EAGAIN | Errno::EINTR),
        };
        let mut rest = &buffer[..length];
        while !rest.is_empty() {
            match write(self.file(), rest) {
                Ok(written) => rest = &rest[written..],
                Err(Errno::EINTR) => {}
                Err(errno) => return self.complain(errno),
            }
        }
        true
    }

    /// A full disk must not go unnoticed: the guest sees a broken pipe, the user sees why.
    fn complain(&self, errno: Errno) -> bool {
        let name = if self.number == 1 { "standard output" } else { "standard error" };
        let _ = writeln!(std::io::stderr(), "sentry: cannot write {name}: {}", errno.desc());
        false
    }

    /// After the run: what the guest wrote is drained, what it did not read is given back.
    pub fn finish(&mut self) {
        if self.number != 0 {
            while self.pipe.is_some() {
                let Some(pipe) = &self.pipe else { break };
                let mut waiting = [nix::poll::PollFd::new(pipe.as_fd(), nix::poll::PollFlags::POLLIN)];
                // Whoever still holds the other end is being killed; a second is plenty.
                match nix::poll::poll(&mut waiting, 1000u16) {
                    Ok(0) => break,
                    _ => self.step(),
                }
            }
        }
    }

    /// Bytes of standard input that were read ahead and nobody took, given back to the shared offset of the file.
    pub fn give_back(&mut self, unread: usize) {
        let back = i64::try_from(unread + self.pending.len()).unwrap_or(0);
        if self.number == 0 && back > 0 {
            let _ = lseek(self.file(), -back, Whence::SeekCur);
        }
    }
}

/// What becomes of the three descriptors.
#[derive(Debug)]
pub struct Standard {
    /// For the plan.
    pub stdio: [Stdio; 3],
    /// The monitor's work.
    pub relays: Vec<Relay>,
    /// Ends that only the guest may hold: to be closed here once it is started.
    pub guest_ends: Vec<OwnedFd>,
    /// A duplicate of the guest's end of standard input, to count what was left in it.
    pub input_rest: Option<OwnedFd>,
}

impl Standard {
    /// Looks at 0, 1 and 2 and makes the relays.
    pub fn new() -> Result<Self, Failure> {
        let mut standard =
            Self { stdio: [Stdio::Pass; 3], relays: Vec::new(), guest_ends: Vec::new(), input_rest: None };
        for number in 0..3 {
            let index = usize::try_from(number).unwrap_or(0);
            standard.stdio[index] = match classify(number)? {
                Kind::Closed => Stdio::Null,
                Kind::Terminal => Stdio::Terminal,
                Kind::Other => Stdio::Pass,
                Kind::File => standard.relay(number)?,
            };
        }
        Ok(standard)
    }

    fn relay(&mut self, number: RawFd) -> Result<Stdio, Failure> {
        // `2>&1`: one open file, so one pipe, and the order of what is written stays.
        if number == 2 && matches!(self.stdio[1], Stdio::Relay(_)) && raw::same_open_file(1, 2) {
            return Ok(self.stdio[1]);
        }
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC).step(|| "make a relay pipe")?;
        let (ours, guest) = if number == 0 { (writer, reader) } else { (reader, writer) };
        fcntl(&ours, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).step(|| "make a relay pipe")?;
        let raw = guest.as_raw_fd();
        if number == 0 {
            self.input_rest = guest.try_clone().ok();
        }
        self.relays.push(Relay { number, pipe: Some(ours), pending: Vec::new() });
        self.guest_ends.push(guest);
        Ok(Stdio::Relay(raw))
    }

    /// Ends all relays after the sandbox is gone.
    pub fn finish(&mut self) {
        let unread = self.input_rest.as_ref().and_then(|rest| shim::sys::waiting_bytes(rest.as_fd()).ok()).unwrap_or(0);
        for relay in &mut self.relays {
            relay.finish();
            relay.give_back(unread);
        }
    }
}
