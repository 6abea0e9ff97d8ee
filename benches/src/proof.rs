//! Proof that a subject ran its guest.
//!
//! A sandbox that ends at once with success and runs nothing would be the fastest of all. So each sample carries a token of
//! its own, and counts only if what can be computed from it by `micro` comes back: as a word behind the number, or, where
//! not even a pipe may be paid for, as the exit code.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

/// Exit codes that say something else end below; 255 is above.
const FIRST_CODE: u64 = 200;
const CODES: u64 = 50;

/// What one sample has to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token(u64);

impl Token {
    /// One that nobody has seen before; chance will do, for nobody here is an enemy.
    pub fn new() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(mixed(now.as_secs().rotate_left(32) ^ u64::from(now.subsec_nanos()) ^ u64::from(std::process::id()) << 40))
    }

    /// The one for the next run under the same token.
    #[must_use]
    pub fn next(self) -> Self {
        Self(mixed(self.0))
    }

    /// The word that `micro` answers a question with.
    pub fn word(self, question: &str) -> String {
        let seen = question.bytes().fold(self.0, |seen, byte| mixed(seen ^ u64::from(byte)));
        format!("{seen:016x}")
    }

    /// The code that `micro` ends with.
    pub fn exit_code(self) -> u8 {
        u8::try_from(FIRST_CODE + mixed(self.0) % CODES).unwrap_or(u8::MAX)
    }
}

impl Default for Token {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for Token {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u64::from_str_radix(text, 16).map(Self)
    }
}

/// What stands in a command for a word that no other start has.
const UNIQUE: &str = "{unique}";

/// A word of a command for one start: `{unique}` becomes something that no other start has.
pub fn filled_in(word: &OsStr, token: Token) -> OsString {
    match word.to_str() {
        Some(text) if text.contains(UNIQUE) => text.replace(UNIQUE, &token.to_string()).into(),
        _ => word.to_owned(),
    }
}

/// splitmix64: every bit of the number matters to every bit of the result.
fn mixed(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_a_command_line() {
        let token = Token::new();
        assert_eq!(token.to_string().parse(), Ok(token));
    }

    #[test]
    fn every_question_and_turn_wants_another_proof() {
        let token = Token::new();
        assert_ne!(token.word("open"), token.word("stat"));
        assert_ne!(token.word("open"), token.next().word("open"));
        assert_ne!(token.word("open"), token.to_string());
    }

    #[test]
    fn each_start_has_words_of_its_own() {
        let token = Token(1);
        assert_eq!(filled_in("--name={unique}".as_ref(), token), format!("--name={token}").as_str());
        assert_eq!(filled_in("{other}".as_ref(), token), "{other}");
    }

    #[test]
    fn no_code_is_one_that_failures_have() {
        let mut token = Token(7);
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..1000 {
            token = token.next();
            assert!((200..250).contains(&token.exit_code()));
            seen.insert(token.exit_code());
        }
        assert!(seen.len() > 40, "a sandbox that always ends the same way must not be right by luck: {seen:?}");
    }
}
