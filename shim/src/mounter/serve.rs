//! Takes orders, one after the other.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::stat::fstat;
use nix::sys::statfs::{FsType, PROC_SUPER_MAGIC, fstatfs};
use nix::unistd::{chdir, fchdir, write};
use syscalls::mount::order::{Kind, LONGEST, MOST_FILES, Order};

use super::guard::Guard;
use super::memory::Memory;
use super::table::{self, Copy, Mount};
use crate::failure::{Failure, Step};
use crate::keeper::receive_within;
use crate::plan::Mounting;
use crate::sys;

/// After so many mounts they are counted anew.
const RECOUNT: u64 = 64;

/// What it works with.
pub(super) struct Server {
    /// A procfs that knows this process, mounted nowhere.
    pub(super) proc: OwnedFd,
    /// The descriptors of this process, as a directory of it.
    pub(super) descriptors: OwnedFd,
    /// The view's `/proc`, if it has one.
    pub(super) processes: Option<OwnedFd>,
    pub(super) memory: Memory,
    copies: Vec<Copy>,
    /// Mounts that go when asked once more, by identifier.
    marked: Vec<u64>,
    /// The device number of the view's private directories.
    private: Option<u64>,
    /// Mounts that there may be beside those of the view.
    most: u64,
    /// Mounts of the view.
    view: u64,
    /// How many there are, beside the view's; exact when it was last counted.
    count: u64,
    /// Mounts since then.
    uncounted: u64,
    /// What may be changed, where the kernel locks nothing.
    pub(super) guard: Option<Guard>,
    /// The message queues of a container.
    pub(super) queues: Option<OwnedFd>,
}

impl Server {
    /// Waits for the guest's mount namespace and enters it.
    pub(super) fn join(mounting: &Mounting, channel: &OwnedFd, proc: &OwnedFd) -> Result<Self, Failure> {
        let step = || "receive the guest's mounts";
        let (message, files) = receive(channel.as_fd()).step(step)?;
        let [mounts] = files.as_slice() else { return Err(Failure::check(step())) };
        if message != b"M" {
            return Err(Failure::check(step()));
        }
        sys::join(mounts.as_fd()).step(|| "join the guest's mount namespace")?;
        Self::new(mounting, proc, None)
    }

    /// For a container, in whose namespaces this process is already.
    pub(super) fn inside(mounting: &Mounting, proc: &OwnedFd) -> Result<Self, Failure> {
        Self::new(mounting, proc, Some(Guard::default()))
    }

    fn new(mounting: &Mounting, proc: &OwnedFd, guard: Option<Guard>) -> Result<Self, Failure> {
        let directory = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
        let descriptors = sys::open_at(Some(proc.as_fd()), c"self/fd", directory, 0, 0).step(|| "open descriptors")?;
        let processes = sys::open_at(None, c"/proc", directory, 0, 0).ok();
        let processes =
            processes.filter(|proc| fstatfs(proc).is_ok_and(|found| found.filesystem_type() == PROC_SUPER_MAGIC));
        // Always there, and always private.
        let shared_memory = sys::open_at(None, c"/dev/shm", directory, 0, 0).and_then(|place| fstat(&place));
        let private = shared_memory.ok().map(|stat| stat.st_dev);
        let proc = proc.try_clone().map_err(|_| Failure::check("hold the private /proc"))?;
        let mut server = Self {
            proc,
            descriptors,
            processes,
            memory: Memory::new(mounting.bytes),
            copies: Vec::new(),
            marked: Vec::new(),
            private,
            most: mounting.count,
            view: 0,
            count: 0,
            uncounted: 0,
            // Not a new one: this process is in another ipc namespace.
            queues: guard.as_ref().and_then(|_| queues()),
            guard,
        };
        server.view = server.mounts().step(|| "count the view's mounts")?.len() as u64;
        Ok(server)
    }

    /// Answers until the supervisor is gone.
    pub(super) fn serve(&mut self, channel: BorrowedFd) {
        loop {
            match receive(channel) {
                Ok((message, _)) if message.is_empty() => return,
                Ok((message, files)) => {
                    let result = self.obey(&message, &files);
                    // Closed before the answer: a descriptor keeps its mount busy.
                    drop(files);
                    answer(channel, result);
                }
                Err(Errno::EINTR) => {}
                Err(_) => return,
            }
        }
    }

    fn obey(&mut self, message: &[u8], files: &[OwnedFd]) -> Result<(), Errno> {
        let (order, text) = Order::decode(message).ok_or(Errno::EINVAL)?;
        let kind = order.kind().ok_or(Errno::EINVAL)?;
        match (kind, files) {
            (Kind::Unmount, []) => self.unmount(&order, text),
            (Kind::Change, [target]) => self.change(&order, target.as_fd()),
            (Kind::Propagate, [target]) => self.propagate(&order, target.as_fd()),
            (Kind::Move, [source, target]) => self.move_mount(source.as_fd(), target.as_fd()),
            _ => {
                self.make_room()?;
                let before = self.count;
                let keeps = self.place(kind, files)?;
                let made = self.make(kind, &order, text, files)?;
                self.note_own(keeps, &made);
                // It keeps the mount busy.
                drop(made);
                self.count = before + 1;
                // With all that is beneath, or in every peer of the target: who knows how many.
                self.uncounted += if kind == Kind::BindAll { RECOUNT } else { 1 };
                Ok(())
            }
        }
    }

    /// Fails if there are too many mounts already.
    fn make_room(&mut self) -> Result<(), Errno> {
        if self.uncounted >= RECOUNT || self.count + self.memory.layers() >= self.most {
            self.count = (self.mounts()?.len() as u64).saturating_sub(self.view);
            self.uncounted = 0;
        }
        if self.count + self.memory.layers() >= self.most { Err(Errno::ENOSPC) } else { Ok(()) }
    }

