//! `sentry-bench`: what a sandbox costs, each subject against native in the same round.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use clap::{Parser, Subcommand};
use sentry_benches::questions::{self, DATA_BYTES, Method, Question, memory};
use sentry_benches::results::{Results, Row};
use sentry_benches::subjects::{self, Subject};

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
    /// Print the table of a results file.
    Table {
        /// The results.
        results: PathBuf,
    },
    /// Put the table into a file, between the markers `<!-- numbers -->` and `<!-- /numbers -->`.
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
        Some(Verb::Table { results }) => print(&load(results)?.table()),
        Some(Verb::Readme { file, results }) => rewrite(file, &load(results)?),
        None => measure(&cli),
    }
}

fn print(text: &str) -> anyhow::Result<()> {
    Ok(std::io::stdout().write_all(text.as_bytes())?)
}

fn load(path: &Path) -> anyhow::Result<Results> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is not a results file", path.display()))
}

fn rewrite(file: &Path, results: &Results) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let (begin, end) = ("<!-- numbers -->", "<!-- /numbers -->");
    let (Some(from), Some(to)) = (text.find(begin), text.find(end)) else {
        bail!("{} has no {begin} ... {end}", file.display());
    };
    let new = format!("{}{begin}\n\n{}\n{}", &text[..from], results.table(), &text[to..]);
    Ok(std::fs::write(file, new)?)
}

/// Runs subjects in a directory of the user that they run as.
struct Place {
    directory: PathBuf,
    user: Option<String>,
}

impl Place {
    fn new(cli: &Cli) -> anyhow::Result<Self> {
        let home = match &cli.user {
            Some(user) => PathBuf::from(format!("/home/{user}")),
            None => PathBuf::from(std::env::var_os("HOME").context("HOME is not set")?),
        };
        let directory = home.join(format!("sentry-bench-{}", std::process::id()));
        std::fs::create_dir(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
        std::fs::write(directory.join("data"), vec![1; DATA_BYTES])?;
        let own = std::env::current_exe()?;
        let built = own.parent().context("no directory")?;
        for (from, to) in [(built.join("micro"), "micro"), (cli.sentry.clone(), "sentry")] {
            if to == "sentry" && !from.exists() {
                continue;
            }
            std::fs::copy(&from, directory.join(to))
                .with_context(|| format!("cannot copy {}; build it first", from.display()))?;
        }
        if let Some(user) = &cli.user {
            let status = Command::new("chown").args(["-R", user]).arg(&directory).status()?;
            anyhow::ensure!(status.success(), "cannot give {} to {user}", directory.display());
        }
        Ok(Self { directory, user: cli.user.clone() })
    }

    fn command(&self, words: &[OsString]) -> Command {
        let mut command = match &self.user {
            Some(user) => {
                let mut command = Command::new("setpriv");
                command.args([&format!("--reuid={user}"), &format!("--regid={user}"), "--init-groups", "--"]);
                command.args(words);
                command.env("HOME", format!("/home/{user}")).env("USER", user);
                command
            }
            None => {
                let mut command = Command::new(&words[0]);
                command.args(&words[1..]);
                command
            }
        };
        command.current_dir(&self.directory).stdin(Stdio::null()).stderr(Stdio::piped());
        command
    }

    fn ask(&self, subject: &Subject, question: &Question) -> anyhow::Result<f64> {
        let micro = self.directory.join("micro").into_os_string();
        let prefix: Vec<OsString> = subject.prefix.iter().map(OsString::from).collect();
        let times = question.times.to_string();
        let words: Vec<OsString> = match question.method {
            Method::Inside(_) => {
                let guest = [micro, question.name.into(), times.into(), self.directory.clone().into()];
                prefix.into_iter().chain(guest).collect()
            }
            Method::Around => {
                let timed = [micro.clone(), "start".into(), times.into()];
                timed.into_iter().chain(prefix).chain([micro, "nothing".into()]).collect()
            }
            Method::Weigh => return self.weigh(prefix, micro),
        };
        let output = self.command(&words).stdout(Stdio::piped()).output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            let error = String::from_utf8_lossy(&output.stderr);
            bail!("failed: {}", error.lines().next_back().unwrap_or("no reason given").trim());
        }
        text.trim().parse().with_context(|| format!("{text:?} is not a number"))
    }

    fn weigh(&self, prefix: Vec<OsString>, micro: OsString) -> anyhow::Result<f64> {
        if prefix.is_empty() {
            bail!("native has no sandbox");
        }
        let words: Vec<OsString> = prefix.into_iter().chain([micro, "sleep".into()]).collect();
        let mut child = self.command(&words).stdout(Stdio::null()).spawn()?;
        std::thread::sleep(std::time::Duration::from_millis(400));
        let family = memory::family(child.id());
        // The youngest is the sleeping program itself.
        let own = family.iter().rev().skip(1);
        let weight = own.map(|pid| memory::weigh(*pid)).sum::<std::io::Result<f64>>();
        child.kill()?;
        child.wait()?;
        if family.len() < 2 {
            bail!("the sandbox did not start");
        }
        weight.context("only root may weigh processes that protect themselves; use --user")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn measure(cli: &Cli) -> anyhow::Result<()> {
    let place = Place::new(cli)?;
    let directory = place.directory.to_string_lossy().into_owned();
    let subjects = subjects::all(&format!("{directory}/sentry"), &directory);
    let rounds = if cli.quick { 5 } else { cli.rounds };
    let asked: Vec<&Question> = questions::ALL
        .iter()
        .filter(|question| cli.question.is_empty() || cli.question.iter().any(|name| name == question.name))
        .collect();
    let mut rows: Vec<Row> = Vec::new();
    for question in &asked {
        for subject in &subjects {
            let failure = subject.missing.clone();
            rows.push(Row {
                question: question.name.to_owned(),
                subject: subject.name.to_owned(),
                samples: Vec::new(),
                failure,
            });
        }
    }
    for round in 0..rounds {
        let _ = writeln!(std::io::stderr(), "round {} of {rounds}", round + 1);
        for (q, question) in asked.iter().enumerate() {
            // Turning order: nobody is always the first after a pause.
            for turn in 0..subjects.len() {
                let s = (turn + round) % subjects.len();
                let row = &mut rows[q * subjects.len() + s];
                if row.failure.is_some() {
                    continue;
                }
                match place.ask(&subjects[s], question) {
                    Ok(sample) => row.samples.push(sample),
                    Err(error) => row.failure = Some(format!("{error:#}")),
                }
            }
        }
    }
    let results = Results { machine: machine(), date: date(), rounds, rows };
    if let Some(parent) = cli.json.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::write(&cli.json, serde_json::to_string_pretty(&results)?)
        .with_context(|| format!("cannot write {}", cli.json.display()))?;
    print(&results.table())?;
    for promise in results.promises() {
        print(&format!("- {promise}\n"))?;
    }
    Ok(())
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
