//! A guest for tests: a few pages of memory, some directories and descriptors, and a list of what was denied.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use crate::Remembered;
use crate::args::{DirFd, Fd, PathPtr, UserPtr};
use crate::credentials::Credentials;
use crate::guest::{Around, Decision, Denial, Guest};
use crate::mount::order::Mounter;
use crate::owners::Owner;
use crate::rules::Rules;

const PAGE: usize = 4096;

/// Whole pages at one address, with nothing mapped on either side.
struct Region {
    start: u64,
    bytes: Vec<u8>,
    writable: bool,
}

/// A guest that exists in the memory of a test only. Its directories and descriptors are real ones of the test.
pub(crate) struct FakeGuest {
    memory: RefCell<Vec<Region>>,
    denials: RefCell<Vec<Denial>>,
    /// What `AT_FDCWD` refers to.
    pub cwd: PathBuf,
    /// The guest's descriptors; those that are directories serve as the start of paths.
    pub files: HashMap<i32, OwnedFd>,
    /// Its file mode creation mask.
    pub umask: u32,
    /// Its policy.
    pub rules: Rules,
    /// Thread-group id and thread id: those of the test, whose procfs is the guest's too.
    pub ids: (i32, i32),
    /// What was decided.
    pub decisions: RefCell<Vec<Decision>>,
    /// The ids of its files.
    pub owner: Owner,
    /// Its limit on the size of files.
    pub largest_file: u64,
    /// Who it pretends to be.
    pub credentials: RefCell<Arc<Credentials>>,
    /// What is said of objects that cannot bear an attribute.
    pub remembered: Remembered,
    /// It may have no more descriptors.
    pub full: bool,
    /// It was killed when its memory had been looked at.
    pub gone: bool,
    /// The memory and the threads that its sandbox uses.
    pub usage: (u64, u64),
    /// What its time namespace adds to the time since boot.
    pub boot_offset: (i64, i64),
    /// Who mounts for it.
    pub mounter: Option<Box<dyn Mounter>>,
    /// Its clock, if it is not the host's.
    pub clock: Option<crate::clock::Pretended>,
    /// The clocks of its timers, by number.
    pub timers: HashMap<i32, i32>,
    /// What was asked for around the call.
    pub wishes: RefCell<Vec<Around>>,
    /// In a container it is root.
    pub root: bool,
    /// What was done for it.
    pub deeds: RefCell<Vec<(&'static str, String)>>,
    /// A signal waits for it.
    pub interrupted: std::cell::Cell<bool>,
}

impl Default for FakeGuest {
    fn default() -> Self {
        Self {
            memory: RefCell::default(),
            denials: RefCell::default(),
            cwd: "/".into(),
            files: HashMap::new(),
            umask: 0o022,
            rules: Rules::default(),
            ids: (std::process::id().cast_signed(), nix::unistd::gettid().as_raw()),
            decisions: RefCell::default(),
            owner: Owner::default(),
            largest_file: u64::MAX,
            credentials: RefCell::default(),
            remembered: Remembered::default(),
            full: false,
            gone: false,
            usage: (0, 1),
            boot_offset: (0, 0),
            mounter: None,
            clock: None,
            timers: HashMap::new(),
            root: true,
            deeds: RefCell::default(),
            wishes: RefCell::default(),
            interrupted: std::cell::Cell::new(false),
        }
    }
}

impl FakeGuest {
    /// A guest whose working directory is `cwd`.
    pub fn in_directory(cwd: &Path) -> Self {
        Self { cwd: cwd.to_owned(), ..Self::default() }
    }

    /// Puts `bytes` at the start of new pages; the rest of the last page is zero.
    pub fn put(&self, bytes: &[u8]) -> UserPtr {
        self.map(bytes, 0, true)
    }

    /// Puts `bytes` so that the last of them is the last of a page, with nothing mapped behind it.
    pub fn put_at_end(&self, bytes: &[u8]) -> UserPtr {
        let room = bytes.len().next_multiple_of(PAGE);
        self.map(bytes, room - bytes.len(), true)
    }

