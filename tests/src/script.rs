//! Scripts of syscalls about files, to be run in two worlds and compared.
//!
//! A script is text, one call a line, so that one that showed a difference can be kept and run again:
//!
//! ```text
//! 0 openat cwd "d/new" 0x241 0x1a4
//! 1 chdir "d"
//! 1 renameat2 cwd "new" #0 "%0" 0x1
//! ```
//!
//! The first word is the thread that makes the call: 0 is the main one, 1 has a working directory and a umask of its own,
//! 2 has descriptors of its own as well. In paths, `%0` is the number of the descriptor that the first successful open
//! gave, and a path that begins with `$` begins at the script's own directory.

use std::fmt;
use std::str::FromStr;

/// One argument of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arg {
    /// A register as it stands.
    Number(u64),
    /// `AT_FDCWD`.
    Cwd,
    /// What the nth successful open gave; a descriptor that is not open if there was none.
    Slot(usize),
    /// A path.
    Path(String),
    /// A null pointer.
    Null,
    /// A pointer to nothing.
    Bad,
    /// Where the kernel writes; what it wrote is part of the result.
    Out,
    /// `struct open_how`: flags, mode, resolve.
    How([u64; 3]),
    /// Two `struct timespec`.
    Times([i64; 4]),
    /// Bytes, such as the value of an attribute.
    Bytes(String),
    /// `struct xattr_args` about the buffer: size and flags.
    Attribute([u32; 2]),
    /// An access control list with an entry for this user; -1 is the caller itself.
    List(i64),
    /// The caller's user id.
    Own,
}

/// One call of one thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// 0, 1 or 2.
    pub thread: usize,
    /// A syscall; or `bind-path` and `connect-path`, which make a socket first.
    pub call: String,
    /// Its arguments.
    pub args: Vec<Arg>,
}

/// A whole script.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Script(pub Vec<Step>);

impl fmt::Display for Arg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number:#x}"),
            Self::Cwd => f.write_str("cwd"),
            Self::Slot(number) => write!(f, "#{number}"),
            Self::Path(path) => write!(f, "\"{path}\""),
            Self::Null => f.write_str("null"),
            Self::Bad => f.write_str("bad"),
            Self::Out => f.write_str("out"),
            Self::How([flags, mode, resolve]) => write!(f, "how:{flags}:{mode}:{resolve}"),
            Self::Times([a, b, c, d]) => write!(f, "times:{a}:{b}:{c}:{d}"),
            Self::Bytes(text) => write!(f, "bytes:{text}"),
            Self::Attribute([size, flags]) => write!(f, "attribute:{size}:{flags}"),
            Self::List(user) => write!(f, "list:{user}"),
            Self::Own => f.write_str("own"),
        }
    }
}

/// What a line says that is not a script.
#[derive(Debug)]
pub struct NotAScript(pub String);

fn numbers<T: FromStr, const N: usize>(text: &str) -> Option<[T; N]> {
    let numbers: Vec<T> = text.split(':').map(|number| number.parse().ok()).collect::<Option<_>>()?;
    numbers.try_into().ok()
}

impl FromStr for Arg {
    type Err = NotAScript;

    fn from_str(word: &str) -> Result<Self, NotAScript> {
        let (kind, rest) = word.split_once(':').unwrap_or((word, ""));
        let parsed = match kind {
            "cwd" => Some(Self::Cwd),
            "null" => Some(Self::Null),
            "bad" => Some(Self::Bad),
            "out" => Some(Self::Out),
            "own" => Some(Self::Own),
            "how" => numbers(rest).map(Self::How),
            "times" => numbers(rest).map(Self::Times),
            "bytes" => Some(Self::Bytes(rest.to_owned())),
            "attribute" => numbers(rest).map(Self::Attribute),
            "list" => rest.parse().ok().map(Self::List),
            _ if word.starts_with('"') => Some(Self::Path(word.trim_matches('"').to_owned())),
            _ => match (word.strip_prefix('#'), word.strip_prefix("0x")) {
                (Some(slot), _) => slot.parse().ok().map(Self::Slot),
                (_, Some(number)) => u64::from_str_radix(number, 16).ok().map(Self::Number),
                _ => None,
            },
        };
        parsed.ok_or_else(|| NotAScript(word.to_owned()))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.thread, self.call)?;
        self.args.iter().try_for_each(|arg| write!(f, " {arg}"))
    }
}

impl FromStr for Step {
    type Err = NotAScript;

    fn from_str(line: &str) -> Result<Self, NotAScript> {
        let mut words = line.split(' ');
        let wrong = || NotAScript(line.to_owned());
        let thread = words.next().and_then(|word| word.parse().ok()).filter(|thread| *thread < 3).ok_or_else(wrong)?;
        let call = words.next().ok_or_else(wrong)?.to_owned();
        let args = words.map(str::parse).collect::<Result<_, _>>()?;
        Ok(Self { thread, call, args })
    }
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|step| writeln!(f, "{step}"))
    }
}

impl FromStr for Script {
    type Err = NotAScript;

    fn from_str(text: &str) -> Result<Self, NotAScript> {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        lines.map(str::parse).collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_survives_being_written_down() {
        let text = "0 openat2 cwd \"d/%0\" how:577:420:8 0x18\n1 utimensat #2 null times:1:2:-1:4 0x0\n\
                    2 setxattr \"$/f\" bytes:user.x list:-1 0x2c 0x0\n0 getxattrat cwd bad 0x0 bytes:u attribute:9:0 own\n";
        let script: Script = text.parse().expect("a script");
        assert_eq!(script.to_string(), text);
        assert!("0 open what".parse::<Script>().is_err() && "3 open".parse::<Script>().is_err());
    }
}
