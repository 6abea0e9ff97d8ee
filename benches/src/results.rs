//! The results file, and what it says in words. The tables made from it are in [`tables`](crate::tables).

use serde::{Deserialize, Serialize};

use crate::statistics::{Estimate, difference, estimate, median, ratio};

/// Everything about one run of the benchmarks.
#[derive(Debug, Serialize, Deserialize)]
pub struct Results {
    /// Which machine, kernel and mitigations.
    pub machine: Vec<(String, String)>,
    /// When, as `date -u` says it.
    pub date: String,
    /// Rounds.
    pub rounds: usize,
    /// Samples by question and subject.
    pub rows: Vec<Row>,
}

/// One subject's answers to one question.
#[derive(Debug, Serialize, Deserialize)]
pub struct Row {
    /// The question's name.
    pub question: String,
    /// The subject's name.
    pub subject: String,
    /// One sample a round, in nanoseconds or bytes; fewer if it failed.
    pub samples: Vec<f64>,
    /// Why it failed or was not asked.
    pub failure: Option<String>,
}

fn pretty(question: &str, value: f64) -> String {
    match question {
        "memory" => format!("{:.1} MB", value / 1e6),
        _ if value >= 1e6 => format!("{:.2} ms", value / 1e6),
        _ if value >= 1e4 => format!("{:.1} us", value / 1e3),
        _ => format!("{value:.0} ns"),
    }
}

impl Results {
    /// A subject's answers to a question.
    pub fn row(&self, question: &str, subject: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.question == question && row.subject == subject)
    }

    /// On what, when and how often it was measured.
    pub fn provenance(&self) -> String {
        let fact = |name: &str| self.machine.iter().find(|(known, _)| known == name).map_or("?", |(_, value)| value);
        let (rounds, date) = (self.rounds, &self.date);
        format!("{}, {} CPUs, Linux {}; {rounds} rounds, {date}.\n", fact("cpu"), fact("cpus"), fact("kernel"))
    }

    /// One subject's answer to one question: the median, and its ratio to native of the same round with the 95 % interval.
    pub fn cell(&self, question: &str, subject: &str) -> String {
        let Some(row) = self.row(question, subject) else { return "-".to_owned() };
        if let Some(failure) = &row.failure {
            return format!("*{}*", failure.replace('|', "/"));
        }
        let Some(Estimate { median, .. }) = estimate(&row.samples) else { return "-".to_owned() };
        let value = pretty(question, median);
        if subject == "native" {
            return value;
        }
        match self.row(question, "native").and_then(|native| ratio(&row.samples, &native.samples)) {
            Some(Estimate { median, low, high }) => format!("{value}, {median:.2}x ({low:.2}-{high:.2})"),
            None => value,
        }
    }

    /// The promises, and whether this run kept them.
    pub fn promises(&self) -> Vec<String> {
        let mut text = Vec::new();
        let samples = |question: &str, subject: &str| self.row(question, subject).map(|row| row.samples.clone());
        let ours = "sentry --write .";
        if let (Some(own), Some(native)) = (samples("null_call", ours), samples("null_call", "native"))
            && let Some(more) = difference(&own, &native)
        {
            text.push(format!("an untrapped call costs {:.0} ns more than native (goal 25)", more.median));
        }
        for question in ["open", "stat"] {
            if let (Some(own), Some(native)) = (samples(question, ours), samples(question, "native"))
                && let Some(times) = ratio(&own, &native)
            {
                text.push(format!(
                    "{question} in a granted directory: {:.2}x native (goal 1.1x and the filter's price)",
                    times.median
                ));
            }
        }
        for question in ["open", "stat"] {
            let full = samples(question, "sentry --interpose full").filter(|samples| !samples.is_empty());
            if let (Some(full), Some(native)) = (full, samples(question, "native"))
                && let Some(times) = ratio(&full, &native)
            {
                text.push(format!("{question} with every path interposed: {:.1}x native (goal 5x)", times.median));
            }
        }
        if let (Some(own), Some(other)) = (samples("startup", ours), samples("startup", "bwrap, same view"))
            && let Some(times) = ratio(&own, &other)
        {
            text.push(format!("start of true: {:.2}x of bwrap with the same view (goal 1.0x)", times.median));
        }
        if let Some(own) = samples("memory", ours).as_deref().and_then(median) {
            text.push(format!("our processes around a sleeping program: {:.1} MB PSS (goal 6)", own / 1e6));
        }
        if let (Some(again), Some(native)) = (samples("null_call", "native again"), samples("null_call", "native"))
            && let Some(times) = ratio(&again, &native)
            && !(0.9..1.1).contains(&times.median)
        {
            text.push(format!("DISTURBED: the control is {:.2}x and should be 1.0x", times.median));
        }
        text
    }
}
