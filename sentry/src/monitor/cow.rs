//! How each copy-on-write directory is made: an overlay where the kernel gives us one, otherwise a copy.
//!
//! overlayfs without privileges has limits, all of the kernel's making: what is mounted beneath a lower directory cannot be
//! left out of it, the changes cannot lie inside it, not every file system can hold them, and files of other owners cannot
//! be copied up. So a directory with mounts in it is taken apart: what leads to a mount is a small copied tree, everything
//! beside that an overlay of its own; and a directory of somebody else's is copied whole.

use std::path::{Path, PathBuf};

use hashbrown::HashSet;
use nix::libc;
use nix::sys::statfs::statfs;
use shim::failure::{Failure, Step};
use shim::plan::{Source, Store as Layers};

use super::mounts::{Mounted, beneath};
use super::store::{Store, io};
use super::view::{Builder, CowDirectory, Resolved, resolve, source, whole};
use crate::changes::record::{self, Directory, How};
use crate::changes::root::Root;
use crate::changes::skeleton;
use crate::changes::tree::{Refusal, Wanted, copy_tree, finish_root};
use crate::policy::{CowStore, FakeRoot};

/// File systems that are no files: windows into the host's kernel, which a sandbox is not shown.
const WINDOWS: [&str; 22] = [
    "proc",
    "sysfs",
    "devtmpfs",
    "devpts",
    "cgroup",
    "cgroup2",
    "debugfs",
    "tracefs",
    "securityfs",
    "pstore",
    "bpf",
    "mqueue",
    "hugetlbfs",
    "autofs",
    "configfs",
    "fusectl",
    "binfmt_misc",
    "rpc_pipefs",
    "nsfs",
    "efivarfs",
    "selinuxfs",
    "ramfs",
];

/// File systems that are known to hold upper directories: ext, btrfs, xfs, tmpfs, f2fs.
const UPPER: [i64; 5] = [0xef53, 0x9123_683e, 0x5846_5342, 0x0102_1994, 0xf2f5_2010];

/// Those that can lie beneath one besides: overlayfs, squashfs, erofs, iso9660.
const LOWER: [i64; 4] = [0x794c_7630, 0x7371_7368, 0xe0f5_e1e2, 0x9660];

/// More pieces than this are not worth their mounts.
const PIECES: usize = 256;

/// Bytes and names that are copied at the start unless `--disk` says otherwise.
const COPIED_BYTES: u64 = 1 << 30;
const COPIED_NAMES: u64 = 200_000;

fn refuse(at: &Path, reason: &str) -> Failure {
    let at = at.display();
    Failure::check(format!("make {at} copy-on-write: {reason}")).remedy(format!(
        "choose --write {at} (changes reach the host) or --read {at} (no changes), or --cow for less of it"
    ))
}

