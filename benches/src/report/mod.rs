//! One self-contained page for people: what was promised, charts with their intervals, tables, the machine, the raw data.
//!
//! The page asks nobody for anything: style and charts are in it, there is no script, and the results files hang on it as
//! links that carry their data. All that comes from a results file is escaped.

mod axis;
mod base64;
mod dots;
mod heat;
mod sections;
mod series;
mod studies;
mod words;

use std::path::Path;

use anyhow::Context;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::published::Figure;
use crate::results::Results;
use crate::tables;
use crate::targets;

/// One results file.
#[derive(Clone, Debug)]
pub struct Source {
    /// The file's name, for the download.
    pub name: String,
    /// As it is on disk.
    pub raw: Vec<u8>,
    /// What it says.
    pub results: Results,
}

impl Source {
    /// Reads it.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let raw = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let results =
            Results::read(raw.as_slice()).with_context(|| format!("{} is not a results file", path.display()))?;
        let name =
            path.file_name().map_or_else(|| "results.jsonl".to_owned(), |name| name.to_string_lossy().into_owned());
        Ok(Self { name, raw, results })
    }
}

const STYLE: &str = include_str!("style.css");

/// The page.
pub fn page(sources: &[Source], published: &[Figure]) -> String {
    let studies: Vec<&Results> = sources.iter().map(|source| &source.results).collect();
    let targets = targets::of(&studies);
    let html = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { "What interposition costs" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                a class="skip" href="#promises" { "Skip to the results" }
                header {
                    h1 { "What interposition costs" }
                    (sections::lead(&studies))
                    (contents(&studies))
                }
                main {
                    (sections::warnings(&studies))
                    (sections::promises(&targets))
                    @for results in &studies { (studies::study(results)) }
                    (sections::published(published, &studies))
                    (sections::absent(&studies))
                    (sections::method(&studies))
                    (sections::machine(&studies))
                    (sections::data(sources))
                }
            }
        }
    };
    html.into_string()
}

fn contents(studies: &[&Results]) -> Markup {
    html! {
        nav aria-label="contents" { ul {
            li { a href="#promises" { "Promises" } }
            @for results in studies {
                @for group in studies::groups(results) {
                    li { a href={ "#" (studies::place(results, group)) } { (words::heading(group)) } }
                }
            }
            li { a href="#published" { "Published figures" } }
            li { a href="#absent" { "Failures" } }
            li { a href="#method" { "Method" } }
            li { a href="#machine" { "Machine" } }
            li { a href="#data" { "Data" } }
        } }
    }
}

/// The same as Markdown, tables only.
pub fn markdown(sources: &[Source], published: &[Figure]) -> String {
    let studies: Vec<&Results> = sources.iter().map(|source| &source.results).collect();
    let mut text = format!("# What interposition costs\n\n## Promises\n\n{}\n", targets::markdown(&studies));
    for results in &studies {
        for group in studies::groups(results) {
            let heading = words::heading(group);
            text.push_str(&format!("## {heading} ({})\n\n{}\n", results.run.study, tables::of_group(results, group)));
        }
    }
    text.push_str(&format!("## Published figures\n\n{}", crate::published::markdown(published)));
    let absent = sections::absences(&studies);
    if !absent.is_empty() {
        text.push_str("\n## Who is missing or failed\n\n");
    }
    for absence in absent {
        text.push_str(&format!("- {}, {}: {}\n", absence.subject, absence.what, absence.why));
    }
    text
}
