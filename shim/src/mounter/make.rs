//! New mounts, and changes of those that are there.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::stat::fstat;
use syscalls::mount::order::{Kind, Order, PERCENT, RESIZE, WRITABLE};

use super::memory::SMALLEST;
use super::serve::Server;
use crate::capabilities::with_override;
use crate::sys::{self, MountAttributes};

/// `MOUNT_ATTR_NOSYMFOLLOW`
const NO_SYMLINKS: u64 = 0x0020_0000;

impl Server {
    /// Makes a mount and returns it.
    pub(super) fn make(&mut self, kind: Kind, order: &Order, text: &[u8], files: &[OwnedFd]) -> Result<OwnedFd, Errno> {
        match (kind, files) {
            (Kind::Memory, [target]) => self.memory(order, text, target.as_fd()),
            (Kind::Terminals, [target]) => {
                let context = named(c"devpts", text)?;
                sys::fs_set(context.as_fd(), c"newinstance", None)?;
                sys::fs_set(context.as_fd(), c"ptmxmode", Some(c"666"))?;
                sys::fs_set(context.as_fd(), c"mode", Some(c"620"))?;
                let mount = sys::fs_mount(context.as_fd(), attributes(order) | sys::NO_EXEC)?;
                sys::attach(mount.as_fd(), target.as_fd()).map(|()| mount)
            }
            (Kind::Queues, [target]) if self.guard.is_some() => {
                let queues = self.queues.as_ref().ok_or(Errno::EPERM)?;
                show(queues.as_fd(), target.as_fd(), false, attributes(order) | sys::NO_DEV, true)
            }
            (Kind::Queues, [target]) => {
                let context = named(c"mqueue", text)?;
                let mount = sys::fs_mount(context.as_fd(), attributes(order) | sys::NO_DEV)?;
                sys::attach(mount.as_fd(), target.as_fd()).map(|()| mount)
            }
            (Kind::Processes, [target]) => {
                let processes = self.processes.as_ref().ok_or(Errno::EPERM)?;
                let copy = show(
                    processes.as_fd(),
                    target.as_fd(),
                    true,
                    sys::NO_DEV | sys::NO_SUID | sys::NO_EXEC,
                    self.guard.is_some(),
                )?;
                self.note_copy(copy)
            }
            (Kind::Bind, [source, target]) => {
                let whole = self.covers_something(source.as_fd())?;
                match show(source.as_fd(), target.as_fd(), whole, attributes(order), self.guard.is_some()) {
                    Ok(copy) if whole => self.note_copy(copy),
                    // Something beneath is locked to it: it comes along, or what it covers would come to light.
                    Err(Errno::EINVAL) => {
                        let apart = self.guard.is_some();
                        let copy = show(source.as_fd(), target.as_fd(), true, attributes(order), apart)?;
                        self.note_copy(copy)
                    }
                    other => other,
                }
            }
            (Kind::BindAll, [source, target]) => {
                let whole = self.covers_something(source.as_fd())?;
                let copy = show(source.as_fd(), target.as_fd(), true, attributes(order), self.guard.is_some())?;
                if whole { self.note_copy(copy) } else { Ok(copy) }
            }
            (Kind::Overlay, [target, layers @ ..]) => self.overlay(order, text, target.as_fd(), layers),
            _ => Err(Errno::EINVAL),
        }
    }

    /// A file system in memory, as large as there is room.
    fn memory(&mut self, order: &Order, text: &[u8], target: BorrowedFd) -> Result<OwnedFd, Errno> {
        let context = named(c"tmpfs", text)?;
        let set = |key: &CStr, value: String| {
            let value = CString::new(value).map_err(|_| Errno::EINVAL)?;
            sys::fs_set(context.as_fd(), key, Some(&value))
        };
        // Which device number it has tells what of the account is free; only then is it known how large it may be.
        set(c"size", SMALLEST.to_string())?;
        set(c"nr_inodes", inodes(order, SMALLEST).to_string())?;
        set(c"mode", format!("{:o}", order.mode & 0o1777))?;
        let mount = sys::fs_mount(context.as_fd(), attributes(order) | sys::NO_DEV)?;
        let device = fstat(&mount)?.st_dev;
        let size = self.memory.take(device, self.asked(order))?;
        let made = set(c"size", size.to_string())
            .and_then(|()| set(c"nr_inodes", inodes(order, size).to_string()))
            .and_then(|()| sys::fs_reconfigure(context.as_fd()))
            .and_then(|()| sys::attach(mount.as_fd(), target));
        if made.is_err() {
            self.memory.give_back(device);
        }
        made.map(|()| mount)
    }

    /// The size that an order asks for, if it does.
    fn asked(&self, order: &Order) -> Option<u64> {
        match order.size {
            0 => None,
            percent if order.flags & PERCENT != 0 => Some(self.memory.budget() / 100 * percent.min(100)),
            size => Some(size),
        }
    }

