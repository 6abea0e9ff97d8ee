//! The emulation held against the kernel: the same random changes in a process of root and in pretended credentials.

#![allow(unsafe_code, clippy::unwrap_used)]

use std::io::Read;
use std::os::fd::AsRawFd;

use nix::unistd::pipe;

use super::*;
use crate::args::UserPtr;
use crate::credentials::EVERY_CAPABILITY;
use crate::file::trial::Trial;
use crate::table::{Feature, Surface, find};

/// Bytes of a scratch buffer; the kernel and the emulation get two each.
const SCRATCH: usize = 64;

/// Where calls are made: in the kernel, or here.
trait World {
    /// Makes the call; the result is a negative errno if it fails.
    fn call(&mut self, name: &'static str, args: [u64; 5]) -> i64;
    /// The address of a scratch buffer.
    fn buffer(&mut self, index: usize) -> u64;
    /// What is in a scratch buffer.
    fn bytes(&self, index: usize) -> [u8; SCRATCH];
    /// Fills one.
    fn fill(&mut self, index: usize, bytes: &[u8; SCRATCH]);
}

/// One change: a call, and what is in the scratch buffers that it names by `BUFFER`.
#[derive(Clone, Debug)]
struct Change {
    name: &'static str,
    args: [u64; 5],
    buffers: [[u8; SCRATCH]; 2],
}

/// An argument that stands for the address of a scratch buffer.
const BUFFER: u64 = 0x5eed_0000;

fn make(world: &mut dyn World, change: &Change) -> i64 {
    for (index, bytes) in change.buffers.iter().enumerate() {
        world.fill(index, bytes);
    }
    let mut args = change.args;
    for arg in &mut args {
        if (BUFFER..BUFFER + 2).contains(arg) {
            *arg = world.buffer(usize::try_from(*arg - BUFFER).unwrap());
        }
    }
    world.call(change.name, args)
}

/// How many numbers describe credentials.
const FACTS: usize = 23;

/// All that calls tell about one's credentials.
fn facts(world: &mut dyn World) -> [u64; FACTS] {
    let mut facts = [0; FACTS];
    let word = |world: &dyn World, at: usize| {
        u64::from(u32::from_ne_bytes(world.bytes(0)[4 * at..4 * at + 4].try_into().unwrap()))
    };
    let place = world.buffer(0);
    for (index, call) in ["getresuid", "getresgid"].into_iter().enumerate() {
        assert_eq!(world.call(call, [place, place + 4, place + 8, 0, 0]), 0);
        for id in 0..3 {
            facts[4 * index + id] = word(world, id);
        }
    }
    facts[3] = world.call("setfsuid", [u64::MAX, 0, 0, 0, 0]).cast_unsigned();
    facts[7] = world.call("setfsgid", [u64::MAX, 0, 0, 0, 0]).cast_unsigned();
    let count = world.call("getgroups", [8, place, 0, 0, 0]).cast_unsigned();
    facts[8] = count;
    for group in 0..usize::try_from(count.min(6)).unwrap() {
        facts[9 + group] = word(world, group);
    }
    let header = world.buffer(1);
    world.fill(1, &scratch(&[0x2008_0522, 0]));
    assert_eq!(world.call("capget", [header, place, 0, 0, 0]), 0);
    for set in 0..3 {
        facts[15 + set] = word(world, set) | word(world, set + 3) << 32;
    }
    facts[18] = world.call("prctl", [27, 0, 0, 0, 0]).cast_unsigned();
    facts[19] = world.call("prctl", [7, 0, 0, 0, 0]).cast_unsigned();
    for capability in 0..41 {
        facts[20] |= u64::from(world.call("prctl", [23, capability, 0, 0, 0]) == 1) << capability;
        facts[21] |= u64::from(world.call("prctl", [47, 1, capability, 0, 0]) == 1) << capability;
    }
    facts[22] = world.call("getuid", [0; 5]).cast_unsigned() << 32 | world.call("getegid", [0; 5]).cast_unsigned();
    facts
}

fn scratch(words: &[u32]) -> [u8; SCRATCH] {
    let mut bytes = [0; SCRATCH];
    for (place, word) in bytes.chunks_exact_mut(4).zip(words) {
        place.copy_from_slice(&word.to_ne_bytes());
    }
    bytes
}

/// The kernel, for the calling process.
struct Real([[u8; SCRATCH]; 2]);

impl World for Real {
    fn call(&mut self, name: &'static str, [a, b, c, d, e]: [u64; 5]) -> i64 {
        let number = match name {
            "getuid" => libc::SYS_getuid,
            "getegid" => libc::SYS_getegid,
            "getresuid" => libc::SYS_getresuid,
            "getresgid" => libc::SYS_getresgid,
            "getgroups" => libc::SYS_getgroups,
            "setuid" => libc::SYS_setuid,
            "setgid" => libc::SYS_setgid,
            "setreuid" => libc::SYS_setreuid,
            "setregid" => libc::SYS_setregid,
            "setresuid" => libc::SYS_setresuid,
            "setresgid" => libc::SYS_setresgid,
            "setfsuid" => libc::SYS_setfsuid,
            "setfsgid" => libc::SYS_setfsgid,
            "setgroups" => libc::SYS_setgroups,
            "capget" => libc::SYS_capget,
            "capset" => libc::SYS_capset,
            "prctl" => libc::SYS_prctl,
            _ => return -1,
        };
        // SAFETY: whatever the calls read and write are the buffers of this process, or wild addresses, which they refuse.
        let result = unsafe { libc::syscall(number, a, b, c, d, e) };
        if result < 0 { -i64::from(Errno::last_raw()) } else { result }
    }

