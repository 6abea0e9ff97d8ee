//! Names and facts of the system.
//!
//! The sandbox has a uts namespace of its own with the name that the policy gave it. A guest without capabilities cannot
//! change it; the sentry says so and names the option.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;
use nix::time::{ClockId, clock_gettime};

use crate::args::{Int, UserPtr};
use crate::guest::{Denial, Guest};
use crate::reply::{Answer, Reply};
use crate::sys;

crate::syscalls! {
    /// Returns the names of kernel and machine.
    /// With `--uname` release and version are the policy's, also in `/proc/version` and `/proc/sys/kernel`.
    /// Limit: `--uname` does not change what the kernel can do, and `setarch` does not change what it says.
    uname(names: UserPtr) System Judge Allow { NamedKernel => Emulate(uname) };
    /// Sets the host name: refused with `EPERM` and reported, for the name is chosen at start.
    /// Limit: the name of the sandbox cannot be changed while it runs, not even to what it already is.
    sethostname(name: UserPtr, length: Int) System Default Emulate(sethostname) { OwnName => Allow };
    /// Sets the NIS domain name: refused with `EPERM` and reported.
    /// Limit: the sandbox has no NIS domain, and there is no option to give it one.
    setdomainname(name: UserPtr, length: Int) System Compat Emulate(setdomainname) { OwnName => Allow };
    /// Returns memory sizes, load and uptime.
    /// With `--memory` the sizes are those of the sandbox: the limit in all, and of it free what no process uses.
    /// Limit: use is the sum of resident sets and at most 50 ms old; pages that processes share count once for each of them, files in memory and buffers of the kernel do not count; load is the host's.
    sysinfo(info: UserPtr) System Judge Allow { MemoryLimit => EmulateSlow(sysinfo) };
    /// Returns random bytes.
    getrandom(buffer: UserPtr, count: Size, flags: Flags) System Judge Allow;
    /// Read and changed kernel parameters; gone from the kernel, fails with `ENOSYS`.
    _sysctl(arguments: UserPtr) System Compat Errno(ENOSYS);
}

fn sethostname(guest: &dyn Guest, name: UserPtr, length: Int) -> Answer {
    let name = read_name(guest, name, length)?;
    let remedy = format!("choose it at start with --hostname {name}");
    guest.record(Denial { call: "sethostname", what: name, remedy: remedy.into() });
    Err(Errno::EPERM)
}

fn setdomainname(guest: &dyn Guest, name: UserPtr, length: Int) -> Answer {
    let what = read_name(guest, name, length)?;
    guest.record(Denial { call: "setdomainname", what, remedy: "the sandbox has no NIS domain to name".into() });
    Err(Errno::EPERM)
}

/// The longest name that the kernel takes, `__NEW_UTS_LEN`.
const LONGEST: usize = 64;

/// The supervisor shares the guest's uts namespace, so the names of host and domain are the guest's own.
fn uname(guest: &dyn Guest, at: UserPtr) -> Answer {
    let names = nix::sys::utsname::uname()?;
    let kernel = guest.rules().kernel.as_ref();
    let release = kernel.map_or(names.release(), |kernel| OsStr::new(&kernel.release));
    let version = kernel.and_then(|kernel| kernel.version.as_deref()).map_or(names.version(), OsStr::new);
    let fields = [names.sysname(), names.nodename(), release, version, names.machine(), names.domainname()];
    let mut answer = Vec::with_capacity(fields.len() * (LONGEST + 1));
    for field in fields {
        let name = field.as_bytes();
        let length = name.len().min(LONGEST);
        answer.extend_from_slice(&name[..length]);
        answer.resize(answer.len() + LONGEST + 1 - length, 0);
    }
    guest.write(at, &answer)?;
    Ok(Reply::Return(0))
}

/// As the kernel's `struct sysinfo` on 64-bit machines: fourteen words, two of which are only partly used.
fn sysinfo(guest: &dyn Guest, at: UserPtr) -> Answer {
    let host = sys::system_information()?;
    let unit = u64::from(host.mem_unit.max(1));
    let total = guest.rules().memory.unwrap_or(u64::MAX).min(host.totalram.saturating_mul(unit));
    let (used, threads) = guest.usage()?;
    let since = clock_gettime(ClockId::CLOCK_BOOTTIME)?;
    let (seconds, nanoseconds) = guest.boot_offset()?;
    let nanoseconds = since.tv_nsec() + nanoseconds;
    // The kernel rounds up.
    let uptime = since.tv_sec() + seconds + nanoseconds.div_euclid(1_000_000_000);
    let uptime = uptime + i64::from(nanoseconds.rem_euclid(1_000_000_000) > 0);
    let [load_1, load_5, load_15] = host.loads;
    let threads = threads.min(u64::from(u16::MAX));
    let bytes = |units: u64| units.saturating_mul(unit);
    let [free, shared, buffers, swap, free_swap] = match guest.rules().memory {
        // No limit is no memory of its own.
        None | Some(u64::MAX) => {
            [host.freeram, host.sharedram, host.bufferram, host.totalswap, host.freeswap].map(bytes)
        }
        // Neither shared memory nor buffers are known, and there is no swap beyond the limit.
        Some(_) => [total.saturating_sub(used), 0, 0, 0, 0],
    };
    let high = 0;
    let words = [
        uptime.cast_unsigned(),
        load_1,
        load_5,
        load_15,
        total,
        free,
        shared,
        buffers,
        swap,
        free_swap,
        threads,
        high,
        high,
        1,
    ];
    let answer: Vec<u8> = words.iter().flat_map(|word: &u64| word.to_le_bytes()).collect();
    guest.write(at, &answer)?;
    Ok(Reply::Return(0))
}

