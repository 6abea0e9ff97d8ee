//! What ours promises, and whether a run kept it.
//!
//! Page, tables and command line show the same list. Each line comes from one run, and is judged with its interval: it is
//! met when the whole interval keeps the goal, missed when none of it does, and within noise otherwise. What a run did not
//! ask stands there as not measured, with the reason if there is one.

use crate::mechanisms::calls;
use crate::record::{Question, Role, Unit};
use crate::results::Results;
use crate::statistics::{Estimate, FEW};

/// Ours as most would use it: the directory granted, nothing interposed.
pub const OURS: &str = "sentry --write .";
/// Ours with every path answered by the supervisor.
pub const FULL: &str = "sentry --interpose full";
/// What ours is held against at start.
pub const BWRAP: &str = "bwrap, same view";

/// What a number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// Times something else.
    Times,
    /// So much of a unit.
    Amount(Unit),
}

impl Scale {
    /// A value as people read it.
    pub fn pretty(self, value: f64) -> String {
        match self {
            Self::Times if value >= 99.5 => format!("{value:.0}x"),
            Self::Times if value >= 9.95 => format!("{value:.1}x"),
            Self::Times => format!("{value:.2}x"),
            Self::Amount(unit) => unit.pretty(value),
        }
    }
}

/// How a goal was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The whole interval keeps it.
    Met,
    /// The interval reaches over it.
    Noise,
    /// No part of the interval keeps it.
    Missed,
    /// This run says nothing about it.
    Unmeasured,
}

impl Verdict {
    /// All of them, the best first.
    pub const ALL: [Self; 4] = [Self::Met, Self::Noise, Self::Missed, Self::Unmeasured];

    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::Noise => "within noise",
            Self::Missed => "missed",
            Self::Unmeasured => "not measured",
        }
    }
}

/// One promise.
#[derive(Clone, Debug)]
pub struct Target {
    /// What is promised, for people.
    pub what: String,
    /// No more than this.
    pub goal: f64,
    /// What goal and value count.
    pub scale: Scale,
    /// What this run found.
    pub value: Option<Estimate>,
    /// In how many rounds.
    pub rounds: usize,
    /// What one should know about it.
    pub note: String,
}

impl Target {
    /// How the goal was kept.
    pub fn verdict(&self) -> Verdict {
        match self.value {
            None => Verdict::Unmeasured,
            Some(Estimate { high, .. }) if high <= self.goal => Verdict::Met,
            Some(Estimate { low, .. }) if low > self.goal => Verdict::Missed,
            Some(_) => Verdict::Noise,
        }
    }

    /// What was found, with its interval.
    pub fn found(&self) -> String {
        let Some(Estimate { median, low, high }) = self.value else { return "-".to_owned() };
        let pretty = |value| self.scale.pretty(value);
        let few = if self.rounds < FEW { ", the range" } else { "" };
        format!("{} ({} to {}{few})", pretty(median), pretty(low), pretty(high))
    }

    /// In one line.
    pub fn line(&self) -> String {
        let note = if self.note.is_empty() { String::new() } else { format!("; {}", self.note) };
        let goal = self.scale.pretty(self.goal);
        format!("{}: {}, goal {goal}: {}{note}", self.what, self.found(), self.verdict().words())
    }
}

/// All promises, as far as these studies tell.
pub fn of(studies: &[&Results]) -> Vec<Target> {
    let study = |name: &str| studies.iter().copied().find(|results| results.run.study == name);
    let none = Results::default();
    let (peers, mechanisms) = (study("peers").unwrap_or(&none), study("mechanisms").unwrap_or(&none));
    let mut targets = vec![
        Ask::of(peers, "startup", OURS)
            .against(BWRAP)
            .at_most(1.0, "start and end of `true`, times bubblewrap's with the same view"),
        Ask::of(peers, "null_call", OURS)
            .more_at_most(25.0, "what a call that is not trapped costs more than natively"),
        round_trip(mechanisms),
    ];
    for (question, name) in [("open", "`open` and `close`"), ("stat", "`stat`")] {
        let mut emulated =
            Ask::of(peers, question, FULL).at_most(5.0, &format!("{name} answered by the supervisor, times native"));
        if let Some(floor) = floor(peers, question) {
            emulated.note = format!("a notification that is answered unread makes {}", Scale::Times.pretty(floor));
        }
        targets.push(emulated);
    }
    for question in peers.questions.iter().filter(|question| is_program(question)) {
        let asks = &question.asks;
        targets.push(Ask::of(peers, &question.name, OURS).at_most(1.05, &format!("{asks}, times native")));
        targets.push(
            Ask::of(peers, &question.name, OURS).against(BWRAP).at_most(1.0, &format!("{asks}, times bubblewrap's")),
        );
    }
    targets.push(many(peers));
    targets.push(
        Ask::of(peers, "memory", OURS)
            .amount_at_most(6e6, "memory (PSS) of all processes of ours around a sleeping program"),
    );
    if let Some(containers) = study("containers") {
        let of = |question| Ask::of(containers, question, crate::containers::OURS);
        targets.push(of("run").at_most(1.3, "`sentry oci run` of a rootless bundle, times crun's"));
        targets.push(of("podman").at_most(1.15, "rootless `podman run` with ours, times crun's"));
    }
    targets
}

