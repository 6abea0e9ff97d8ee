//! Patterns of paths: `*`, `?` and `[a-z]` within a component, `**` for any number of components.
//!
//! A pattern is matched against an absolute path in the view, component by component, byte by byte. It also says what is
//! on the way to it: a directory that has matched some named component of the pattern, but not all of it yet.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

/// Components at most: each takes a bit of a set.
const LONGEST: usize = 60;

/// A compiled pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    parts: Vec<Part>,
}

/// One component of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    /// `**`: any number of components, also none.
    Any,
    /// Exactly this name.
    Name(Vec<u8>),
    /// A name that matches, see glob(7); a leading dot is no exception.
    Glob(Vec<Token>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Byte(u8),
    One,
    Many,
    /// One of these ranges, or none of them.
    Set(Vec<(u8, u8)>, bool),
}

/// What a pattern says of a path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Match {
    /// How many leading components of the path the pattern matches, at most: the path itself or something above it.
    pub depth: Option<usize>,
    /// Whether something beneath the path could still match by what named components of the pattern have matched.
    pub is_on_the_way: bool,
    /// The parts of the pattern that may come next, as a set of bits: where the same directory lies decides what is matched
    /// beneath it.
    pub next: u64,
}

/// True if `text` holds any of the characters that make a pattern.
pub fn is_pattern(text: &OsStr) -> bool {
    text.as_bytes().iter().any(|byte| matches!(byte, b'*' | b'?' | b'['))
}

impl Pattern {
    /// Compiles an absolute pattern, such as `/home/me/**/.env*`. The error says what is wrong with it.
    pub fn new(text: &Path) -> Result<Self, &'static str> {
        let mut parts = Vec::new();
        for component in text.components() {
            match component {
                Component::RootDir => {}
                Component::Normal(name) if name == "**" => {
                    if parts.last() != Some(&Part::Any) {
                        parts.push(Part::Any);
                    }
                }
                Component::Normal(name) => parts.push(part(name.as_bytes())?),
                Component::CurDir | Component::ParentDir | Component::Prefix(_) => {
                    return Err("a pattern has no `..` in it");
                }
            }
        }
        if parts.len() > LONGEST {
            return Err("a pattern has at most 60 components");
        }
        match parts[..] {
            [] | [Part::Any] => Err("it matches everything"),
            _ => Ok(Self { parts }),
        }
    }

    /// Whether it is a plain path, without wildcards.
    pub fn is_exact(&self) -> bool {
        self.parts.iter().all(|part| matches!(part, Part::Name(_)))
    }

    /// Whether nothing could ever fail to match it.
    pub fn matches_everything(&self) -> bool {
        let any = |part: &Part| *part == Part::Any || matches!(part, Part::Glob(tokens) if *tokens == [Token::Many]);
        self.parts.iter().all(any)
    }

    /// The names it begins with, before the first wildcard, as a path: whatever it matches lies beneath that.
    pub fn base(&self) -> std::path::PathBuf {
        let named = self.parts.iter().map_while(|part| match part {
            Part::Name(name) => Some(OsStr::from_bytes(name)),
            Part::Any | Part::Glob(_) => None,
        });
        let last = if self.is_exact() { self.parts.len() - 1 } else { self.parts.len() };
        std::iter::once(OsStr::new("/")).chain(named.take(last)).collect()
    }

    /// The one path it matches, if there are no wildcards in it.
    pub fn exact(&self) -> Option<std::path::PathBuf> {
        let names = self.parts.iter().map(|part| match part {
            Part::Name(name) => Some(OsStr::from_bytes(name)),
            Part::Any | Part::Glob(_) => None,
        });
        std::iter::once(Some(OsStr::new("/"))).chain(names).collect()
    }

    /// What it says of `path`, which is absolute and without `..`.
    pub fn find(&self, path: &Path) -> Match {
        let mut found = Match::default();
        let mut live = self.skip_any(1);
        let names = path.components().filter_map(|component| match component {
            Component::Normal(name) => Some(name.as_bytes()),
            _ => None,
        });
        for (depth, name) in names.enumerate() {
            live = self.after(live, name);
            if live & self.end() != 0 {
                found.depth = Some(depth + 1);
            }
            if live == 0 {
                break;
            }
        }
        found.next = live & !self.end();
        // Parts before the first named one are matched by whatever path there is.
        let leading = self.parts.iter().take_while(|part| **part == Part::Any).count();
        let free = (1_u64 << (leading + 1)) - 1;
        let resting = |index: usize| self.parts.get(index) == Some(&Part::Any);
        // Beneath `a/**` everything is alike; what comes behind is reached from anywhere there.
        let anywhere = (0..self.parts.len())
            .filter(|index| resting(*index))
            .fold(0, |set, index| set | (1 << index) | (1 << (index + 1)));
        found.is_on_the_way = found.next & !free & !anywhere != 0;
        found
    }

    /// The bit behind the last part.
    fn end(&self) -> u64 {
        1 << self.parts.len()
    }

    /// `**` matches nothing as well: what comes behind it is live too.
    fn skip_any(&self, mut live: u64) -> u64 {
        for (index, part) in self.parts.iter().enumerate() {
            if *part == Part::Any && live & (1 << index) != 0 {
                live |= 1 << (index + 1);
            }
        }
        live
    }

    fn after(&self, live: u64, name: &[u8]) -> u64 {
        let mut next = 0;
        for (index, part) in self.parts.iter().enumerate().filter(|(index, _)| live & (1 << index) != 0) {
            match part {
                Part::Any => next |= 1 << index,
                Part::Name(wanted) if wanted == name => next |= 1 << (index + 1),
                Part::Glob(tokens) if matches(tokens, name) => next |= 1 << (index + 1),
                Part::Name(_) | Part::Glob(_) => {}
            }
        }
        self.skip_any(next)
    }
}

