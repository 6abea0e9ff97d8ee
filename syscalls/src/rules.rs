//! What the policy says beyond what ring 1 can enforce, for handlers to ask.
//!
//! Paths are absolute names in the view, without `.`, `..` or symlinks, compared by component and byte by byte: on a file
//! system that folds case, the policy has to list each spelling.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::pattern::{Match, Pattern, Reached};

/// The rules that only the sentry can enforce.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Names inside writable grants that do not exist and must not come into being, by any call.
    pub protected: Vec<PathBuf>,
    /// Directories of writable grants on the way to something that is mounted over: to a cover, or to a grant of fewer
    /// rights. A mount moves with its directory, so these stay where they are.
    pub anchored: BTreeSet<PathBuf>,
    /// What may be done with the objects of a path; in no order.
    pub paths: Vec<PathRule>,
    /// Files that exist for the guest only, where nothing of that name does.
    pub virtual_files: Vec<VirtualFile>,
    /// Where patterns that do not say where they begin do not reach: the system's own directories and the kernel's.
    pub system: Vec<PathBuf>,
    /// What was granted in those, where patterns do reach.
    pub granted: Vec<PathBuf>,
    /// Whether a connection to a socket file is judged: there are grants that may hold sockets of the host.
    pub judge_sockets: bool,
    /// Sockets that were granted as such: a `connect` to them is let through.
    pub sockets: Vec<PathBuf>,
    /// When the sandbox was started, by the host's clock (`CLOCK_REALTIME`, seconds and nanoseconds): a socket file born
    /// later was bound by the sandbox itself. `None`: no socket file counts as its own.
    pub started: Option<(i64, u32)>,
    /// The guest has the host's network: a destination that cannot be reached was not refused by us.
    pub host_network: bool,
    /// Every decision about a path goes to the audit log.
    pub audit: bool,
    /// Refusals do, whatever path they are about.
    pub log_refusals: bool,
    /// Paths that are looked up in vain are told.
    pub trace: bool,
    /// Ids and ownership are pretended (`--fake-root`).
    pub fake_root: bool,
    /// Ids are the kernel's (`--fake-root=range`): what is done for a task is done as its user, with its capabilities.
    pub real_ids: bool,
    /// A user namespace may be pretended (`--userns emulate`).
    pub pretend_namespaces: bool,
    /// The kernel that the guest is told of, where that is not the host's.
    pub kernel: Option<KernelName>,
    /// The bytes of memory that the sandbox may use, where that is less than the host has.
    pub memory: Option<u64>,
    /// The guest is a container.
    pub container: Option<Contained>,
}

/// What is done for a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contained {
    /// The kinds of mounts that are made for it: the names of file systems, and `bind` and `remount`.
    pub mounts: Vec<&'static str>,
    /// Whether harmless devices are made for it.
    pub devices: bool,
}

/// What uname(2) says of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelName {
    /// Such as `6.1.0-13-amd64`.
    pub release: String,
    /// Such as `#1 SMP PREEMPT_DYNAMIC`; the host's if there is none.
    pub version: Option<String>,
}

/// A rule about paths that no mount can express.
#[derive(Clone, Debug)]
pub struct PathRule {
    /// Which paths, and with them everything beneath.
    pub pattern: Pattern,
    /// What may be done there; `None` changes nothing, and is only told about.
    pub effect: Option<Effect>,
    /// Every use is told.
    pub log: bool,
    /// Whether it begins at a directory that the user named, and so reaches the system's directories too.
    pub anchored: bool,
    /// How the user wrote it, such as `--hide **/.env*`.
    pub text: String,
}

/// What may be done with a path. The later one wins over the earlier one where two rules are equally near.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Effect {
    /// It may be read, not changed: `EROFS`.
    Read,
    /// Whatever the view allows.
    Write,
    /// It can be seen, not used: `EACCES`.
    Deny,
    /// It does not exist: `ENOENT`.
    Hide,
}

/// A file whose contents the policy gives.
#[derive(Clone, Debug)]
pub struct VirtualFile {
    /// Its name in the view.
    pub path: PathBuf,
    /// A sealed memfd.
    pub contents: Arc<OwnedFd>,
}

/// What may happen to a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// No rule is about it.
    Free,
    /// It is a directory on the way to a protected or mounted name: it may be made as an empty directory, not moved or
    /// replaced.
    Ancestor,
    /// It is protected, or lies beneath a protected name.
    Protected,
}

