//! The page that every program of a sandbox with a pretended clock shares: how to get from the host's time to its own.
//!
//! Words of 64 bits. The sentry writes them, code in each program's vDSO reads them (`shim::vdso`). The first is a sequence
//! number, which changes with the others. The guest has it read-only, and the sentry takes nothing else from it.

/// Its size.
pub const SIZE: usize = 4096;

/// Sequence number, 32 bits, with two marks in it.
pub const SEQUENCE: usize = 0;
/// Mark: the other words are being written.
pub const WRITTEN: i64 = 1;
/// Mark: base and rate count; otherwise the seconds and nanoseconds are to be added.
pub const SCALED: i64 = 2;
/// The least step from one sequence number to the next.
pub const STEP: i64 = 4;
/// Seconds to add to the host's time.
pub const SECONDS: usize = 1;
/// Nanoseconds to add, 0 to 999,999,999.
pub const NANOSECONDS: usize = 2;
/// The host's time when the clock was last set, in nanoseconds.
pub const HOST_BASE: usize = 3;
/// The pretended time then, in nanoseconds.
pub const BASE: usize = 4;
/// How much faster the pretended clock runs, with 32 binary digits behind the point; 0 stops it.
pub const RATE: usize = 5;
/// How many seconds `CLOCK_TAI` is ahead.
pub const TAI_SECONDS: usize = 6;
/// What the clock was last set to, seconds: the coarse clock must not tell an earlier time.
pub const SET_SECONDS: usize = 7;
/// And nanoseconds.
pub const SET_NANOSECONDS: usize = 8;
/// Words in all.
pub const WORDS: usize = 9;

/// The clocks that are pretended, as bits: `CLOCK_REALTIME`, `CLOCK_REALTIME_COARSE`, `CLOCK_TAI`.
pub const PRETENDED: u32 = 1 << libc::CLOCK_REALTIME | 1 << libc::CLOCK_REALTIME_COARSE | 1 << libc::CLOCK_TAI;

/// No clock: `clock_gettime` answers with a descriptor of the page. The first thing a program asks for.
pub const ASK_PAGE: i32 = 0x5AC1_0C10;
/// No clock: `clock_gettime` makes the functions of the caller's vDSO plain system calls.
pub const ASK_PLAIN: i32 = 0x5AC1_0C11;
