//! The sandbox's own clock, as the supervisor keeps it: the page that programs read it from, and what is done to a program
//! so that it does.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::uio::{pread, pwrite};
use shim::failure::{Failure, Step};
use shim::vdso::{Patch, trace};
use syscalls::clock::{Pretended, Setting, host_now, host_tai_seconds};

use super::tracer::Tracer;
use crate::entry::Entry;

/// What the monitor decided about it.
#[derive(Clone, Debug)]
pub struct Order {
    /// How it begins and runs.
    pub setting: Setting,
    /// What is done to the vDSO of each program, if there is one.
    pub patch: Option<Patch>,
}

/// The clock of the sandbox.
pub struct Clock {
    /// Its time.
    pub pretended: Pretended,
    /// Whoever stops programs at their exec.
    pub tracer: Tracer,
    page: OwnedFd,
    patch: Option<Patch>,
}

impl Clock {
    /// Starts it, while the supervisor may still do everything. `proc` is the private procfs.
    pub fn start(order: Order, proc: BorrowedFd) -> Result<Self, Failure> {
        let step = || "make the page of the pretended clock";
        let (page, writable) = crate::raw::ClockPage::new().step(step)?;
        // A descriptor that can only be read; the other is closed, and the seals let nobody open it for writing again.
        let name = Entry::new(format_args!("self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&writable))).step(step)?;
        let flags = libc::O_RDONLY | libc::O_CLOEXEC;
        let read_only = shim::sys::open_at(Some(proc), name.name().step(step)?, flags, 0, 0).step(step)?;
        let host = host_now(libc::CLOCK_REALTIME).step(|| "read the clock")?;
        let tai = host_tai_seconds().step(|| "read the clock's distance to TAI")?;
        let publish = Box::new(move |words| page.publish(words));
        let pretended = Pretended::new(order.setting, host, tai, publish);
        let tracer = Tracer::new().step(|| "make the queue of programs to be patched")?;
        Ok(Self { pretended, tracer, page: read_only, patch: order.patch })
    }

    /// A descriptor of the page, for a program that begins.
    pub fn page(&self) -> Result<OwnedFd, Errno> {
        self.page.try_clone().map_err(|_| Errno::EMFILE)
    }

    /// What is done to programs.
    pub fn patch(&self) -> Option<&Patch> {
        self.patch.as_ref()
    }

    /// Patches the new program of a thread that this thread traces, which is stopped at its exec.
    pub fn patch_new_program(&self, proc: BorrowedFd, tid: i32) {
        let Some(patch) = &self.patch else { return };
        let patched = mappings(proc, tid).and_then(|maps| {
            let memory = memory(proc, tid).ok();
            trace::patch(tid, patch, &maps, |at, bytes| match &memory {
                // Some kernels let nobody write there to what is read-only, but whoever traces (`proc_mem.force_override`).
                Some(memory) if write(memory, at, bytes).is_ok() => Ok(()),
                _ => trace::write(tid, at, bytes),
            })
        });
        if let Err(errno) = patched {
            tracing::debug!(%errno, tid, "a program keeps the host's clock");
        }
    }

    /// Makes the entries of a process's vDSO plain system calls, without tracing it; those agree with the page. One that
    /// runs already (`late`) only if nobody has patched it yet. Says whether it was done.
    pub fn make_plain(&self, proc: BorrowedFd, process: i32, late: bool) -> Result<bool, Errno> {
        let patch = self.patch.as_ref().ok_or(Errno::ENXIO)?;
        let vdso = vdso(proc, process)?;
        let memory = memory(proc, process)?;
        let at = |offset: usize| vdso.checked_add(offset).ok_or(Errno::EFAULT);
        for (offset, kernels) in patch.witnesses().filter(|_| late) {
            let mut there = vec![0; kernels.len()];
            let length = pread(&memory, &mut there, i64::try_from(at(offset)?).map_err(|_| Errno::EFAULT)?)?;
            if there.get(..length) != Some(kernels) {
                return Ok(false);
            }
        }
        for (offset, bytes) in patch.plain(late) {
            write(&memory, at(*offset)?, bytes)?;
        }
        Ok(true)
    }
}

/// The memory of a process, proc_pid_mem(5).
pub fn memory(proc: BorrowedFd, process: i32) -> Result<OwnedFd, Errno> {
    let name = Entry::new(format_args!("{process}/mem"))?;
    shim::sys::open_at(Some(proc), name.name()?, libc::O_RDWR | libc::O_CLOEXEC, 0, 0)
}

/// Writes to it, also where the process itself may only read.
pub fn write(memory: &OwnedFd, at: usize, bytes: &[u8]) -> Result<(), Errno> {
    let at = i64::try_from(at).map_err(|_| Errno::EFAULT)?;
    if pwrite(memory, bytes, at)? == bytes.len() { Ok(()) } else { Err(Errno::EFAULT) }
}

/// Where the vDSO of a process is, by what the kernel told it (`AT_SYSINFO_EHDR`, proc_pid_auxv(5)): however much the process
/// has mapped, this is short. It may tell us a lie, and has then its own memory written to.
pub fn vdso(proc: BorrowedFd, process: i32) -> Result<usize, Errno> {
    let name = Entry::new(format_args!("{process}/auxv"))?;
    let file = shim::sys::open_at(Some(proc), name.name()?, libc::O_RDONLY | libc::O_CLOEXEC, 0, 0)?;
    let mut bytes = [0; 1024];
    let length = nix::unistd::read(&file, &mut bytes)?;
    let (words, _) = bytes[..length].as_chunks::<{ size_of::<usize>() }>();
    let (pairs, _) = words.as_chunks::<2>();
    let told = pairs.iter().map(|pair| pair.map(usize::from_ne_bytes));
    let wanted = usize::try_from(libc::AT_SYSINFO_EHDR).unwrap_or(0);
    told.into_iter().find(|[kind, _]| *kind == wanted).map(|[_, at]| at).ok_or(Errno::ENXIO)
}

/// What a process that has just begun has mapped, proc_pid_maps(5): all of it, for the vDSO is near the end.
fn mappings(proc: BorrowedFd, process: i32) -> Result<String, Errno> {
    use std::io::Read;
    let name = Entry::new(format_args!("{process}/maps"))?;
    let file = shim::sys::open_at(Some(proc.as_fd()), name.name()?, libc::O_RDONLY | libc::O_CLOEXEC, 0, 0)?;
    let mut text = Vec::with_capacity(4096);
    let read = std::fs::File::from(file).read_to_end(&mut text);
    read.map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))?;
    Ok(String::from_utf8(text).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}