impl Rules {
    /// Whether any rule is about names, so that calls which make or move them must be judged.
    pub fn are_about_names(&self) -> bool {
        !self.protected.is_empty() || !self.paths.is_empty() || !self.virtual_files.is_empty()
    }

    /// Whether some directory has to stay where it is, so that calls which move names must be judged.
    pub fn are_about_moves(&self) -> bool {
        self.are_about_names() || !self.anchored.is_empty()
    }

    /// Whether uses of objects must be judged or told.
    pub fn are_about_objects(&self) -> bool {
        !self.paths.is_empty() || self.audit || self.log_refusals
    }

    /// Whether directories show fewer or more names than they have.
    pub fn change_listings(&self) -> bool {
        self.paths.iter().any(|rule| rule.effect == Some(Effect::Hide)) || !self.virtual_files.is_empty()
    }

    /// Whether a call on an open file may do what its path forbids.
    pub fn are_about_changes(&self) -> bool {
        self.paths.iter().any(|rule| rule.effect.is_some())
    }

    /// Where `path` stands.
    pub fn standing(&self, path: &Path) -> Standing {
        let mut standing = if self.anchored.contains(path) { Standing::Ancestor } else { Standing::Free };
        let virtual_files = self.virtual_files.iter().map(|file| &file.path);
        for protected in self.protected.iter().chain(virtual_files) {
            if path.starts_with(protected) {
                return Standing::Protected;
            }
            if protected.starts_with(path) {
                standing = Standing::Ancestor;
            }
        }
        if self.paths.iter().any(|rule| rule.effect.is_some() && self.find(rule, path).is_on_the_way) {
            standing = Standing::Ancestor;
        }
        standing
    }

    /// The rule that decides about `path`: of those that match it or something above it the one that matches most of it;
    /// among equals a plain path before a pattern, then hide before deny before write before read.
    ///
    /// What is hidden or denied stays so with all that lies beneath: only a plain path that comes nearer opens it again.
    /// A pattern such as `build/**` may match a secret's directory without anybody having thought of it.
    pub fn decides(&self, path: &Path) -> Option<&PathRule> {
        let is_system = self.is_system(path);
        let found = self.paths.iter().filter(|rule| rule.effect.is_some() && rule.reaches(is_system));
        nearest(found.map(|rule| (rule, rule.pattern.along(path).near)))
    }

    /// The rules as far as they come along the directory `dir`, to decide about many names in it.
    pub fn in_directory(&self, dir: &Path) -> InDirectory<'_> {
        let is_system = self.is_system(dir);
        let boundary = |other: &PathBuf| other.parent() == Some(dir);
        // Of some names in such a directory patterns hold, and of others they do not.
        let is_mixed = self.system.iter().chain(&self.granted).any(boundary);
        let found = self.paths.iter().filter(|rule| rule.effect.is_some() && (is_mixed || rule.reaches(is_system)));
        let reached = found.map(|rule| (rule, rule.pattern.along(dir))).collect();
        InDirectory { reached, mixed: is_mixed.then(|| (self, dir.to_owned())) }
    }

    /// A rule that wants uses of `path` to be told.
    pub fn logs(&self, path: &Path) -> Option<&PathRule> {
        self.paths.iter().find(|rule| rule.log && self.find(rule, path).near.is_some())
    }

    /// Whether a directory may move from one name to another without anything beneath it coming under other rules.
    pub fn are_alike(&self, from: &Path, to: &Path) -> bool {
        let effective = self.paths.iter().filter(|rule| rule.effect.is_some());
        effective.into_iter().all(|rule| self.find(rule, from).next == self.find(rule, to).next)
    }

    /// The file that only the guest has at `path`.
    pub fn virtual_file(&self, path: &Path) -> Option<&VirtualFile> {
        self.virtual_files.iter().find(|file| file.path == path)
    }

    /// Whether `path` lies where patterns that do not say where they begin do not reach.
    fn is_system(&self, path: &Path) -> bool {
        let within = |directories: &[PathBuf]| directories.iter().any(|directory| is_beneath(path, directory));
        within(&self.system) && !within(&self.granted)
    }

    /// A rule that speaks of a name at, above or beneath `path` and of no other name of the same object: shown at another
    /// place as well, that object would have a name that the rule does not reach.
    ///
    /// What is read-only or writable by its exact name is so by its mount, which comes along, locked.
    pub fn hinders_mounting(&self, path: &Path) -> Option<String> {
        let named = |name: &Path| name.starts_with(path) || path.starts_with(name);
        let made = self.virtual_files.iter().map(|file| &file.path);
        if let Some(name) = self.protected.iter().chain(made).find(|name| named(name)) {
            return Some(format!("the protection of {}", name.to_string_lossy()));
        }
        // Only a directory above can move what lies on the way.
        if let Some(name) = self.anchored.iter().find(|name| *name != path && name.starts_with(path)) {
            return Some(format!("the protection of what is mounted in {}", name.to_string_lossy()));
        }
        // Which socket was granted is told by its name.
        if let Some(socket) = self.sockets.first() {
            return Some(format!("the grant of the socket {}", socket.to_string_lossy()));
        }
        let is_mounted = |rule: &&PathRule| {
            rule.effect == Some(Effect::Write) || rule.effect == Some(Effect::Read) && rule.pattern.is_exact()
        };
        let mut rules = self.paths.iter().filter(|rule| rule.log || !is_mounted(rule));
        let speaks = |rule: &&PathRule| {
            let found = self.find(rule, path);
            found.near.is_some() || found.is_on_the_way || found.next != 0
        };
        rules.find(speaks).map(|rule| rule.text.clone())
    }

    fn find(&self, rule: &PathRule, path: &Path) -> Match {
        if rule.reaches(self.is_system(path)) { rule.pattern.find(path) } else { Match::default() }
    }

    /// Whether the socket file at `path`, born at `birth`, may be connected to: it was granted, or the sandbox bound it.
    pub fn may_connect(&self, path: &Path, birth: Option<(i64, u32)>) -> bool {
        let own = matches!((self.started, birth), (Some(started), Some(birth)) if birth > started);
        own || !self.judge_sockets || self.sockets.iter().any(|granted| granted == path)
    }
}

