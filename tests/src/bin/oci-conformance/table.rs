//! The documents' table: several runs side by side, counts first, then every test whose verdicts differ.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::Value;

/// One run, as it was kept.
struct Run {
    header: Value,
    verdicts: BTreeMap<String, Value>,
    order: Vec<String>,
}

pub fn print(files: &[PathBuf]) -> Result<()> {
    let runs = files.iter().map(read).collect::<Result<Vec<_>>>()?;
    print!("{}", drawn(&runs));
    Ok(())
}

fn read(file: &PathBuf) -> Result<Run> {
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let mut run = Run { header: Value::Null, verdicts: BTreeMap::new(), order: Vec::new() };
    for line in text.lines() {
        let record: Value = serde_json::from_str(line).with_context(|| file.display().to_string())?;
        if record["record"] == "run" {
            run.header = record;
        } else if let Some(id) = record["id"].as_str() {
            run.order.push(id.to_owned());
            run.verdicts.insert(id.to_owned(), record);
        }
    }
    Ok(run)
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

fn drawn(runs: &[Run]) -> String {
    let mut page = String::from(
        "| runtime | version | as | passed | failed | not applicable | MUST of 1.0 passed | MUST of 1.1 and 1.2 passed |\n|---|---|---|---:|---:|---:|---:|---:|\n",
    );
    for run in runs {
        let count = |word: &str| run.verdicts.values().filter(|test| text(test, "verdict") == word).count();
        let must = |old: bool| {
            let asked = |test: &&Value| text(test, "level") == "MUST" && (text(test, "since") == "1.0") == old;
            let with =
                |word: &str| run.verdicts.values().filter(asked).filter(|test| text(test, "verdict") == word).count();
            format!("{} of {}", with("pass"), with("pass") + with("fail"))
        };
        page += &format!(
            "| {} | {} | {} | {} | {} | {} | {} | {} |\n",
            text(&run.header, "runtime"),
            text(&run.header, "version"),
            text(&run.header, "user"),
            count("pass"),
            count("fail"),
            count("n/a"),
            must(true),
            must(false)
        );
    }
    page += "\nWhere they differ, or somebody fails:\n\n| test | asked by | what is asked |";
    for run in runs {
        page += &format!(" {} |", who(run));
    }
    page += &format!("\n|---|---|---|{}\n", "---|".repeat(runs.len()));
    let mut notes: Vec<String> = Vec::new();
    for id in runs.first().map(|run| run.order.as_slice()).unwrap_or_default() {
        let verdicts: Vec<&str> =
            runs.iter().map(|run| run.verdicts.get(id).map_or("-", |test| text(test, "verdict"))).collect();
        if !verdicts.contains(&"fail") {
            continue;
        }
        let Some(test) = runs[0].verdicts.get(id) else { continue };
        page += &format!(
            "| `{id}` | {} ({}), {} | {} |",
            text(test, "level"),
            text(test, "since"),
            text(test, "place"),
            text(test, "asks")
        );
        for (verdict, run) in verdicts.iter().zip(runs) {
            let why = run.verdicts.get(id).map_or("", |test| text(test, "why"));
            page += &if *verdict == "fail" {
                format!(" **fail** {} |", note(&mut notes, why))
            } else {
                format!(" {verdict} |")
            };
        }
        page += "\n";
    }
    page += "\nWhat was seen there:\n\n";
    for (number, why) in notes.iter().enumerate() {
        page += &format!("{}. {why}\n", number + 1);
    }
    page += "\nNot applicable:\n\n";
    // One reason often holds for several runs, and for several tests in each.
    let mut reasons: BTreeMap<(&str, String), Vec<String>> = BTreeMap::new();
    for id in runs.first().map(|run| run.order.as_slice()).unwrap_or_default() {
        let mut by_reason: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for run in runs {
            if let Some(test) = run.verdicts.get(id).filter(|test| text(test, "verdict") == "n/a") {
                by_reason.entry(text(test, "why")).or_default().push(who(run));
            }
        }
        for (why, whom) in by_reason {
            reasons.entry((why, whom.join("; "))).or_default().push(format!("`{id}`"));
        }
    }
    for ((why, whom), ids) in reasons {
        page += &format!("- {why}: {} ({whom})\n", ids.join(", "));
    }
    page
}

fn who(run: &Run) -> String {
    format!("{}{}", text(&run.header, "runtime"), if text(&run.header, "user") == "root" { "" } else { ", rootless" })
}

/// The number of a remark, which is kept once however often it is made.
fn note(notes: &mut Vec<String>, why: &str) -> String {
    let plain = plain(why);
    let at = notes.iter().position(|known| *known == plain).unwrap_or_else(|| {
        notes.push(plain);
        notes.len() - 1
    });
    format!("({})", at + 1)
}

/// A runtime's words without what differs from run to run, in one line that a table can hold.
fn plain(why: &str) -> String {
    // runc writes a log; its last line is the error.
    let (start, log) = why.split_once("time=\"").unwrap_or((why, ""));
    let said = log.rsplit_once(" msg=").map_or("", |(_, said)| said).trim_matches('"').replace("\\\"", "\"");
    let line = format!("{start}{said}");
    let words = line
        .split_whitespace()
        .map(|word| if word.contains("/oci-conformance") { shortened(word) } else { word.to_owned() });
    let line = words.collect::<Vec<_>>().join(" ").replace('|', "\\|").replace('`', "'");
    if line.chars().count() > 220 { line.chars().take(220).collect::<String>() + " ..." } else { line }
}

/// A path below the run's directory, without the directory.
fn shortened(word: &str) -> String {
    let Some(at) = word.find("/oci-conformance") else { return word.to_owned() };
    let start = word[..at]
        .rfind(|letter: char| !letter.is_alphanumeric() && !"/._-".contains(letter))
        .map_or(0, |before| before + 1);
    let rest = word[at + 1..].split_once('/').map_or("", |(_, rest)| rest);
    let rest = rest.split_once('/').map_or("", |(_, rest)| rest);
    format!("{}BUNDLE/{rest}", &word[..start])
}
