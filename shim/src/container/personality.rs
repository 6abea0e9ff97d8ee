//! `linux.personality`: which machine uname(2) tells of. See personality(2).

use nix::sys::personality::{self, Persona};
use oci_spec::runtime::{LinuxPersonalityDomain, Spec};

use crate::failure::{Failure, Step};

/// `PER_LINUX32`.
const LINUX32: i32 = 0x0008;

/// Gives this process, and all that come of it, the personality of the configuration, if it names one.
pub fn set(spec: &Spec) -> Result<(), Failure> {
    let wanted = spec.linux().as_ref().and_then(|linux| linux.personality().as_ref());
    let Some(wanted) = wanted else { return Ok(()) };
    let persona = match wanted.domain() {
        LinuxPersonalityDomain::PerLinux => Persona::empty(),
        LinuxPersonalityDomain::PerLinux32 => Persona::from_bits_retain(LINUX32),
    };
    personality::set(persona).step(|| format!("set the personality {}", wanted.domain())).map(drop)
}
