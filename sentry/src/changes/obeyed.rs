//! What the user's own tools run or obey later: hooks, and settings of editors and agents.
//!
//! A sandbox ends where a commit begins, so a program that leaves a hook behind would run outside after all. The names are
//! those that the default profile protects; of git there is more ([`repository`]).

use std::path::{Component, Path, PathBuf};
use std::sync::OnceLock;

use hashbrown::HashSet;

use super::layer::Layer;
use super::{Change, Object, Type, repository};
use crate::policy::profile;

/// What is said of such a file.
pub const WORDS: &str = "your tools obey it";

/// Why a commit leaves it.
pub const LEFT: &str = "your own tools obey it; name it to take it over";

/// The names that are protected by default, each relative to any directory.
fn names() -> &'static [PathBuf] {
    static NAMES: OnceLock<Vec<PathBuf>> = OnceLock::new();
    NAMES.get_or_init(|| {
        let table = profile::text(profile::DEFAULT).ok().and_then(|text| text.parse::<toml::Table>().ok());
        let list = table.as_ref().and_then(|table| table.get("files")?.get("protect")?.as_array());
        list.into_iter().flatten().filter_map(|name| name.as_str()).map(PathBuf::from).collect()
    })
}

/// Which of the changes of a layer are obeyed.
#[derive(Debug)]
pub struct Obeyed {
    host: PathBuf,
    /// `.git` directories that the run made: what git puts into each is ordinary.
    repositories: HashSet<PathBuf>,
    /// What git obeys because of what lies beside it.
    beside: HashSet<PathBuf>,
}

impl Obeyed {
    /// For a layer with all of its `changes`.
    pub fn new(layer: &Layer, changes: &[Change]) -> Self {
        let obeyed = changes.iter().filter(|change| repository::is_obeyed(layer, change));
        let beside = obeyed.map(|change| layer.host_path.join(&change.path)).collect();
        Self { beside, ..Self::of(&layer.host_path, changes) }
    }

    fn of(host: &Path, changes: &[Change]) -> Self {
        let made = |change: &&Change| {
            change.before.is_none()
                && change.path.file_name().is_some_and(|name| name == ".git")
                && change.after.as_ref().is_some_and(Object::is_directory)
        };
        let repositories = changes.iter().filter(made).map(|change| host.join(&change.path)).collect();
        Self { host: host.to_owned(), repositories, beside: HashSet::new() }
    }

    /// The file or directory that is obeyed and that `change` is, or lies in.
    pub fn root(&self, change: &Change) -> Option<PathBuf> {
        let full = self.host.join(&change.path);
        let named = named(&self.host, &full).or_else(|| {
            // What leads there, and is no directory, leads elsewhere.
            let elsewhere = change.after.as_ref().is_some_and(|after| !after.is_directory());
            let leads = names().iter().filter_map(|name| name.parent()).filter(|above| !above.as_os_str().is_empty());
            (elsewhere && leads.into_iter().any(|above| full.ends_with(above))).then(|| full.clone())
        });
        let is_hook = change.after.as_ref().is_some_and(|after| is_live_hook(&change.path, after));
        let ordinary = |root: &PathBuf| self.repositories.iter().any(|made| root.starts_with(made)) && !is_hook;
        named.filter(|root| !ordinary(root)).or_else(|| self.beside.contains(&full).then_some(full))
    }
}

/// The file or directory with one of the names that `full` is, or lies in, within the directory `host`.
fn named(host: &Path, full: &Path) -> Option<PathBuf> {
    let parts: Vec<Component> = full.components().collect();
    let own = host.components().count();
    let end = names().iter().find_map(|name| {
        let wanted: Vec<Component> = name.components().collect();
        // Above that directory the names mean nothing, be they the same.
        let found = |end: &usize| *end >= own && parts[..*end].ends_with(&wanted);
        (wanted.len()..=parts.len()).find(found)
    })?;
    Some(parts[..end].iter().collect())
}

/// Whether tools obey the file of this name, whatever is in it: then none of another name may be the same file, or who may
/// write to that one would change this one.
pub fn stays_alone(layer: &Layer, path: &Path) -> bool {
    named(&layer.host_path, &layer.host_path.join(path)).is_some() || repository::is_of_one(layer, path)
}

/// Whether `object` at `path` is a hook that git would run, or takes the place of all of them.
pub(super) fn is_live_hook(path: &Path, object: &Object) -> bool {
    let sample = path.extension().is_some_and(|extension| extension == "sample");
    let in_hooks = path.parent().and_then(Path::file_name).is_some_and(|name| name == "hooks");
    let runs = match object.kind {
        Type::File => object.mode & 0o111 != 0,
        Type::Symlink => true,
        _ => false,
    };
    in_hooks && !sample && runs || path.ends_with(".git/hooks") && object.kind == Type::Symlink
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::changes::Kind;

    fn change(path: &str, kind: Type, mode: u32) -> Change {
        let mut after = Object::new(&nix::sys::stat::stat("/").unwrap());
        (after.kind, after.mode) = (kind, mode);
        Change { kind: Kind::New, path: path.into(), before: None, after: Some(after), within: 0, attributes: false }
    }

    #[test]
    fn what_tools_obey_is_known_at_any_depth() {
        let obeyed = Obeyed::of(Path::new("/home/u/.cursor/worktrees/p"), &[]);
        for path in [".envrc", "a/b/.vscode/tasks.json", ".git/config", "x/.git/hooks/pre-commit", ".mcp.json"] {
            assert!(obeyed.root(&change(path, Type::File, 0o644)).is_some(), "{path}");
        }
        for path in ["src/main.rs", ".git/HEAD", "config", "hooks/x", ".envrc.sample"] {
            assert!(obeyed.root(&change(path, Type::File, 0o755)).is_none(), "{path}");
        }
        assert!(obeyed.root(&change(".git", Type::Symlink, 0o777)).is_some());
        assert!(obeyed.root(&change(".git", Type::Directory, 0o755)).is_none());
        for path in [".cursor/mcp.json", "a/.cursor"] {
            assert!(obeyed.root(&change(path, Type::File, 0o644)).is_some(), "{path}: as in a directory above");
        }
        let inside = Obeyed::of(Path::new("/p/.git"), &[]);
        assert_eq!(inside.root(&change("config", Type::File, 0o644)).unwrap(), Path::new("/p/.git/config"));
    }

    #[test]
    fn of_a_new_repository_only_live_hooks_are_held_back() {
        let obeyed = Obeyed::of(Path::new("/p"), &[change(".git", Type::Directory, 0o755)]);
        assert!(obeyed.root(&change(".git/config", Type::File, 0o644)).is_none());
        assert!(obeyed.root(&change(".git/hooks", Type::Directory, 0o755)).is_none());
        assert!(obeyed.root(&change(".git/hooks/a.sample", Type::File, 0o755)).is_none());
        assert!(obeyed.root(&change(".git/hooks/pre-commit", Type::File, 0o755)).is_some());
        assert!(obeyed.root(&change(".git/hooks", Type::Symlink, 0o777)).is_some());
    }
}
