//! May this be done with that path? Asked of the rules that only the sentry can enforce, on the object that was found.
//!
//! The rules are asked about the object's own path, not about the path that the guest wrote: links, `..` and working
//! directories play no part. A rename that would bring an object under other rules is refused, so a path that was judged
//! stays as good as it was.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;

use super::walk::shown;
use crate::guest::{DELETED, Decision, Denial, Guest};
use crate::rules::{Effect, PathRule};

/// What is about to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// Looking at metadata.
    Look,
    /// Reading contents.
    Read,
    /// Changing contents or metadata.
    Change,
    /// Giving the name to something.
    Make,
    /// Taking the name away.
    Move,
}

impl Use {
    /// With which errno a rule with this effect refuses it.
    fn refused_by(self, effect: Effect) -> Option<Errno> {
        match (effect, self) {
            // Whoever makes a name would see that there is something in the way.
            (Effect::Hide | Effect::Deny, Self::Make) => Some(Errno::EACCES),
            (Effect::Hide, _) => Some(Errno::ENOENT),
            (Effect::Deny, Self::Look) => None,
            (Effect::Deny, _) => Some(Errno::EACCES),
            (Effect::Read, Self::Look | Self::Read) | (Effect::Write, _) => None,
            (Effect::Read, _) => Some(Errno::EROFS),
        }
    }
}

/// Judges the use of an object by where it lies. What has no place in the file system, such as a pipe, is nobody's concern.
pub(crate) fn object(guest: &dyn Guest, call: &'static str, object: &OwnedFd, usage: Use) -> Result<(), Errno> {
    if !guest.rules().are_about_objects() {
        return Ok(());
    }
    let label = guest.label_of(object)?;
    if label.as_bytes().starts_with(b"(unreachable)") && guest.rules().are_about_changes() {
        // Moved out of its grant by somebody outside: no rule can tell what it is.
        return Err(Errno::EACCES);
    }
    if !label.as_bytes().starts_with(b"/") {
        return Ok(());
    }
    // A name that is gone, or one that only looks so: both are judged.
    if let Some(former) = label.as_bytes().strip_suffix(DELETED) {
        path(guest, call, Path::new(OsStr::from_bytes(former)), usage)?;
    }
    path(guest, call, Path::new(&label), usage)
}

/// Whether no rule keeps an object from being changed, asked of something that nobody tried: it is not told.
pub(crate) fn may_change(guest: &dyn Guest, object: &OwnedFd) -> bool {
    let rules = guest.rules();
    if !rules.are_about_changes() {
        return true;
    }
    let refused = |path: &Path| rules.decides(path).and_then(|rule| Use::Change.refused_by(rule.effect?)).is_some();
    guest.path_of(object).is_ok_and(|path| !refused(&path))
}

/// Judges the use of a path, which is absolute and resolved.
pub(crate) fn path(guest: &dyn Guest, call: &'static str, path: &Path, usage: Use) -> Result<(), Errno> {
    let rules = guest.rules();
    let decider = rules.decides(path);
    let refused = decider.and_then(|rule| usage.refused_by(rule.effect?));
    tell(guest, call, path, decider, refused);
    let (Some(errno), Some(rule)) = (refused, decider) else { return Ok(()) };
    let (why, option) = match rule.effect {
        Some(Effect::Hide) => ("hidden", "--read"),
        Some(Effect::Deny) => ("denied", "--read"),
        _ => ("read-only", "--write"),
    };
    let remedy = format!("{why} by {}; allow with {option} {}", rule.text, shown(path));
    guest.record(Denial { call, what: shown(path), remedy: remedy.into() });
    Err(errno)
}

/// Tells the audit log, if the user wants to know.
pub(super) fn tell(
    guest: &dyn Guest,
    call: &'static str,
    path: &Path,
    decider: Option<&PathRule>,
    refused: Option<Errno>,
) {
    let rules = guest.rules();
    let logged = if rules.audit { None } else { rules.logs(path) };
    if rules.audit || logged.is_some() || rules.log_refusals && refused.is_some() {
        let rule = decider.or(logged).map(|rule| rule.text.clone());
        guest.decided(Decision { call, path: path.to_owned(), rule, refused });
    }
}
