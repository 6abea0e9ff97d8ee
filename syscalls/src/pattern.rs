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
    /// It ended in `**`: what lies beneath is meant, not the place itself.
    beneath: bool,
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
    /// How near to the path the pattern comes, at most: twice the number of leading components that it matches, and one
    /// more if it is about all that lies beneath those.
    pub near: Option<usize>,
    /// Whether something beneath the path could still match by what named components of the pattern have matched.
    pub is_on_the_way: bool,
    /// The parts of the pattern that may come next, as a set of bits: where the same directory lies decides what is matched
    /// beneath it.
    pub next: u64,
}

/// How far a pattern has come along a path.
#[derive(Clone, Copy, Debug)]
pub struct Reached {
    live: u64,
    depth: usize,
    /// See [`Match::near`].
    pub near: Option<usize>,
    is_the_place: bool,
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
        let beneath = parts.pop_if(|last| *last == Part::Any).is_some();
        if parts.len() > LONGEST {
            return Err("a pattern has at most 60 components");
        }
        match parts[..] {
            [] => Err("it matches everything"),
            _ => Ok(Self { parts, beneath }),
        }
    }

    /// Whether it is a plain path, without wildcards.
    pub fn is_exact(&self) -> bool {
        !self.beneath && self.parts.iter().all(|part| matches!(part, Part::Name(_)))
    }

    /// The same pattern with `to` in the place of `from`, which it begins with.
    pub fn rebased(&self, from: &Path, to: &Path) -> Option<Self> {
        let names = |path: &Path| path.components().filter(|part| matches!(part, Component::Normal(_))).count();
        let rest = self.parts.get(names(from)..)?;
        let begins = to.components().filter_map(|component| match component {
            Component::Normal(name) => Some(Part::Name(name.as_bytes().to_vec())),
            _ => None,
        });
        let parts: Vec<Part> = begins.chain(rest.iter().cloned()).collect();
        (parts.len() <= LONGEST).then_some(Self { parts, beneath: self.beneath })
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

    /// What it says of `path`, which is absolute, without `..` and doubled slashes.
    pub fn find(&self, path: &Path) -> Match {
        let reached = self.along(path);
        let next = reached.live & !self.end();
        // Parts before the first named one are matched by whatever path there is.
        let leading = self.parts.iter().take_while(|part| **part == Part::Any).count();
        let free = (1_u64 << (leading + 1)) - 1;
        // Beneath `a/**` everything is alike; what comes behind is reached from anywhere there.
        let resting = (0..self.parts.len()).filter(|index| self.parts[*index] == Part::Any);
        let anywhere = resting.fold(0, |set, index| set | (1 << index) | (1 << (index + 1)));
        let is_on_the_way = next & !free & !anywhere != 0 || reached.is_the_place;
        Match { near: reached.near, is_on_the_way, next }
    }

    /// How far it comes along `path`.
    pub fn along(&self, path: &Path) -> Reached {
        let start = Reached { live: self.skip_any(1), depth: 0, near: None, is_the_place: false };
        let names = path.as_os_str().as_bytes().split(|byte| *byte == b'/').filter(|name| !name.is_empty());
        names.fold(start, |reached, name| self.one_more(reached, name))
    }

    /// How far it comes with one more name.
    pub fn one_more(&self, reached: Reached, name: &[u8]) -> Reached {
        let depth = reached.depth + 1;
        // What lies in the place is beneath it.
        let near = if reached.is_the_place { Some(2 * reached.depth + 1) } else { reached.near };
        if reached.live == 0 {
            return Reached { depth, near, is_the_place: false, ..reached };
        }
        let live = self.after(reached.live, name);
        let whole = live & self.end() != 0;
        let near = if whole && !self.beneath { Some(2 * depth) } else { near };
        Reached { live, depth, near, is_the_place: whole && self.beneath }
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

    fn near(text: &str, path: &str) -> Option<usize> {
        pattern(text).find(Path::new(path)).near
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
        assert_eq!(near("/**/.env*", "/w/.env"), Some(4));
        assert_eq!(near("/**/.env*", "/.env"), Some(2));
        assert_eq!(near("/**/.env*", "/w/.env/a/.envy/b"), Some(8));
        assert_eq!(near("/**/.env*", "/w/env"), None);
        assert_eq!(near("/w/*.d/x", "/w/a.d/x/y"), Some(6));
        assert_eq!(near("/w/*.d/x", "/w/a.d/y"), None);
    }

    #[test]
    fn all_beneath_a_place_is_a_little_nearer_than_the_place() {
        assert_eq!(near("/w/**", "/w/a/b"), Some(3));
        assert_eq!(near("/w", "/w/a/b"), Some(2));
        assert_eq!(near("/**/x/**", "/w/x/b/x/c"), Some(9));
        assert_eq!(near("/w/**", "/w"), None);
        assert_eq!(near("/w/**", "/v"), None);
        let found = pattern("/w/keys/**").find(Path::new("/w/keys"));
        assert!(found.is_on_the_way, "moving it would free what is in it");
        assert!(!pattern("/w/keys/**").is_exact());
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
        let moved = pattern("/a/b*").rebased(Path::new("/a"), Path::new("/x/y"));
        assert_eq!(moved, Some(pattern("/x/y/b*")));
        assert_eq!(pattern("/**/b").base(), Path::new("/"));
        assert_eq!(pattern("/a/b/**").base(), Path::new("/a/b"));
        assert!(pattern("/a/\\*").is_exact() && near("/a/\\*", "/a/*") == Some(4) && near("/a/\\*", "/a/b").is_none());
        assert!(pattern("/a/b").is_exact() && !pattern("/a/*").is_exact());
    }
}