    /// Puts `bytes` where the guest itself may not write.
    pub fn put_read_only(&self, bytes: &[u8]) -> UserPtr {
        self.map(bytes, 0, false)
    }

    /// Puts a path and its NUL.
    pub fn put_path(&self, path: impl AsRef<OsStr>) -> PathPtr {
        let mut bytes = path.as_ref().as_bytes().to_vec();
        bytes.push(0);
        PathPtr(self.put(&bytes).0)
    }

    /// What the guest would find at `at`.
    pub fn peek(&self, at: UserPtr, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.read(at, &mut bytes).expect("the test looks at mapped memory");
        bytes
    }

    /// What was recorded so far.
    pub fn denials(&self) -> Vec<Denial> {
        self.denials.borrow().clone()
    }

    fn map(&self, bytes: &[u8], offset: usize, writable: bool) -> UserPtr {
        let mut memory = self.memory.borrow_mut();
        let end = memory.last().map_or(0x10000, |last| last.start + last.bytes.len() as u64);
        let start = end + PAGE as u64;
        let mut pages = vec![0; (offset + bytes.len()).next_multiple_of(PAGE).max(PAGE)];
        pages[offset..offset + bytes.len()].copy_from_slice(bytes);
        memory.push(Region { start, bytes: pages, writable });
        UserPtr(start + offset as u64)
    }
}

impl Region {
    /// Where `length` bytes from `at` lie in this region, if they all do.
    fn range(&self, at: UserPtr, length: usize) -> Option<std::ops::Range<usize>> {
        let start = usize::try_from(at.0.checked_sub(self.start)?).ok()?;
        let end = start.checked_add(length)?;
        (end <= self.bytes.len()).then_some(start..end)
    }
}

impl Guest for FakeGuest {
    fn tid(&self) -> i32 {
        self.ids.1
    }

    fn read(&self, at: UserPtr, into: &mut [u8]) -> Result<(), Errno> {
        self.glance(at, into)?;
        self.confirm()
    }

    fn confirm(&self) -> Result<(), Errno> {
        if self.gone { Err(Errno::ESRCH) } else { Ok(()) }
    }

    fn glance(&self, at: UserPtr, into: &mut [u8]) -> Result<(), Errno> {
        let memory = self.memory.borrow();
        let (region, range) =
            memory.iter().find_map(|region| Some((region, region.range(at, into.len())?))).ok_or(Errno::EFAULT)?;
        into.copy_from_slice(&region.bytes[range]);
        Ok(())
    }

    fn write(&self, at: UserPtr, bytes: &[u8]) -> Result<(), Errno> {
        self.confirm()?;
        let mut memory = self.memory.borrow_mut();
        let (region, range) = memory
            .iter_mut()
            .filter(|region| region.writable)
            .find_map(|region| region.range(at, bytes.len()).map(|range| (region, range)))
            .ok_or(Errno::EFAULT)?;
        region.bytes[range].copy_from_slice(bytes);
        Ok(())
    }

    fn directory(&self, at: DirFd) -> Result<OwnedFd, Errno> {
        let path = match at {
            DirFd::CWD => self.cwd.clone(),
            DirFd(number) => self.path_of(self.files.get(&number).ok_or(Errno::EBADF)?)?,
        };
        open(&path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
    }

    fn duplicate(&self, fd: Fd) -> Result<OwnedFd, Errno> {
        self.files.get(&fd.0).ok_or(Errno::EBADF)?.try_clone().map_err(|_| Errno::EMFILE)
    }

    fn umask(&self) -> Result<u32, Errno> {
        Ok(self.umask)
    }

    fn own_ids(&self) -> Result<(i32, i32), Errno> {
        Ok(self.ids)
    }

    fn label_of(&self, file: &OwnedFd) -> Result<std::ffi::OsString, Errno> {
        let link = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).map_err(|_| Errno::EBADF)?;
        Ok(link.into_os_string())
    }

