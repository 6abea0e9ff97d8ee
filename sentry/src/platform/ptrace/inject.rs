//! How a guest is given a descriptor: calls are put in the place of its own.
//!
//! The stopped call becomes a `socketpair`; the supervisor takes a copy of the first end and sends the file there; then the
//! guest's thread closes that end, so that the lowest number is free again as it was, receives the file by the second, and
//! closes it. A listener's `ADDFD` has no like for tracers. Four stops come on top of the one of every answer; where calls cannot
//! be stepped over, seven.
//!
//! The few bytes that these calls read and write are on the guest's stack, below what its code may use without being disturbed by
//! a signal, and are put back. Other threads can change them, and change then what becomes of a file that their process
//! was to have anyway: nothing is read back but numbers of its own descriptors.
//!
//! The calls go through the guest's filters like any other. Ours lets them pass once it has asked us; one that the guest has put
//! upon itself may refuse them: then its call fails. Signals wait until all is done.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};
use nix::sys::uio::{RemoteIoVec, process_vm_readv, process_vm_writev};
use nix::unistd::Pid;

use super::registers::{Call, Registers, STEPS_OVER_CALLS};
use super::sys::{self, Stop};
use super::tracer::{Tracer, finish};

/// The calls that are put in the place of others.
pub const INJECTED: &[&str] = &["close", "recvmsg", "socketpair"];

/// What came of it.
pub enum Injection {
    /// The caller has its answer, if it is still there.
    Told(Result<(), Errno>),
    /// Its thread has come to this instead.
    Interrupted(Stop),
}

/// Why a call could not be made.
enum Trouble {
    Errno(Errno),
    Stop(Stop),
}

impl From<Errno> for Trouble {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

/// What is below the stack without being free (the red zone).
const RED_ZONE: u64 = 128;
/// What the calls need: a `struct msghdr`, and a control message or a pair of numbers.
const SPACE: usize = 96;
const CONTROL: usize = 64;
const CONTROL_LENGTH: usize = 24;
/// What a control message with one descriptor says of its length.
const ONE_DESCRIPTOR: usize = 20;

/// Signals that a program may bring upon itself; blocking them would end it.
const OWN_FAULTS: [i32; 6] = [libc::SIGILL, libc::SIGTRAP, libc::SIGBUS, libc::SIGFPE, libc::SIGSEGV, libc::SIGSYS];

fn all_others() -> u64 {
    OWN_FAULTS.iter().fold(u64::MAX, |mask, signal| mask & !(1 << (signal - 1)))
}

/// Answers the call at which `tid` is stopped with a descriptor of `file`.
pub fn give(tracer: &mut Tracer, tid: i32, registers: &Registers, file: &OwnedFd, cloexec: bool) -> Injection {
    let mut hand = Hand { tracer, tid, registers, begun: false, stop_again: false, late: Vec::new() };
    let mask = match sys::blocked(tid).and_then(|mask| sys::block(tid, all_others()).map(|()| mask)) {
        Ok(mask) => mask,
        Err(errno) => return Injection::Told(Err(errno)),
    };
    let result = match hand.give(file, cloexec) {
        Ok(number) => number.into(),
        Err(Trouble::Errno(errno)) => -i64::from(errno as i32),
        Err(Trouble::Stop(stop)) => return Injection::Interrupted(stop),
    };
    let Hand { stop_again, late, .. } = hand;
    let unblocked = sys::block(tid, mask);
    if stop_again {
        let _ = sys::interrupt(tid);
    }
    for signal in late {
        crate::raw::signal_thread(tid, signal);
    }
    Injection::Told(unblocked.and_then(|()| finish(tid, registers, result)))
}

/// A thread that makes calls for us.
struct Hand<'a> {
    tracer: &'a mut Tracer,
    tid: i32,
    /// As they were at its own call.
    registers: &'a Registers,
    /// Whether its own call is over.
    begun: bool,
    /// Its process was stopped meanwhile.
    stop_again: bool,
    /// Signals that could not be blocked.
    late: Vec<i32>,
}

