//! From the arranged policy to the view that the shim builds: every name is looked up on the host here, once.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use hashbrown::HashSet;
use nix::errno::Errno;
use nix::libc;
use nix::sys::stat::{FileStat, fstat};
use shim::failure::{Failure, Step};
use shim::plan::{Identity, Place, Source, View};
use syscalls::rules::Rules;

use super::idmap::IdMaps;
use super::placed::{Layer, Placed};
use super::store::Store;
use super::system;
use crate::changes::record::{self, Directory, How};
use crate::policy::view::{self as arranged, Entry, Facts};
use crate::policy::{Ability, Access, Policy};

/// A copy-on-write directory of this run.
#[derive(Debug)]
pub struct CowDirectory {
    /// Where it is in the view.
    pub inside: PathBuf,
    /// The directory on the host that it stands for.
    pub host: PathBuf,
    /// Its layers on disk; `None`: in memory.
    pub layer: Option<PathBuf>,
    /// The number of its layers.
    pub index: usize,
    /// Whether it is an overlay or a copy.
    pub how: How,
    /// The host directory's device and inode.
    pub identity: (u64, u64),
}

/// The view and what came out of looking at the host.
#[derive(Debug)]
pub struct Arranged {
    /// For the shim.
    pub view: View,
    /// Working directory inside.
    pub workdir: CString,
    /// What only the supervisor can enforce.
    pub rules: Rules,
    /// Whether a directory of the host is visible as it is, so that sockets in it must be judged.
    pub host_directories: bool,
    /// Copy-on-write directories.
    pub cow: Vec<CowDirectory>,
    /// Where their layers are, if any are on disk.
    pub store: Option<Store>,
    /// What the user should know.
    pub notes: Vec<String>,
    /// Which layer enforces each rule.
    pub placed: Vec<Placed>,
    /// Names in writable grants that would be protected and were not there.
    pub absent: Vec<PathBuf>,
}

/// A path of the view without its leading slash.
pub fn inside(path: &Path) -> Result<CString, Failure> {
    let relative = path.strip_prefix("/").unwrap_or(path);
    whole(relative)
}

pub(super) fn whole(path: &Path) -> Result<CString, Failure> {
    CString::new(path.as_os_str().as_bytes())
        .map_err(|_| Failure::check(format!("use the name {}", path.display())).remedy("it has a NUL byte in it"))
}

/// Adds a made-up file.
pub fn text(view: &mut View, path: &Path, content: Vec<u8>) -> Result<(), Failure> {
    view.texts.push((inside(path)?, content));
    Ok(())
}

/// A host object as it was when the grant was resolved.
pub(super) struct Resolved {
    pub(super) path: PathBuf,
    pub(super) stat: FileStat,
    pub(super) object: OwnedFd,
}

impl Resolved {
    pub(super) fn is_directory(&self) -> bool {
        self.stat.st_mode & libc::S_IFMT == libc::S_IFDIR
    }
}

/// Opens `path` once, following links, and asks the kernel what its real name is.
pub(super) fn resolve(path: &Path, option: &str) -> Result<Resolved, Failure> {
    let step = || format!("open {} ({option})", path.display());
    let missing = |failure: Failure| {
        if failure.errno == Errno::ENOENT as i32 {
            failure.remedy("create it first, or leave the option out")
        } else {
            failure
        }
    };
    let flags = libc::O_PATH | libc::O_CLOEXEC;
    let object = shim::sys::open_at(None, &whole(path)?, flags, 0, 0).step(step).map_err(missing)?;
    let stat = fstat(&object).step(step)?;
    let link = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&object));
    let path = std::fs::read_link(link)
        .map_err(|error| Failure::new(step(), Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))))?;
    Ok(Resolved { path, stat, object })
}

/// Builds the view of `policy`.
pub fn arrange(policy: &Policy, facts: &Facts, identity: &Identity, ids: &mut IdMaps) -> Result<Arranged, Failure> {
    arrange_or_weigh(policy, facts, identity, ids, false)
}