    fn overlay(
        &mut self,
        order: &Order,
        text: &[u8],
        target: BorrowedFd,
        layers: &[OwnedFd],
    ) -> Result<OwnedFd, Errno> {
        let (changes, lower) = match (order.flags & WRITABLE, layers) {
            (0, lower) => (None, lower),
            (_, [upper, work, lower @ ..]) => (Some((upper, work)), lower),
            _ => return Err(Errno::EINVAL),
        };
        // On a file system of the host an overlay would leave marks and devices, and copy set-id bits there.
        if self.guard.is_none() && changes.is_some_and(|(upper, _)| !self.is_private(upper.as_fd())) {
            return Err(Errno::EINVAL);
        }
        self.may_be_layers(layers)?;
        let by_descriptor = || {
            let context = named(c"overlay", text)?;
            for layer in lower {
                sys::fs_set_file(context.as_fd(), c"lowerdir+", layer.as_fd())?;
            }
            if let Some((upper, work)) = changes {
                sys::fs_set_file(context.as_fd(), c"upperdir", upper.as_fd())?;
                sys::fs_set_file(context.as_fd(), c"workdir", work.as_fd())?;
            }
            sys::fs_set(context.as_fd(), c"userxattr", None)?;
            sys::fs_mount(context.as_fd(), attributes(order) | sys::NO_DEV)
        };
        // Before Linux 6.13 layers have names: of this process's descriptors, with these as its working directory.
        let by_name = || {
            let context = named(c"overlay", text)?;
            let number = |file: &OwnedFd| file.as_raw_fd().to_string();
            let set = |key: &CStr, value: String| {
                let value = CString::new(value).map_err(|_| Errno::EINVAL)?;
                sys::fs_set(context.as_fd(), key, Some(&value))
            };
            set(c"lowerdir", lower.iter().map(number).collect::<Vec<_>>().join(":"))?;
            if let Some((upper, work)) = changes {
                set(c"upperdir", number(upper))?;
                set(c"workdir", number(work))?;
            }
            sys::fs_set(context.as_fd(), c"userxattr", None)?;
            sys::fs_mount(context.as_fd(), attributes(order) | sys::NO_DEV)
        };
        // An overlay acts on its layers with the rights of who mounted it, and makes a directory without any permission to
        // work in.
        let mount = with_override(|| {
            by_descriptor().or_else(|errno| match errno {
                Errno::EINVAL => self.among_descriptors(by_name),
                errno => Err(errno),
            })
        })?;
        sys::attach(mount.as_fd(), target)?;
        let device = |file: BorrowedFd| fstat(file).map(|stat| stat.st_dev);
        let beneath: Vec<u64> = layers.iter().filter_map(|layer| device(layer.as_fd()).ok()).collect();
        self.memory.layered(device(mount.as_fd())?, beneath);
        Ok(mount)
    }

    /// Adds restrictions to a mount, and takes off what the guest itself had put there: the kernel refuses to take off
    /// what came with the view.
    pub(super) fn change(&mut self, order: &Order, target: BorrowedFd) -> Result<(), Errno> {
        if order.flags & RESIZE != 0
            && let Some(device) = self.memory.device_of(target)
        {
            self.resize(order, target, device)?;
        }
        let set = u64::from(order.set);
        let clear = u64::from(order.clear) & (sys::READ_ONLY | sys::NO_EXEC | NO_SYMLINKS);
        let clear = clear & !self.stays(target)?;
        let both = MountAttributes { set, clear, ..Default::default() };
        match sys::set_mount_attributes(target, false, &both) {
            Err(Errno::EPERM) if set != 0 => {
                sys::set_mount_attributes(target, false, &MountAttributes { set, ..Default::default() })
            }
            other => other,
        }
    }

    fn resize(&mut self, order: &Order, target: BorrowedFd, device: u64) -> Result<(), Errno> {
        let Some(asked) = self.asked(order) else { return Ok(()) };
        let (size, before) = self.memory.retake(device, asked)?;
        let resized = sys::fs_pick(target).and_then(|context| {
            let value = CString::new(size.to_string()).map_err(|_| Errno::EINVAL)?;
            sys::fs_set(context.as_fd(), c"size", Some(&value))?;
            sys::fs_reconfigure(context.as_fd())
        });
        if resized.is_err() {
            self.memory.restore(before);
        }
        resized
    }
}

/// How many files a file system of this size may have: the kernel's memory for them is bounded as well.
fn inodes(order: &Order, size: u64) -> u64 {
    let most = size / 1024 + 16;
    if order.inodes == 0 { most } else { order.inodes.min(most) }
}

/// Set-id programs are never obeyed there, whatever the order says.
fn attributes(order: &Order) -> u64 {
    u64::from(order.set) | sys::NO_SUID
}

/// Begins to configure a file system that the mount table shows under the guest's name for it.
fn named(kind: &CStr, source: &[u8]) -> Result<OwnedFd, Errno> {
    let context = sys::fs_open(kind)?;
    // The longest that fsconfig(2) takes; a name that it does not take is no reason to fail.
    let source: Vec<u8> = source.iter().copied().take(255).collect();
    if let Ok(source) = CString::new(source)
        && !source.is_empty()
    {
        sys::fs_set(context.as_fd(), c"source", Some(&source))?;
    }
    Ok(context)
}

/// Attaches a copy of `source` at `target`, and returns it. It keeps the restrictions of its source, and gets these.
///
/// A copy that is to be `apart` shares no propagation with its source, which the host may share.
fn show(source: BorrowedFd, target: BorrowedFd, recursive: bool, set: u64, apart: bool) -> Result<OwnedFd, Errno> {
    let copy = sys::clone_tree(Some(source), c"", recursive)?;
    let propagation = if apart { libc::MS_PRIVATE } else { 0 };
    sys::set_mount_attributes(copy.as_fd(), recursive, &MountAttributes { set, propagation, ..Default::default() })?;
    sys::attach(copy.as_fd(), target)?;
    Ok(copy)
}
