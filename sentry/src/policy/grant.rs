//! Grants and private directories as they are written: `HOST:BOX[:ro]`, `PATH[:SIZE]`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::path::{check_bytes, check_inside, shown};
use super::units::Size;
use super::{Access, Error, Grant, Scratch};

impl Grant {
    /// Whether it is `--write /`.
    pub fn is_whole_root(&self) -> bool {
        let root = Path::new("/");
        (self.inside.as_path(), self.host.as_path(), self.access) == (root, root, Access::Write)
    }

    /// `path`, which is absolute, under its own name.
    pub fn same(path: PathBuf, access: Access) -> Result<Self, Error> {
        check_inside(&path)?;
        Ok(Self { inside: path.clone(), host: path, access, optional: false })
    }

    /// `HOST:BOX`, `HOST:BOX:ro`, `HOST:BOX:rw` or `HOST:BOX:cow`. The host path stays as it was written.
    pub fn volume(text: &OsStr) -> Result<Self, Error> {
        let wrong = |what: &str| {
            let message = format!("--volume {}: {what}", shown(Path::new(text)));
            Error::new(message, "write --volume HOST:BOX for read and write, or --volume HOST:BOX:ro")
        };
        let parts: Vec<&[u8]> = text.as_bytes().split(|byte| *byte == b':').collect();
        let (host, inside, mode) = match parts[..] {
            [host, inside] => (host, inside, &b"rw"[..]),
            [host, inside, mode] => (host, inside, mode),
            [_] => return Err(wrong("there is no ':' in it")),
            _ => return Err(wrong("there are too many ':' in it")),
        };
        let access = match mode {
            b"ro" => Access::Read,
            b"rw" => Access::Write,
            b"cow" => Access::Cow,
            _ => return Err(wrong("the last part is not ro, rw or cow")),
        };
        if host.is_empty() || inside.is_empty() {
            return Err(wrong("a path is empty"));
        }
        if !inside.starts_with(b"/") {
            return Err(wrong("the path inside does not begin with /"));
        }
        Self::placed(OsStr::from_bytes(host), OsStr::from_bytes(inside), access)
    }

    /// `host`, as it was written, at `inside`.
    pub fn placed(host: &OsStr, inside: &OsStr, access: Access) -> Result<Self, Error> {
        check_bytes(host)?;
        // Joining drops '.' and doubled slashes.
        let inside = super::path::inside(Path::new("/"), Path::new(inside))?;
        Ok(Self { host: host.into(), inside, access, optional: false })
    }
}

impl Scratch {
    /// Takes `PATH[:SIZE]` apart. What follows the last `:` is a size if it begins with a digit.
    pub fn split(text: &OsStr) -> Result<(PathBuf, Option<u64>), Error> {
        let bytes = text.as_bytes();
        if let Some(colon) = bytes.iter().rposition(|byte| *byte == b':')
            && bytes[colon + 1..].first().is_some_and(u8::is_ascii_digit)
        {
            let size = String::from_utf8_lossy(&bytes[colon + 1..]);
            let path = PathBuf::from(OsStr::from_bytes(&bytes[..colon]));
            let wrong =
                |why| Error::new(format!("--tmpfs {}: {why}", shown(Path::new(text))), "write --tmpfs PATH:64M");
            return Ok((path, Some(size.parse::<Size>().map_err(wrong)?.0)));
        }
        Ok((text.into(), None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_are_taken_apart() {
        let volume = |text: &[u8]| Grant::volume(OsStr::from_bytes(text));
        let made = volume(b"./data:/in//put/.:ro").unwrap();
        assert_eq!((made.host.as_path(), made.inside.as_path()), (Path::new("./data"), Path::new("/in/put")));
        assert_eq!(made.access, Access::Read);
        assert_eq!(volume(b"/a:/b").unwrap().access, Access::Write);
        assert_eq!(volume(b"/a:/b:cow").unwrap().access, Access::Cow);
        assert_eq!(volume(b"/a\xff:/b").unwrap().host.as_os_str().as_bytes(), b"/a\xff");
        for wrong in [&b"/a"[..], b":/b", b"/a:", b"/a:b", b"/a:/b:x", b"/a:/b:ro:ro", b"/a:/b/../c", b""] {
            let error = volume(wrong).unwrap_err().to_string();
            assert!(error.contains("; "), "{error}");
        }
    }

    #[test]
    fn a_size_may_follow_a_private_directory() {
        let split = |text: &str| Scratch::split(text.as_ref());
        assert_eq!(split("/scratch:64M"), Ok(("/scratch".into(), Some(64 << 20))));
        assert_eq!(split("/a:b"), Ok(("/a:b".into(), None)));
        assert_eq!(split("/scratch"), Ok(("/scratch".into(), None)));
        assert!(split("/scratch:64Q").is_err());
    }
}
