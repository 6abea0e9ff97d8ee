//! `sentry bench peers`: sandboxes against each other.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Args;
use sentry_benches::machine;
use sentry_benches::patience::Patience;
use sentry_benches::place::Place;
use sentry_benches::questions::{self, Method, Question};
use sentry_benches::record::{Record, Role, Run};
use sentry_benches::results::{Journal, Results};
use sentry_benches::rounds::{self, Effort};
use sentry_benches::sitting::{self, Sitting};
use sentry_benches::subjects::{self, Places, Subject};

use super::{say, show};

/// Sandboxes against each other: calls, programs, memory, many at once
///
/// Every subject that is installed is asked every question, round after round in turning order, and compared with no
/// sandbox in the same round. Who is not installed, crashes or hangs is named and never shown as fast.
#[derive(Args)]
pub struct Peers {
    /// Rounds; each asks every subject every question once, dear ones less often.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Two minutes in all: fewer questions, subjects, and operations.
    #[arg(long)]
    quick: bool,
    /// Only these questions.
    #[arg(long)]
    question: Vec<String>,
    /// Only these subjects, and native.
    #[arg(long)]
    subject: Vec<String>,
    /// Another file of subjects.
    #[arg(long)]
    subjects: Option<PathBuf>,
    /// The sentry to measure; without it, the one that was started as `sentry bench`, or the one beside this program.
    #[arg(long)]
    sentry: Option<PathBuf>,
    /// As root: the ordinary user that subjects run as.
    #[arg(long)]
    user: Option<String>,
    /// Minutes that the run may take; what is dearest is asked less often, or left out and named.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..), conflicts_with = "quick")]
    minutes: Option<u64>,
    /// Where the results go.
    #[arg(long, default_value = "peers.jsonl")]
    json: PathBuf,
}

/// What `--quick` may take.
const QUICK: Duration = Duration::from_secs(105);
/// What the long form may take.
const FULL: Duration = Duration::from_secs(24 * 60);

/// Records go to the file and to memory at once.
struct Book {
    journal: Journal,
    results: Results,
}

impl Book {
    fn put(&mut self, record: Record) -> anyhow::Result<()> {
        self.journal.put(&record)?;
        self.results.add(record);
        Ok(())
    }
}

impl Peers {
    /// Measures, and shows the tables.
    pub fn run(&self) -> anyhow::Result<()> {
        let began = Instant::now();
        let place = Place::new(self.user.as_deref(), &self.measured()?)?;
        let subjects = self.asked_subjects(&place)?;
        let asked = self.asked_questions()?;
        let mut book = Book { journal: Journal::create(&self.json)?, results: Results::default() };
        book.put(Record::Run(Run {
            study: "peers".to_owned(),
            quick: self.quick,
            date: machine::now(),
            version: place.version(),
            machine: machine::facts(),
        }))?;
        for subject in &subjects {
            introduce(&place, subject, &mut book)?;
        }
        let mut sitting = Sitting::new(&place, &subjects, &asked, self.quick);
        for (q, question) in asked.iter().enumerate() {
            book.put(Record::Question(question.record()))?;
            if let Err(error) = place.prepare(question) {
                say(&format!("nobody is asked {}: {error:#}", question.name));
                sitting.leave_out(q);
                for subject in &subjects {
                    let (question, subject) = (question.name.to_owned(), subject.name.clone());
                    book.put(Record::Failure { question, subject, why: format!("{error:#}") })?;
                }
            }
        }
        let mut patience = Patience::new(began, self.time(), self.rounds.into());
        // Single calls are all answered in one start, so that leaving out one of them spares nothing; starts are what matters.
        let dear = |q: usize| matches!(asked[q].method, Method::Program(_) | Method::Crowd(..));
        let spare = |(q, s): (usize, usize)| dear(q) && !matches!(subjects[s].role, Role::Native | Role::Control);
        let mut ask = |q: usize, s: usize| patience.ask((q, s), dear(q), spare, || sitting.ask(q, s));
        let effort = Effort { rounds: self.rounds.into(), within: None };
        let Book { journal, results } = &mut book;
        rounds::run(results, journal, effort, &mut say, &mut ask)?;
        for line in subjects.iter().filter_map(|subject| subject.cleanup.as_ref()) {
            let _ = place.shell(line);
        }
        show(&book.results)?;
        self.conclude(&book.results);
        Ok(())
    }