/// The same without making anything for copy-on-write directories.
pub fn weigh(policy: &Policy, facts: &Facts, identity: &Identity, ids: &mut IdMaps) -> Result<Arranged, Failure> {
    arrange_or_weigh(policy, facts, identity, ids, true)
}

fn arrange_or_weigh(
    policy: &Policy,
    facts: &Facts,
    identity: &Identity,
    ids: &mut IdMaps,
    weighed: bool,
) -> Result<Arranged, Failure> {
    let arranged = arranged::arrange(policy, facts).map_err(|error| Failure::check_text(error.to_string()))?;
    let size = policy.limits.disk.unwrap_or_else(default_size);
    let mut view = View { size, bare_proc: policy.bare_proc, devices: system::devices()?, ..View::default() };
    if let Some(root) = &policy.root {
        let option = format!("--root {}", root.display());
        let resolved = resolve(root, &option)?;
        view.root_writable = policy.root_writable();
        if view.root_writable && resolved.path == Path::new("/") {
            let failure =
                Failure::check_text(format!("{option} leads to the host's own root, which cannot be granted"));
            return Err(failure.remedy("name what may be changed with --write PATH"));
        }
        view.root = Some(source(&resolved, &option, view.root_writable, ids)?);
    } else {
        if policy.system {
            system::add(&mut view)?;
            if policy.fake_root.is_on() {
                system::add_for_root(&mut view)?;
            }
        }
        system::add_synthetic(&mut view, identity, policy.home(facts), &policy.hostname, policy.net)?;
        if policy.allow.contains(&Ability::Mount) {
            // Where old programs look for what is mounted.
            view.links.push((c"etc/mtab".to_owned(), c"../proc/self/mounts".to_owned()));
            // And where people mount.
            if !arranged.entries.iter().any(|entry| entry.inside.starts_with("/mnt")) {
                view.places.push(private("/mnt", 0o755)?);
            }
        }
    }
    view.places.push(private("/dev/shm", 0o1777)?);

    let mut workdir = arranged.workdir.as_path();
    if let (Some(root), None) = (&policy.root, &policy.workdir)
        && !root.join(workdir.strip_prefix("/").unwrap_or(workdir)).is_dir()
    {
        workdir = Path::new("/");
    }
    let mut result = Arranged {
        view,
        workdir: whole(workdir)?,
        rules: Rules::default(),
        host_directories: policy.root.is_some(),
        cow: Vec::new(),
        store: match &policy.resume {
            Some(run) if !weighed => Some(Store::resume(record::base(Some(&facts.home)).as_deref(), run)?),
            _ => None,
        },
        notes: arranged.notes,
        placed: Vec::new(),
        absent: Vec::new(),
    };
    if policy.root_writable() {
        let rule = "--write /".to_owned();
        result.placed.push(Placed { rule, layer: Layer::View, remark: "all of the tree that --root names" });
    }
    let mut writable = writable_grants(&arranged.entries);
    writable.extend(policy.root_writable().then_some(Path::new("/")));
    let placed = {
        let mut builder = Builder {
            writable,
            policy,
            facts,
            identity,
            ids,
            size,
            weighed,
            entries: &arranged.entries,
            result: &mut result,
        };
        arranged.entries.iter().try_for_each(|entry| builder.add(entry)).and_then(|()| builder.path_rules())
    };
    if let (Err(_), Some(store)) = (&placed, result.store.as_ref().filter(|store| !store.resumed)) {
        let _ = crate::changes::record::remove(&store.directory);
    }
    placed?;
    check_resumed(&result)?;
    // The default view's part of a directory that is copied would lie over the copy, and unchangeable.
    let cow: Vec<CString> =
        result.cow.iter().map(|directory| inside(&directory.inside)).collect::<Result<_, Failure>>()?;
    result.view.places.retain(|place| {
        place.origin != system::ORIGIN
            || !cow.iter().any(|cow| {
                components(&place.inside).collect::<Vec<_>>().starts_with(&components(cow).collect::<Vec<_>>())
            })
    });
    // Parents first: what lies beneath a place is mounted on top of it.
    result.view.places.sort_by(|one, other| components(&one.inside).cmp(components(&other.inside)));
    result.rules.started = Some(now());
    result.rules.kernel.clone_from(&policy.kernel);
    result.rules.memory = super::numbers::memory(policy);
    Ok(result)
}

