//! What one may do, under `--fake-root`: capget(2), capset(2) and the options of prctl(2) that go with them.

use nix::errno::Errno;
use nix::libc;

use super::{change, success};
use crate::args::{Int, UserPtr, Word};
use crate::credentials::Credentials;
use crate::guest::Guest;
use crate::reply::{Answer, Reply};

/// The layouts that the kernel knows, with how many 32-bit words each set has (`_LINUX_CAPABILITY_VERSION_1` to `_3`).
const VERSIONS: [(u32, usize); 3] = [(0x1998_0330, 1), (0x2007_1026, 2), (0x2008_0522, 2)];
/// The one to be told to whoever asks with an unknown one.
const PREFERRED: u32 = VERSIONS[2].0;

/// The header: how many words a set has, and whose capabilities are meant. `None`: the version is unknown, and the caller
/// has been told the preferred one.
fn header(guest: &dyn Guest, at: UserPtr) -> Result<Option<(usize, i32)>, Errno> {
    let mut version = [0; 4];
    guest.read(at, &mut version)?;
    let version = u32::from_ne_bytes(version);
    let Some((_, words)) = VERSIONS.iter().find(|(known, _)| *known == version) else {
        guest.write(at, &PREFERRED.to_ne_bytes())?;
        return Ok(None);
    };
    let mut process = [0; 4];
    guest.read(at.offset(4), &mut process)?;
    Ok(Some((*words, i32::from_ne_bytes(process))))
}

pub(super) fn capget(guest: &dyn Guest, at: UserPtr, data: UserPtr) -> Answer {
    let Some((words, process)) = header(guest, at)? else {
        // To ask for the version alone is no mistake.
        return if data.is_null() { Ok(Reply::Return(0)) } else { Err(Errno::EINVAL) };
    };
    if data.is_null() {
        return Ok(Reply::Return(0));
    }
    if process < 0 {
        return Err(Errno::EINVAL);
    }
    let credentials = match process {
        0 => guest.credentials()?,
        own if own == guest.own_ids()?.1 => guest.credentials()?,
        other => guest.credentials_of(other)?,
    };
    let Credentials { effective, permitted, inheritable, .. } = *credentials;
    let word = |set: u64, index: usize| set.to_le_bytes()[4 * index..4 * index + 4].to_owned();
    let sets = [effective, permitted, inheritable];
    let bytes: Vec<u8> = (0..words).flat_map(|index| sets.map(|set| word(set, index)).concat()).collect();
    guest.write(data, &bytes)?;
    Ok(Reply::Return(0))
}

pub(super) fn capset(guest: &dyn Guest, at: UserPtr, data: UserPtr) -> Answer {
    let (words, process) = header(guest, at)?.ok_or(Errno::EINVAL)?;
    if process != 0 && process != guest.own_ids()?.1 {
        return Err(Errno::EPERM);
    }
    let mut bytes = vec![0; words * 12];
    guest.read(data, &mut bytes)?;
    bytes.resize(24, 0);
    let word = |index: usize| {
        let at = 4 * index;
        u64::from(u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]))
    };
    let sets = [0, 1, 2].map(|set| word(set) | word(set + 3) << 32);
    success(change(guest, |credentials| credentials.set_capabilities(sets)))
}

/// The options of prctl(2) that are about capabilities.
pub(super) fn prctl(guest: &dyn Guest, option: Int, a: Word, b: Word, c: Word, d: Word) -> Answer {
    let tell = |value: bool| Ok(Reply::Return(value.into()));
    let Word(a) = a;
    match option.0 {
        libc::PR_GET_KEEPCAPS => tell(guest.credentials()?.keeps_capabilities()),
        libc::PR_SET_KEEPCAPS => success(change(guest, |credentials| credentials.keep_capabilities(a))),
        libc::PR_GET_SECUREBITS => Ok(Reply::Return(guest.credentials()?.secure_bits.into())),
        libc::PR_SET_SECUREBITS => success(change(guest, |credentials| credentials.set_secure_bits(a))),
        libc::PR_CAPBSET_READ => tell(guest.credentials()?.is_bounded_by(a)?),
        libc::PR_CAPBSET_DROP => success(change(guest, |credentials| credentials.drop_from_bounding(a))),
        libc::PR_CAP_AMBIENT => ambient(guest, a, [b, c, d]),
        _ => Err(Errno::EINVAL),
    }
}

fn ambient(guest: &dyn Guest, operation: u64, [Word(capability), Word(c), Word(d)]: [Word; 3]) -> Answer {
    const IS_SET: u64 = libc::PR_CAP_AMBIENT_IS_SET as u64;
    const RAISE: u64 = libc::PR_CAP_AMBIENT_RAISE as u64;
    const LOWER: u64 = libc::PR_CAP_AMBIENT_LOWER as u64;
    const CLEAR_ALL: u64 = libc::PR_CAP_AMBIENT_CLEAR_ALL as u64;
    if c | d != 0 || operation == CLEAR_ALL && capability != 0 {
        return Err(Errno::EINVAL);
    }
    match operation {
        CLEAR_ALL => success(change(guest, |credentials| {
            credentials.ambient = 0;
            Ok(())
        })),
        IS_SET => Ok(Reply::Return(guest.credentials()?.is_ambient(capability)?.into())),
        RAISE => success(change(guest, |credentials| credentials.raise_ambient(capability))),
        LOWER => success(change(guest, |credentials| credentials.lower_ambient(capability))),
        _ => Err(Errno::EINVAL),
    }
}