    fn buffer(&mut self, index: usize) -> u64 {
        self.0[index].as_mut_ptr() as u64
    }

    fn bytes(&self, index: usize) -> [u8; SCRATCH] {
        // SAFETY: the kernel writes to it behind the compiler's back.
        unsafe { std::ptr::read_volatile(&raw const self.0[index]) }
    }

    fn fill(&mut self, index: usize, bytes: &[u8; SCRATCH]) {
        // SAFETY: as above.
        unsafe { std::ptr::write_volatile(&raw mut self.0[index], *bytes) };
    }
}

/// The emulation.
struct Ours {
    trial: Trial,
    buffers: [UserPtr; 2],
}

impl Ours {
    fn new() -> Self {
        let trial = Trial::with(Feature::PretendedIds);
        let buffers = [(); 2].map(|()| trial.guest.put(&[0; SCRATCH]));
        Self { trial, buffers }
    }
}

impl World for Ours {
    fn call(&mut self, name: &'static str, args: [u64; 5]) -> i64 {
        match self.trial.call(name, &args) {
            Ok(Reply::Return(value)) => value,
            Ok(other) => panic!("{name}: {other:?}"),
            Err(errno) => -i64::from(errno as i32),
        }
    }

    fn buffer(&mut self, index: usize) -> u64 {
        self.buffers[index].0
    }

    fn bytes(&self, index: usize) -> [u8; SCRATCH] {
        self.trial.guest.peek(self.buffers[index], SCRATCH).try_into().unwrap()
    }

    fn fill(&mut self, index: usize, bytes: &[u8; SCRATCH]) {
        self.trial.guest.write(self.buffers[index], bytes).unwrap();
    }
}

/// Numbers that look random and are the same each time (xorshift).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn one_of<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::try_from(self.next() % of.len() as u64).unwrap()]
    }

    /// An id, with rubbish in the half of the register that does not count.
    fn id(&mut self) -> u64 {
        self.one_of(&[0, 0, 1, 33, 1000, 0xffff_ffff, 0xffff_ffff]) | self.one_of(&[0, 0xdead_beef_0000_0000])
    }

    /// Capabilities: none, all, or about half.
    fn set(&mut self) -> u64 {
        let some = self.next();
        self.one_of(&[0, u64::MAX, some, some | 0b1_1100_0000])
    }

    fn change(&mut self) -> Change {
        let mut buffers = [[0; SCRATCH]; 2];
        let names = [
            "setuid",
            "setgid",
            "setreuid",
            "setregid",
            "setresuid",
            "setresgid",
            "setfsuid",
            "setfsgid",
            "setgroups",
            "capset",
            "prctl",
            "prctl",
        ];
        let name = self.one_of(&names);
        let args = match name {
            "setgroups" => {
                let groups = [self.id(), self.id(), self.id(), self.id()];
                buffers[0] = scratch(&groups.map(|group| u32::try_from(group & 0xffff_ffff).unwrap()));
                [self.one_of(&[0, 1, 3, 4, u64::MAX, 65537]), self.one_of(&[BUFFER, BUFFER, 8]), 0, 0, 0]
            }
            "capset" => {
                let version = self.one_of(&[0x2008_0522, 0x2008_0522, 0x2008_0522, 0x2007_1026, 0x1998_0330, 7]);
                let sets = [self.set(), self.set(), self.set()];
                // Nearly every random choice would be refused: what is in use must be permitted.
                let sets = self.one_of(&[sets, [sets[0] & sets[1], sets[1], sets[2] & sets[1]], [sets[1]; 3]]);
                let half = |shift: u32| sets.map(|set| u32::try_from(set >> shift & 0xffff_ffff).unwrap());
                buffers[0] = scratch(&[version, self.one_of(&[0, 0, 0, 1])]);
                buffers[1] = scratch(&[half(0), half(32)].concat());
                [self.one_of(&[BUFFER, BUFFER, BUFFER, 8]), BUFFER + 1, 0, 0, 0]
            }
            "prctl" => {
                let capability = self.one_of(&[0, 2, 6, 7, 8, 18, 40, 41, 64, u64::MAX]);
                match self.next() % 6 {
                    0 => [8, self.one_of(&[0, 1, 1, 2]), 0, 0, 0],
                    1 => [24, capability, 0, 0, 0],
                    2 => [28, self.next() & self.one_of(&[0x55, 0xff, 0xfff, u64::MAX]), 0, 0, 0],
                    3 => [47, self.one_of(&[2, 2, 3, 4, 5]), capability, self.one_of(&[0, 0, 0, 1]), 0],
                    4 => [47, 4, 0, 0, 0],
                    _ => [23, capability, 0, 0, 0],
                }
            }
            _ => [self.id(), self.id(), self.id(), 0, 0],
        };
        Change { name, args, buffers }
    }
}