/// A run that goes on with nothing of an earlier one is a mistake: another directory, or an option forgotten.
fn check_resumed(result: &Arranged) -> Result<(), Failure> {
    let Some(store) = result.store.as_ref().filter(|store| store.resumed) else { return Ok(()) };
    let used = |directory: &&Directory| result.cow.iter().any(|cow| cow.inside == directory.inside);
    if store.earlier.iter().any(|directory| used(&directory)) {
        return Ok(());
    }
    let kept: Vec<_> = store.earlier.iter().map(|directory| directory.inside.display().to_string()).collect();
    let message = format!("run {} has copies of {}, of which this one would use none", store.id, kept.join(", "));
    Err(Failure::check_text(message).remedy("go there, or name them with --cow"))
}

fn components(path: &CString) -> impl Iterator<Item = &[u8]> {
    path.as_bytes().split(|byte| *byte == b'/')
}

pub(super) fn now() -> (i64, u32) {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    (i64::try_from(since.as_secs()).unwrap_or(i64::MAX), since.subsec_nanos())
}

/// Private places may hold a quarter of the machine's memory if nothing else was said.
fn default_size() -> u64 {
    let info = nix::sys::sysinfo::sysinfo();
    info.map_or(1 << 30, |info| info.ram_total() / 4)
}

fn private(path: &str, mode: u32) -> Result<Place, Failure> {
    Ok(Place {
        inside: inside(Path::new(path))?,
        source: Source::Private { mode },
        writable: true,
        optional: false,
        origin: "the default view".to_owned(),
    })
}

/// A grant as a mount source. By root it is id-mapped: what its owner may do, the guest may, and new files are the
/// owner's.
pub(super) fn source(resolved: &Resolved, option: &str, writable: bool, ids: &mut IdMaps) -> Result<Source, Failure> {
    if let Some(mount) = ids.mount(resolved.object.as_fd(), &resolved.stat, option, writable)? {
        return Ok(Source::Detached(mount));
    }
    Ok(Source::Host { path: whole(&resolved.path)?, identity: Some((resolved.stat.st_dev, resolved.stat.st_ino)) })
}

/// The names of grants in which the guest may move things.
fn writable_grants(entries: &[Entry]) -> HashSet<&Path> {
    let writable = entries.iter().filter(|entry| match entry.source {
        arranged::Source::Host { access, .. } => access != Access::Read,
        _ => false,
    });
    writable.map(|entry| entry.inside.as_path()).collect()
}

pub(super) struct Builder<'a> {
    pub(super) writable: HashSet<&'a Path>,
    pub(super) policy: &'a Policy,
    pub(super) facts: &'a Facts,
    pub(super) identity: &'a Identity,
    pub(super) ids: &'a mut IdMaps,
    pub(super) size: u64,
    /// The policy is only looked at.
    pub(super) weighed: bool,
    pub(super) entries: &'a [Entry],
    pub(super) result: &'a mut Arranged,
}