fn read_name(guest: &dyn Guest, at: UserPtr, Int(length): Int) -> Result<String, Errno> {
    let length = usize::try_from(length).ok().filter(|length| *length <= LONGEST).ok_or(Errno::EINVAL)?;
    let mut name = vec![0; length];
    guest.read(at, &mut name)?;
    Ok(String::from_utf8_lossy(&name).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::FakeGuest;
    use crate::rules::KernelName;

    #[test]
    fn a_new_name_is_refused_and_reported() {
        let guest = FakeGuest::default();
        let name = guest.put_at_end(b"elsewhere");
        assert_eq!(sethostname(&guest, name, Int(9)).expect_err("refused"), Errno::EPERM);
        assert_eq!(setdomainname(&guest, name, Int(4)).expect_err("refused"), Errno::EPERM);

        let [host, domain] = guest.denials().try_into().expect("two refusals");
        assert_eq!((host.call, host.what.as_str()), ("sethostname", "elsewhere"));
        assert_eq!(host.remedy, "choose it at start with --hostname elsewhere");
        assert_eq!((domain.call, domain.what.as_str()), ("setdomainname", "else"));
    }

    #[test]
    fn nonsense_fails_as_in_the_kernel() {
        let guest = FakeGuest::default();
        let name = guest.put_at_end(b"elsewhere");
        assert_eq!(sethostname(&guest, name, Int(-1)).expect_err("refused"), Errno::EINVAL);
        assert_eq!(sethostname(&guest, name, Int(65)).expect_err("refused"), Errno::EINVAL);
        assert_eq!(sethostname(&guest, name, Int(10)).expect_err("refused"), Errno::EFAULT);
        assert!(guest.denials().is_empty());
    }

    #[test]
    fn the_kernel_has_the_name_of_the_policy() {
        let mut guest = FakeGuest::default();
        guest.rules.kernel = Some(KernelName { release: "4.4.0".into(), version: None });
        let at = guest.put(&[0xff; 390]);
        assert!(matches!(uname(&guest, at), Ok(Reply::Return(0))));
        let names = guest.peek(at, 390);
        let field = |number: usize| {
            let field = &names[number * 65..][..65];
            String::from_utf8_lossy(field).trim_end_matches('\0').to_owned()
        };
        let host = nix::sys::utsname::uname().expect("names");
        let real = |name: &OsStr| name.to_string_lossy().into_owned();
        assert_eq!([field(0), field(1)], [real(host.sysname()), real(host.nodename())]);
        assert_eq!([field(2), field(3)], ["4.4.0".to_owned(), real(host.version())]);
        assert_eq!([field(4), field(5)], [real(host.machine()), real(host.domainname())]);
        let read_only = guest.put_read_only(&[0; 390]);
        assert_eq!(uname(&guest, read_only).expect_err("refused"), Errno::EFAULT);
    }

    #[test]
    fn memory_is_what_the_sandbox_may_use() {
        let mut guest = FakeGuest::default();
        guest.usage = (100 << 20, 7);
        guest.boot_offset = (1000, 0);
        guest.rules.memory = Some(256 << 20);
        let at = guest.put(&[0xff; size_of::<libc::sysinfo>()]);
        assert!(matches!(sysinfo(&guest, at), Ok(Reply::Return(0))));
        let answer = guest.peek(at, 112);
        let word = |number: usize| u64::from_le_bytes(answer[number * 8..][..8].try_into().expect("eight bytes"));
        let host = sys::system_information().expect("numbers");
        let passed = word(0).cast_signed() - host.uptime - 1000;
        assert!((-1..60).contains(&passed), "{passed}");
        assert_eq!((word(4), word(5)), (256 << 20, 156 << 20));
        assert_eq!((word(8), word(9), word(10), word(13)), (0, 0, 7, 1));
        // More than there may be is none, not very much.
        guest.usage.0 = 1 << 40;
        assert!(matches!(sysinfo(&guest, at), Ok(Reply::Return(0))));
        assert_eq!(guest.peek(UserPtr(at.0 + 40), 8), [0; 8]);
        // And who has no limit shares the host's.
        guest.rules.memory = Some(u64::MAX);
        assert!(matches!(sysinfo(&guest, at), Ok(Reply::Return(0))));
        let answer = guest.peek(at, 112);
        let word = |number: usize| u64::from_le_bytes(answer[number * 8..][..8].try_into().expect("eight bytes"));
        let unit = u64::from(host.mem_unit);
        assert_eq!((word(4), word(8)), (host.totalram * unit, host.totalswap * unit));
        assert!(word(5) > 0);
    }

    #[test]
    fn the_structure_is_the_kernels() {
        use std::mem::offset_of;
        assert_eq!(size_of::<libc::sysinfo>(), 112);
        let offsets = [
            offset_of!(libc::sysinfo, totalram),
            offset_of!(libc::sysinfo, freeswap),
            offset_of!(libc::sysinfo, procs),
            offset_of!(libc::sysinfo, totalhigh),
            offset_of!(libc::sysinfo, mem_unit),
        ];
        assert_eq!(offsets, [4, 9, 10, 11, 13].map(|word| word * 8));
    }
}