    fn owner(&self) -> Owner {
        self.owner
    }

    fn credentials(&self) -> Result<Arc<Credentials>, Errno> {
        Ok(Arc::clone(&self.credentials.borrow()))
    }

    fn pretend(&self, credentials: Credentials) -> Result<(), Errno> {
        *self.credentials.borrow_mut() = Arc::new(credentials);
        Ok(())
    }

    fn remembered(&self) -> &Remembered {
        &self.remembered
    }

    fn largest_file(&self) -> Result<u64, Errno> {
        Ok(self.largest_file)
    }

    fn has_free_descriptor(&self) -> bool {
        !self.full
    }

    fn signal_too_large(&self) {
        self.denials.borrow_mut().push(Denial { call: "truncate", what: "SIGXFSZ".into(), remedy: "".into() });
    }

    fn mounter(&self) -> Option<&dyn Mounter> {
        self.mounter.as_deref()
    }

    fn rules(&self) -> &Rules {
        &self.rules
    }

    fn usage(&self) -> Result<(u64, u64), Errno> {
        Ok(self.usage)
    }

    fn boot_offset(&self) -> Result<(i64, i64), Errno> {
        Ok(self.boot_offset)
    }

    fn clock(&self) -> Option<&crate::clock::Pretended> {
        self.clock.as_ref()
    }

    fn timer_clock(&self, timer: i32) -> Result<i32, Errno> {
        self.timers.get(&timer).copied().ok_or(Errno::EINVAL)
    }

    fn is_interrupted(&self) -> Result<bool, Errno> {
        Ok(self.interrupted.get())
    }

    fn around(&self, wish: Around) {
        self.wishes.borrow_mut().push(wish);
    }

    fn may(&self, _capability: u32) -> Result<bool, Errno> {
        Ok(self.root)
    }

    fn did(&self, call: &'static str, what: String) {
        self.deeds.borrow_mut().push((call, what));
    }

    fn record(&self, denial: Denial) {
        self.denials.borrow_mut().push(denial);
    }

    fn decided(&self, decision: Decision) {
        self.decisions.borrow_mut().push(decision);
    }
}

#[test]
fn a_path_is_copied_page_by_page() {
    let guest = FakeGuest::default();
    let at = guest.put_at_end(b"/etc/hostname\0");
    assert_eq!(guest.read_path(PathPtr(at.0)).expect("readable").as_bytes(), b"/etc/hostname");

    let open_ended = guest.put_at_end(b"/etc/hostname");
    assert_eq!(guest.read_path(PathPtr(open_ended.0)), Err(Errno::EFAULT));

    let mut long = vec![b'a'; 2 * PAGE];
    long[300] = 0;
    let at = guest.put(&long);
    for length in [300, 255, 256, 257, 1] {
        let start = PathPtr(at.0 + 300 - length);
        assert_eq!(guest.read_path(start).expect("readable").as_bytes().len() as u64, length);
    }
    let longest = guest.put(&[&[b'a'; PAGE - 1][..], b"\0"].concat());
    assert_eq!(guest.read_path(PathPtr(longest.0)).expect("readable").as_bytes().len(), PAGE - 1);
    let too_long = guest.put(&[&[b'a'; PAGE][..], b"\0"].concat());
    assert_eq!(guest.read_path(PathPtr(too_long.0)), Err(Errno::ENAMETOOLONG));

    let endless = guest.put(&[b'a'; 3 * PAGE]);
    assert_eq!(guest.read_path(PathPtr(endless.0 + 100)), Err(Errno::ENAMETOOLONG));
}

#[test]
fn memory_that_is_not_writable_stays_as_it_is() {
    let guest = FakeGuest::default();
    let at = guest.put_read_only(b"constant");
    assert_eq!(guest.write(at, b"variable"), Err(Errno::EFAULT));
    assert_eq!(guest.peek(at, 8), b"constant");
    assert_eq!(guest.write(UserPtr(8), b"x"), Err(Errno::EFAULT));
}