/// Compares by component: both are absolute, and neither has doubled slashes.
fn is_beneath(path: &Path, directory: &Path) -> bool {
    let rest = path.as_os_str().as_bytes().strip_prefix(directory.as_os_str().as_bytes());
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

impl PathRule {
    fn reaches(&self, is_system: bool) -> bool {
        self.anchored || !is_system
    }
}

/// The rules about one directory, see [`Rules::in_directory`].
#[derive(Debug)]
pub struct InDirectory<'a> {
    reached: Vec<(&'a PathRule, Reached)>,
    /// The rules and the directory, where each name has to be looked at whole.
    mixed: Option<(&'a Rules, PathBuf)>,
}

impl<'a> InDirectory<'a> {
    /// The rule that decides about `name` in it.
    pub fn decides(&self, name: &[u8]) -> Option<&'a PathRule> {
        match &self.mixed {
            Some((rules, dir)) => rules.decides(&dir.join(OsStr::from_bytes(name))),
            None => {
                nearest(self.reached.iter().map(|(rule, reached)| (*rule, rule.pattern.one_more(*reached, name).near)))
            }
        }
    }
}

/// The one that decides among rules of which some match.
fn nearest<'a>(found: impl Iterator<Item = (&'a PathRule, Option<usize>)>) -> Option<&'a PathRule> {
    let mut keeps_away: Option<Nearness> = None;
    let mut lets_in: Option<Nearness> = None;
    let mut opens: Option<Nearness> = None;
    for (rule, near) in found {
        let (Some(effect), Some(near)) = (rule.effect, near) else { continue };
        let nearness = ((near, rule.pattern.is_exact(), effect), rule);
        let kept = if matches!(effect, Effect::Hide | Effect::Deny) { &mut keeps_away } else { &mut lets_in };
        nearer(kept, nearness);
        if rule.pattern.is_exact() && matches!(effect, Effect::Read | Effect::Write) {
            nearer(&mut opens, nearness);
        }
    }
    match (keeps_away, opens) {
        (Some(kept), Some(open)) if open.0 <= kept.0 => Some(kept.1),
        (Some(kept), None) => Some(kept.1),
        _ => lets_in.map(|(_, rule)| rule),
    }
}

/// How near a rule comes to a path, and the rule.
type Nearness<'a> = ((usize, bool, Effect), &'a PathRule);

