//! Text on the page: names, code, what is too long.

use maud::{Markup, html};

use crate::record::Role;

/// What a role is called in the style.
pub fn class(role: Role) -> &'static str {
    match role {
        Role::Native => "native",
        Role::Control => "control",
        Role::Ours => "ours",
        Role::Peer => "peer",
        Role::Mechanism => "mechanism",
    }
}

/// What is between backticks becomes code.
pub fn code(text: &str) -> Markup {
    html! {
        @for (place, part) in text.split('`').enumerate() {
            @if place % 2 == 1 { code { (part) } } @else { (part) }
        }
    }
}

/// A name that is broken between words only: an option keeps its hyphens.
pub fn unbroken(text: &str) -> Markup {
    html! {
        @for word in text.split(' ') { span class="word" { (word) } " " }
    }
}

/// The same without backticks.
pub fn plain(text: &str) -> String {
    text.replace('`', "")
}

/// No more than `letters` of a text.
pub fn short(text: &str, letters: usize) -> String {
    if text.chars().count() <= letters {
        return text.to_owned();
    }
    let kept: String = text.chars().take(letters.saturating_sub(1)).collect();
    format!("{}\u{2026}", kept.trim_end())
}

/// What became of somebody without an answer, in a word or two: a run may leave out what would take it too long.
pub fn fate(why: &str) -> &'static str {
    if why.starts_with("left out") { "left out" } else { "failed" }
}

/// The same with the reason.
pub fn fate_told(why: &str) -> String {
    if fate(why) == "failed" { format!("failed: {why}") } else { why.to_owned() }
}

/// A name as an anchor: letters, digits and hyphens.
pub fn anchor(text: &str) -> String {
    let letters =
        text.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter.to_ascii_lowercase() } else { '-' });
    letters.collect()
}

/// With a capital letter, for headings.
pub fn heading(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backticks_make_code_and_nothing_makes_markup() {
        assert_eq!(code("`a<b` & c").into_string(), "<code>a&lt;b</code> &amp; c");
        assert_eq!(plain("`a` b"), "a b");
    }

    #[test]
    fn long_names_are_cut_between_letters() {
        assert_eq!(short("\u{e4}\u{f6}\u{fc}", 3), "\u{e4}\u{f6}\u{fc}");
        assert_eq!(short("\u{e4}\u{f6}\u{fc}x", 3), "\u{e4}\u{f6}\u{2026}");
    }

    #[test]
    fn who_was_left_out_did_not_fail() {
        assert_eq!(fate_told("left out: too long"), "left out: too long");
        assert_eq!(fate_told("it broke"), "failed: it broke");
    }

    #[test]
    fn anchors_and_headings() {
        assert_eq!(
            (anchor("many at once"), heading("many at once")),
            ("many-at-once".to_owned(), "Many at once".to_owned())
        );
    }
}
