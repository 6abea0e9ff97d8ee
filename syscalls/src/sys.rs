//! The one raw call that neither the standard library nor `nix` wraps.
#![allow(unsafe_code)]

use nix::errno::Errno;

/// The kernel's `struct timex` in 64-bit words. What stands where does not matter here, but for `modes`: the low half of
/// the first word.
pub(crate) const TIMEX_WORDS: usize = 26;

/// Asks the kernel for the state of its clock discipline. `modes` must be one that only reads.
pub(crate) fn read_clock_discipline(modes: u32) -> Result<(i64, [u64; TIMEX_WORDS]), Errno> {
    const { assert!(size_of::<libc::timex>() == TIMEX_WORDS * size_of::<u64>()) };
    let mut timex = [0_u64; TIMEX_WORDS];
    timex[0] = u64::from(modes);
    // SAFETY: the buffer is as long as `struct timex`, is aligned for it, and outlives the call; any bytes are valid.
    let state = unsafe { libc::syscall(libc::SYS_adjtimex, timex.as_mut_ptr()) };
    Ok((Errno::result(state)?, timex))
}
