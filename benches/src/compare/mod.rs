//! What became slower or faster between two runs of a study, beyond noise.
//!
//! Times of two runs say little: the machine was another, or warmer. So each run is first held against itself: a sample
//! counts as its ratio to native of the same round, and the ratios of both runs are compared. What native does not do, such
//! as memory, is compared as it is. A line counts as changed when all of these hold:
//!
//! - the 95 % bootstrap interval of its change leaves 1 out;
//! - the rank-sum test ([`rank`]) tells the runs apart, with the procedure of Benjamini and Hochberg over all lines, so that
//!   of what is reported no more than 5 % is chance. With hundreds of lines, 95 % each would report a dozen of nothing. When
//!   nothing has changed at all, this is the chance of *any* report: two runs of one binary come out clean 19 times in 20 by
//!   this alone. A wider interval for each line (Bonferroni) would promise the same, but miss more: a real change shows in
//!   several lines at once, and those make it easier here for each other;
//! - it is larger than a threshold, 5 % unless told otherwise, for samples of one run are more alike than runs are;
//! - it is larger than what native did to itself in that question: the control's own change, and its distance from 1.

pub mod rank;
mod text;

use anyhow::ensure;
use serde::Serialize;

use crate::record::{Question, Role, Subject, Unit};
use crate::results::{Results, TOLERANCE};
use crate::statistics::{self, Estimate};

/// Of all reports, so many may be chance.
const CHANCE: f64 = 0.05;

/// What became of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// It costs more, beyond noise.
    Slower,
    /// It costs less, beyond noise.
    Faster,
    /// It failed and has an answer now.
    Works,
    /// It had an answer and fails now.
    Broke,
    /// It moved by more than the threshold, but that may be noise.
    Unclear,
    /// Neither.
    Same,
}

/// One subject's answer to one question in both runs.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// The question's name.
    pub question: String,
    /// What it asks.
    pub asks: String,
    /// The subject's name.
    pub subject: String,
    /// What the subject is.
    pub role: Role,
    /// What is compared: `ratio` to native, or `amount`.
    pub basis: &'static str,
    /// The question's unit.
    pub unit: Unit,
    /// Then.
    pub old: Option<Estimate>,
    /// Now.
    pub new: Option<Estimate>,
    /// Now, as a multiple of then.
    pub by: Option<Estimate>,
    /// How likely so large a difference is by chance.
    pub chance: Option<f64>,
    /// Changes below this share are not told: the threshold, or what native did to itself.
    pub allowance: f64,
    /// What became of it.
    pub change: Change,
    /// Why there is no answer, where there is none.
    pub why: Option<String>,
}

/// Two runs, line by line.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// Of which study.
    pub study: String,
    /// When the old run began.
    pub old: String,
    /// When the new run began.
    pub new: String,
    /// What one must know before believing it.
    pub warnings: Vec<String>,
    /// All that is in both runs.
    pub lines: Vec<Line>,
}

impl Comparison {
    /// Compares two runs of the same study. `threshold` is a share: 0.05 is 5 %.
    pub fn new(old: &Results, new: &Results, threshold: f64) -> anyhow::Result<Self> {
        let (was, is) = (&old.run, &new.run);
        ensure!(
            was.study == is.study,
            "the old file holds the study {}, the new one {}; compare two of the same",
            was.study,
            is.study
        );
        let mut lines = Vec::new();
        for question in &new.questions {
            if old.question(&question.name).is_none_or(|other| other.unit != question.unit) {
                continue;
            }
            let allowance = threshold.max(restlessness(old, new, question));
            for subject in new.subjects.iter().filter(|subject| !subject.role.is_native()) {
                lines.extend(line(old, new, question, subject, allowance));
            }
        }
        ensure!(!lines.is_empty(), "the two files have no question in common that a subject answered in both");
        judge(&mut lines);
        Ok(Self {
            study: is.study.clone(),
            old: was.date.clone(),
            new: is.date.clone(),
            warnings: warnings(old, new, &lines),
            lines,
        })
    }

    /// The lines to which this happened.
    pub fn of(&self, change: Change) -> impl Iterator<Item = &Line> {
        self.lines.iter().filter(move |line| line.change == change)
    }

    /// Whether something of ours became slower or does not work any more.
    pub fn ours_became_worse(&self) -> bool {
        let worse = |line: &&Line| matches!(line.change, Change::Slower | Change::Broke);
        self.lines.iter().filter(worse).any(|line| line.role == Role::Ours)
    }
}

