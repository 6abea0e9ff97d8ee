//! `linux.cgroupsPath`: where a container's groups are, in every hierarchy the same.
//!
//! It comes from a configuration and names directories of the host, so it may not lead out of the hierarchy.

use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};

use shim::failure::Failure;

use super::Wish;
use super::find::Place;

/// A path below a hierarchy's mount, or below the caller's own group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum GroupPath {
    Absolute(PathBuf),
    Relative(PathBuf),
}

impl GroupPath {
    pub fn in_hierarchy(&self, place: &Place) -> PathBuf {
        match self {
            Self::Absolute(path) => place.mount.join(path),
            Self::Relative(path) => place.own.join(path),
        }
    }
}

/// The path of the configuration, or one made of the container's name.
pub(super) fn parse(
    path: Option<&Path>,
    id: &str,
    wish: Wish,
    warnings: &mut Vec<String>,
) -> Result<GroupPath, Failure> {
    let Some(path) = path.filter(|path| !path.as_os_str().is_empty()) else {
        return Ok(default(id, wish.rootless));
    };
    let text = path.to_string_lossy();
    let parts: Vec<&str> = text.split(':').collect();
    if let [slice, prefix, name] = parts.as_slice()
        && !text.starts_with('/')
    {
        warnings.push(format!("linux.cgroupsPath {text} is systemd's; the group is made without asking it"));
        return checked(&units(slice, prefix, name, wish.rootless)?).map(GroupPath::Absolute);
    }
    if wish.systemd {
        return Err(Failure::check(format!("use {text} as linux.cgroupsPath"))
            .remedy("with --systemd-cgroup it is slice:prefix:name"));
    }
    let plain = checked(path)?;
    if plain.as_os_str().is_empty() {
        // The hierarchy's own root holds everybody.
        return Ok(default(id, wish.rootless));
    }
    Ok(if path.is_absolute() { GroupPath::Absolute(plain) } else { GroupPath::Relative(plain) })
}

/// An ordinary user may have something below his own group at most.
fn default(id: &str, rootless: bool) -> GroupPath {
    if rootless { GroupPath::Relative(PathBuf::from(id)) } else { GroupPath::Absolute(Path::new("sentry").join(id)) }
}

/// The path below the root, of names only.
fn checked(path: &Path) -> Result<PathBuf, Failure> {
    let refuse = || {
        Failure::check(format!("use {} as linux.cgroupsPath", path.display()))
            .remedy("it may not lead out of the hierarchy with ..")
    };
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => plain.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return Err(refuse()),
        }
    }
    Ok(plain)
}

/// As systemd would name the directories: `a-b.slice` lies in `a.slice`, and a scope in its slice.
fn units(slice: &str, prefix: &str, name: &str, rootless: bool) -> Result<PathBuf, Failure> {
    let slice = match slice {
        "" if rootless => "user.slice",
        "" => "system.slice",
        named => named,
    };
    let bad = || Failure::check(format!("use {slice} as a slice")).remedy("a slice is like user-1000.slice");
    let stem = slice.strip_suffix(".slice").ok_or_else(bad)?;
    let plain = |part: &str| !part.contains('/');
    if !plain(stem) || !plain(name) || !plain(prefix) {
        return Err(bad());
    }
    let mut path = PathBuf::new();
    if stem != "-" {
        let mut so_far = String::new();
        for part in stem.split('-') {
            if part.is_empty() {
                return Err(bad());
            }
            if !so_far.is_empty() {
                so_far.push('-');
            }
            so_far += part;
            path.push(format!("{so_far}.slice"));
        }
    }
    let unit = match (prefix, Path::new(name).extension().and_then(OsStr::to_str)) {
        (_, Some("slice")) => name.to_owned(),
        ("", _) => format!("{name}.scope"),
        _ => format!("{prefix}-{name}.scope"),
    };
    path.push(unit);
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(path: &str) -> Result<GroupPath, Failure> {
        parse(Some(Path::new(path)), "id", Wish::default(), &mut Vec::new())
    }

    #[test]
    fn paths_are_absolute_relative_or_systemds() {
        assert_eq!(parsed("/a/b").unwrap(), GroupPath::Absolute("a/b".into()));
        assert_eq!(parsed("a/./b").unwrap(), GroupPath::Relative("a/b".into()));
        let slices = "user.slice/user-1000.slice/libpod-x.scope";
        assert_eq!(parsed("user-1000.slice:libpod:x").unwrap(), GroupPath::Absolute(slices.into()));
        assert_eq!(parsed(":libpod:x").unwrap(), GroupPath::Absolute("system.slice/libpod-x.scope".into()));
        assert_eq!(parsed("-.slice:docker:x.slice").unwrap(), GroupPath::Absolute("x.slice".into()));
    }

    #[test]
    fn none_leads_out() {
        for bad in ["/../x", "a/../../b", "..", "a.slice:../..:x", "a/..slice:b:c", "a--b.slice:x:y"] {
            assert!(parsed(bad).is_err(), "{bad}");
        }
        assert_eq!(parsed("/").unwrap(), GroupPath::Absolute("sentry/id".into()), "the root is everybody's");
    }

    #[test]
    fn without_one_the_containers_name_is_used() {
        let wish = |rootless| Wish { rootless, ..Wish::default() };
        let with = |rootless| parse(None, "id", wish(rootless), &mut Vec::new()).unwrap();
        assert_eq!(with(false), GroupPath::Absolute("sentry/id".into()));
        assert_eq!(with(true), GroupPath::Relative("id".into()));
    }
}
