//! `sentry bench mechanisms`: the kernel's ways to interpose on a call.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Args;
use sentry_benches::machine;
use sentry_benches::mechanisms::{self, CONTROL, Family, NATIVE};
use sentry_benches::record::{Record, Run, Subject};
use sentry_benches::results::{Journal, Results};
use sentry_benches::rounds::{self, Effort};
use sentry_benches::tables;

use super::{print, say};

/// What the kernel's ways to interpose on a call cost, each alone
///
/// Filters, signals, notifications, tracers, shared memory, and what a sandbox is made of otherwise: rules of Landlock, mounts,
/// namespaces. One program, the same calls, round after round in turning order, each beside nothing at all.
#[derive(Args)]
pub struct Mechanisms {
    /// Rounds; each asks every mechanism every question once.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Two minutes in all.
    #[arg(long)]
    quick: bool,
    /// Only these questions.
    #[arg(long)]
    question: Vec<String>,
    /// Only these mechanisms, and native.
    #[arg(long)]
    mechanism: Vec<String>,
    /// Minutes that the run may take; what is dearest is asked less often, or left out and named.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..), conflicts_with = "quick")]
    minutes: Option<u64>,
    /// Where the results go [default: benches/results/mechanisms.jsonl, or mechanisms.jsonl where there is no such directory].
    #[arg(long)]
    json: Option<PathBuf>,
}

/// What `--quick` may take.
const QUICK: Duration = Duration::from_secs(105);
/// What the long form may take.
const FULL: Duration = Duration::from_secs(10 * 60);
/// How much shorter the loops of the quick form are.
const SHORTER: u64 = 8;

impl Mechanisms {
    /// Measures, and shows the tables.
    pub fn run(&self) -> anyhow::Result<()> {
        let mut family = mechanisms::all();
        self.choose(&mut family)?;
        let path = self.json.clone().unwrap_or_else(place);
        let mut journal = Journal::create(&path)?;
        let mut results = Results::default();
        let run = Run {
            study: "mechanisms".to_owned(),
            quick: self.quick,
            date: machine::now(),
            version: format!("sentry-bench {}", env!("CARGO_PKG_VERSION")),
            machine: machine::facts(),
        };
        let subjects = family.subjects.iter().cloned().map(Record::Subject);
        let questions = family.questions.iter().cloned().map(Record::Question);
        for record in std::iter::once(Record::Run(run)).chain(subjects).chain(questions) {
            journal.put(&record)?;
            results.add(record);
        }
        for Subject { name, missing, .. } in &family.subjects {
            if let Some(missing) = missing {
                say(&format!("{name} is left out: {missing}"));
            }
        }
        let mut ask = |q: usize, s: usize| {
            let (question, subject) = (&family.questions[q].name, &family.subjects[s].name);
            let Some(cell) = family.find(question, subject) else { return Ok(None) };
            let times = if self.quick { cell.times.div_ceil(SHORTER) } else { cell.times };
            Ok(Some(mechanisms::sample(cell, times)?))
        };
        let within = Some(self.time());
        rounds::run(&mut results, &mut journal, Effort { rounds: self.rounds.into(), within }, &mut say, &mut ask)?;
        let mut groups: Vec<&str> = results.questions.iter().map(|question| &*question.group).collect();
        groups.dedup();
        for group in groups {
            print(&format!("## {group}\n\n{}\n", tables::of_group(&results, group)))?;
        }
        say(&format!("the results are in {}; sentry bench report draws a page of them", path.display()));
        Ok(())
    }

    fn time(&self) -> Duration {
        let long = self.minutes.map_or(FULL, |minutes| Duration::from_secs(60 * minutes));
        if self.quick { QUICK } else { long }
    }

    fn choose(&self, family: &mut Family) -> anyhow::Result<()> {
        for name in &self.mechanism {
            let known = family.subjects.iter().any(|subject| subject.name == *name);
            ensure!(
                known,
                "there is no mechanism {name:?}; there are {}",
                names(family.subjects.iter().map(|one| &one.name))
            );
        }
        for name in &self.question {
            let known = family.questions.iter().any(|question| question.name == *name);
            ensure!(
                known,
                "there is no question {name:?}; there are {}",
                names(family.questions.iter().map(|one| &one.name))
            );
        }
        let wanted = |name: &String| [NATIVE, CONTROL].contains(&name.as_str()) || self.mechanism.contains(name);
        family.subjects.retain(|subject| self.mechanism.is_empty() || wanted(&subject.name));
        family.questions.retain(|question| self.question.is_empty() || self.question.contains(&question.name));
        // Questions that none of them answers say nothing.
        let Family { questions, subjects, cells } = family;
        questions.retain(|question| {
            cells
                .iter()
                .any(|cell| cell.question == question.name && subjects.iter().any(|one| one.name == cell.subject))
        });
        subjects.retain(|subject| {
            cells
                .iter()
                .any(|cell| cell.subject == subject.name && questions.iter().any(|one| one.name == cell.question))
        });
        questions.first().context("nothing is left to measure").map(drop)
    }
}

fn names<'a>(all: impl Iterator<Item = &'a String>) -> String {
    all.map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ")
}

fn place() -> PathBuf {
    let directory = Path::new("benches/results");
    let name = "mechanisms.jsonl";
    if directory.is_dir() { directory.join(name) } else { name.into() }
}