impl<'a> Builder<'a> {
    fn add(&mut self, entry: &Entry) -> Result<(), Failure> {
        let option = entry.option();
        match &entry.source {
            arranged::Source::Private { size } => {
                let mode = if entry.inside.ends_with("tmp") { 0o1777 } else { 0o755 };
                let source = match size {
                    Some(size) => Source::Tmpfs { size: *size },
                    None => Source::Private { mode },
                };
                // A root that the user brought may lack the private directories of every sandbox.
                let asked = self.policy.scratch.iter().any(|scratch| scratch.inside == entry.inside);
                let optional = self.policy.root.is_some() && !asked;
                self.place(&entry.inside, source, true, optional, option)
            }
            arranged::Source::Host { path, access, optional } => {
                let resolved = match resolve(path, &option) {
                    Err(failure) if *optional && failure.errno != 0 => return Ok(()),
                    other => other?,
                };
                self.grant(entry, &resolved, *access, option)
            }
            arranged::Source::Kept { grant, name } => self.keep(&entry.inside, grant, name, option),
            arranged::Source::Made(made) => self.make(made, option),
            arranged::Source::Denied | arranged::Source::Hidden => self.keep_away(&entry.inside, option),
        }
    }

    /// Makes read-only what is there in a writable grant. A link on the way would show what was not granted: whoever may
    /// write there could have left it for us.
    fn keep(&mut self, inside: &Path, grant: &Path, name: &Path, option: String) -> Result<(), Failure> {
        let Ok(resolved) = resolve(&grant.join(name), &option) else {
            self.result.absent.push(grant.join(name));
            return Ok(());
        };
        let Ok(real) = std::fs::canonicalize(grant) else { return Ok(()) };
        if resolved.path != real.join(name) {
            let shown = grant.join(name);
            self.result.notes.push(format!("{} is not protected: a link is on the way to it", shown.display()));
            return Ok(());
        }
        if resolved.stat.st_mode & libc::S_IFMT == libc::S_IFREG && resolved.stat.st_nlink > 1 {
            let shown = grant.join(name);
            self.result.notes.push(format!(
                "{} has other names (hard links): by one that the program may write to it can be changed all the same",
                shown.display()
            ));
        }
        let at = self.as_kept(inside, grant, &real, name);
        let source = source(&resolved, &option, false, self.ids)?;
        self.place(&at, source, false, false, option)
    }

    /// Where a kept name is: its grant stands under its real name if it was granted under its own.
    fn as_kept(&self, inside: &Path, grant: &Path, real: &Path, name: &Path) -> PathBuf {
        if inside == grant.join(name) { real.join(name) } else { inside.to_owned() }
    }

    /// Notes where a rule went.
    pub(super) fn note(&mut self, rule: &str, layer: Layer, remark: &'static str) {
        self.result.placed.push(Placed { rule: rule.to_owned(), layer, remark });
    }

    pub(super) fn place(
        &mut self,
        at: &Path,
        source: Source,
        writable: bool,
        optional: bool,
        origin: String,
    ) -> Result<(), Failure> {
        if self.anchor(at) {
            self.note(&origin, Layer::Moves, "the directories that lead to it stay where they are");
        } else {
            let remark = match source {
                Source::Cover => "covered by an empty object without permissions",
                Source::Overlay { .. } => "an overlay; changes go to a copy",
                _ => "",
            };
            self.note(&origin, Layer::View, remark);
        }
        self.result.view.places.push(Place { inside: inside(at)?, source, writable, optional, origin });
        Ok(())
    }

    /// What is mounted inside a writable grant would move with the directories that lead to it, and free its name. True
    /// if there are any.
    fn anchor(&mut self, at: &Path) -> bool {
        let above = || at.ancestors().skip(1);
        let Some(depth) = above().position(|directory| self.writable.contains(directory)) else { return false };
        self.result.rules.anchored.extend(above().take(depth).map(Path::to_owned));
        depth > 0
    }

