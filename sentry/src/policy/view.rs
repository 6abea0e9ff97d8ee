//! What is where in the view: grants, private directories and hidden names of a policy, parents first.
//!
//! A pure function of the policy and of two facts, where the user is and where the user lives. Nothing is resolved
//! here; names are compared by component, so that a grant of `/data` says nothing about `/data-old`.

use std::path::{Path, PathBuf};

use hashbrown::HashMap;
use hashbrown::hash_map::Entry as Slot;

use super::path::shown;
use super::rule::MadeFile;
use super::{Access, Error, FakeRoot, Policy};

/// The system directories of the default view. Of `/etc` only the harmless part is there.
pub const SYSTEM: [&str; 8] = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc"];

/// Temporary directories; each sandbox has its own.
const TEMPORARY: [&str; 2] = ["/tmp", "/var/tmp"];

/// What the view depends on besides the policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The current directory: absolute, free of symlinks.
    pub cwd: PathBuf,
    /// The home directory as the user calls it; absolute.
    pub home: PathBuf,
    /// The home directory free of symlinks; the same as `home` if it does not exist.
    pub real_home: PathBuf,
}

impl Facts {
    /// Where the guest lives: a private directory in the place of the user's own, so that paths keep their names. Users
    /// of services may live in `/` or in `/bin`, which the guest needs for other things.
    pub fn guest_home(&self) -> &Path {
        let taken = |home: &Path| home == Path::new("/") || is_system(home) || reserved(home).is_some();
        if taken(&self.home) { Path::new("/home/guest") } else { &self.home }
    }
}

/// What stands at one name of the view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A host path.
    Host {
        /// Where it is on the host; absolute, perhaps with `..` and symlinks.
        path: PathBuf,
        /// What may be done with it.
        access: Access,
        /// Left out without a word if the host does not have it.
        optional: bool,
    },
    /// A private, empty directory.
    Private {
        /// Its size in bytes, if limited apart from the others.
        size: Option<u64>,
    },
    /// What is there in a writable grant, and stays as it is: `name` beneath the host directory `grant`.
    Kept {
        /// The granted directory on the host.
        grant: PathBuf,
        /// The name in it.
        name: PathBuf,
    },
    /// A file whose contents the policy gives.
    Made(MadeFile),
    /// A name that may be seen and not used.
    Denied,
    /// A name that is not to be seen or made.
    Hidden,
}

/// One name of the view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name; absolute, without `..`.
    pub inside: PathBuf,
    /// What stands there.
    pub source: Source,
}

impl Entry {
    /// The option that asks for it, for messages.
    pub fn option(&self) -> String {
        let inside = shown(&self.inside);
        match &self.source {
            Source::Host { path, access, .. } if *path != self.inside => {
                let suffix = if *access == Access::Write { "" } else { mode_name(*access) };
                format!("--volume {}:{inside}{}{suffix}", shown(path), if suffix.is_empty() { "" } else { ":" })
            }
            Source::Host { access, .. } => format!("{} {inside}", option_name(*access)),
            Source::Private { .. } => format!("--tmpfs {inside}"),
            Source::Kept { .. } => format!("protect {inside}"),
            Source::Made(made) => made.option(),
            Source::Denied => format!("--deny {inside}"),
            Source::Hidden => format!("--hide {inside}"),
        }
    }
}

/// The arranged view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Sorted by name: parents before what lies beneath them, each name once.
    pub entries: Vec<Entry>,
    /// Where the program begins.
    pub workdir: PathBuf,
    /// What the user should know, a sentence each.
    pub notes: Vec<String>,
}

/// Arranges the view of `policy`, or says which two rules cannot both hold.
pub fn arrange(policy: &Policy, facts: &Facts) -> Result<View, Error> {
    let mut places = explicit(policy)?;
    // Root's home is part of a tree that root owns.
    let home = (!policy.fake_root.is_on() || policy.root.is_none()).then_some(policy.home(facts));
    // Where daemons of root leave their marks.
    let run = (policy.fake_root.is_on() && policy.root.is_none()).then_some(Path::new("/run"));
    // In a writable tree a mount deeper than its root would move with the directories above it, which only the sentry can
    // forbid; where it must leave paths to the kernel the tree's own directory serves.
    let kernels = policy.fake_root == FakeRoot::Range && policy.root_writable();
    let temporary = TEMPORARY.iter().map(Path::new).filter(|place| !kernels || place.parent() == Some(Path::new("/")));
    for private in temporary.chain(home).chain(run) {
        places.entry(private.to_owned()).or_insert(Source::Private { size: None });
    }

    let mut notes = Vec::new();
    if let Some(access) = policy.cwd {
        match current_directory(policy, facts, &places) {
            Here::Covered => {}
            Here::Kept(why) => {
                // The root of the view cannot be granted.
                let place = if facts.cwd == Path::new("/") {
                    "a part of it, choose --read PATH"
                } else {
                    "it, choose --read . or --write ."
                };
                notes.push(format!("nothing of the current directory is visible, because {why}; to show {place}"));
            }
            Here::Granted => {
                // A copy would be refused, and nobody asked for this one.
                let read_only = policy.fake_root == FakeRoot::Range && access == Access::Cow;
                if read_only {
                    let what = "the current directory is read-only under --fake-root=range, which makes no copies";
                    notes.push(format!("{what}; to change it, choose --write ."));
                }
                let access = if read_only { Access::Read } else { access };
                let source = Source::Host { path: facts.cwd.clone(), access, optional: false };
                places.insert(facts.cwd.clone(), source);
            }
        }
    }

    protect(policy, &mut places);
    let workdir = match &policy.workdir {
        Some(workdir) => workdir.clone(),
        None if is_visible(policy, facts, &places) => facts.cwd.clone(),
        None => policy.home(facts).to_owned(),
    };
    let mut entries: Vec<Entry> = places.into_iter().map(|(inside, source)| Entry { inside, source }).collect();
    // Paths compare by component, and a path comes before every path that it begins.
    entries.sort_unstable_by(|one, other| one.inside.cmp(&other.inside));
    Ok(View { entries, workdir, notes })
}

