//! What a program looked for in vain, for `--trace denied`.
//!
//! A path outside the view is simply absent, and the kernel says so without us. A user who wonders why a program fails
//! can have such look-ups observed: the supervisor, which lives in the same view, looks too. It only tells; the kernel
//! runs the call whatever was seen here, so nothing depends on the guest's memory staying as it is.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;
use nix::fcntl::{OFlag, ResolveFlag};

use super::judge::Use;
use super::named::Named;
use super::resolve::is_procfs;
use super::walk::{Start, shown};
use crate::args::{DirFd, PathPtr};
use crate::guest::{Denial, Guest};

/// Records that `call` looks for `path`, if that is not in the view; for an audit also if it is.
pub(crate) fn looked_up(guest: &dyn Guest, call: &'static str, at: DirFd, path: PathPtr) {
    if guest.rules().trace
        && let Ok(Some(what)) = absent(guest, at, path)
    {
        guest.record(Denial { call, what, remedy: "not in the view".into() });
    }
    if guest.rules().audit || guest.rules().paths.iter().any(|rule| rule.log) {
        // Looked at and nothing else: the kernel walks once more, and has the last word.
        let _ = Named::copy(guest, call, at, path).and_then(|named| named.object(Use::Look));
    }
}

/// The path, as a name in the view, if nothing is there.
fn absent(guest: &dyn Guest, at: DirFd, path: PathPtr) -> Result<Option<String>, Errno> {
    let path = guest.read_path(path)?;
    let path = path.as_bytes();
    // An empty path is about a descriptor.
    if path.is_empty() {
        return Ok(None);
    }
    let start = Start::of(guest, at, path)?;
    match start.object(guest, OFlag::O_NOFOLLOW, ResolveFlag::empty()) {
        // What comes and goes in /proc is not the view's.
        Err(Errno::ENOENT) if path.starts_with(b"/proc/") || path.starts_with(b"/dev/fd/") => Ok(None),
        Err(Errno::ENOENT | Errno::EACCES) if path.starts_with(b"/") => {
            Ok(Some(OsStr::from_bytes(path).to_string_lossy().into_owned()))
        }
        Err(Errno::ENOENT | Errno::EACCES) => {
            let from = start.from()?;
            Ok((!is_procfs(&from)?).then_some(shown(&guest.path_of(&from)?.join(OsStr::from_bytes(path)))))
        }
        _ => Ok(None),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use crate::file::trial::{CWD, Trial};
    use crate::table::Feature;

    #[test]
    fn only_what_is_absent_is_told() {
        let mut trial = Trial::with(Feature::TracePaths);
        fs::create_dir(trial.root.join("dir")).unwrap();
        symlink("nowhere", trial.root.join("dangling")).unwrap();
        trial.guest.files.insert(5, fs::File::open(trial.root.join("dir")).unwrap().into());
        for path in ["dir", "dangling", "dir/..", "", "/proc/self/fd/77", "/dev/fd/77", "/", "dangling/x/\u{7f}"] {
            trial.observe("openat", &[CWD, trial.path(path), 0, 0]);
        }
        trial.observe("stat", &[8, 0]);
        trial.observe("openat", &[77, trial.path("x"), 0, 0]);
        assert_eq!(trial.denied(), [("openat", "dangling/x/\u{7f}".into())]);

        trial.observe("newfstatat", &[5, trial.path("gone"), 0, 0]);
        trial.observe("access", &[trial.path("/no/such/place"), 0]);
        trial.observe("chdir", &[trial.path("../up")]);
        let denied = trial.denied();
        assert_eq!(denied[1], ("newfstatat", "dir/gone".into()));
        assert_eq!(denied[2], ("access", "/no/such/place".into()));
        assert_eq!(denied[3], ("chdir", "../up".into()));
        assert!(trial.guest.denials().iter().all(|denial| denial.remedy == "not in the view"));
    }
}
