//! Where state lies by default: `/run/sentry`, `$XDG_RUNTIME_DIR/sentry`, or a directory of the user's in `/tmp`.
//!
//! An engine calls us from several places, with different environments; each must find the same directory.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::unistd::Uid;
use shim::failure::Failure;
use shim::identity::is_initial_map;

/// The default of `--root`.
pub fn default_root() -> Result<PathBuf, Failure> {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute());
    let maps = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let own = Uid::effective().as_raw();
    if own == 0 && is_initial_map(&maps) {
        return Ok(PathBuf::from("/run/sentry/oci"));
    }
    match runtime.filter(|path| path.is_dir()) {
        Some(path) => Ok(path.join("sentry/oci")),
        None => fall_back(Path::new("/tmp"), outside(own, &maps)),
    }
}

/// The number that the user `own` has in the user namespace around this one: the same inside and outside of podman's.
fn outside(own: u32, maps: &str) -> u32 {
    let found = maps.lines().find_map(|line| {
        let mut numbers = line.split_whitespace().map(str::parse::<u32>);
        let (inside, outside, count) = (numbers.next()?.ok()?, numbers.next()?.ok()?, numbers.next()?.ok()?);
        let offset = own.checked_sub(inside).filter(|offset| *offset < count)?;
        outside.checked_add(offset)
    });
    found.unwrap_or(own)
}

/// A directory that anyone could have made before us is used only if it is ours alone.
fn fall_back(parent: &Path, user: u32) -> Result<PathBuf, Failure> {
    let path = parent.join(format!("sentry-run-{user}"));
    let made = fs::DirBuilder::new().mode(0o700).create(&path);
    if made.is_err() {
        let stat = fs::symlink_metadata(&path).ok();
        let ours = stat.is_some_and(|stat| {
            stat.is_dir() && stat.uid() == Uid::effective().as_raw() && stat.mode().trailing_zeros() >= 6
        });
        if !ours {
            return Err(Failure::check_text(format!("{} is not a directory of yours alone", path.display()))
                .remedy("remove it, set XDG_RUNTIME_DIR, or name a directory with --root"));
        }
    }
    Ok(path.join("oci"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_user_is_the_same_inside_and_outside_of_a_user_namespace() {
        let podman = "         0       1001          1\n         1     100000      65536\n";
        assert_eq!(outside(0, podman), 1001);
        assert_eq!(outside(2, podman), 100_001);
        assert_eq!(outside(1001, "0 0 4294967295\n"), 1001);
        assert!(is_initial_map("         0          0 4294967295\n") && !is_initial_map(podman));
    }

    #[test]
    fn a_directory_that_others_can_write_is_not_trusted() {
        let place = tempfile::tempdir().unwrap();
        let path = fall_back(place.path(), 7).unwrap();
        assert_eq!(fall_back(place.path(), 7).unwrap(), path);
        let mode = |mode| fs::set_permissions(path.parent().unwrap(), fs::Permissions::from_mode(mode)).unwrap();
        mode(0o770);
        assert!(fall_back(place.path(), 7).is_err());
        mode(0o700);
        fs::remove_dir(path.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink("/tmp", path.parent().unwrap()).unwrap();
        assert!(fall_back(place.path(), 7).is_err());
    }
}
