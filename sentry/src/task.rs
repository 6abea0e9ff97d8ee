//! The calling task of one notification, as handlers see it: its memory, directories and descriptors.
//!
//! Everything is asked of the kernel anew for each call, by thread id, for threads may share a working directory, a mask
//! and a descriptor table or not. What was read counts only after `ID_VALID` has said that the call is still pending:
//! until then the thread id might belong to somebody else.

pub mod acting;
mod contained;
mod reads;
mod status;
mod who;

use std::cell::{Cell, RefCell};
use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, readlinkat};
use nix::libc;
use nix::sys::stat::fstatat;
use nix::sys::uio::{RemoteIoVec, process_vm_readv, process_vm_writev};
use nix::unistd::Pid;
use shim::sys;
use syscalls::Remembered;
use syscalls::args::{DirFd, Fd, UserPtr};
use syscalls::clock::Pretended;
use syscalls::credentials::Credentials;
use syscalls::guest::{Around, Decision, Denial, Guest};
use syscalls::mount::order::Mounter;
use syscalls::owners::Owner;
use syscalls::reply::Answer;
use syscalls::rules::Rules;

use crate::entry::Entry;
use crate::platform::{Notification, Platform};
use crate::supervise::Shared;
use crate::supervise::clock::vdso;
use crate::supervise::untold::Read;

/// What a handler has to tell.
enum Note {
    Denial(Denial),
    Decision(Decision),
    /// Of a container: it was done.
    Deed(Denial),
}

/// One pending call.
pub struct Task<'a, P> {
    notification: Notification,
    shared: &'a Shared<P>,
    lead: Option<&'a dyn Fn() -> bool>,
    /// For a thread that must not wait: whether the call can be left to another.
    brief: Option<&'a dyn Fn() -> bool>,
    /// Whether it has been left.
    left: Cell<bool>,
    /// What is told only if it is not left.
    notes: RefCell<Vec<Note>>,
    /// Whether the caller was still there after the last read.
    confirmed: Cell<bool>,
    /// The caller's root, while this thread has it too.
    root: RefCell<Option<OwnedFd>>,
    /// What is to be done around the call.
    wish: Cell<Option<Around>>,
    /// While this thread is the caller: whether another leads.
    acting: Cell<Option<bool>>,
    /// What was read of the caller's memory, if that is to be known afterwards.
    reads: RefCell<Option<Vec<Read>>>,
}

impl<'a, P: Platform> Task<'a, P> {
    /// The task behind `notification`.
    pub fn new(notification: Notification, shared: &'a Shared<P>) -> Self {
        Self {
            notification,
            shared,
            lead: None,
            brief: None,
            left: Cell::new(false),
            notes: RefCell::default(),
            confirmed: Cell::new(false),
            root: RefCell::default(),
            wish: Cell::new(None),
            acting: Cell::new(None),
            reads: RefCell::new(None),
        }
    }

    /// The same, answered by the thread that leads: `hand_over` is called before something that may sleep, perhaps more
    /// than once, and says whether another thread leads now.
    pub fn led(self, hand_over: &'a dyn Fn() -> bool) -> Self {
        Self { lead: Some(hand_over), ..self }
    }

    /// The same, answered by a thread that must not wait: before it would, `can_leave` is asked whether another thread can begin
    /// the call anew. What came of it counts only if it [`is_left`](Self::is_left) not.
    pub fn briefly(self, can_leave: &'a dyn Fn() -> bool) -> Self {
        Self { brief: Some(can_leave), ..self }
    }

    /// Whether the call has to be begun anew by a thread that may wait. If not, what was noted is told now.
    pub fn is_left(&self) -> bool {
        if self.left.get() {
            return true;
        }
        for note in self.notes.take() {
            self.tell(note);
        }
        false
    }

    fn leave(&self) -> bool {
        if self.brief.is_some_and(|can_leave| can_leave()) {
            self.left.set(true);
        }
        self.left.get()
    }

    fn note(&self, note: Note) {
        if self.brief.is_some() { self.notes.borrow_mut().push(note) } else { self.tell(note) }
    }

