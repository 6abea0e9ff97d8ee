//! What a test is, and what comes of it.

use sentry_tests::oci::Stand;

/// How strongly the specification asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Must,
    Should,
}

impl Level {
    pub fn word(self) -> &'static str {
        match self {
            Self::Must => "MUST",
            Self::Should => "SHOULD",
        }
    }
}

/// Why a test did not pass.
#[derive(Clone, Debug)]
pub enum Unmet {
    /// The runtime does something else.
    Failed(String),
    /// It cannot be tried here, by this user, or with this runtime.
    NotApplicable(String),
}

impl From<String> for Unmet {
    fn from(why: String) -> Self {
        Self::Failed(why)
    }
}

pub type Verdict = Result<(), Unmet>;

/// One sentence of the specification, and how it is tried.
pub struct Test {
    pub id: &'static str,
    /// The document and the section.
    pub place: &'static str,
    pub level: Level,
    /// What is asked, in short.
    pub asks: &'static str,
    /// The first release of the specification that has it.
    pub since: &'static str,
    pub run: fn(&Stand) -> Verdict,
}

impl Test {
    /// The same, for a sentence that is newer than the first releases.
    pub const fn since(self, release: &'static str) -> Self {
        Self { since: release, ..self }
    }
}

/// A sentence with MUST, REQUIRED or a definition that all depend on.
pub const fn must(id: &'static str, place: &'static str, asks: &'static str, run: fn(&Stand) -> Verdict) -> Test {
    Test { id, place, level: Level::Must, asks, since: "1.0", run }
}

/// A sentence with SHOULD.
pub const fn should(id: &'static str, place: &'static str, asks: &'static str, run: fn(&Stand) -> Verdict) -> Test {
    Test { id, place, level: Level::Should, asks, since: "1.0", run }
}

/// Fails the test unless a condition holds.
#[macro_export]
macro_rules! ensure {
    ($condition:expr, $($why:tt)+) => {
        if !$condition {
            return Err($crate::verdict::Unmet::Failed(format!($($why)+)));
        }
    };
}

/// Fails the test unless two values are equal.
#[macro_export]
macro_rules! same {
    ($left:expr, $right:expr, $what:expr) => {{
        let (left, right) = (&$left, &$right);
        if *left != *right {
            let (left, right) = ($crate::verdict::plain(&left), $crate::verdict::plain(&right));
            return Err($crate::verdict::Unmet::Failed(format!("{}: {left} instead of {right}", $what)));
        }
    }};
}

/// A value as JSON would have it, whatever it is wrapped in.
pub fn plain(value: &dyn std::fmt::Debug) -> String {
    let mut text = format!("{value:?}");
    for wrapper in ["Number(", "String(", "Bool("] {
        while let Some(start) = text.find(wrapper) {
            let Some(length) = text[start..].find(')') else { break };
            text.remove(start + length);
            text.replace_range(start..start + wrapper.len(), "");
        }
    }
    text
}

/// Ends a test that cannot be tried.
pub fn not_applicable(why: &str) -> Verdict {
    Err(Unmet::NotApplicable(why.to_owned()))
}
