//! Files: their names, contents and metadata.
//!
//! Which files exist for the guest, and which it may write, is the view's business: mounts made of grants, enforced by
//! the kernel at no cost. So nearly every row here is allowed. What is left: set-id files must never come into being
//! (their mode would be obeyed on the host), handles must not lead around the view, names that the policy hides must
//! stay absent, and a user who asks is shown what a program looked for in vain.

mod absent;
mod create;
mod cwd;
mod device;
pub(crate) mod judge;
mod link;
mod mode;
mod named;
mod object;
mod open;
mod openat2;
mod owner;
pub(crate) mod pretend;
mod relocate;
mod remove;
mod rename;
mod reopen;
mod resolve;
mod stat;
mod times;
pub(crate) mod trace;
pub(crate) mod walk;
mod watch;
mod xattr;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod trial;

/// The rows of all files.
pub(crate) const ROWS: &[&[crate::table::Syscall]] = &[
    create::ROWS,
    cwd::ROWS,
    link::ROWS,
    mode::ROWS,
    open::ROWS,
    openat2::ROWS,
    owner::ROWS,
    remove::ROWS,
    rename::ROWS,
    stat::ROWS,
    times::ROWS,
    watch::ROWS,
    xattr::ROWS,
];

/// Set-user-id and set-group-id.
const SET_ID: u64 = 0o6000;
/// The flag with which an open makes a name.
const CREATES: u64 = 0o100;
/// The flag with which an open makes a file without a name (`__O_TMPFILE`: `O_TMPFILE` without `O_DIRECTORY`).
const TEMPORARY: u64 = 0o20_000_000;