type Places = HashMap<PathBuf, Source>;

/// What a program outside would run (hooks, settings of editors) is not for the guest to change, unless somebody said so.
fn protect(policy: &Policy, places: &mut Places) {
    let writable = places.iter().filter_map(|(inside, source)| match source {
        Source::Host { path, access: Access::Write, .. } => Some((inside.clone(), path.clone())),
        _ => None,
    });
    for (inside, grant) in writable.collect::<Vec<_>>() {
        for name in &policy.protect {
            let at = inside.join(name);
            // A rule about the very name, or about something on the way to it, is what somebody said.
            let said = at.ancestors().take_while(|above| *above != inside).any(|above| places.contains_key(above));
            if !said {
                places.insert(at, Source::Kept { grant: grant.clone(), name: name.clone() });
            }
        }
    }
}

/// The rules that the user or a profile wrote down, each name once.
fn explicit(policy: &Policy) -> Result<Places, Error> {
    let mut places = Places::with_capacity(policy.grants.len() + policy.scratch.len() + policy.hide.len() + 4);
    let root_writable = policy.root_writable();
    for grant in policy.grants.iter().filter(|grant| !(root_writable && grant.is_whole_root())) {
        check_host(&grant.host)?;
        check_place(&grant.inside, Some(grant.access))?;
        match places.entry(grant.inside.clone()) {
            Slot::Vacant(slot) => {
                let path = grant.host.clone();
                slot.insert(Source::Host { path, access: grant.access, optional: grant.optional });
            }
            Slot::Occupied(mut slot) => match slot.get_mut() {
                Source::Host { path, access, optional } if *path == grant.host => {
                    *access = stronger(*access, grant.access);
                    *optional &= grant.optional;
                }
                Source::Host { path, .. } => return Err(two_things(&grant.inside, &shown(path), &shown(&grant.host))),
                _ => return Err(two_things(&grant.inside, "a private directory", &shown(&grant.host))),
            },
        }
    }
    for scratch in &policy.scratch {
        check_place(&scratch.inside, None)?;
        let source = Source::Private { size: scratch.size };
        match places.insert(scratch.inside.clone(), source.clone()) {
            Some(Source::Host { path, .. }) => {
                return Err(two_things(&scratch.inside, &shown(&path), "a private directory"));
            }
            Some(other) if other != source => {
                return Err(two_things(&scratch.inside, "a private directory", "one of another size"));
            }
            _ => {}
        }
    }
    for made in &policy.made {
        check_place(&made.inside, Some(Access::Read))?;
        match places.insert(made.inside.clone(), Source::Made(made.clone())) {
            None => {}
            Some(Source::Host { path, .. }) => {
                return Err(two_things(&made.inside, &shown(&path), "a file with contents of its own"));
            }
            Some(Source::Made(other)) if other == *made => {}
            Some(_) => return Err(two_things(&made.inside, "one thing", "a file with contents of its own")),
        }
    }
    for (kept_away, source) in [(&policy.deny, Source::Denied), (&policy.hide, Source::Hidden)] {
        for name in kept_away {
            check_place(name, None)?;
            if let Some(Source::Made(_)) = places.get(name) {
                return Err(two_things(name, "a file with contents of its own", "kept from the program"));
            }
            places.insert(name.clone(), source.clone());
        }
    }
    Ok(places)
}
/// What becomes of the current directory.
enum Here {
    /// A rule or the system view speaks of it already.
    Covered,
    /// It is not shown, because of this.
    Kept(&'static str),
    /// It is granted as the policy says.
    Granted,
}

fn current_directory(policy: &Policy, facts: &Facts, places: &Places) -> Here {
    let cwd = &facts.cwd;
    match closest(cwd, places) {
        Some((_, Source::Host { .. } | Source::Kept { .. } | Source::Made(_))) => return Here::Covered,
        Some((_, Source::Hidden)) => return Here::Kept("--hide covers it"),
        Some((_, Source::Denied)) => return Here::Kept("--deny covers it"),
        // A private directory of the user's own making; the home and temporary directories are judged below.
        Some((place, Source::Private { .. })) if place == cwd && policy.scratch.iter().any(|s| s.inside == *cwd) => {
            return Here::Covered;
        }
        _ => {}
    }
    if policy.root.as_deref().is_some_and(|root| !has_directory(root, cwd)) {
        // Nothing can be put where a tree of the user's has no place for it, and nobody expects it there.
        Here::Covered
    } else if cwd == Path::new("/") {
        Here::Kept("it is the root of the whole host")
    } else if *cwd == facts.home || *cwd == facts.real_home {
        Here::Kept("it is your home directory")
    } else if facts.home.starts_with(cwd) || facts.real_home.starts_with(cwd) {
        Here::Kept("your home directory lies beneath it")
    } else if TEMPORARY.iter().any(|temporary| cwd == Path::new(temporary)) {
        Here::Kept("each sandbox has its own temporary directory")
    } else if reserved(cwd).is_some()
        || cwd.starts_with("/sys")
        || cwd.starts_with("/run") && cwd.components().count() < 5
    {
        Here::Kept("it belongs to the host's system")
    } else if is_system(cwd) {
        if policy.system && policy.root.is_none() && !cwd.starts_with("/etc") {
            Here::Covered
        } else {
            Here::Kept("it belongs to the host's system")
        }
    } else {
        Here::Granted
    }
}

/// Whether the tree `root` has a directory of this name.
fn has_directory(root: &Path, name: &Path) -> bool {
    root.join(name.strip_prefix("/").unwrap_or(name)).is_dir()
}

/// Whether the current directory is there for the guest to begin in.
fn is_visible(policy: &Policy, facts: &Facts, places: &Places) -> bool {
    match closest(&facts.cwd, places) {
        Some((_, Source::Host { .. })) => true,
        Some((place, Source::Private { .. })) => place == facts.cwd,
        Some((_, Source::Kept { .. } | Source::Made(_) | Source::Denied | Source::Hidden)) => false,
        None if policy.root.is_some() => policy.root.as_deref() == Some(Path::new("/")),
        None => facts.cwd == Path::new("/") || policy.system && is_system(&facts.cwd) && !facts.cwd.starts_with("/etc"),
    }
}

/// The rule that decides about `path`: the one with the longest name.
fn closest<'a>(path: &Path, places: &'a Places) -> Option<(&'a Path, &'a Source)> {
    let found = path.ancestors().find_map(|ancestor| places.get_key_value(ancestor));
    found.map(|(place, source)| (place.as_path(), source))
}