fn nearer<'a>(best: &mut Option<Nearness<'a>>, other: Nearness<'a>) {
    if best.is_none_or(|best| other.0 > best.0) {
        *best = Some(other);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_by_component() {
        let rules = Rules { protected: vec!["/w/.git/hooks/x".into()], ..Rules::default() };
        assert_eq!(rules.standing(Path::new("/w/.git/hooks/x")), Standing::Protected);
        assert_eq!(rules.standing(Path::new("/w/.git/hooks/x/y")), Standing::Protected);
        assert_eq!(rules.standing(Path::new("/w/.git/hooks/xy")), Standing::Free);
        assert_eq!(rules.standing(Path::new("/w/.git")), Standing::Ancestor);
        assert_eq!(rules.standing(Path::new("/w/.gi")), Standing::Free);
        assert_eq!(rules.standing(Path::new("/w-evil/.git/hooks/x")), Standing::Free);
    }

    #[test]
    fn the_way_to_a_mount_stays_where_it_is() {
        let rules = Rules { anchored: ["/w/.git".into(), "/w/.git/hooks".into()].into(), ..Rules::default() };
        assert_eq!(rules.standing(Path::new("/w/.git")), Standing::Ancestor);
        assert_eq!(rules.standing(Path::new("/w/.git/hooks/x")), Standing::Free);
        assert_eq!(rules.standing(Path::new("/w")), Standing::Free);
    }

    #[test]
    fn one_protected_name_may_be_the_ancestor_of_another() {
        let protected = vec!["/w/a/b".into(), "/w/a".into()];
        let rules = Rules { protected, ..Rules::default() };
        assert_eq!(rules.standing(Path::new("/w/a")), Standing::Protected);
        assert_eq!(rules.standing(Path::new("/w")), Standing::Ancestor);
    }

    #[test]
    fn a_socket_is_granted_by_name_or_by_birth() {
        let rules =
            Rules { sockets: vec!["/w/s".into()], started: Some((100, 5)), judge_sockets: true, ..Rules::default() };
        assert!(rules.may_connect(Path::new("/w/s"), None));
        assert!(rules.may_connect(Path::new("/w/own"), Some((100, 6))));
        for birth in [None, Some((100, 5)), Some((99, 999_999_999))] {
            assert!(!rules.may_connect(Path::new("/w/s2"), birth));
        }
        let bare = Rules { judge_sockets: true, ..Rules::default() };
        assert!(!bare.may_connect(Path::new("/w/own"), Some((100, 6))));
        assert!(Rules::default().may_connect(Path::new("/w/own"), None));
    }

    fn rules(list: &[(&str, Effect)]) -> Rules {
        let rule = |(text, effect): &(&str, Effect)| PathRule {
            pattern: Pattern::new(Path::new(text)).unwrap(),
            effect: Some(*effect),
            log: false,
            anchored: !text.starts_with("/**"),
            text: (*text).to_owned(),
        };
        Rules { paths: list.iter().map(rule).collect(), system: vec!["/usr".into()], ..Rules::default() }
    }

    #[test]
    fn the_nearest_rule_decides_in_any_order() {
        let mut list = vec![
            ("/**/.env*", Effect::Hide),
            ("/w/.env.example", Effect::Read),
            ("/w/*.d", Effect::Deny),
            ("/w/a.d/x", Effect::Write),
        ];
        for _ in 0..list.len() {
            let rules = rules(&list);
            let effect = |path: &str| rules.decides(Path::new(path)).and_then(|rule| rule.effect);
            assert_eq!(effect("/w/.env"), Some(Effect::Hide));
            assert_eq!(effect("/w/.env/x/y"), Some(Effect::Hide));
            assert_eq!(effect("/w/.env.example"), Some(Effect::Read));
            assert_eq!(effect("/w/a.d/y"), Some(Effect::Deny));
            assert_eq!(effect("/w/a.d/x/z"), Some(Effect::Write));
            assert_eq!(effect("/w/a.d/x/.env"), Some(Effect::Hide));
            assert_eq!(effect("/w/plain"), None);
            assert_eq!(effect("/usr/lib/.env"), None, "an unanchored pattern leaves the system alone");
            list.rotate_left(1);
        }
    }

    #[test]
    fn names_in_a_directory_are_decided_as_whole_paths_are() {
        let mut rules = rules(&[
            ("/**/.env*", Effect::Hide),
            ("/w/**", Effect::Read),
            ("/usr/share/x", Effect::Deny),
            ("/w/a/b", Effect::Write),
        ]);
        rules.granted = vec!["/usr/src/w".into()];
        for dir in ["/", "/usr", "/usr/src", "/usr/src/w", "/usr/share", "/w", "/w/a", "/w/.env", "/x/y"] {
            let listing = rules.in_directory(Path::new(dir));
            for name in [".env", "usr", "w", "x", "b", "src", "plain"] {
                let whole = rules.decides(&Path::new(dir).join(name)).map(|rule| &rule.text);
                assert_eq!(listing.decides(name.as_bytes()).map(|rule| &rule.text), whole, "{dir} {name}");
            }
        }
    }

    #[test]
    fn no_pattern_opens_what_is_hidden() {
        let rules = rules(&[
            ("/w", Effect::Write),
            ("/w/**", Effect::Read),
            ("/w/build/**", Effect::Write),
            ("/**/*.log", Effect::Write),
            ("/**/secrets", Effect::Hide),
            ("/w/secrets/pub", Effect::Read),
        ]);
        let effect = |path: &str| rules.decides(Path::new(path)).and_then(|rule| rule.effect);
        assert_eq!(effect("/w/x/y"), Some(Effect::Read));
        assert_eq!(effect("/w/x/y.log"), Some(Effect::Write));
        assert_eq!(effect("/w/build/x/y"), Some(Effect::Write));
        for hidden in
            ["/w/secrets", "/w/secrets/k", "/w/secrets/a/b.log", "/w/build/secrets/k", "/w/secrets/pub/secrets/k"]
        {
            assert_eq!(effect(hidden), Some(Effect::Hide), "{hidden}");
        }
        assert_eq!(effect("/w/secrets/pub/x"), Some(Effect::Read));
        assert_eq!(effect("/w"), Some(Effect::Write));
    }

    #[test]
    fn the_stricter_of_two_equals_wins() {
        let both = rules(&[("/**/x", Effect::Hide), ("/**/x", Effect::Write)]);
        assert_eq!(both.decides(Path::new("/w/x")).unwrap().effect, Some(Effect::Hide));
        let read = rules(&[("/w/*", Effect::Read), ("/w/*", Effect::Write)]);
        assert_eq!(read.decides(Path::new("/w/x")).unwrap().effect, Some(Effect::Write));
    }

    #[test]
    fn what_a_rule_speaks_of_is_not_mounted_elsewhere() {
        let rules = Rules {
            protected: vec!["/p/.git/hooks".into()],
            anchored: ["/a/b".into(), "/a/b/c".into()].into(),
            ..rules(&[
                ("/w", Effect::Write),
                ("/usr", Effect::Read),
                ("/w/**/key", Effect::Hide),
                ("/x/secret", Effect::Deny),
                ("/lock/*.l", Effect::Read),
            ])
        };
        let hinders = |path: &str| rules.hinders_mounting(Path::new(path)).is_some();
        for path in
            ["/", "/w", "/w/sub", "/w/sub/key", "/x", "/x/secret", "/x/secret/y", "/lock", "/p", "/p/.git/hooks/z"]
        {
            assert!(hinders(path), "{path}");
        }
        assert!(hinders("/a") && hinders("/a/b") && !hinders("/a/b/c"), "only a directory above can be moved");
        for path in ["/usr", "/usr/lib", "/x/other", "/lock/sub", "/v", "/p/src", "/tmp"] {
            assert!(!hinders(path), "{path}");
        }
        let everywhere = super::tests::rules(&[("/**/.env", Effect::Hide)]);
        assert!(everywhere.hinders_mounting(Path::new("/tmp/x")).is_some());
        assert!(everywhere.hinders_mounting(Path::new("/usr/share")).is_none(), "it does not reach the system");
        let sockets = Rules { sockets: vec!["/run/s".into()], ..Rules::default() };
        assert!(sockets.hinders_mounting(Path::new("/tmp")).is_some());
    }

    #[test]
    fn directories_stay_where_rules_reach_them() {
        let rules = rules(&[("/w/**/.env", Effect::Hide), ("/**/.git/hooks/*", Effect::Read)]);
        assert!(rules.are_alike(Path::new("/w/a"), Path::new("/w/b/c")));
        assert!(!rules.are_alike(Path::new("/w/a"), Path::new("/tmp/a")));
        assert_eq!(rules.standing(Path::new("/w/.git")), Standing::Ancestor);
        assert_eq!(rules.standing(Path::new("/w/.git/hooks")), Standing::Ancestor);
        assert_eq!(rules.standing(Path::new("/w/a")), Standing::Free);
    }
}
