//! `sentry-bench`: what a sandbox costs, each subject against native in the same round.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use clap::{Parser, Subcommand};
use sentry_benches::place::Place;
use sentry_benches::questions::{self, Question};
use sentry_benches::results::{Results, Row};
use sentry_benches::subjects::{self, Subject};
use sentry_benches::tables;

/// Measure what sandboxes cost on this machine.
#[derive(Parser)]
#[command(name = "sentry-bench", version)]
struct Cli {
    /// Rounds; each asks every subject every question once.
    #[arg(long, default_value_t = 15)]
    rounds: usize,
    /// Few rounds.
    #[arg(long)]
    quick: bool,
    /// Only these questions.
    #[arg(long)]
    question: Vec<String>,
    /// Only these subjects, and native.
    #[arg(long)]
    subject: Vec<String>,
    /// Add the rounds to those that the results file already has, of the same questions and subjects.
    #[arg(long)]
    more: bool,
    /// The sentry to measure.
    #[arg(long, default_value = "target/sentry")]
    sentry: PathBuf,
    /// As root: the ordinary user that subjects run as.
    #[arg(long)]
    user: Option<String>,
    /// Where the results go.
    #[arg(long, default_value = "benches/results/latest.json")]
    json: PathBuf,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Subcommand)]
enum Verb {
    /// Print the tables of a results file.
    Table {
        /// The results.
        results: PathBuf,
    },
    /// Put tables into a file, between markers such as `<!-- numbers main -->` and `<!-- /numbers -->`.
    Readme {
        /// The file with the markers.
        file: PathBuf,
        /// The results.
        results: PathBuf,
    },
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    match &cli.verb {
        Some(Verb::Table { results }) => show(&load(results)?),
        Some(Verb::Readme { file, results }) => rewrite(file, &load(results)?),
        None => measure(&cli),
    }
}

fn print(text: &str) -> anyhow::Result<()> {
    Ok(std::io::stdout().write_all(text.as_bytes())?)
}

fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn load(path: &Path) -> anyhow::Result<Results> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is not a results file", path.display()))
}

fn show(results: &Results) -> anyhow::Result<()> {
    for table in tables::ALL {
        print(&format!("{}\n", table.markdown(results)))?;
    }
    results.promises().iter().try_for_each(|promise| print(&format!("- {promise}\n")))
}

fn rewrite(file: &Path, results: &Results) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let new = tables::rewritten(&text, results).with_context(|| format!("cannot rewrite {}", file.display()))?;
    Ok(std::fs::write(file, new)?)
}

fn chosen<'a, T>(all: impl IntoIterator<Item = T>, names: &[String], name: impl Fn(&T) -> &'a str) -> Vec<T> {
    let wanted = |item: &T| names.is_empty() || names.iter().any(|wanted| wanted == name(item));
    all.into_iter().filter(wanted).collect()
}

fn measure(cli: &Cli) -> anyhow::Result<()> {
    let place = Place::new(cli.user.as_deref(), &cli.sentry)?;
    let directory = place.directory.to_string_lossy().into_owned();
    let mut names = cli.subject.clone();
    if !names.is_empty() {
        names.push("native".to_owned());
    }
    let subjects = chosen(subjects::all(&format!("{directory}/sentry"), &directory), &names, |subject| subject.name);
    let asked: Vec<&Question> = chosen(questions::ALL, &cli.question, |question| question.name);
    let mut results = if cli.more && cli.json.exists() {
        load(&cli.json)?
    } else {
        Results { machine: machine(), date: date(), rounds: 0, rows: Vec::new() }
    };
    let had = results.rows.len();
    for question in &asked {
        let unprepared = place.prepare(question).err().map(|error| format!("{error:#}"));
        for subject in &subjects {
            if had > 0 {
                let row = results.row(question.name, subject.name);
                anyhow::ensure!(
                    row.is_some() && had == asked.len() * subjects.len(),
                    "{} has other questions and subjects; leave out --more",
                    cli.json.display()
                );
                continue;
            }
            results.rows.push(Row {
                question: question.name.to_owned(),
                subject: subject.name.to_owned(),
                samples: Vec::new(),
                failure: subject.missing.clone().or(unprepared.clone()),
            });
        }
    }
    let rounds = if cli.quick { 5 } else { cli.rounds };
    say("a round to warm up, which does not count");
    ask_all(&place, &asked, &subjects, results.rounds, &mut results.rows, false);
    for round in 0..rounds {
        say(&format!("round {} of {rounds}", round + 1));
        ask_all(&place, &asked, &subjects, results.rounds, &mut results.rows, true);
        results.rounds += 1;
    }
    if let Some(parent) = cli.json.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::write(&cli.json, serde_json::to_string_pretty(&results)?)
        .with_context(|| format!("cannot write {}", cli.json.display()))?;
    show(&results)
}

/// Asks every subject every question once. One that fails is not asked again.
fn ask_all(place: &Place, asked: &[&Question], subjects: &[Subject], round: usize, rows: &mut [Row], counts: bool) {
    for (q, question) in asked.iter().enumerate() {
        // Turning order: nobody is always the first after a pause.
        for turn in 0..subjects.len() {
            let s = (turn + round) % subjects.len();
            let row = &mut rows[q * subjects.len() + s];
            if row.failure.is_some() {
                continue;
            }
            match place.ask(&subjects[s], question) {
                Ok(sample) if counts => row.samples.push(sample),
                Ok(_) => {}
                Err(error) => {
                    say(&format!("{}, {}: {error:#}", subjects[s].name, question.name));
                    row.failure = Some(format!("{error:#}"));
                }
            }
        }
    }
}

fn date() -> String {
    let output = Command::new("date").args(["-u", "+%Y-%m-%d"]).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}

fn machine() -> Vec<(String, String)> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let cpuinfo = read("/proc/cpuinfo");
    let model =
        cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ").map(|(_, name)| name));
    let mut facts = vec![
        ("cpu".to_owned(), model.unwrap_or("unknown CPU").to_owned()),
        ("cpus".to_owned(), cpuinfo.matches("\nprocessor").count().saturating_add(1).to_string()),
        ("kernel".to_owned(), read("/proc/sys/kernel/osrelease")),
    ];
    for entry in std::fs::read_dir("/sys/devices/system/cpu/vulnerabilities").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        facts.push((format!("mitigation {name}"), read(&entry.path().to_string_lossy())));
    }
    facts
}
