//! The page that every program of a sandbox with a pretended clock shares: how to get from the host's time to its own.
//!
//! Words of 64 bits. The sentry writes them, code in each program's vDSO reads them (`shim::vdso`). The first is a sequence
//! number, odd while the others change. The guest has it read-only, and the sentry never reads it.

/// Its size.
pub const SIZE: usize = 4096;

/// Sequence number.
pub const SEQUENCE: usize = 0;
/// 0: the seconds and nanoseconds are to be added; otherwise base and rate count.
pub const SCALED: usize = 1;
/// Seconds to add to the host's time.
pub const SECONDS: usize = 2;
/// Nanoseconds to add, 0 to 999,999,999.
pub const NANOSECONDS: usize = 3;
/// The host's time when the clock was last set, in nanoseconds.
pub const HOST_BASE: usize = 4;
/// The pretended time then, in nanoseconds.
pub const BASE: usize = 5;
/// How much faster the pretended clock runs, with 32 binary digits behind the point; 0 stops it.
pub const RATE: usize = 6;
/// How many seconds `CLOCK_TAI` is ahead.
pub const TAI_SECONDS: usize = 7;
/// What the clock was last set to, seconds: the coarse clock must not tell an earlier time.
pub const SET_SECONDS: usize = 8;
/// And nanoseconds.
pub const SET_NANOSECONDS: usize = 9;
/// Words in all.
pub const WORDS: usize = 10;

/// The clocks that are pretended, as bits: `CLOCK_REALTIME`, `CLOCK_REALTIME_COARSE`, `CLOCK_TAI`.
pub const PRETENDED: u32 = 1 << libc::CLOCK_REALTIME | 1 << libc::CLOCK_REALTIME_COARSE | 1 << libc::CLOCK_TAI;

/// No clock: `clock_gettime` answers with a descriptor of the page. The first thing a program asks for.
pub const ASK_PAGE: i32 = 0x5AC1_0C10;
/// No clock: `clock_gettime` makes the functions of the caller's vDSO plain system calls.
pub const ASK_PLAIN: i32 = 0x5AC1_0C11;
