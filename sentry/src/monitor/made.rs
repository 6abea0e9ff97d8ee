//! Files whose contents the policy gives.
//!
//! Where something can be mounted such a file is a mount, and costs nothing: a file of the sandbox's own memory, or the
//! host's own object. In a granted directory that has no such name nothing can be mounted without making the name on the
//! host; there the file exists for the guest only, as a sealed memfd that the sentry hands out.

use std::io::Read;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;
use nix::libc;
use nix::sys::stat::SFlag;
use shim::failure::{Failure, Step};
use shim::plan::Source;
use syscalls::rules::VirtualFile;

use super::placed::Layer;
use super::view::{Builder, Resolved, resolve, source};
use crate::policy::rule::{Contents, MadeFile};
use crate::policy::view as arranged;

/// The most that is copied into memory for one file.
const LARGEST: u64 = 64 << 20;

/// What is where a made file shall be.
enum Ground {
    /// Something to mount on, or a place where a mount point can be made.
    Mountable(PathBuf),
    /// A directory that has no such name and must not get one.
    Absent(PathBuf),
}

impl Builder<'_> {
    /// Puts a made file into the view.
    pub(super) fn make(&mut self, made: &MadeFile, option: String) -> Result<(), Failure> {
        let ground = self.ground(&made.inside, &option)?;
        let content = match &made.contents {
            Contents::Text(text) => text.clone(),
            Contents::Copy(path) => copied(&resolve(path, &option)?, &option)?,
            Contents::Host(path) => {
                let resolved = resolve(path, &option)?;
                may_be_shown(&resolved, &option)?;
                if let Ground::Mountable(at) = ground {
                    self.result.host_directories |= resolved.is_directory();
                    let source = source(&resolved, &option, false, self.ids)?;
                    return self.place(&at, source, false, false, option);
                }
                copied(&resolved, &option)?
            }
        };
        match ground {
            Ground::Mountable(at) => self.place(&at, Source::Text(content), false, false, option),
            Ground::Absent(path) => {
                let contents = crate::raw::sealed_file(&content).step(|| format!("keep the contents of {option}"))?;
                self.result.rules.virtual_files.push(VirtualFile { path, contents: Arc::new(contents) });
                self.note(&option, Layer::Paths, "a sealed file in memory; the directory it appears in stays as it is");
                Ok(())
            }
        }
    }

    fn ground(&self, inside: &Path, option: &str) -> Result<Ground, Failure> {
        let host = match self.grant_above(inside).map(|entry| (entry, &entry.source)) {
            Some((entry, arranged::Source::Host { path, .. })) => {
                path.join(inside.strip_prefix(&entry.inside).unwrap_or(inside))
            }
            // In memory of the sandbox's own a mount point can be made.
            Some(_) => return Ok(Ground::Mountable(inside.to_owned())),
            None => match (&self.policy.root, self.system_directory(inside)) {
                (Some(root), _) => root.join(inside.strip_prefix("/").unwrap_or(inside)),
                (None, true) => inside.to_owned(),
                (None, false) => return Ok(Ground::Mountable(inside.to_owned())),
            },
        };
        let seen = |real: PathBuf| {
            let over = self.grant_above(inside);
            over.and_then(|over| self.as_seen(&real, over)).unwrap_or(real)
        };
        match std::fs::canonicalize(&host) {
            Ok(real) if real.is_dir() => {
                Err(Failure::check(format!("give contents to {} ({option})", inside.display()))
                    .remedy("it is a directory; name the file in it"))
            }
            Ok(_) if self.policy.root.is_some() => Ok(Ground::Mountable(inside.to_owned())),
            Ok(real) => Ok(Ground::Mountable(seen(real))),
            Err(_) => {
                let parent = host.parent().and_then(|parent| std::fs::canonicalize(parent).ok());
                let name = inside.file_name().unwrap_or_default();
                match parent {
                    Some(_) if self.policy.root.is_some() => Ok(Ground::Absent(inside.to_owned())),
                    Some(parent) => Ok(Ground::Absent(seen(parent).join(name))),
                    None => Err(Failure::check(format!("give contents to {} ({option})", inside.display()))
                        .remedy("the directory it shall be in does not exist; create that first")),
                }
            }
        }
    }

    /// Whether `path` lies in one of the host's directories that the default view shows.
    fn system_directory(&self, path: &Path) -> bool {
        let shown = self.result.view.places.iter().filter(|place| matches!(place.source, Source::Host { .. }));
        let names = shown.map(|place| Path::new("/").join(place.inside.to_string_lossy().as_ref()));
        let links = self.result.view.links.iter();
        let links = links.map(|(name, _)| Path::new("/").join(name.to_string_lossy().as_ref()));
        names.chain(links).any(|name| path.starts_with(&name) && path != name)
    }
}

/// Fails for what is neither a file nor a directory.
fn may_be_shown(resolved: &Resolved, option: &str) -> Result<(), Failure> {
    match SFlag::from_bits_truncate(resolved.stat.st_mode) & SFlag::S_IFMT {
        SFlag::S_IFREG | SFlag::S_IFDIR => Ok(()),
        _ => Err(Failure::check(format!("show {} ({option})", resolved.path.display()))
            .remedy("only files and directories can be shown elsewhere")),
    }
}

/// The contents of a file of the host.
fn copied(resolved: &Resolved, option: &str) -> Result<Vec<u8>, Failure> {
    let step = || format!("read {} ({option})", resolved.path.display());
    if SFlag::from_bits_truncate(resolved.stat.st_mode) & SFlag::S_IFMT != SFlag::S_IFREG {
        return Err(Failure::check(step()).remedy("only regular files have contents to be copied"));
    }
    let failed =
        |error: std::io::Error| Failure::new(step(), Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)));
    let entry = format!("/proc/self/fd/{}", resolved.object.as_raw_fd());
    let mut content = Vec::new();
    let file = std::fs::File::open(entry).map_err(failed)?;
    file.take(LARGEST + 1).read_to_end(&mut content).map_err(failed)?;
    if content.len() as u64 > LARGEST {
        return Err(Failure::check(step()).remedy("it is larger than 64 MiB; grant it with --volume instead"));
    }
    Ok(content)
}
