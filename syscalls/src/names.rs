//! Names and facts of the system.
//!
//! The sandbox has a uts namespace of its own with the name that the policy gave it. A guest without capabilities cannot
//! change it; the sentry says so and names the option.

use nix::errno::Errno;

use crate::args::{Int, UserPtr};
use crate::guest::{Denial, Guest};
use crate::reply::Answer;

crate::syscalls! {
    /// Returns the names of kernel and machine.
    uname(names: UserPtr) System Judge Allow;
    /// Sets the host name: refused with `EPERM` and reported, for the name is chosen at start.
    /// Limit: the name of the sandbox cannot be changed while it runs, not even to what it already is.
    sethostname(name: UserPtr, length: Int) System Default Emulate(sethostname);
    /// Sets the NIS domain name: refused with `EPERM` and reported.
    /// Limit: the sandbox has no NIS domain, and there is no option to give it one.
    setdomainname(name: UserPtr, length: Int) System Compat Emulate(setdomainname);
    /// Returns memory sizes, load and uptime.
    sysinfo(info: UserPtr) System Judge Allow;
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
}