/// Makes `changes` in a process of its own, which then executes a program that tells its status. For each change its result
/// and the facts after it; and that status.
fn in_the_kernel(changes: &[Change]) -> (Vec<(i64, [u64; FACTS])>, String) {
    const RECORD: usize = 8 * (1 + FACTS);
    let length = changes.len() * RECORD;
    let (reader, writer) = pipe().unwrap();
    // SAFETY: the child makes system calls only, on memory of its own that exists already.
    let child = unsafe { libc::fork() };
    assert!(child >= 0);
    if child == 0 {
        // SAFETY: sets nothing but this process's own groups.
        unsafe { libc::syscall(libc::SYS_setgroups, 0, 0) };
        let mut world = Real([[0; SCRATCH]; 2]);
        for change in changes {
            let mut record = [0; RECORD];
            let result = make(&mut world, change);
            let facts = facts(&mut world);
            for (place, fact) in record.chunks_exact_mut(8).zip([result.cast_unsigned()].into_iter().chain(facts)) {
                place.copy_from_slice(&fact.to_ne_bytes());
            }
            // SAFETY: writes bytes that are there.
            unsafe { libc::write(writer.as_raw_fd(), record.as_ptr().cast(), RECORD) };
        }
        let argv = [c"cat".as_ptr(), c"/proc/self/status".as_ptr(), std::ptr::null()];
        // SAFETY: NUL-terminated strings and arrays that end with a null pointer.
        unsafe {
            libc::dup2(writer.as_raw_fd(), 1);
            libc::execve(c"/bin/cat".as_ptr(), argv.as_ptr(), [std::ptr::null()].as_ptr());
            libc::_exit(127)
        }
    }
    drop(writer);
    let mut bytes = Vec::new();
    std::fs::File::from(reader).read_to_end(&mut bytes).unwrap();
    nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(child), None).unwrap();
    let number = |bytes: &[u8]| u64::from_ne_bytes(bytes.try_into().unwrap());
    let records = bytes[..length].chunks_exact(RECORD).map(|record| {
        let facts: Vec<u64> = record[8..].chunks_exact(8).map(number).collect();
        (number(&record[..8]).cast_signed(), facts.try_into().unwrap())
    });
    (records.collect(), String::from_utf8_lossy(&bytes[length..]).into_owned())
}

/// What a file `status` in `/proc` would say of credentials.
fn status(credentials: &Credentials) -> Vec<String> {
    let ids = |ids: crate::credentials::Ids| format!("{}\t{}\t{}\t{}", ids.real, ids.effective, ids.saved, ids.file);
    let groups: Vec<String> = credentials.groups.iter().map(u32::to_string).collect();
    let sets = [
        ("Inh", credentials.inheritable),
        ("Prm", credentials.permitted),
        ("Eff", credentials.effective),
        ("Bnd", credentials.bounding),
        ("Amb", credentials.ambient),
    ];
    let own = [
        format!("Uid:\t{}", ids(credentials.user)),
        format!("Gid:\t{}", ids(credentials.group)),
        format!("Groups:\t{} ", groups.join(" ")),
    ];
    own.into_iter().chain(sets.map(|(name, set)| format!("Cap{name}:\t{set:016x}"))).collect()
}

