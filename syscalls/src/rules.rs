//! What the policy says beyond what ring 1 can enforce, for handlers to ask.
//!
//! Paths are absolute names in the view, without `.`, `..` or symlinks, compared by component.

use std::path::{Path, PathBuf};

/// The rules that only the sentry can enforce.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Names inside writable grants that do not exist and must not come into being, by any call.
    pub protected: Vec<PathBuf>,
    /// Sockets that were granted as such: a `connect` to them is let through.
    pub sockets: Vec<PathBuf>,
}

/// What may happen to a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// No rule is about it.
    Free,
    /// It is a directory on the way to a protected name: it may be made as an empty directory, not moved or replaced.
    Ancestor,
    /// It is protected, or lies beneath a protected name.
    Protected,
}

impl Rules {
    /// Where `path` stands.
    pub fn standing(&self, path: &Path) -> Standing {
        let mut standing = Standing::Free;
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
    }
}