/// Whether a question is a whole program.
pub fn is_program(question: &Question) -> bool {
    matches!(question.group.as_str(), "programs" | "workloads")
}

/// How many times native a call would be that costs no more than a notification that is answered unread.
fn floor(peers: &Results, question: &str) -> Option<f64> {
    let notification = peers.difference_to("trapped", FULL, peers.native())?.median;
    let native = peers.estimate(question, peers.native())?.median;
    Some(1.0 + notification / native)
}

/// A notification against the cheapest way to hand a word to another process and back; on one CPU, where both cost two
/// switches and nothing else.
fn round_trip(mechanisms: &Results) -> Target {
    Ask::of(mechanisms, calls::NULL, "notify, reply, sync, one CPU")
        .against("futex ping-pong, one CPU")
        .at_most(1.1, "notification and answer, times a futex ping-pong")
}

/// The CPU time of each of 256 sandboxes that start at once.
fn many(peers: &Results) -> Target {
    let fits = |question: &&Question| question.name.contains("256") && question.name.contains("cpu");
    let question = peers.questions.iter().find(fits).map_or("", |question| &question.name);
    Ask::of(peers, question, OURS).amount_at_most(2e6, "CPU time of a start of `true`, 256 at once")
}

/// One question to a run, about one subject.
struct Ask<'a> {
    results: &'a Results,
    question: &'a str,
    subject: &'a str,
    other: Option<&'a str>,
}

impl<'a> Ask<'a> {
    fn of(results: &'a Results, question: &'a str, subject: &'a str) -> Self {
        Self { results, question, subject, other: None }
    }

    fn against(self, other: &'a str) -> Self {
        Self { other: Some(other), ..self }
    }

    fn at_most(self, goal: f64, what: &str) -> Target {
        let other = self.other.unwrap_or(self.results.native());
        let value = self.results.ratio_to(self.question, self.subject, other);
        self.target(goal, Scale::Times, what, value)
    }

    fn more_at_most(self, goal: f64, what: &str) -> Target {
        let value = self.results.difference_to(self.question, self.subject, self.results.native());
        self.target(goal, Scale::Amount(self.unit()), what, value)
    }

    fn amount_at_most(self, goal: f64, what: &str) -> Target {
        let value = self.results.estimate(self.question, self.subject);
        self.target(goal, Scale::Amount(self.unit()), what, value)
    }

    fn unit(&self) -> Unit {
        let unasked = if self.question == "memory" { Unit::Bytes } else { Unit::Ns };
        self.results.question(self.question).map_or(unasked, |question| question.unit)
    }

    fn target(&self, goal: f64, scale: Scale, what: &str, value: Option<Estimate>) -> Target {
        let Self { results, question, subject, other } = *self;
        let excuse = |subject: &str| Some(format!("{subject}: {}", results.excuse(question, subject)?));
        let note = if value.is_none() {
            excuse(subject).or_else(|| excuse(other?)).unwrap_or_default()
        } else if results.disturbed().iter().any(|(disturbed, _)| disturbed.name == question) {
            "the run was disturbed here".to_owned()
        } else {
            String::new()
        };
        Target { what: what.to_owned(), goal, scale, value, rounds: results.rounds(question, subject), note }
    }
}

/// What a mode of ours costs more than [`OURS`].
#[derive(Clone, Debug)]
pub struct Price<'a> {
    /// The mode's name.
    pub subject: &'a str,
    /// By question: times what [`OURS`] takes, where both answered.
    pub times: Vec<Option<Estimate>>,
}

/// The questions that features are priced by.
const PRICED: [&str; 5] = ["null_call", "stat", "open", "startup", "memory"];

/// Each mode of ours with its price: copy-on-write, rules about paths, the pretended clock, whatever was measured.
pub fn prices(peers: &Results) -> (Vec<&Question>, Vec<Price<'_>>) {
    let questions: Vec<&Question> = PRICED.iter().filter_map(|name| peers.question(name)).collect();
    let modes = peers.subjects.iter().filter(|subject| subject.role == Role::Ours && subject.name != OURS);
    let prices = modes.map(|mode| {
        let times = questions.iter().map(|question| peers.ratio_to(&question.name, &mode.name, OURS)).collect();
        Price { subject: &mode.name, times }
    });
    let prices = prices.filter(|price| price.times.iter().any(Option::is_some)).collect();
    (questions, prices)
}

