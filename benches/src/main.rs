//! `sentry-bench`, which `sentry bench` runs: what interposition costs.

mod cli {
    pub mod compare;
    pub mod report;
}

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use sentry_benches::place::Place;
use sentry_benches::questions::{self, Question};
use sentry_benches::record::{Record, Run};
use sentry_benches::results::{Journal, Results};
use sentry_benches::rounds::{self, Effort};
use sentry_benches::subjects::{self, Subject};
use sentry_benches::{machine, tables};

/// Measure what interposition costs on this machine.
#[derive(Parser)]
#[command(name = "sentry-bench", version)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Sandboxes against each other: calls, programs, memory.
    Peers(Peers),
    Compare(cli::compare::Compare),
    Report(cli::report::Report),
    /// Print the tables of a results file.
    Table {
        /// The results.
        results: PathBuf,
    },
    /// Put tables into a file, between markers such as `<!-- numbers main -->` and `<!-- /numbers -->`.
    Readme {
        /// The file with the markers.
        file: PathBuf,
        /// The results, one file of each study.
        #[arg(required = true)]
        results: Vec<PathBuf>,
    },
}

#[derive(Args)]
struct Peers {
    /// Rounds; each asks every subject every question once.
    #[arg(long, default_value_t = 15)]
    rounds: usize,
    /// As many rounds as fit into two minutes.
    #[arg(long)]
    quick: bool,
    /// Only these questions.
    #[arg(long)]
    question: Vec<String>,
    /// Only these subjects, and native.
    #[arg(long)]
    subject: Vec<String>,
    /// The sentry to measure.
    #[arg(long, default_value = "target/sentry")]
    sentry: PathBuf,
    /// As root: the ordinary user that subjects run as.
    #[arg(long)]
    user: Option<String>,
    /// Where the results go.
    #[arg(long, default_value = "benches/results/peers.jsonl")]
    json: PathBuf,
}

/// What `--quick` may take.
const QUICK: Duration = Duration::from_secs(110);

fn main() -> anyhow::Result<ExitCode> {
    let done = match Cli::parse().verb {
        Verb::Table { results } => show(&Results::load(&results)?),
        Verb::Readme { file, results } => rewrite(&file, &results),
        Verb::Compare(compare) => return Ok(compare.run()),
        Verb::Report(report) => report.run(),
        Verb::Peers(peers) => measure(&peers),
    };
    done.map(|()| ExitCode::SUCCESS)
}

fn print(text: &str) -> anyhow::Result<()> {
    Ok(std::io::stdout().write_all(text.as_bytes())?)
}

fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn show(results: &Results) -> anyhow::Result<()> {
    for table in tables::ALL {
        print(&format!("{}\n", table.markdown(results)))?;
    }
    tables::promises(results).iter().try_for_each(|promise| print(&format!("- {promise}\n")))
}

fn rewrite(file: &Path, results: &[PathBuf]) -> anyhow::Result<()> {
    let studies = results.iter().map(|path| Results::load(path)).collect::<anyhow::Result<Vec<_>>>()?;
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let new = tables::rewritten(&text, &studies.iter().collect::<Vec<_>>())
        .with_context(|| format!("cannot rewrite {}", file.display()))?;
    Ok(std::fs::write(file, new)?)
}

fn chosen<'a, T>(all: impl IntoIterator<Item = T>, names: &[String], name: impl Fn(&T) -> &'a str) -> Vec<T> {
    let wanted = |item: &T| names.is_empty() || names.iter().any(|wanted| wanted == name(item));
    all.into_iter().filter(wanted).collect()
}

fn measure(cli: &Peers) -> anyhow::Result<()> {
    let place = Place::new(cli.user.as_deref(), &cli.sentry)?;
    let directory = place.directory.to_string_lossy().into_owned();
    let mut names = cli.subject.clone();
    if !names.is_empty() {
        names.push("native".to_owned());
    }
    let subjects: Vec<Subject> =
        chosen(subjects::all(&format!("{directory}/sentry"), &directory), &names, |subject| subject.name);
    let asked: Vec<&Question> = chosen(questions::ALL, &cli.question, |question| question.name);

    let mut journal = Journal::create(&cli.json)?;
    let mut results = Results::default();
    let mut put = |record: Record, results: &mut Results| {
        journal.put(&record)?;
        results.add(record);
        anyhow::Ok(())
    };
    let run = Run {
        study: "peers".to_owned(),
        quick: cli.quick,
        date: machine::now(),
        version: place.version(),
        machine: machine::facts(),
    };
    put(Record::Run(run), &mut results)?;
    for subject in &subjects {
        put(Record::Subject(subject.record()), &mut results)?;
    }
    for question in &asked {
        put(Record::Question(question.record()), &mut results)?;
        if let Err(error) = place.prepare(question) {
            let why = format!("{error:#}");
            for subject in &subjects {
                let (question, subject) = (question.name.to_owned(), subject.name.to_owned());
                put(Record::Failure { question, subject, why: why.clone() }, &mut results)?;
            }
        }
    }
    let effort = Effort { rounds: cli.rounds, within: cli.quick.then_some(QUICK) };
    let mut ask = |q: usize, s: usize| place.ask(&subjects[s], asked[q]);
    rounds::run(&mut results, &mut journal, effort, &mut say, &mut ask)?;
    show(&results)
}