/// A component; one whose wildcards are all escaped is a plain name.
fn part(name: &[u8]) -> Result<Part, &'static str> {
    let tokens = tokens(name)?;
    let plain = tokens.iter().map(|token| if let Token::Byte(byte) = token { Some(*byte) } else { None });
    Ok(plain.collect::<Option<Vec<u8>>>().map_or(Part::Glob(tokens), Part::Name))
}

fn tokens(name: &[u8]) -> Result<Vec<Token>, &'static str> {
    let mut tokens = Vec::new();
    let mut rest = name;
    while let [byte, behind @ ..] = rest {
        rest = behind;
        match byte {
            b'*' if tokens.last() == Some(&Token::Many) => {}
            b'*' => tokens.push(Token::Many),
            b'?' => tokens.push(Token::One),
            b'[' => {
                let (set, behind) = set(rest).ok_or("a `[` is never closed")?;
                rest = behind;
                tokens.push(set);
            }
            b'\\' => {
                let [byte, behind @ ..] = rest else { return Err("nothing follows the last backslash") };
                rest = behind;
                tokens.push(Token::Byte(*byte));
            }
            byte => tokens.push(Token::Byte(*byte)),
        }
    }
    Ok(tokens)
}

/// A bracket expression, behind its `[`, and what follows it.
fn set(text: &[u8]) -> Option<(Token, &[u8])> {
    let (negated, mut rest) = match text {
        [b'!' | b'^', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let mut ranges = Vec::new();
    loop {
        match rest {
            // A `]` that comes first is one of the characters.
            [b']', behind @ ..] if !ranges.is_empty() => return Some((Token::Set(ranges, negated), behind)),
            [from, b'-', to, behind @ ..] if *to != b']' => {
                ranges.push((*from, *to));
                rest = behind;
            }
            [byte, behind @ ..] => {
                ranges.push((*byte, *byte));
                rest = behind;
            }
            [] => return None,
        }
    }
}

/// Whether the whole of `name` matches. The last `*` is the only one that ever needs to be tried again, so the time is
/// bounded by the product of both lengths.
fn matches(tokens: &[Token], name: &[u8]) -> bool {
    let (mut token, mut at) = (0, 0);
    let mut again: Option<(usize, usize)> = None;
    while at < name.len() {
        let fits = match tokens.get(token) {
            Some(Token::Many) => {
                again = Some((token + 1, at));
                token += 1;
                continue;
            }
            Some(Token::One) => true,
            Some(Token::Byte(byte)) => *byte == name[at],
            Some(Token::Set(ranges, negated)) => {
                ranges.iter().any(|(from, to)| (*from..=*to).contains(&name[at])) != *negated
            }
            None => false,
        };
        if fits {
            token += 1;
            at += 1;
        } else if let Some((behind, start)) = again {
            again = Some((behind, start + 1));
            token = behind;
            at = start + 1;
        } else {
            return false;
        }
    }
    tokens[token..].iter().all(|token| *token == Token::Many)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::new(Path::new(text)).unwrap()
    }

    fn depth(text: &str, path: &str) -> Option<usize> {
        pattern(text).find(Path::new(path)).depth
    }

    #[test]
    fn names_match_as_in_a_shell() {
        for (glob, yes, no) in [
            (".env*", &[".env", ".env.local", ".environment"][..], &["env", "x.env"][..]),
            ("*.pem", &["a.pem", ".pem", "a.b.pem", "*.pem"], &["pem", "a.pem.txt", "a.PEM"]),
            ("?[0-9]", &["a1", "\u{1}9"], &["1", "a", "a12", "ab"]),
            ("[!a-c]x", &["dx"], &["ax", "x"]),
            ("[]]", &["]"], &["[", "[]"]),
            ("a*b*c", &["abc", "aXbYbZc"], &["ab", "acb"]),
            ("\\*", &["*"], &["a"]),
        ] {
            let part = tokens(glob.as_bytes()).unwrap();
            for name in yes {
                assert!(matches(&part, name.as_bytes()), "{glob} {name}");
            }
            for name in no {
                assert!(!matches(&part, name.as_bytes()), "{glob} {name}");
            }
        }
    }

    #[test]
    fn many_stars_take_no_time() {
        let part = tokens("*a".repeat(40).as_bytes()).unwrap();
        assert!(!matches(&part, "a".repeat(39).as_bytes()));
        assert!(matches(&part, "a".repeat(255).as_bytes()));
    }

    #[test]
    fn the_deepest_match_counts() {
        assert_eq!(depth("/**/.env*", "/w/.env"), Some(2));
        assert_eq!(depth("/**/.env*", "/.env"), Some(1));
        assert_eq!(depth("/**/.env*", "/w/.env/a/.envy/b"), Some(4));
        assert_eq!(depth("/**/.env*", "/w/env"), None);
        assert_eq!(depth("/w/*.d/x", "/w/a.d/x/y"), Some(3));
        assert_eq!(depth("/w/*.d/x", "/w/a.d/y"), None);
        assert_eq!(depth("/w/**", "/w/a/b"), Some(3));
        assert_eq!(depth("/w/**", "/v"), None);
    }

    #[test]
    fn the_way_to_a_match_is_known() {
        let on_the_way = |text: &str, path: &str| pattern(text).find(Path::new(path)).is_on_the_way;
        assert!(on_the_way("/**/.git/hooks/x", "/w/.git"));
        assert!(on_the_way("/**/.git/hooks/x", "/w/.git/hooks"));
        assert!(!on_the_way("/**/.git/hooks/x", "/w/.git/hooks/x"));
        assert!(!on_the_way("/**/.git/hooks/x", "/w"));
        assert!(!on_the_way("/**/.env*", "/w"));
        assert!(on_the_way("/w/*.d/x", "/w"));
        assert!(on_the_way("/w/*.d/x", "/w/a.d"));
        assert!(!on_the_way("/w/**/x", "/w/a"));
        assert!(!on_the_way("/v/*.d/x", "/w"));
    }

    #[test]
    fn places_that_are_alike_have_the_same_next_parts() {
        let next = |text: &str, path: &str| pattern(text).find(Path::new(path)).next;
        assert_eq!(next("/**/.env", "/w/a"), next("/**/.env", "/tmp"));
        assert_ne!(next("/w/**/.env", "/w/a"), next("/w/**/.env", "/tmp"));
        assert_eq!(next("/w/**/.env", "/w/a"), next("/w/**/.env", "/w/b/c"));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["/**", "/", "/**/**", "/a/../b*", "/a/[b", "/a*\\"] {
            assert!(Pattern::new(Path::new(text)).is_err(), "{text}");
        }
        assert!(pattern("/**/*").matches_everything() && !pattern("/a/**").matches_everything());
        assert_eq!(pattern("/a/b*/c").base(), Path::new("/a"));
        assert_eq!(pattern("/a/b").base(), Path::new("/a"));
        assert_eq!(pattern("/**/b").base(), Path::new("/"));
        assert!(
            pattern("/a/\\*").is_exact() && depth("/a/\\*", "/a/*") == Some(2) && depth("/a/\\*", "/a/b").is_none()
        );
        assert!(pattern("/a/b").is_exact() && !pattern("/a/*").is_exact());
    }
}