    fn unmount(&mut self, order: &Order, text: &[u8]) -> Result<(), Errno> {
        let path = CString::new(text).map_err(|_| Errno::EINVAL)?;
        // An unmount of the root would be a change of its file system.
        if !text.starts_with(b"/") || text.iter().all(|byte| *byte == b'/') {
            return Err(Errno::EINVAL);
        }
        let pinned = if self.guard.is_some() { Some(self.pin(&path)?) } else { None };
        let path = pinned.unwrap_or(path);
        let result = self.unmount_at(order, &path);
        if self.guard.is_some() {
            // Not to keep a directory of the container busy.
            chdir(c"/")?;
        }
        result
    }

    fn unmount_at(&mut self, order: &Order, path: &CStr) -> Result<(), Errno> {
        let flags = order.flags.cast_signed() | libc::UMOUNT_NOFOLLOW;
        let counts = self.memory.is_at(path);
        let lazily = flags & libc::MNT_DETACH != 0;
        let before = if lazily && !self.memory.is_empty() { self.mounts()? } else { Vec::new() };
        match sys::unmount(path, flags) {
            // The supervisor's look at the place was a use of the mount, to the kernel: the mark is kept here.
            Err(Errno::EAGAIN) if flags & libc::MNT_EXPIRE != 0 && self.was_marked(path) => {
                sys::unmount(path, flags & !libc::MNT_EXPIRE)?;
            }
            Err(Errno::EBUSY) if self.take_copy(path).is_some() => sys::unmount(path, flags | libc::MNT_DETACH)?,
            other => other?,
        }
        self.count = self.count.saturating_sub(1);
        if lazily && !self.memory.is_empty() {
            self.memory.detached(&before, &self.mounts()?);
        } else if counts {
            self.memory.unmounted(&self.mounts()?);
        }
        Ok(())
    }

    /// The copy at this place, if nothing was mounted in it since it was made.
    fn take_copy(&mut self, path: &CStr) -> Option<Copy> {
        let place = sys::open_at(None, path, libc::O_PATH | libc::O_NOFOLLOW | libc::O_CLOEXEC, 0, 0).ok()?;
        let copy = Copy::at(place.as_fd(), &self.mounts().ok()?)?;
        let index = self.copies.iter().position(|known| *known == copy)?;
        Some(self.copies.swap_remove(index))
    }

    /// Whether the mount at this place has been marked before to go (`MNT_EXPIRE`); it is now.
    fn was_marked(&mut self, path: &CStr) -> bool {
        const MOST: usize = 1000;
        let place = sys::open_at(None, path, libc::O_PATH | libc::O_NOFOLLOW | libc::O_CLOEXEC, 0, 0);
        let Ok(id) = place.and_then(|place| sys::mount_id(place.as_fd())) else { return false };
        if let Some(index) = self.marked.iter().position(|marked| *marked == id) {
            self.marked.swap_remove(index);
            return true;
        }
        if self.marked.len() >= MOST {
            self.marked.clear();
        }
        self.marked.push(id);
        false
    }

    fn propagate(&mut self, order: &Order, target: BorrowedFd) -> Result<(), Errno> {
        self.may_propagate(order, target)?;
        let attributes = sys::MountAttributes { propagation: u64::from(order.propagation), ..Default::default() };
        self.uncounted = RECOUNT;
        sys::set_mount_attributes(target, order.flags & syscalls::mount::order::RECURSIVE != 0, &attributes)
    }

    /// All mounts.
    pub(super) fn mounts(&self) -> Result<Vec<Mount>, Errno> {
        table::read(&self.proc)
    }

    /// Notes a copy that was made whole, by its top.
    pub(super) fn note_copy(&mut self, top: OwnedFd) -> Result<OwnedFd, Errno> {
        let mounts = self.mounts()?;
        // Those that went by a lazy unmount are not asked for again.
        self.copies.retain(|copy| copy.is_among(&mounts));
        self.copies.extend(Copy::at(top.as_fd(), &mounts));
        Ok(top)
    }

    /// Whether an object lies in the sandbox's own memory.
    pub(super) fn is_private(&self, object: BorrowedFd) -> bool {
        let device = fstat(object).ok().map(|stat| stat.st_dev);
        device.is_some() && device == self.private || self.memory.device_of(object).is_some()
    }

    /// Runs `act` with this process's descriptors as its working directory, where the name `7` is what descriptor 7 is.
    pub(super) fn among_descriptors<T>(&self, act: impl FnOnce() -> Result<T, Errno>) -> Result<T, Errno> {
        fchdir(&self.descriptors)?;
        let result = act();
        chdir(c"/")?;
        result
    }
}

/// The container's message queues. Whatever else its image has at that place is not shown once more.
fn queues() -> Option<OwnedFd> {
    const MQUEUE_MAGIC: FsType = FsType(0x1980_0202);
    let directory = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
    let queues = sys::open_at(None, c"/dev/mqueue", directory, 0, libc::RESOLVE_NO_SYMLINKS).ok()?;
    fstatfs(&queues).is_ok_and(|found| found.filesystem_type() == MQUEUE_MAGIC).then_some(queues)
}

/// One message and its descriptors. Empty: nobody is left to send one.
fn receive(channel: BorrowedFd) -> Result<(Vec<u8>, Vec<OwnedFd>), Errno> {
    receive_within::<MOST_FILES>(channel, size_of::<Order>() + LONGEST)
}

pub(super) fn answer(channel: BorrowedFd, result: Result<(), Errno>) {
    let errno = result.map_or_else(|errno| errno as i32, |()| 0);
    // It is gone, and we are next.
    let _ = write(channel, &errno.to_ne_bytes());
}