/// The capabilities that this process has and may ever have, or why the kernel cannot be asked here.
fn capabilities_here() -> Result<u64, &'static str> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default().trim();
    let (effective, bounding) = (line("CapEff:"), line("CapBnd:"));
    let all = u64::from_str_radix(effective, 16).unwrap();
    match () {
        () if line("Uid:") != "0\t0\t0\t0" => Err("not root"),
        () if line("NoNewPrivs:") != "0" => Err("under no_new_privs"),
        () if effective != bounding || line("CapInh:") != line("CapAmb:") => Err("not with root's own capabilities"),
        () if all & 0b1_1100_0000 != 0b1_1100_0000 || all & !EVERY_CAPABILITY != 0 => {
            Err("with too few or too new ones")
        }
        () if !std::fs::read_to_string("/proc/self/uid_map").unwrap().contains("4294967295") => {
            Err("in a user namespace")
        }
        () => Ok(all),
    }
}

#[test]
fn random_changes_come_out_as_in_the_kernel() {
    let all = match capabilities_here() {
        Ok(all) => all,
        Err(reason) => {
            eprintln!("SKIPPED: identity: {reason}");
            return;
        }
    };
    let mut random = Random(0x5EED);
    let mut succeeded = 0;
    for _ in 0..400 {
        let changes: Vec<Change> = (0..24).map(|_| random.change()).collect();
        let (real, executed) = in_the_kernel(&changes);
        let mut ours = Ours::new();
        let root = Credentials { effective: all, permitted: all, bounding: all, ..Credentials::default() };
        ours.trial.guest.pretend(root).unwrap();
        for (step, (change, (result, wanted))) in changes.iter().zip(&real).enumerate() {
            let before = ours.trial.guest.credentials().unwrap();
            let told = || format!("step {step}, {} {:#x?} of {before:#x?}", change.name, change.args);
            assert_eq!(make(&mut ours, change), *result, "result of {}", told());
            assert_eq!(facts(&mut ours), *wanted, "facts after {}", told());
            succeeded += i32::from(*result >= 0);
        }
        assert_eq!(real.len(), changes.len());
        let before = ours.trial.guest.credentials().unwrap();
        // So much of what the status says.
        let wanted: Vec<&str> = executed
            .lines()
            .filter(|line| ["Uid:", "Gid:", "Groups", "Cap"].iter().any(|key| line.starts_with(key)))
            .collect();
        assert_eq!(status(&before.after_exec()), wanted, "after {before:#x?} executed a program");
    }
    assert!(succeeded > 2000, "only {succeeded} changes were allowed at all");
}

#[test]
fn only_harmless_personalities_pass() {
    let row = find("personality").expect("there is a row");
    let verdict = |persona: u64| row.route.verdict(row.parameters, &[persona, 0, 0, 0, 0, 0]);
    for harmless in [0, 8, 0x20000, 0x20008, 0x40000, 0xFFFF_FFFF, u64::MAX, 0xDEAD_0000_0000_0000] {
        assert_eq!(verdict(harmless), Verdict::Allow, "{harmless:#x}");
    }
    for harmful in [0x0040_0000, 0x0010_0000, 1, 0xFFFF_FFFE] {
        assert_eq!(verdict(harmful), Verdict::Fail(Errno::EPERM), "{harmful:#x}");
    }
}

/// The verdict of the filter, with rubbish in the half of registers that does not count.
fn filtered(call: &str, args: &[u64]) -> Verdict {
    let row = find(call).unwrap();
    let mut registers = [0; 6];
    for ((register, arg), parameter) in registers.iter_mut().zip(args).zip(row.parameters) {
        *register = arg | if parameter.width == crate::args::Width::W32 { 0xdead_beef << 32 } else { 0 };
    }
    let route = row.route_with(crate::table::Surface::Default, &[Feature::FakeRoot, Feature::PretendedIds]);
    route.verdict(row.parameters, &registers)
}

#[test]
fn only_what_is_pretended_goes_to_the_sentry() {
    for option in [7, 8, 23, 24, 27, 28, 47] {
        assert_eq!(filtered("prctl", &[option]), Verdict::Notify, "{option}");
    }
    for option in [1, 3, 4, 15, 22, 38] {
        assert_eq!(filtered("prctl", &[option]), Verdict::Allow, "{option}");
    }
    assert_eq!(filtered("prctl", &[35]), Verdict::Fail(Errno::EPERM));
    for (resource, verdict) in [(15, Verdict::Notify), (7, Verdict::Allow)] {
        assert_eq!(filtered("prlimit64", &[0, resource]), verdict);
        assert_eq!(filtered("getrlimit", &[resource]), verdict);
        assert_eq!(filtered("setrlimit", &[resource]), verdict);
    }
    assert_eq!(filtered("getsockopt", &[3, 1, 17]), Verdict::Notify);
    assert_eq!(filtered("getsockopt", &[3, 1, 3]), Verdict::Allow);
    assert_eq!(filtered("getsockopt", &[3, 6, 17]), Verdict::Allow);
    for call in ["getuid", "setresgid", "capset", "chroot"] {
        assert_eq!(filtered(call, &[]), Verdict::Notify, "{call}");
    }
}