/// How far native is from itself in a question, in both runs and between them.
fn restlessness(old: &Results, new: &Results, question: &Question) -> f64 {
    let controls = new.subjects.iter().filter(|subject| subject.role == Role::Control);
    let far = controls.flat_map(|control| {
        let ratio = |results: &Results| results.ratio(&question.name, &control.name).map(|ratio| ratio.median);
        let (was, is) = (ratio(old), ratio(new));
        let between = was.zip(is).map(|(was, is)| is / was);
        [was, is, between].into_iter().flatten().map(distance)
    });
    far.fold(0.0, f64::max)
}

/// How far a multiple is from 1, the same for twice and for half.
fn distance(times: f64) -> f64 {
    times.max(1.0 / times) - 1.0
}

fn line(old: &Results, new: &Results, question: &Question, subject: &Subject, allowance: f64) -> Option<Line> {
    let (name, who) = (question.name.as_str(), subject.name.as_str());
    let (was, is) = (old.row(name, who), new.row(name, who));
    let failed = |results: &Results| results.excuse(name, who).is_some();
    if was.is_none() && !failed(old) || is.is_none() && !failed(new) || failed(old) && failed(new) {
        return None;
    }
    let ratios = old.ratios(name, who).zip(new.ratios(name, who));
    let basis = if ratios.is_some() { "ratio" } else { "amount" };
    let values = |row: Option<&crate::results::Row>| row.map(crate::results::Row::values).unwrap_or_default();
    let (before, now) = ratios.unwrap_or_else(|| (values(was), values(is)));
    let told = !before.is_empty() && !now.is_empty();
    Some(Line {
        question: question.name.clone(),
        asks: question.asks.clone(),
        subject: subject.name.clone(),
        role: subject.role,
        basis,
        unit: question.unit,
        old: statistics::estimate(&before),
        new: statistics::estimate(&now),
        by: statistics::change(&before, &now),
        chance: told.then(|| rank::chance(&before, &now)),
        allowance,
        change: match (failed(old), failed(new)) {
            (true, _) => Change::Works,
            (_, true) => Change::Broke,
            _ => Change::Same,
        },
        why: new.excuse(name, who).or_else(|| old.excuse(name, who)).map(str::to_owned),
    })
}

/// Tells what changed from what did not.
fn judge(lines: &mut [Line]) {
    let chances: Vec<f64> = lines.iter().filter_map(|line| line.chance).collect();
    let bar = false_discoveries(&chances, CHANCE);
    for line in lines.iter_mut().filter(|line| line.change == Change::Same) {
        let (Some(by), Some(chance)) = (line.by, line.chance) else { continue };
        if distance(by.median) <= line.allowance {
            continue;
        }
        let apart = by.low > 1.0 || by.high < 1.0;
        line.change = match by.median > 1.0 {
            _ if !apart || chance > bar => Change::Unclear,
            true => Change::Slower,
            false => Change::Faster,
        };
    }
}

/// The largest chance that still counts, by Benjamini and Hochberg: the k-th smallest of n may be k/n of `share`.
fn false_discoveries(chances: &[f64], share: f64) -> f64 {
    let mut sorted = chances.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let all = sorted.len() as f64;
    let counts = |(place, chance): &(usize, &f64)| **chance <= share * (*place + 1) as f64 / all;
    sorted.iter().enumerate().rfind(counts).map_or(0.0, |(_, chance)| *chance)
}

fn warnings(old: &Results, new: &Results, lines: &[Line]) -> Vec<String> {
    let mut warnings = Vec::new();
    // The load before a run is not what the machine is.
    let what_it_is = |(name, _): &&(String, String)| !name.starts_with("load");
    for (name, is) in new.run.machine.iter().filter(what_it_is) {
        match old.run.machine.iter().find(|(known, _)| known == name) {
            Some((_, was)) if was != is => warnings.push(format!("another machine: {name} was {was}, is {is}")),
            _ => {}
        }
    }
    for (results, which) in [(old, "old"), (new, "new")] {
        for (question, ratio) in results.disturbed() {
            let (name, median, tolerance) = (&question.name, ratio.median, TOLERANCE * 100.0);
            warnings.push(format!("the {which} run was disturbed in {name}: native again is {median:.2}x native, more than {tolerance:.0} % off"));
        }
        if let Some(company) = results.company() {
            warnings.push(format!("in the {which} run {company}: take it again on a quiet machine"));
        }
        if results.end.is_none() {
            warnings.push(format!("the {which} run was cut short"));
        }
    }
    let most =
        |results: &Results| lines.iter().map(|line| results.rounds(&line.question, &line.subject)).max().unwrap_or(0);
    let least = rank::least(most(old), most(new));
    let needed = CHANCE / lines.len() as f64;
    if least > needed {
        warnings.push(format!(
            "{} and {} rounds are few for {} lines: a single change cannot be told from chance; take more rounds, or fewer questions and subjects",
            most(old), most(new), lines.len()
        ));
    }
    warnings
}