fn is_system(path: &Path) -> bool {
    SYSTEM.iter().any(|system| path.starts_with(system))
}

/// Why nothing may be put at `path`, if that is so.
fn reserved(path: &Path) -> Option<&'static str> {
    if path.starts_with("/proc") {
        Some("the sandbox has its own /proc, with its own processes only")
    } else if path.starts_with("/dev") {
        Some("the sandbox has its own /dev, with harmless devices only")
    } else {
        None
    }
}

fn check_place(inside: &Path, access: Option<Access>) -> Result<(), Error> {
    if inside == Path::new("/") {
        let remedy = "use --root / to show all of the host read-only, and --write PATH for what may be changed; of a tree of \
                      its own (--root DIR), --write / makes all writable";
        return Err(Error::new("the root of the view cannot be granted, hidden or made private", remedy));
    }
    if let Some(why) = reserved(inside) {
        return Err(Error::new(format!("no rule can be about {}: {why}", shown(inside)), "leave it out"));
    }
    if inside.starts_with("/sys") && access != Some(Access::Read) {
        let message = format!("{} can only be granted for reading", shown(inside));
        return Err(Error::new(message, format!("use --read {}", shown(inside))));
    }
    Ok(())
}

/// Some host paths mean another thing to whoever looks at them (`/proc/self`), or are no files at all.
fn check_host(host: &Path) -> Result<(), Error> {
    let why = if host.starts_with("/proc") {
        "it tells about processes outside of the sandbox"
    } else if host.starts_with("/dev") && !host.starts_with("/dev/shm") {
        "this version grants no devices"
    } else {
        return Ok(());
    };
    Err(Error::new(format!("{} cannot be granted: {why}", shown(host)), "leave it out"))
}

fn two_things(inside: &Path, one: &str, other: &str) -> Error {
    let message = format!("{} cannot be both {one} and {other}", shown(inside));
    Error::new(message, "leave one out, or give one another place with --volume HOST:BOX")
}

/// For the same name: write beats copy-on-write beats read.
fn stronger(one: Access, other: Access) -> Access {
    let rank = |access| match access {
        Access::Read => 0,
        Access::Cow => 1,
        Access::Write => 2,
    };
    if rank(other) > rank(one) { other } else { one }
}

fn option_name(access: Access) -> &'static str {
    match access {
        Access::Read => "--read",
        Access::Write => "--write",
        Access::Cow => "--cow",
    }
}

fn mode_name(access: Access) -> &'static str {
    match access {
        Access::Read => "ro",
        Access::Write => "rw",
        Access::Cow => "cow",
    }
}

#[cfg(test)]
#[path = "view_tests.rs"]
mod tests;