#[test]
fn the_limit_of_real_time_work_is_a_show() {
    let trial = Trial::with(Feature::PretendedIds);
    let limit = |soft: u64, hard: u64| trial.guest.put(&[soft.to_ne_bytes(), hard.to_ne_bytes()].concat()).0;
    let place = trial.guest.put(&[0; 16]);
    assert!(trial.call("prlimit64", &[0, 15, limit(5, 7), place.0]).is_ok());
    assert_eq!(trial.guest.peek(place, 16), [0xff; 16]);
    assert!(trial.call("getrlimit", &[15, place.0]).is_ok());
    assert!(trial.call("setrlimit", &[15, limit(7, 7)]).is_ok());
    assert_eq!(trial.errno("setrlimit", &[15, limit(7, 5)]), Errno::EINVAL);
    assert_eq!(trial.errno("prlimit64", &[0, 15, 8, 0]), Errno::EFAULT);
    assert_eq!(trial.errno("getrlimit", &[15, 8]), Errno::EFAULT);
}

#[test]
fn capget_speaks_every_version_and_tells_the_one_it_likes() {
    let trial = Trial::with(Feature::PretendedIds);
    let header = |version: u32, process: u32| trial.guest.put(&scratch(&[version, process]));
    let data = trial.guest.put(&[0; 24]);
    let unknown = header(7, 0);
    assert!(trial.call("capget", &[unknown.0, 0]).is_ok(), "asking for the version alone");
    assert_eq!(trial.guest.peek(unknown, 4), 0x2008_0522_u32.to_ne_bytes());
    assert_eq!(trial.errno("capget", &[header(7, 0).0, data.0]), Errno::EINVAL);
    assert!(trial.call("capget", &[header(0x1998_0330, 0).0, data.0]).is_ok());
    assert_eq!(trial.guest.peek(data, 16), scratch(&[u32::MAX, u32::MAX, 0])[..16], "three words and no more");
    assert!(trial.call("capget", &[header(0x2008_0522, trial.guest.ids.1.cast_unsigned()).0, data.0]).is_ok());
    assert_eq!(trial.guest.peek(data, 24), scratch(&[u32::MAX, u32::MAX, 0, 0x1ff, 0x1ff, 0])[..24]);
    assert_eq!(trial.errno("capget", &[header(0x2008_0522, u32::MAX).0, data.0]), Errno::EINVAL);
    assert_eq!(trial.errno("capget", &[header(0x2008_0522, 999_999).0, data.0]), Errno::ESRCH);
    assert_eq!(trial.errno("capget", &[8, data.0]), Errno::EFAULT);
    assert_eq!(trial.errno("capset", &[header(0x2008_0522, 999_999).0, data.0]), Errno::EPERM);
}

#[test]
fn what_changes_nothing_sets_nothing() {
    let trial = Trial::with(Feature::PretendedIds);
    let before = trial.guest.credentials().unwrap();
    assert_eq!(trial.errno("setuid", &[0xffff_ffff]), Errno::EINVAL);
    assert_eq!(trial.errno("prctl", &[47, 2, 7, 0, 0]), Errno::EPERM, "not inheritable");
    assert!(std::sync::Arc::ptr_eq(&before, &trial.guest.credentials().unwrap()));
    assert!(trial.call("setuid", &[0]).is_ok());
    assert!(std::sync::Arc::ptr_eq(&before, &trial.guest.credentials().unwrap()), "nothing changed");
}

/// A listener would be asked before a tracer.
#[test]
fn where_the_sentry_traces_nobody_listens() {
    let row = find("seccomp").expect("there is a row");
    let route = row.route_with(Surface::Default, &[Feature::Traced]);
    for other in [0, 1, 2, 16, 32] {
        let verdict = |flags| route.verdict(row.parameters, &[1, flags, 0, 0, 0, 0]);
        assert_eq!(verdict(other), Verdict::Allow);
        assert_eq!(verdict(other | 8), Verdict::Fail(Errno::EBUSY));
        assert_eq!(verdict(other | 8 | 1 << 40), Verdict::Fail(Errno::EBUSY));
    }
}