impl Builder<'_> {
    /// Makes `resolved` copy-on-write at `at`.
    pub(super) fn copy_on_write(&mut self, at: &Path, resolved: &Resolved, option: &str) -> Result<(), Failure> {
        if self.weighed {
            // Nothing is made for a policy that is only looked at.
            self.record(at, resolved, None, How::Overlay);
            self.note(option, super::placed::Layer::View, "changes go to a copy; directories are moved by the sentry");
            return Ok(());
        }
        // The copies themselves cannot be part of what is copied, nor are they the guest's business.
        let own = record::base(Some(&self.facts.home)).and_then(|base| base.parent().map(Path::to_owned));
        let own = own.filter(|own| self.policy.cow_store == CowStore::Disk && own.starts_with(&resolved.path));
        if own.as_ref().is_some_and(|own| *own == resolved.path) {
            return Err(refuse(at, "its changes would be kept inside it"));
        }
        let mounted: Vec<Mounted> = beneath(&resolved.path);
        let foreign = !self.identity.by_root && resolved.stat.st_uid != self.identity.host_uid;
        if mounted.is_empty() && own.is_none() {
            // Whoever asks for /usr or /srv wants to see it; and its own directory becomes the user's in an overlay.
            let top = resolved.path.components().count() <= 2;
            return self.piece(at, resolved, option, foreign && !top && self.policy.fake_root != FakeRoot::Pretend);
        }
        if self.policy.cow_store == CowStore::Memory {
            return Err(refuse(
                at,
                "another file system is mounted beneath it, which --cow-store memory cannot take apart",
            ));
        }
        self.take_apart(at, resolved, option, &mounted, own.as_deref())
    }

    /// One overlay, or one copy.
    fn piece(&mut self, at: &Path, resolved: &Resolved, option: &str, copy: bool) -> Result<(), Failure> {
        if self.policy.cow_store == CowStore::Memory {
            if copy {
                let reason = format!("it belongs to user id {}, not to you", resolved.stat.st_uid);
                return Err(refuse(at, &reason));
            }
            let lower = Box::new(source(resolved, option, false, self.ids)?);
            self.record(at, resolved, None, How::Overlay);
            let source = Source::Overlay { lower, store: Layers::Memory { size: self.size } };
            return self.place(at, source, true, false, option.to_owned());
        }
        if let Some((layer, how)) = self.earlier(at, resolved)? {
            return self.go_on(at, resolved, option, layer, how);
        }
        if copy {
            let (files, bytes) = self.tree(at, resolved, option, &HashSet::new(), &HashSet::new())?;
            self.result.notes.push(format!(
                "{} belongs to user id {}, so it was copied at the start ({files} names, {} MiB)",
                at.display(),
                resolved.stat.st_uid,
                bytes >> 20
            ));
            return Ok(());
        }
        let layer = self.layer(How::Overlay, resolved)?;
        if !self.can_overlay(resolved, &layer) {
            let _ = record::remove_tree(&layer);
            let (files, bytes) = self.tree(at, resolved, option, &HashSet::new(), &HashSet::new())?;
            self.result.notes.push(format!(
                "the kernel makes no overlay of {} here, so it was copied at the start ({files} names, {} MiB)",
                at.display(),
                bytes >> 20
            ));
            return Ok(());
        }
        self.root_everywhere(at, resolved, &layer)?;
        let lower = Box::new(source(resolved, option, false, self.ids)?);
        let store = self.ids.layer(&layer)?;
        self.record(at, resolved, Some(layer), How::Overlay);
        self.place(at, Source::Overlay { lower, store }, true, false, option.to_owned())
    }

    /// Under `--fake-root` the guest is root in directories of others too.
    fn root_everywhere(&mut self, at: &Path, resolved: &Resolved, layer: &Path) -> Result<(), Failure> {
        if self.policy.fake_root != FakeRoot::Pretend {
            return Ok(());
        }
        let step = || format!("look through {}", at.display());
        let host = Root::open(&resolved.path, false).step(step)?;
        let upper = Root::open(&layer.join(How::Overlay.name()), false).step(step)?;
        let guest = (self.identity.host_uid, self.identity.host_gid);
        let (user, owner) = if self.identity.by_root { (resolved.stat.st_uid, Some(guest)) } else { (guest.0, None) };
        let made = skeleton::make(&host, &upper, user, owner)?;
        if made.closed > 0 {
            let (closed, at) = (made.closed, at.display());
            self.result
                .notes
                .push(format!("root inside finds {closed} directories in {at} empty, for you cannot read them"));
        }
        if made.too_many {
            let (most, at) = (skeleton::MOST, at.display());
            self.result
                .notes
                .push(format!("{at} has more than {most} directories of others; root cannot change them all"));
        }
        Ok(())
    }

    /// The layer that the resumed run left of `at`, and what it is.
    fn earlier(&self, at: &Path, resolved: &Resolved) -> Result<Option<(PathBuf, How)>, Failure> {
        let Some(store) = &self.result.store else { return Ok(None) };
        let Some(directory) = store.earlier.iter().find(|directory| directory.inside == at) else { return Ok(None) };
        let now = (&resolved.path, resolved.stat.st_dev, resolved.stat.st_ino);
        if (&directory.host, directory.device, directory.inode) != now {
            let message = format!("{} is not the directory that run {} copied", resolved.path.display(), store.id);
            return Err(Failure::check_text(message).remedy("review that run with sentry diff, and start a new one"));
        }
        Ok(Some((store.directory.join(directory.index.to_string()), directory.how)))
    }

    /// Shows what an earlier run left in `layer`.
    fn go_on(&mut self, at: &Path, resolved: &Resolved, option: &str, layer: PathBuf, how: How) -> Result<(), Failure> {
        let source = match how {
            How::Overlay => {
                let lower = Box::new(source(resolved, option, false, self.ids)?);
                Source::Overlay { lower, store: self.ids.layer(&layer)? }
            }
            How::Copy => self.copied(&layer.join(how.name()))?,
        };
        self.record(at, resolved, Some(layer), how);
        self.place(at, source, true, false, option.to_owned())
    }

    /// A copied tree as it is shown.
    fn copied(&mut self, tree: &Path) -> Result<Source, Failure> {
        Ok(match self.ids.layer(tree)? {
            Layers::Detached(mount) => Source::Detached(mount),
            _ => Source::Host { path: whole(tree)?, identity: None },
        })
    }

    /// Notes a copy for the report and the review; `layer` is where its changes are, if that is on disk.
    fn record(&mut self, at: &Path, resolved: &Resolved, layer: Option<PathBuf>, how: How) {
        let number = layer.as_deref().and_then(|layer| layer.file_name()?.to_str()?.parse().ok());
        self.result.cow.push(CowDirectory {
            index: number.unwrap_or(self.result.cow.len()),
            inside: at.to_owned(),
            host: resolved.path.clone(),
            layer,
            how,
            identity: (resolved.stat.st_dev, resolved.stat.st_ino),
        });
    }

    fn layer(&mut self, how: How, resolved: &Resolved) -> Result<PathBuf, Failure> {
        let base = record::base(Some(&self.facts.home)).ok_or_else(|| Failure::check("find the home directory"))?;
        if self.result.store.is_none() {
            self.result.store = Some(Store::new(&base)?);
        }
        let store = self.result.store.as_ref().ok_or_else(|| Failure::check("make the copy-on-write store"))?;
        let index = store.next(self.result.cow.len());
        let owner = self.identity.by_root.then_some((self.identity.host_uid, self.identity.host_gid));
        store.layer(index, how, &resolved.stat, owner)
    }

    /// Whether overlayfs takes these directories. On file systems of which that is known nothing needs to be tried.
    fn can_overlay(&self, resolved: &Resolved, layer: &Path) -> bool {
        #[allow(clippy::unnecessary_cast)] // its width differs between architectures
        let kind = |path: &Path| statfs(path).map_or(0, |found| found.filesystem_type().0 as i64);
        let (lower, upper) = (kind(&resolved.path), kind(layer));
        if UPPER.contains(&upper) && (UPPER.contains(&lower) || LOWER.contains(&lower)) {
            return true;
        }
        match (whole(&resolved.path), whole(&layer.join("upper")), whole(&layer.join("work"))) {
            (Ok(lower), Ok(upper), Ok(work)) => crate::host::probe::overlay_of(&lower, &upper, &work).is_ok(),
            _ => false,
        }
    }

    /// Copies a directory. Returns how many names and bytes.
    fn tree(
        &mut self,
        at: &Path,
        resolved: &Resolved,
        option: &str,
        empty: &HashSet<PathBuf>,
        without: &HashSet<PathBuf>,
    ) -> Result<(usize, u64), Failure> {
        let layer = self.layer(How::Copy, resolved)?;
        let tree = layer.join("tree");
        let step = || format!("copy {}", resolved.path.display());
        let host = Root::open(&resolved.path, false).step(step)?;
        let copy = Root::open(&tree, false).step(step)?;
        let now = host.object().step(step)?;
        if now.identity != (resolved.stat.st_dev, resolved.stat.st_ino) {
            return Err(Failure::check(step()).remedy("it was replaced while the sandbox started"));
        }
        let guest = (self.identity.host_uid, self.identity.host_gid);
        let bytes = self.policy.limits.disk.unwrap_or(COPIED_BYTES);
        let wanted = Wanted {
            empty,
            without,
            owner: self.identity.by_root.then_some((now.owner.0, guest)),
            bytes,
            names: COPIED_NAMES,
        };
        let copied = copy_tree(&host, &resolved.path, &copy, &wanted).map_err(|refusal| match refusal {
            Refusal::Failed(failure) => failure.remedy("copies are kept under XDG_STATE_HOME; use --write or --read instead"),
            Refusal::TooLarge => refuse(
                at,
                &format!(
                    "overlayfs cannot serve here, and it is larger than what is copied at a start ({} MiB, {COPIED_NAMES} \
                     names; --disk sets the bytes)",
                    bytes >> 20
                ),
            ),
        })?;
        finish_root(&copy, &now, self.identity.by_root.then_some(guest)).step(step)?;
        let baseline = layer.join("baseline");
        std::fs::write(&baseline, copied.baseline.to_bytes()).map_err(|error| io("write", &baseline, &error))?;
        if copied.left_out > 0 {
            self.result.notes.push(format!(
                "{} names in {} cannot be read, or are sockets or mounts, and are not in its copy",
                copied.left_out,
                at.display()
            ));
        }
        let source = self.copied(&tree)?;
        self.record(at, resolved, Some(layer), How::Copy);
        self.place(at, source, true, false, option.to_owned())?;
        Ok((copied.baseline.0.len(), copied.bytes))
    }

    /// A directory with others mounted beneath it, or with our own store in it.
    fn take_apart(
        &mut self,
        at: &Path,
        resolved: &Resolved,
        option: &str,
        mounted: &[Mounted],
        own: Option<&Path>,
    ) -> Result<(), Failure> {
        let root = &resolved.path;
        let points: HashSet<&Path> = mounted.iter().map(|mount| mount.point.as_path()).collect();
        let obstacles = || points.iter().copied().chain(own);
        // What leads to an obstacle, without crossing another one.
        let leading: HashSet<PathBuf> = obstacles()
            .flat_map(|point| point.ancestors().skip(1).take_while(|above| above.starts_with(root)))
            .filter(|above| !above.ancestors().any(|up| up != root && points.contains(up)))
            .filter(|above| !self.has_rule_between(at, &at.join(above.strip_prefix(root).unwrap_or(above))))
            .map(Path::to_owned)
            .collect();
        let mut pieces = Vec::new();
        for directory in &leading {
            let Ok(entries) = std::fs::read_dir(directory) else { continue };
            for entry in entries.flatten() {
                let path = entry.path();
                // A mount point is a directory of the file system that is mounted there.
                let is_directory = std::fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_dir());
                if is_directory && !leading.contains(&path) && Some(path.as_path()) != own {
                    pieces.push(path);
                }
            }
        }
        pieces.sort();
        // What leads on beyond a mount belongs to that mount.
        let relative = |path: &Path| path.strip_prefix(root).unwrap_or(path).to_owned();
        if pieces.len() + self.result.cow.len() > PIECES {
            let reason = format!("file systems are mounted beneath it, and taken apart it has {} pieces", pieces.len());
            return Err(refuse(at, &reason));
        }
        let empty: HashSet<PathBuf> = pieces.iter().map(|path| relative(path)).collect();
        let without: HashSet<PathBuf> = own.iter().map(|path| relative(path)).collect();
        match self.earlier(at, resolved)? {
            Some((layer, how)) => self.go_on(at, resolved, option, layer, how)?,
            None => self.tree(at, resolved, option, &empty, &without).map(drop)?,
        }
        for path in pieces {
            let inside = at.join(relative(&path));
            if self.has_own_rule(&inside) {
                continue;
            }
            let mount = mounted.iter().rev().find(|mount| mount.point == path);
            if mount.is_some_and(|mount| WINDOWS.contains(&mount.kind.as_str())) {
                let kind = mount.map_or("", |mount| mount.kind.as_str());
                self.result.notes.push(format!("{} is not shown: it is a {kind} of the host", inside.display()));
                continue;
            }
            let piece = match resolve(&path, option) {
                Ok(piece) if piece.path == path && piece.stat.st_mode & libc::S_IFMT == libc::S_IFDIR => piece,
                _ => {
                    self.result.notes.push(format!("{} is not shown: it cannot be opened", inside.display()));
                    continue;
                }
            };
            let further: Vec<Mounted> =
                mounted.iter().filter(|mount| mount.point != path && mount.point.starts_with(&path)).cloned().collect();
            let own = own.filter(|own| own.starts_with(&path));
            if !further.is_empty() || own.is_some() {
                self.take_apart(&inside, &piece, option, &further, own)?;
                continue;
            }
            if let Some((layer, how)) = self.earlier(&inside, &piece)? {
                self.go_on(&inside, &piece, option, layer, how)?;
                continue;
            }
            let layer = self.layer(How::Overlay, &piece)?;
            if self.can_overlay(&piece, &layer) {
                self.root_everywhere(&inside, &piece, &layer)?;
                let lower = Box::new(source(&piece, option, false, self.ids)?);
                let store = self.ids.layer(&layer)?;
                self.record(&inside, &piece, Some(layer), How::Overlay);
                // A directory that goes meanwhile was not to be seen anyway.
                self.place(&inside, Source::Overlay { lower, store }, true, true, option.to_owned())?;
            } else {
                let _ = record::remove_tree(&layer);
                self.result.notes.push(format!("{} is read-only: overlayfs cannot lie over it", inside.display()));
                let source = source(&piece, option, false, self.ids)?;
                self.place(&inside, source, false, true, option.to_owned())?;
            }
        }
        Ok(())
    }

    /// Whether another rule, about something beneath `at`, is about this name.
    fn has_rule_between(&self, at: &Path, inside: &Path) -> bool {
        let rules = self.entries.iter().map(|entry| &entry.inside);
        rules.into_iter().any(|rule| rule != at && rule.starts_with(at) && inside.starts_with(rule))
    }

    /// Whether another rule is about this very name.
    fn has_own_rule(&self, inside: &Path) -> bool {
        self.entries.iter().any(|entry| entry.inside == inside)
    }
}

impl CowDirectory {
    /// For the run's record.
    pub fn record(&self) -> Directory {
        Directory {
            index: self.index,
            host: self.host.clone(),
            inside: self.inside.clone(),
            how: self.how,
            device: self.identity.0,
            inode: self.identity.1,
        }
    }
}