    fn time(&self) -> Duration {
        let long = self.minutes.map_or(FULL, |minutes| Duration::from_secs(60 * minutes));
        if self.quick { QUICK } else { long }
    }

    fn measured(&self) -> anyhow::Result<PathBuf> {
        if let Some(sentry) = &self.sentry {
            ensure!(sentry.exists(), "there is no {}; build it with make build", sentry.display());
            return Ok(sentry.clone());
        }
        if let Some(sentry) = std::env::var_os("SENTRY_MEASURED") {
            return Ok(sentry.into());
        }
        let own = std::env::current_exe().context("cannot find this program")?;
        let beside = own.with_file_name("sentry");
        ensure!(beside.exists(), "there is no {} to measure; name one with --sentry", beside.display());
        Ok(beside)
    }

    fn asked_subjects(&self, place: &Place) -> anyhow::Result<Vec<Subject>> {
        let text = |path: PathBuf| path.to_string_lossy().into_owned();
        let (sentry, directory, whole) =
            (text(place.sentry()), text(place.directory.clone()), text(place.whole.clone()));
        let places = Places { sentry: &sentry, directory: &directory, place: &whole };
        let mut subjects = subjects::load(self.subjects.as_deref(), places)?;
        for name in &self.subject {
            let known = subjects.iter().any(|subject| subject.name == *name);
            ensure!(known, "there is no subject {name:?}; there are {}", names(subjects.iter().map(|one| &*one.name)));
        }
        let named = |subject: &Subject| self.subject.contains(&subject.name) || subject.role == Role::Native;
        let fits = |subject: &Subject| !(self.quick && subject.full_only);
        subjects.retain(|subject| if self.subject.is_empty() { fits(subject) } else { named(subject) });
        Ok(subjects)
    }

    fn asked_questions(&self) -> anyhow::Result<Vec<&'static Question>> {
        for name in &self.question {
            let known = questions::named(name).is_some();
            ensure!(
                known,
                "there is no question {name:?}; there are {}",
                names(questions::ALL.iter().map(|one| one.name))
            );
        }
        let named = |question: &&Question| self.question.iter().any(|name| name == question.name);
        let wanted = |question: &&Question| {
            if self.question.is_empty() { question.belongs(self.quick) } else { named(question) }
        };
        Ok(questions::ALL.iter().filter(wanted).collect())
    }

    /// What has to be known before the numbers are believed.
    fn conclude(&self, results: &Results) {
        if self.quick && self.question.is_empty() {
            let out = questions::ALL.iter().filter(|question| !question.belongs(true));
            say(&format!("left out by --quick: {}", names(out.map(|question| question.name))));
        }
        for subject in &results.subjects {
            if let Some(missing) = &subject.missing {
                say(&format!("not measured: {}: {missing}", subject.name));
            }
        }
        for (question, ratio) in results.disturbed() {
            let more = "the control is native again and should be 1.0x";
            say(&format!("DISTURBED: {}: {:.2}x; {more}: repeat on a quiet machine", question.name, ratio.median));
        }
        let (rounds, seconds) = results.end.unwrap_or_default();
        say(&format!("{rounds} rounds in {seconds:.0} s; results in {}", self.json.display()));
    }
}

fn names<'a>(all: impl Iterator<Item = &'a str>) -> String {
    all.collect::<Vec<_>>().join(", ")
}

/// Looks whether a subject can be measured, and says so.
fn introduce(place: &Place, subject: &Subject, book: &mut Book) -> anyhow::Result<()> {
    let missing = sitting::missing(place, subject);
    let tells = subject.version.as_ref().filter(|_| missing.is_none());
    let version = tells.and_then(|line| place.first_line(&["sh", "-c", line]));
    match (&missing, &version) {
        (Some(missing), _) => say(&format!("skipped: {}: {missing}", subject.name)),
        (None, Some(version)) => say(&format!("found: {}: {version}", subject.name)),
        (None, None) => say(&format!("found: {}", subject.name)),
    }
    book.put(Record::Subject(subject.record(version, missing)))
}
