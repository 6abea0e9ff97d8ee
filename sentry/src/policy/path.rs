//! Paths as the user writes them, made absolute without asking the file system.
//!
//! Whatever a path names is found once, by the kernel, when the view is built. To look earlier would be to look at
//! something that may be another thing by then.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use super::Error;

/// `given`, absolute. `base` must be absolute and free of symlinks (the kernel's idea of a current directory is):
/// only then may a leading `..` be taken off its end. Any later `..` stays, for only the kernel knows where it leads.
pub fn absolute(base: &Path, given: &Path) -> PathBuf {
    let mut path = if given.is_absolute() { PathBuf::from("/") } else { base.to_owned() };
    let mut leading = true;
    for component in given.components() {
        match component {
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
            Component::ParentDir if leading => {
                path.pop();
            }
            Component::ParentDir => path.push(".."),
            Component::Normal(name) => {
                leading = false;
                path.push(name);
            }
        }
    }
    path
}

/// A name in the view: absolute, without `..`, which would make it impossible to tell which rule is about it.
pub fn inside(base: &Path, given: &Path) -> Result<PathBuf, Error> {
    let path = absolute(base, given);
    check_inside(&path)?;
    Ok(path)
}

/// Whether `path` can be a name in the view.
pub fn check_inside(path: &Path) -> Result<(), Error> {
    check_bytes(path.as_os_str())?;
    if !path.is_absolute() {
        return Err(Error::new(format!("{} is not absolute", shown(path)), "begin it with /"));
    }
    if path.components().any(|part| part == Component::ParentDir) {
        let remedy = "write it without .., or say where it shall appear with --volume HOST:BOX";
        return Err(Error::new(format!("it is not clear what {} is called inside", shown(path)), remedy));
    }
    Ok(())
}

/// Refuses what no system call could name.
pub fn check_bytes(text: &OsStr) -> Result<(), Error> {
    match text.as_bytes() {
        [] => Err(Error::new("a path is empty", "leave it out, or write . for the current directory")),
        bytes if bytes.contains(&0) => Err(Error::new(format!("{text:?} holds a zero byte"), "take it out")),
        bytes if bytes.len() > 4095 => {
            Err(Error::new(format!("a path has {} bytes", bytes.len()), "the kernel takes 4095 at most"))
        }
        _ => Ok(()),
    }
}

/// For messages: as it is if it is harmless, quoted and escaped if it could confuse a terminal or a reader.
pub fn shown(path: &Path) -> String {
    match path.to_str() {
        Some(text) if !text.is_empty() && !text.chars().any(|c| c.is_control() || c == '"') => text.to_owned(),
        _ => format!("{path:?}"),
    }
}

/// An error of the file system in the words of the kernel, lower case, without Rust's `(os error 2)`.
pub fn reason(error: &std::io::Error) -> String {
    let text = match error.raw_os_error() {
        Some(number) => nix::errno::Errno::from_raw(number).desc().to_owned(),
        None => error.to_string(),
    };
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_paths_begin_where_the_user_is() {
        let made = |given: &str| absolute(Path::new("/w/a"), Path::new(given));
        assert_eq!(made("."), Path::new("/w/a"));
        assert_eq!(made("./b//c/"), Path::new("/w/a/b/c"));
        assert_eq!(made("../b"), Path::new("/w/b"));
        assert_eq!(made("../../../.."), Path::new("/"));
        assert_eq!(made("/etc/./x"), Path::new("/etc/x"));
        assert_eq!(made("/../etc"), Path::new("/etc"));
    }

    #[test]
    fn a_later_dot_dot_is_left_to_the_kernel_and_names_nothing_inside() {
        assert_eq!(absolute(Path::new("/w"), Path::new("link/../x")), Path::new("/w/link/../x"));
        let error = inside(Path::new("/w"), Path::new("link/../x")).unwrap_err().to_string();
        assert!(error.contains("/w/link/../x") && error.contains("--volume"), "{error}");
    }

    #[test]
    fn bytes_that_are_not_text_are_kept() {
        let odd = Path::new(OsStr::from_bytes(b"a\xff"));
        assert_eq!(absolute(Path::new("/w"), odd).as_os_str().as_bytes(), b"/w/a\xff");
        assert_eq!(shown(odd), r#""a\xFF""#);
        assert_eq!(shown(Path::new("a\x1b[31m")), r#""a\u{1b}[31m""#);
    }

    #[test]
    fn zero_bytes_are_refused() {
        assert!(check_bytes(OsStr::new("a\0b")).is_err());
        assert!(check_bytes(OsStr::new("")).is_err());
    }
}
