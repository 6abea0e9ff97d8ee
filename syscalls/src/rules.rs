//! What the policy says beyond what ring 1 can enforce, for handlers to ask.
//!
//! Paths are absolute names in the view, without `.`, `..` or symlinks, compared by component and byte by byte: on a file
//! system that folds case, the policy has to list each spelling.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The rules that only the sentry can enforce.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Names inside writable grants that do not exist and must not come into being, by any call.
    pub protected: Vec<PathBuf>,
    /// Directories of writable grants on the way to something that is mounted over: to a cover, or to a grant of fewer
    /// rights. A mount moves with its directory, so these stay where they are.
    pub anchored: BTreeSet<PathBuf>,
    /// Sockets that were granted as such: a `connect` to them is let through.
    pub sockets: Vec<PathBuf>,
    /// When the sandbox was started, by the host's clock (`CLOCK_REALTIME`, seconds and nanoseconds): a socket file born
    /// later was bound by the sandbox itself. `None`: no socket file counts as its own.
    pub started: Option<(i64, u32)>,
    /// The guest has the host's network: a destination that cannot be reached was not refused by us.
    pub host_network: bool,
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
        !self.protected.is_empty() || !self.anchored.is_empty()
    }

    /// Where `path` stands.
    pub fn standing(&self, path: &Path) -> Standing {
        let mut standing = if self.anchored.contains(path) { Standing::Ancestor } else { Standing::Free };
        for protected in &self.protected {
            if path.starts_with(protected) {
                return Standing::Protected;
            }
            if protected.starts_with(path) {
                standing = Standing::Ancestor;
            }
        }
        standing
    }

    /// Whether the socket file at `path`, born at `birth`, may be connected to: it was granted, or the sandbox bound it.
    pub fn may_connect(&self, path: &Path, birth: Option<(i64, u32)>) -> bool {
        let own = matches!((self.started, birth), (Some(started), Some(birth)) if birth > started);
        own || self.sockets.iter().any(|granted| granted == path)
    }
}

#[cfg(test)]
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
        let rules = Rules { sockets: vec!["/w/s".into()], started: Some((100, 5)), ..Rules::default() };
        assert!(rules.may_connect(Path::new("/w/s"), None));
        assert!(rules.may_connect(Path::new("/w/own"), Some((100, 6))));
        for birth in [None, Some((100, 5)), Some((99, 999_999_999))] {
            assert!(!rules.may_connect(Path::new("/w/s2"), birth));
        }
        assert!(!Rules::default().may_connect(Path::new("/w/own"), Some((100, 6))));
    }
}