    fn tell(&self, note: Note) {
        match note {
            Note::Denial(denial) if self.shared.rules.container.is_none() => self.shared.denials.record(denial),
            Note::Denial(denial) => self.shared.denials.record_of(denial, false, || self.by()),
            Note::Deed(denial) if self.shared.tells_deeds => {
                self.shared.denials.record_of(denial, true, || self.by());
            }
            Note::Deed(_) => {}
            Note::Decision(decision) => self.shared.audit.record(self.own_ids().unwrap_or_default(), decision),
        }
    }

    /// Runs `act` with the caller's root as this thread's, if that may be another than the view's: absolute paths and links
    /// begin there, and `..` ends there.
    pub fn in_its_root<T>(&self, act: impl FnOnce() -> T) -> Result<T, Errno> {
        let roots = &self.shared.roots;
        if !roots.may_differ() {
            return Ok(act());
        }
        let root = self.open_proc(format_args!("root"), libc::O_PATH | libc::O_DIRECTORY)?;
        if roots.is_views(&root)? {
            return Ok(act());
        }
        if !roots.is_quick(&root) {
            self.wait_or_leave()?;
            roots.learn(&root);
        }
        let entered = roots.enter(&root)?;
        self.root.replace(Some(root));
        let result = act();
        self.root.replace(None);
        drop(entered);
        Ok(result)
    }

    /// What the handler wishes to be done around the call.
    pub fn wish(&self) -> Option<Around> {
        self.wish.take()
    }

    /// Asks whether the caller is still there, and so was it until now.
    fn still_pending(&self) -> Result<(), Errno> {
        self.confirmed.set(self.shared.platform.valid(self.notification.id));
        if self.confirmed.get() { Ok(()) } else { Err(Errno::ESRCH) }
    }

    /// Opens something below the task's directory in our private procfs.
    fn open_proc(&self, rest: std::fmt::Arguments, flags: i32) -> Result<OwnedFd, Errno> {
        self.open_proc_of(self.notification.tid, rest, flags)
    }

    /// The same of another thread of the task's process.
    fn open_proc_of(&self, thread: i32, rest: std::fmt::Arguments, flags: i32) -> Result<OwnedFd, Errno> {
        let path = Entry::new(format_args!("{thread}/{rest}"))?;
        let file = sys::open_at(Some(self.shared.proc.as_fd()), path.name()?, flags | libc::O_CLOEXEC, 0, 0)?;
        self.still_pending()?;
        Ok(file)
    }

    /// The last number of a line such as `NSpid: 12 3` of the task's status: the innermost namespace's.
    fn status_number(&self, status: &str, key: &str, radix: u32) -> Result<u32, Errno> {
        let line = status.lines().find_map(|line| line.strip_prefix(key)).ok_or(Errno::ESRCH)?;
        let last = line.split_ascii_whitespace().next_back().ok_or(Errno::ESRCH)?;
        u32::from_str_radix(last, radix).map_err(|_| Errno::ESRCH)
    }

    /// Whose name is for the task to choose, in any bytes, and which is long when the task has many groups.
    fn status(&self) -> Result<String, Errno> {
        whole(&self.open_proc(format_args!("status"), libc::O_RDONLY)?)
    }

    /// How many of the task's descriptors have numbers below `limit`.
    fn descriptors_below(&self, limit: u64) -> Result<u64, Errno> {
        let entries = self.open_proc(format_args!("fd"), libc::O_RDONLY | libc::O_DIRECTORY)?;
        let mut count = 0;
        for entry in Dir::from_fd(entries)?.iter() {
            let number = entry?.file_name().to_str().ok().and_then(|name| name.parse::<u64>().ok());
            count += u64::from(number.is_some_and(|number| number < limit));
        }
        Ok(count)
    }
}

