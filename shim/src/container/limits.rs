//! `process.rlimits`. See setrlimit(2).

use nix::errno::Errno;
use nix::libc;
use oci_spec::runtime::{PosixRlimit, PosixRlimitType};

use crate::failure::{Failure, Step};
use crate::sys;

#[allow(clippy::unnecessary_cast)] // the C library's type of these differs
fn resource(kind: PosixRlimitType) -> u32 {
    use PosixRlimitType as Type;
    (match kind {
        Type::RlimitCpu => libc::RLIMIT_CPU,
        Type::RlimitFsize => libc::RLIMIT_FSIZE,
        Type::RlimitData => libc::RLIMIT_DATA,
        Type::RlimitStack => libc::RLIMIT_STACK,
        Type::RlimitCore => libc::RLIMIT_CORE,
        Type::RlimitRss => libc::RLIMIT_RSS,
        Type::RlimitNproc => libc::RLIMIT_NPROC,
        Type::RlimitNofile => libc::RLIMIT_NOFILE,
        Type::RlimitMemlock => libc::RLIMIT_MEMLOCK,
        Type::RlimitAs => libc::RLIMIT_AS,
        Type::RlimitLocks => libc::RLIMIT_LOCKS,
        Type::RlimitSigpending => libc::RLIMIT_SIGPENDING,
        Type::RlimitMsgqueue => libc::RLIMIT_MSGQUEUE,
        Type::RlimitNice => libc::RLIMIT_NICE,
        Type::RlimitRtprio => libc::RLIMIT_RTPRIO,
        Type::RlimitRttime => libc::RLIMIT_RTTIME,
    }) as u32
}

/// Sets them. A hard limit that cannot be raised stays what it is, with a warning: engines ask for the same everywhere.
pub(super) fn apply(limits: &[PosixRlimit], warnings: &mut Vec<String>) -> Result<(), Failure> {
    for (index, limit) in limits.iter().enumerate() {
        let name = limit.typ();
        if limits[..index].iter().any(|other| other.typ() == name) {
            return Err(Failure::check(format!("set {name}: it is there twice")).remedy("remove one of the two"));
        }
        let (soft, hard) = (limit.soft(), limit.hard());
        let step = || format!("set {name} to {soft} and at most {hard}");
        if soft > hard {
            return Err(Failure::check(step()).remedy("the soft limit is above the hard one"));
        }
        match sys::set_limit(resource(name), soft, hard) {
            Err(Errno::EPERM) => {
                let (_, ceiling) = sys::limit(resource(name)).step(step)?;
                let (soft, clamped) = (soft.min(ceiling), hard.min(ceiling));
                sys::set_limit(resource(name), soft, clamped).step(step)?;
                warnings.push(format!("{name} stays at {clamped}, for it may not be raised to {hard}"));
            }
            other => other.step(step)?,
        }
    }
    Ok(())
}