    fn grant(&mut self, entry: &Entry, resolved: &Resolved, access: Access, option: String) -> Result<(), Failure> {
        // A grant under its own name stands where its real name is; the name that was typed becomes a link to it.
        let typed = &entry.inside;
        let own_name = matches!(&entry.source, arranged::Source::Host { path, .. } if path == typed);
        let at = if own_name { resolved.path.clone() } else { typed.clone() };
        if own_name && at != *typed && !self.covered(typed) {
            let link = (inside(typed)?, whole(&at)?);
            self.result.view.links.push(link);
        }
        let kind = resolved.stat.st_mode & libc::S_IFMT;
        match kind {
            libc::S_IFDIR | libc::S_IFREG => {}
            libc::S_IFSOCK => self.result.rules.sockets.push(at.clone()),
            libc::S_IFIFO => {}
            _ => {
                return Err(Failure::check(format!("grant {} ({option})", at.display()))
                    .remedy("it is a device; the sandbox has harmless devices of its own in /dev"));
            }
        }
        if access == Access::Cow && resolved.is_directory() {
            return self.copy_on_write(&at, resolved, &option);
        }
        if access == Access::Cow {
            return Err(Failure::check(format!("make {} copy-on-write", at.display()))
                .remedy("only directories can be; use --cow on its directory, or --read or --write"));
        }
        self.result.host_directories |= resolved.is_directory();
        let writable = access == Access::Write;
        let source = source(resolved, &option, writable, self.ids)?;
        self.place(&at, source, writable, false, option)
    }

    /// Whether `path` lies in something that is mounted from the host, where no link of ours can be made.
    fn covered(&self, path: &Path) -> bool {
        let above = |at: &Path| path.starts_with(at) && path != at;
        arranged::SYSTEM.iter().any(|system| above(Path::new(system)))
            || self
                .entries
                .iter()
                .any(|entry| matches!(entry.source, arranged::Source::Host { .. }) && above(&entry.inside))
    }

    /// A name that exists is covered; one that does not is kept from coming into being where the guest could make it.
    fn keep_away(&mut self, hidden: &Path, option: String) -> Result<(), Failure> {
        let Some(over) = self.grant_above(hidden) else {
            return self.place(hidden, Source::Cover, false, true, option);
        };
        let rest = hidden.strip_prefix(&over.inside).unwrap_or(hidden);
        let (host, writable) = match &over.source {
            arranged::Source::Host { path, access, .. } => (path.join(rest), *access != Access::Read),
            _ => {
                // In a private directory, which begins empty.
                self.protect(hidden.to_owned(), &option);
                return Ok(());
            }
        };
        if let Ok(real) = std::fs::canonicalize(&host) {
            if self.is_shared(hidden) {
                self.note(
                    &option,
                    Layer::Paths,
                    "the host may replace the file and its cover with it, so calls are judged too",
                );
            }
            return self.place(&self.as_seen(&real, over).unwrap_or(real), Source::Cover, false, true, option);
        }
        if writable {
            // The existing part may lead through links; what is missing is named literally.
            let existing = host.ancestors().find_map(|part| std::fs::canonicalize(part).ok().map(|real| (part, real)));
            if let Some((part, real)) = existing {
                let full = real.join(host.strip_prefix(part).unwrap_or(Path::new("")));
                self.protect(self.as_seen(&full, over).unwrap_or(full), &option);
            }
        } else {
            self.note(&option, Layer::View, "it does not exist, and cannot be made in a read-only grant");
        }
        Ok(())
    }

    /// The grant or private directory that `name` lies in.
    pub(super) fn grant_above(&self, name: &Path) -> Option<&'a Entry> {
        let above = self.entries.iter().filter(|entry| name.starts_with(&entry.inside) && entry.inside != name);
        let places = above
            .filter(|entry| matches!(entry.source, arranged::Source::Host { .. } | arranged::Source::Private { .. }));
        places.max_by_key(|entry| entry.inside.components().count())
    }

    /// A name that is absent must not come into being.
    fn protect(&mut self, name: PathBuf, option: &str) {
        self.result.rules.protected.push(name);
        self.note(option, Layer::Names, "it does not exist; calls that would make it are refused");
    }

    /// The name in the view of a real host path that lies in the grant `over`.
    pub(super) fn as_seen(&self, real: &Path, over: &Entry) -> Option<PathBuf> {
        let arranged::Source::Host { path, .. } = &over.source else { return None };
        let rest = real.strip_prefix(std::fs::canonicalize(path).ok()?).ok()?;
        (path != &over.inside).then(|| over.inside.join(rest))
    }
}
