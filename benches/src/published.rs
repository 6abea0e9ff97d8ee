//! What others published, from a file of quotations.
//!
//! A figure has a source, a machine, and a word about how far it could be checked. It is text and never a number here, so
//! that nothing can calculate with it.

use anyhow::Context;
use serde::Deserialize;

/// One figure, as quoted.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figure {
    /// Who was measured, against whom.
    pub system: String,
    /// At what.
    pub what: String,
    /// What was found, in the source's words or numbers.
    pub figure: String,
    /// Where.
    pub machine: String,
    /// By whom, and where that is written.
    pub source: String,
    /// Where to read it.
    pub url: String,
    /// How far it could be checked.
    pub read: String,
    /// What of ours comes nearest.
    pub beside: Option<Beside>,
}

/// A line of our own results.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Beside {
    /// The question's name.
    pub question: String,
    /// The subject's name.
    pub subject: String,
}

#[derive(Deserialize)]
struct File {
    figure: Vec<Figure>,
}

/// All figures.
pub fn figures() -> anyhow::Result<Vec<Figure>> {
    let file: File = toml::from_str(include_str!("../published.toml")).context("published.toml")?;
    Ok(file.figure)
}

/// As a Markdown table.
pub fn markdown(figures: &[Figure]) -> String {
    let mut text = "Quoted; none of it was measured here.\n\n| system | what | figure | machine | source |\n|---|---|---|---|---|\n".to_owned();
    for Figure { system, what, figure, machine, source, url, read, .. } in figures {
        text.push_str(&format!("| {system} | {what} | {figure} | {machine} | [{source}]({url}); {read} |\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_figure_has_a_source_and_says_how_far_it_was_checked() {
        let figures = figures().unwrap();
        assert!(figures.len() >= 6);
        for figure in &figures {
            for word in [&figure.system, &figure.what, &figure.figure, &figure.machine, &figure.source, &figure.read] {
                assert!(!word.is_empty() && !word.contains('|'), "{figure:?}");
            }
            assert!(figure.url.starts_with("https://"), "{figure:?}");
        }
        assert_eq!(markdown(&figures).lines().count(), figures.len() + 4);
    }
}
