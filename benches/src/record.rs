//! The source of every number: a file of JSON lines, one record a line.
//!
//! A file begins with a [`Record::Run`], names its subjects and questions, and then has a line for each sample as it is
//! taken, so that a run that is cut short keeps what it has. It is whole when it ends with [`Record::End`].

use serde::{Deserialize, Serialize};

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "lowercase")]
pub enum Record {
    /// What was run, where and when.
    Run(Run),
    /// Who is measured.
    Subject(Subject),
    /// What is asked.
    Question(Question),
    /// One answer.
    Sample {
        /// The question's name.
        question: String,
        /// The subject's name.
        subject: String,
        /// The round, from 0; the same round of two subjects makes a pair.
        round: usize,
        /// In the question's unit.
        value: f64,
    },
    /// There is no answer, and will be none in this run.
    Failure {
        /// The question's name.
        question: String,
        /// The subject's name.
        subject: String,
        /// In the subject's own words, if it had any.
        why: String,
    },
    /// The run came to its end.
    End {
        /// Counted rounds.
        rounds: usize,
        /// How long all of it took.
        seconds: f64,
        /// Which share of the machine's processor time went to others meanwhile.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        foreign: Option<f64>,
    },
}

/// What was run, where and when.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// `mechanisms` or `peers`.
    pub study: String,
    /// Whether it was the short form.
    pub quick: bool,
    /// When it began, UTC, as RFC 3339 says it.
    pub date: String,
    /// Of the measured sentry, as `sentry --version` says it.
    pub version: String,
    /// Which machine, kernel, governor and mitigations: names and what the kernel says.
    pub machine: Vec<(String, String)>,
}

/// What a subject is to the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// What all are compared with: no sandbox, no mechanism.
    Native,
    /// The same again: comes out at 1.0, or the run was disturbed.
    Control,
    /// Ours, in one of its modes.
    Ours,
    /// Another sandbox.
    Peer,
    /// A mechanism of the kernel.
    Mechanism,
}

impl Role {
    /// Whether it is native, the first time or again.
    pub fn is_native(self) -> bool {
        matches!(self, Self::Native | Self::Control)
    }
}

/// Who is measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Subject {
    /// Its name in tables.
    pub name: String,
    /// What it is to the others.
    pub role: Role,
    /// What comes before the guest's command, or how the mechanism is set up.
    pub how: String,
    /// As it says itself.
    pub version: Option<String>,
    /// Why it cannot be measured here.
    pub missing: Option<String>,
}

/// What samples of a question count. Less is always better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Nanoseconds for one operation.
    Ns,
    /// Bytes of memory.
    Bytes,
}

impl Unit {
    /// A value as people read it.
    pub fn pretty(self, value: f64) -> String {
        match self {
            Self::Bytes if value >= 1e6 => format!("{:.1} MB", value / 1e6),
            Self::Bytes => format!("{:.0} kB", value / 1e3),
            Self::Ns if value >= 1e9 => format!("{:.2} s", value / 1e9),
            Self::Ns if value >= 1e6 => format!("{:.2} ms", value / 1e6),
            Self::Ns if value >= 1e4 => format!("{:.1} us", value / 1e3),
            Self::Ns => format!("{value:.0} ns"),
        }
    }
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Question {
    /// Its name on command lines and in records.
    pub name: String,
    /// What it asks, for people.
    pub asks: String,
    /// Under which heading it stands, such as `calls`, `programs`, `memory`, `many at once`.
    pub group: String,
    /// What its samples count.
    pub unit: Unit,
}