impl<P: Platform> Guest for Task<'_, P> {
    fn tid(&self) -> i32 {
        self.notification.tid
    }

    fn read(&self, at: UserPtr, into: &mut [u8]) -> Result<(), Errno> {
        let copied = self.glance(at, into);
        // First of all: an errno of somebody else's memory would be no answer either.
        self.still_pending()?;
        copied
    }

    fn confirm(&self) -> Result<(), Errno> {
        if self.confirmed.get() { Ok(()) } else { self.still_pending() }
    }

    fn glance(&self, at: UserPtr, into: &mut [u8]) -> Result<(), Errno> {
        if into.is_empty() {
            return Ok(());
        }
        self.confirmed.set(false);
        let remote = [RemoteIoVec { base: address(at)?, len: into.len() }];
        let wanted = into.len();
        let tid = Pid::from_raw(self.notification.tid);
        let copied = process_vm_readv(tid, &mut [std::io::IoSliceMut::new(into)], &remote)?;
        if copied != wanted {
            return Err(Errno::EFAULT);
        }
        self.note_read(at, into);
        Ok(())
    }

    fn write(&self, at: UserPtr, bytes: &[u8]) -> Result<(), Errno> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.still_pending()?;
        let remote = [RemoteIoVec { base: address(at)?, len: bytes.len() }];
        let tid = Pid::from_raw(self.notification.tid);
        let copied = process_vm_writev(tid, &[std::io::IoSlice::new(bytes)], &remote)?;
        if copied == bytes.len() { Ok(()) } else { Err(Errno::EFAULT) }
    }

    fn directory(&self, at: DirFd) -> Result<OwnedFd, Errno> {
        let flags = libc::O_PATH | libc::O_DIRECTORY;
        if at == DirFd::CWD {
            return self.open_proc(format_args!("cwd"), flags);
        }
        if at.0 < 0 {
            return Err(Errno::EBADF);
        }
        // Through the magic link: the very object, wherever it has been moved.
        match self.open_proc(format_args!("fd/{}", at.0), flags) {
            Err(Errno::ENOENT) => Err(Errno::EBADF),
            // The entries of a task that is not dumpable are root's.
            Err(Errno::EACCES) => {
                let file = self.duplicate(Fd(at.0))?;
                let kind = nix::sys::stat::fstat(&file)?.st_mode & libc::S_IFMT;
                if kind == libc::S_IFDIR { Ok(file) } else { Err(Errno::ENOTDIR) }
            }
            other => other,
        }
    }

    fn object(&self, fd: Fd) -> Result<OwnedFd, Errno> {
        if fd.0 < 0 {
            return Err(Errno::EBADF);
        }
        match self.open_proc(format_args!("fd/{}", fd.0), libc::O_PATH) {
            Err(Errno::ENOENT) => Err(Errno::EBADF),
            Err(Errno::EACCES) => self.duplicate(fd),
            other => other,
        }
    }

    fn object_of_process(&self, fd: Fd) -> Result<OwnedFd, Errno> {
        let process = self.status_number(&self.status()?, "Tgid:", 10)?.cast_signed();
        if process == self.notification.tid {
            return self.object(fd);
        }
        match self.open_proc_of(process, format_args!("fd/{}", fd.0), libc::O_PATH) {
            Err(Errno::ENOENT) => Err(Errno::EBADF),
            other => other,
        }
    }

    fn owner(&self) -> Owner {
        self.shared.owner
    }

    fn owner_of_process(&self, directory: &OwnedFd) -> Result<(u32, u32), Errno> {
        // The directory belongs to the guest's procfs, whose numbers are not ours; what is in it tells all the same.
        let flags = libc::O_RDONLY | libc::O_CLOEXEC;
        let limits = whole(&sys::open_at(Some(directory.as_fd()), c"limits", flags, 0, 0)?)?;
        let known = self.of_limits(&limits)?;
        Ok((known.credentials.user.effective, known.credentials.group.effective))
    }

    fn view(&self) -> Result<OwnedFd, Errno> {
        self.shared.roots.view()
    }

    fn remembered(&self) -> &Remembered {
        &self.shared.remembered
    }

    fn credentials(&self) -> Result<Arc<Credentials>, Errno> {
        self.own_credentials()
    }

    fn new_map(&self) -> Result<(u32, OwnedFd), Errno> {
        self.shared.pretended.new_map()
    }

    fn credentials_of(&self, process: i32) -> Result<Arc<Credentials>, Errno> {
        // There may be many processes.
        self.wait_or_leave()?;
        self.credentials_here(self.number_here(process)?)
    }

    fn peer(&self, process: i32) -> Result<(i32, u32, u32), Errno> {
        let credentials = self.credentials_here(process)?;
        Ok((self.guests_number(process)?, credentials.user.effective, credentials.group.effective))
    }

    fn pretend(&self, credentials: Credentials) -> Result<(), Errno> {
        self.become_somebody(credentials)
    }

    fn changes_root(&self) {
        self.shared.roots.may_differ_from_now_on();
    }

    fn largest_file(&self) -> Result<u64, Errno> {
        let limit = crate::raw::file_size_limit(self.notification.tid)?;
        self.still_pending()?;
        Ok(limit)
    }

    fn has_free_descriptor(&self) -> bool {
        let tid = self.notification.tid;
        let Ok(limit) = crate::raw::descriptor_limit(tid) else { return true };
        let Ok(entry) = Entry::new(format_args!("{tid}/fd")) else { return true };
        // The size of this directory is the number of descriptors (Linux 6.2; before, this finds room always).
        let stat = entry.name().and_then(|name| fstatat(&self.shared.proc, name, AtFlags::empty()));
        match stat.map(|stat| stat.st_size.cast_unsigned()) {
            // Numbers above a limit that was lowered do not fill what is below it.
            Ok(count) if count + P::FREE_NUMBERS > limit => {
                self.descriptors_below(limit).is_ok_and(|count| count + P::FREE_NUMBERS <= limit)
            }
            _ => true,
        }
    }

    fn signal_too_large(&self) {
        if self.still_pending().is_ok() {
            crate::raw::signal_thread(self.notification.tid, libc::SIGXFSZ);
        }
    }

    fn may_wait(&self) -> bool {
        if self.brief.is_some() {
            let _ = self.leave();
            return false;
        }
        self.acting.get().unwrap_or_else(|| self.lead.is_none_or(|hand_over| hand_over()))
    }

    fn wait_or_leave(&self) -> Result<(), Errno> {
        if self.may_wait() || !self.left.get() { Ok(()) } else { Err(Errno::EAGAIN) }
    }

    fn as_itself(&self, act: &mut dyn FnMut() -> Answer) -> Answer {
        if self.shared.rules.real_ids { self.act_as_caller(act) } else { act() }
    }

    fn duplicate(&self, fd: Fd) -> Result<OwnedFd, Errno> {
        let pidfd = crate::raw::open_thread(self.notification.tid)?;
        let file = crate::raw::take_descriptor(&pidfd, fd.0)?;
        self.still_pending()?;
        Ok(file)
    }

    fn umask(&self) -> Result<u32, Errno> {
        self.status_number(&self.status()?, "Umask:", 8)
    }

    fn own_ids(&self) -> Result<(i32, i32), Errno> {
        let status = self.status()?;
        let number = |key| self.status_number(&status, key, 10).map(u32::cast_signed);
        Ok((number("NStgid:")?, number("NSpid:")?))
    }

    fn label_of(&self, file: &OwnedFd) -> Result<OsString, Errno> {
        let link = || readlinkat(&self.shared.descriptors, file.as_raw_fd().to_string().as_str());
        match &*self.root.borrow() {
            None => link(),
            // The kernel names it as seen from this thread's root, rules as seen from the view's.
            Some(root) => self.shared.roots.seen_from_view(root, link),
        }
    }

    fn descriptors(&self) -> Result<OwnedFd, Errno> {
        self.shared.descriptors.try_clone().map_err(|_| Errno::EMFILE)
    }

    fn reopen(&self, object: &OwnedFd, flags: i32) -> Result<OwnedFd, Errno> {
        // The entry itself is a (magic) link, so O_NOFOLLOW would stop at it; and a terminal must not become ours.
        let flags = flags & !(libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW) | libc::O_CLOEXEC | libc::O_NOCTTY;
        let entry = Entry::new(format_args!("{}", object.as_raw_fd()))?;
        sys::open_at(Some(self.shared.descriptors.as_fd()), entry.name()?, flags, 0, 0)
    }

    fn mounter(&self) -> Option<&dyn Mounter> {
        self.shared.mounter.as_ref().map(|mounter| mounter as &dyn Mounter)
    }

    fn rules(&self) -> &Rules {
        &self.shared.rules
    }

    fn usage(&self) -> Result<(u64, u64), Errno> {
        Ok(self.shared.usage.now())
    }

    fn live_file(&self, object: &OwnedFd) -> Option<Result<OwnedFd, Errno>> {
        if let Some(status) = self.status_file(object) {
            return Some(status);
        }
        if self.shared.live.is_empty() {
            return None;
        }
        let name = self.label_of(object).ok()?;
        let content = self.shared.live.content(&name, &self.shared.proc, &self.shared.usage)?;
        Some(content.and_then(|content| crate::raw::sealed_file(&content)))
    }

    fn boot_offset(&self) -> Result<(i64, i64), Errno> {
        let file = self.open_proc(format_args!("timens_offsets"), libc::O_RDONLY);
        // A kernel without time namespaces adds nothing.
        let file = match file {
            Err(Errno::ENOENT) => return Ok((0, 0)),
            other => other?,
        };
        let mut text = [0; 256];
        let length = nix::unistd::read(&file, &mut text)?;
        let text = String::from_utf8_lossy(&text[..length]);
        let line = text.lines().find_map(|line| line.strip_prefix("boottime")).ok_or(Errno::ESRCH)?;
        let mut numbers = line.split_ascii_whitespace().map(|number| number.parse().map_err(|_| Errno::ESRCH));
        let mut next = || numbers.next().unwrap_or(Err(Errno::ESRCH));
        Ok((next()?, next()?))
    }

    fn clock(&self) -> Option<&Pretended> {
        self.shared.clock.as_ref().map(|clock| &clock.pretended)
    }

    fn clock_page(&self) -> Result<OwnedFd, Errno> {
        self.shared.clock.as_ref().ok_or(Errno::EINVAL)?.page()
    }

    fn make_clock_calls_plain(&self) -> Result<(), Errno> {
        let clock = self.shared.clock.as_ref().ok_or(Errno::EINVAL)?;
        self.still_pending()?;
        clock.make_plain(self.shared.proc.as_fd(), self.notification.tid, false).map(drop)
    }

    fn patch_clock_late(&self) {
        if let Some(clock) = &self.shared.clock {
            clock.tracer.settle(clock, self.shared.proc.as_fd(), self.notification.tid);
        }
    }

    fn adjusts_itself(&self) -> bool {
        let Some(patch) = self.shared.clock.as_ref().and_then(|clock| clock.patch()) else { return false };
        let ip = self.notification.instruction_pointer;
        patch.may_be_called_from(ip)
            && vdso(self.shared.proc.as_fd(), self.notification.tid)
                .is_ok_and(|vdso| patch.called_from(vdso as u64, ip))
    }

    fn timer_clock(&self, timer: i32) -> Result<i32, Errno> {
        let file = self.open_proc(format_args!("timers"), libc::O_RDONLY)?;
        let mut text = String::new();
        std::io::Read::read_to_string(&mut std::fs::File::from(file), &mut text).map_err(|_| Errno::EINVAL)?;
        // A paragraph a timer, see proc_pid_timers(5).
        let mut lines = text
            .lines()
            .skip_while(|line| line.strip_prefix("ID:").and_then(|id| id.trim().parse().ok()) != Some(timer));
        let clock = lines.find_map(|line| line.strip_prefix("ClockID:"));
        clock.and_then(|clock| clock.trim().parse().ok()).ok_or(Errno::EINVAL)
    }

    fn is_interrupted(&self) -> Result<bool, Errno> {
        let status = self.status()?;
        let set = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key)).ok_or(Errno::ESRCH)?;
            u64::from_str_radix(line.trim(), 16).map_err(|_| Errno::ESRCH)
        };
        Ok((set("SigPnd:")? | set("ShdPnd:")?) & !set("SigBlk:")? != 0)
    }

    fn around(&self, wish: Around) {
        self.wish.set(Some(wish));
    }

    fn record(&self, denial: Denial) {
        self.note(Note::Denial(denial));
    }

    fn may(&self, capability: u32) -> Result<bool, Errno> {
        if self.shared.rules.container.is_none() { Ok(true) } else { self.is_root_or_can(capability) }
    }

    fn did(&self, call: &'static str, what: String) {
        self.note(Note::Deed(Denial { call, what, remedy: "".into() }));
    }

    fn decided(&self, decision: Decision) {
        self.note(Note::Decision(decision));
    }
}

/// All of a file of procfs.
fn whole(file: &OwnedFd) -> Result<String, Errno> {
    let mut text = vec![0; 4096];
    let mut length = 0;
    loop {
        length += nix::unistd::read(file, &mut text[length..])?;
        // The kernel gives all there is at once, or as much as fits.
        if length < text.len() {
            break;
        }
        text.resize(2 * length, 0);
    }
    text.truncate(length);
    Ok(String::from_utf8(text).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

fn address(at: UserPtr) -> Result<usize, Errno> {
    usize::try_from(at.0).map_err(|_| Errno::EFAULT)
}