impl Hand<'_> {
    fn give(&mut self, file: &OwnedFd, cloexec: bool) -> Result<i32, Trouble> {
        let place = (self.registers.stack().wrapping_sub(RED_ZONE + SPACE as u64)) & !15;
        let mut there = [0; SPACE];
        self.read(place, &mut there)?;
        let given = self.by_socket(place, file, cloexec);
        if !matches!(given, Err(Trouble::Stop(_))) {
            let _ = self.write(place, &there);
        }
        given
    }

    fn by_socket(&mut self, place: u64, file: &OwnedFd, cloexec: bool) -> Result<i32, Trouble> {
        let pair = place + CONTROL as u64;
        let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
        self.make(libc::SYS_socketpair, [word(libc::AF_UNIX), word(kind), 0, pair, 0, 0])?;
        let mut numbers = [0; 8];
        self.read(pair, &mut numbers)?;
        let [first, second] = [[0, 1, 2, 3], [4, 5, 6, 7]].map(|at| i32::from_ne_bytes(at.map(|at| numbers[at])));

        let sent = self.send(first, file).and_then(|()| Ok(self.write(place, &message(place))?));
        self.make(libc::SYS_close, [word(first), 0, 0, 0, 0, 0])?;
        let received = sent.map_err(Trouble::Errno).and_then(|()| self.receive(place, second, cloexec));
        if let Err(Trouble::Stop(_)) = received {
            return received;
        }
        self.make(libc::SYS_close, [word(second), 0, 0, 0, 0, 0])?;
        received
    }

    fn send(&self, first: i32, file: &OwnedFd) -> Result<(), Errno> {
        let end = crate::raw::take_descriptor(&crate::raw::open_thread(self.tid)?, first)?;
        let files = [file.as_raw_fd()];
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        sendmsg::<UnixAddr>(end.as_raw_fd(), &[IoSlice::new(b"F")], &[ControlMessage::ScmRights(&files)], flags, None)
            .map(drop)
    }

    fn receive(&mut self, place: u64, second: i32, cloexec: bool) -> Result<i32, Trouble> {
        let flags = libc::MSG_DONTWAIT | if cloexec { libc::MSG_CMSG_CLOEXEC } else { 0 };
        self.make(libc::SYS_recvmsg, [word(second), place, word(flags), 0, 0, 0])?;
        let mut control = [0; CONTROL_LENGTH];
        self.read(place + CONTROL as u64, &mut control)?;
        let (length, rest) = control.split_at(size_of::<usize>());
        // Without a free number the kernel tells the message and keeps the file.
        match length.try_into().map(usize::from_ne_bytes) {
            Ok(ONE_DESCRIPTOR) => Ok(i32::from_ne_bytes([rest[8], rest[9], rest[10], rest[11]])),
            _ => Err(Errno::EMFILE.into()),
        }
    }

    /// Makes a call and returns what it returned.
    fn make(&mut self, number: libc::c_long, arguments: [u64; 6]) -> Result<i64, Trouble> {
        let number = i32::try_from(number).map_err(|_| Errno::ENOSYS)?;
        // The first stands in the place of the thread's own call, which has begun.
        let steps = self.begun && STEPS_OVER_CALLS;
        let mut edges = if self.begun {
            sys::set_registers(self.tid, &self.registers.before(number, arguments))?;
            2
        } else {
            self.begun = true;
            sys::set_number(self.tid, number)?;
            sys::set_registers(self.tid, &self.registers.within(number, arguments))?;
            1
        };
        let mut refused = false;
        let mut signal = 0;
        let after = loop {
            if steps { sys::step(self.tid, signal) } else { sys::resume_to_edge(self.tid, signal) }?;
            signal = 0;
            match self.tracer.next_of(self.tid)? {
                Stop::Edge if edges == 1 => {
                    let now = sys::registers(self.tid)?;
                    // A call that is refused by a signal is rolled back, and the signal comes next. None of these returns its number.
                    if now.result() != i64::from(number) {
                        break now;
                    }
                }
                Stop::Edge => edges -= 1,
                // A filter asks about it, and lets it pass when it has asked.
                Stop::Call | Stop::Born => {}
                Stop::Group(_) => self.stop_again = true,
                Stop::Signal(libc::SIGSTOP) => signal = libc::SIGSTOP,
                Stop::Signal(libc::SIGTRAP) if steps => {
                    let now = sys::registers(self.tid)?;
                    if now.instruction_pointer() == self.registers.instruction_pointer() {
                        if refused {
                            return Err(Errno::EACCES.into());
                        }
                        break now;
                    }
                    self.late.push(libc::SIGTRAP);
                }
                Stop::Signal(other) if sys::is_sent(self.tid)? => self.late.push(other),
                // A filter of the guest's refuses it by a signal, which is not the program's fault. That of the step follows.
                Stop::Signal(_) => {
                    let now = sys::registers(self.tid)?.instruction_pointer();
                    refused = steps && now == self.registers.instruction_pointer();
                    if !refused {
                        return Err(Errno::EACCES.into());
                    }
                }
                stop @ (Stop::Ended | Stop::Exec) => return Err(Trouble::Stop(stop)),
            }
        };
        match after.result() {
            failed @ -4095..0 => Err(Errno::from_raw(i32::try_from(-failed).unwrap_or(libc::EIO)).into()),
            result => Ok(result),
        }
    }

    fn read(&self, at: u64, into: &mut [u8]) -> Result<(), Errno> {
        let remote = [RemoteIoVec { base: usize::try_from(at).map_err(|_| Errno::EFAULT)?, len: into.len() }];
        let wanted = into.len();
        let read = process_vm_readv(Pid::from_raw(self.tid), &mut [IoSliceMut::new(into)], &remote)?;
        if read == wanted { Ok(()) } else { Err(Errno::EFAULT) }
    }

    fn write(&self, at: u64, bytes: &[u8]) -> Result<(), Errno> {
        let remote = [RemoteIoVec { base: usize::try_from(at).map_err(|_| Errno::EFAULT)?, len: bytes.len() }];
        let written = process_vm_writev(Pid::from_raw(self.tid), &[IoSlice::new(bytes)], &remote)?;
        if written == bytes.len() { Ok(()) } else { Err(Errno::EFAULT) }
    }
}

/// An empty message with room for one descriptor, as a `struct msghdr` at `place`; see recvmsg(2).
fn message(place: u64) -> [u8; SPACE] {
    let mut bytes = [0; SPACE];
    for (field, value) in [
        (std::mem::offset_of!(libc::msghdr, msg_control), place + CONTROL as u64),
        (std::mem::offset_of!(libc::msghdr, msg_controllen), CONTROL_LENGTH as u64),
    ] {
        bytes[field..field + 8].copy_from_slice(&value.to_ne_bytes());
    }
    bytes
}

fn word(value: i32) -> u64 {
    i64::from(value).cast_unsigned()
}