/// The promises as a Markdown table.
pub fn markdown(studies: &[&Results]) -> String {
    let mut text = "| promise | found | goal | |\n|---|---|---|---|\n".to_owned();
    for target in of(studies) {
        let note = if target.note.is_empty() { String::new() } else { format!("; {}", target.note.replace('|', "/")) };
        let (goal, verdict) = (target.scale.pretty(target.goal), target.verdict().words());
        text.push_str(&format!("| {} | {} | at most {goal} | {verdict}{note} |\n", target.what, target.found()));
    }
    let provenance: Vec<String> = studies.iter().map(|results| results.provenance()).collect();
    text + "\n" + &provenance.concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Record, Subject};

    /// A run of six rounds in which each subject takes what is said here, and a little more in each round.
    fn peers(answers: &[(&str, &str, f64)]) -> Results {
        let mut results = Results::default();
        results.run.study = "peers".to_owned();
        let subjects = [("native", Role::Native), (OURS, Role::Ours), (FULL, Role::Ours), (BWRAP, Role::Peer)];
        for (name, role) in subjects {
            let (name, how) = (name.to_owned(), String::new());
            results.add(Record::Subject(Subject { name, role, how, version: None, missing: None }));
        }
        for (question, subject, value) in answers {
            if results.question(question).is_none() {
                let group = if *question == "find" { "programs" } else { "calls" };
                let (name, asks, group) = ((*question).to_owned(), format!("`{question}`"), group.to_owned());
                let unit = if name == "memory" { Unit::Bytes } else { Unit::Ns };
                results.add(Record::Question(Question { name, asks, group, unit }));
            }
            for (round, more) in [0.0, 0.01, 0.02, 0.03, 0.04, 0.05].into_iter().enumerate() {
                let (question, subject) = ((*question).to_owned(), (*subject).to_owned());
                results.add(Record::Sample { question, subject, round, value: value * (1.0 + more) });
            }
        }
        results
    }

    fn verdict(targets: &[Target], what: &str) -> Verdict {
        let found: Vec<&Target> = targets.iter().filter(|target| target.what.contains(what)).collect();
        assert_eq!(found.len(), 1, "{what}");
        found[0].verdict()
    }

    #[test]
    fn a_promise_is_judged_with_its_interval() {
        let results = peers(&[
            ("startup", OURS, 90.0),
            ("startup", BWRAP, 100.0),
            ("null_call", "native", 100.0),
            ("null_call", OURS, 140.0),
            ("memory", OURS, 5.9e6),
        ]);
        let targets = of(&[&results]);
        assert_eq!(verdict(&targets, "start and end"), Verdict::Met);
        assert_eq!(verdict(&targets, "not trapped"), Verdict::Missed);
        assert_eq!(verdict(&targets, "memory"), Verdict::Noise, "5.9 to 6.2 MB");
        assert_eq!(verdict(&targets, "256 at once"), Verdict::Unmeasured);
        assert_eq!(verdict(&targets, "futex"), Verdict::Unmeasured);
    }

    #[test]
    fn programs_are_held_against_native_and_bubblewrap() {
        let results = peers(&[("find", "native", 100.0), ("find", OURS, 103.0), ("find", BWRAP, 101.0)]);
        let targets = of(&[&results]);
        assert_eq!(verdict(&targets, "`find`, times native"), Verdict::Met);
        assert_eq!(verdict(&targets, "`find`, times bubblewrap"), Verdict::Missed);
    }

    #[test]
    fn the_floor_of_an_emulated_call_is_told() {
        let results = peers(&[
            ("open", "native", 100.0),
            ("open", FULL, 900.0),
            ("trapped", "native", 50.0),
            ("trapped", FULL, 450.0),
        ]);
        let targets = of(&[&results]);
        let open = targets.iter().find(|target| target.what.contains("`open`")).unwrap();
        assert_eq!(open.verdict(), Verdict::Missed);
        assert!(open.line().ends_with("missed; a notification that is answered unread makes 5.00x"), "{}", open.line());
    }

    #[test]
    fn what_failed_is_not_measured_and_says_why() {
        let mut results = peers(&[("startup", BWRAP, 100.0), ("startup", OURS, 90.0)]);
        let (question, subject) = ("startup".to_owned(), OURS.to_owned());
        results.add(Record::Failure { question, subject, why: "it broke".to_owned() });
        let targets = of(&[&results]);
        assert!(targets[0].line().contains("not measured; sentry --write .: it broke"), "{}", targets[0].line());
    }

    #[test]
    fn features_are_priced_against_ours() {
        let results = peers(&[("open", OURS, 100.0), ("open", FULL, 300.0)]);
        let (questions, prices) = prices(&results);
        assert_eq!((questions.len(), prices.len(), prices[0].subject), (1, 1, FULL));
        assert!((prices[0].times[0].unwrap().median - 3.0).abs() < 1e-9);
    }

    #[test]
    fn the_table_names_each_promise_once() {
        let text = markdown(&[&peers(&[("startup", BWRAP, 100.0), ("startup", OURS, 90.0)])]);
        assert!(text.contains("with the same view | 0.90x (0.90x to 0.90x) | at most 1.00x | met |"), "{text}");
        assert!(text.contains("| at most 25 ns | not measured |"), "{text}");
    }
}
