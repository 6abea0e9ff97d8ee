//! `sentry bench containers`: container runtimes.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use clap::Args;
use sentry_benches::containers::{self, Yard};
use sentry_benches::machine;
use sentry_benches::place::Place;
use sentry_benches::record::{Record, Run, Subject};
use sentry_benches::results::{Journal, Results};
use sentry_benches::rounds::{self, Effort};
use sentry_benches::tables::{of_group, promises};

use super::{print, say};

/// What containers cost under ours and under other OCI runtimes
///
/// The same bundle under each runtime, and the same container under podman with each of them, round after round in turning
/// order, all compared with crun. It runs as whoever starts it: rootless containers as an ordinary user, root's as root,
/// who alone can weigh what stays beside a container. crun 1.8 needs control groups of one version only.
#[derive(Args)]
pub struct Containers {
    /// Rounds; each asks every runtime every question once.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Five rounds of shorter loops.
    #[arg(long)]
    quick: bool,
    /// Only these questions.
    #[arg(long)]
    question: Vec<String>,
    /// Where the results go.
    #[arg(long, default_value = "containers.jsonl")]
    json: PathBuf,
    /// The sentry to measure [default: the one beside this program, or in PATH].
    #[arg(long)]
    sentry: Option<PathBuf>,
}

impl Containers {
    /// Measures, and shows the table.
    pub fn run(&self) -> anyhow::Result<()> {
        let sentry = self.sentry.clone().or_else(beside).context("there is no sentry; name one with --sentry")?;
        let sentry = sentry.canonicalize().with_context(|| format!("cannot find {}", sentry.display()))?;
        let place = Place::new(None, &sentry)?;
        let runtimes = containers::all(&place, &sentry);
        let mut questions = containers::questions();
        for name in &self.question {
            let known = questions.iter().any(|question| question.name == *name);
            let names = questions.iter().map(|question| question.name.as_str()).collect::<Vec<_>>();
            ensure!(known, "there is no question {name:?}; there are {}", names.join(", "));
        }
        questions.retain(|question| self.question.is_empty() || self.question.contains(&question.name));

        let mut yard = Yard::new(&place, &runtimes, self.quick)?;
        let mut journal = Journal::create(&self.json)?;
        let mut results = Results::default();
        let root = nix::unistd::geteuid().is_root();
        let run = Run {
            study: if root { "containers-root" } else { "containers" }.to_owned(),
            quick: self.quick,
            date: machine::now(),
            version: place.version(),
            machine: machine::facts(),
        };
        let mut records = vec![Record::Run(run)];
        for (number, runtime) in runtimes.iter().enumerate() {
            let missing = yard.missing(number);
            if let Some(missing) = &missing {
                say(&format!("skipped: {}: {missing}", runtime.name));
            }
            let how = [runtime.program.as_str()].iter().chain(runtime.options).copied().collect::<Vec<_>>().join(" ");
            let version = place.first_line(&[runtime.program.as_str(), "--version"]);
            records.push(Record::Subject(Subject {
                name: runtime.name.to_owned(),
                role: runtime.role,
                how,
                version,
                missing,
            }));
        }
        records.extend(questions.iter().cloned().map(Record::Question));
        for record in records {
            journal.put(&record)?;
            results.add(record);
        }
        let rounds = if self.quick { self.rounds.min(5) } else { self.rounds };
        let mut ask = |question: usize, runtime: usize| yard.ask(&questions[question].name, runtime);
        rounds::run(&mut results, &mut journal, Effort { rounds: rounds.into(), within: None }, &mut say, &mut ask)?;
        print(&of_group(&results, "containers"))?;
        for promise in promises(&results).iter().filter(|promise| !promise.ends_with("not measured")) {
            print(&format!("- {promise}\n"))?;
        }
        say(&format!("the results are in {}", self.json.display()));
        Ok(())
    }
}

/// The sentry that belongs to this program.
fn beside() -> Option<PathBuf> {
    let own = std::env::current_exe().ok()?.with_file_name("sentry");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = || std::env::split_paths(&path).map(|directory| directory.join("sentry")).find(|path| path.exists());
    Some(own).filter(|path: &PathBuf| Path::exists(path)).or_else(found)
}
