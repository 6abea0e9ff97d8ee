//! A run of a study as its records tell it, and the estimates made from them.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;

use anyhow::{Context, ensure};

use crate::record::{Question, Record, Role, Run, Subject, Unit};
use crate::statistics::{self, Estimate};

/// Where records are written as they come.
#[derive(Debug)]
pub struct Journal(File);

impl Journal {
    /// A new file, in a directory that is made if need be.
    pub fn create(path: &Path) -> anyhow::Result<Self> {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
        }
        Ok(Self(File::create(path).with_context(|| format!("cannot write {}", path.display()))?))
    }

    /// Adds a line.
    pub fn put(&mut self, record: &Record) -> anyhow::Result<()> {
        let mut line = serde_json::to_vec(record)?;
        line.push(b'\n');
        self.0.write_all(&line).context("cannot write the results; is the disk full?")
    }
}

/// Everything about one run of a study.
#[derive(Clone, Debug, Default)]
pub struct Results {
    /// What was run, where and when.
    pub run: Run,
    /// In the order of tables.
    pub subjects: Vec<Subject>,
    /// In the order of tables.
    pub questions: Vec<Question>,
    /// Answers by question and subject.
    pub rows: Vec<Row>,
    /// Counted rounds and seconds, if the run came to its end.
    pub end: Option<(usize, f64)>,
    /// Which share of the machine's processor time went to others meanwhile, if that is known.
    pub foreign: Option<f64>,
}

/// One subject's answers to one question.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// The question's name.
    pub question: String,
    /// The subject's name.
    pub subject: String,
    /// Round and value, in the question's unit.
    pub samples: Vec<(usize, f64)>,
    /// Why it failed. It is not fast then, whatever was measured before.
    pub failure: Option<String>,
}

impl Row {
    /// The values, without rounds; none of a subject that failed.
    pub fn values(&self) -> Vec<f64> {
        if self.failure.is_some() { Vec::new() } else { self.samples.iter().map(|(_, value)| *value).collect() }
    }
}

/// How much of the machine others may use during a run that counts. The control does not see them: native, alone in its
/// loop, hardly waits for a processor, while two processes that answer each other wait twice a call.
pub const COMPANY: f64 = 0.1;

/// How far the control may be from native in a run that counts.
pub const TOLERANCE: f64 = 0.1;

impl Results {
    /// Reads a results file. One that was cut short is read as far as it goes, without [`Results::end`].
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::read(BufReader::new(file)).with_context(|| format!("{} is not a results file", path.display()))
    }

    /// Reads records.
    pub fn read(from: impl BufRead) -> anyhow::Result<Self> {
        let mut results = Self::default();
        for (number, line) in from.lines().enumerate() {
            let line = line?;
            let record = serde_json::from_str(&line).with_context(|| format!("line {}", number + 1))?;
            ensure!(number > 0 || matches!(record, Record::Run(_)), "it does not begin with a run");
            results.add(record);
        }
        ensure!(!results.run.study.is_empty(), "it is empty");
        Ok(results)
    }

    fn row_of(&mut self, question: &str, subject: &str) -> &mut Row {
        let known = self.rows.iter().position(|row| row.question == question && row.subject == subject);
        let index = known.unwrap_or_else(|| {
            self.rows.push(Row { question: question.to_owned(), subject: subject.to_owned(), ..Row::default() });
            self.rows.len() - 1
        });
        &mut self.rows[index]
    }

    /// Takes one record in.
    pub fn add(&mut self, record: Record) {
        match record {
            Record::Run(run) => self.run = run,
            Record::Subject(subject) => self.subjects.push(subject),
            Record::Question(question) => self.questions.push(question),
            Record::Sample { question, subject, round, value } => {
                self.row_of(&question, &subject).samples.push((round, value));
            }
            Record::Failure { question, subject, why } => self.row_of(&question, &subject).failure = Some(why),
            Record::End { rounds, seconds, foreign } => {
                self.end = Some((rounds, seconds));
                self.foreign = foreign;
            }
        }
    }

    /// A subject's answers to a question.
    pub fn row(&self, question: &str, subject: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.question == question && row.subject == subject)
    }

    /// The question called `name`.
    pub fn question(&self, name: &str) -> Option<&Question> {
        self.questions.iter().find(|question| question.name == name)
    }

    /// The subject called `name`.
    pub fn subject(&self, name: &str) -> Option<&Subject> {
        self.subjects.iter().find(|subject| subject.name == name)
    }

    /// The name of the subject that the others are compared with.
    pub fn native(&self) -> &str {
        self.subjects.iter().find(|subject| subject.role == Role::Native).map_or("native", |subject| &subject.name)
    }

    /// Median and interval of a subject's answers.
    pub fn estimate(&self, question: &str, subject: &str) -> Option<Estimate> {
        statistics::estimate(&self.row(question, subject)?.values())
    }

    /// How many rounds a subject answered a question in.
    pub fn rounds(&self, question: &str, subject: &str) -> usize {
        self.row(question, subject).map_or(0, |row| row.values().len())
    }

    /// Why a subject has no answer to a question, in its own words: it is not here, or it failed.
    pub fn excuse(&self, question: &str, subject: &str) -> Option<&str> {
        let missing = self.subject(subject).and_then(|subject| subject.missing.as_deref());
        missing.or_else(|| self.row(question, subject)?.failure.as_deref())
    }

    /// Values of two subjects in the rounds that both have.
    pub fn pairs(&self, question: &str, subject: &str, other: &str) -> Option<(Vec<f64>, Vec<f64>)> {
        let (own, other) = (self.row(question, subject)?, self.row(question, other)?);
        if own.failure.is_some() || other.failure.is_some() {
            return None;
        }
        let pair = |(round, value): &(usize, f64)| {
            let partner = other.samples.iter().find(|(known, _)| known == round)?;
            Some((*value, partner.1))
        };
        Some(own.samples.iter().filter_map(pair).unzip())
    }

    /// How many times as much as `other` a subject takes, pair by pair.
    pub fn ratio_to(&self, question: &str, subject: &str, other: &str) -> Option<Estimate> {
        let (own, other) = self.pairs(question, subject, other)?;
        statistics::ratio(&own, &other)
    }

    /// A subject's ratios to native, one a round that both have; none where native has no answer.
    pub fn ratios(&self, question: &str, subject: &str) -> Option<Vec<f64>> {
        let (own, native) = self.pairs(question, subject, self.native())?;
        let usable = !own.is_empty() && native.iter().all(|native| *native > 0.0);
        usable.then(|| own.iter().zip(&native).map(|(own, native)| own / native).collect())
    }

    /// How many times as much as native, pair by pair.
    pub fn ratio(&self, question: &str, subject: &str) -> Option<Estimate> {
        self.ratio_to(question, subject, self.native())
    }

    /// How much more than `other` a subject takes, pair by pair.
    pub fn difference_to(&self, question: &str, subject: &str, other: &str) -> Option<Estimate> {
        let (own, other) = self.pairs(question, subject, other)?;
        statistics::difference(&own, &other)
    }

    /// Questions in which the control, native once more, is not like native: the run was disturbed there.
    pub fn disturbed(&self) -> Vec<(&Question, Estimate)> {
        let controls: Vec<&Subject> = self.subjects.iter().filter(|subject| subject.role == Role::Control).collect();
        let distance = |ratio: &Estimate| (ratio.median - 1.0).abs();
        let worst = |question: &Question| {
            let ratios = controls.iter().filter_map(|control| self.ratio(&question.name, &control.name));
            ratios.max_by(|one, other| distance(one).total_cmp(&distance(other)))
        };
        let far = |question| worst(question).filter(|ratio| distance(ratio) > TOLERANCE).map(|ratio| (question, ratio));
        self.questions.iter().filter_map(far).collect()
    }

    /// That the machine was busy with something else during the run, in words.
    pub fn company(&self) -> Option<String> {
        let foreign = self.foreign.filter(|foreign| *foreign > COMPANY)?;
        let share = foreign * 100.0;
        Some(format!(
            "others used {share:.0} % of the machine's processor time, and what takes two processes suffers most"
        ))
    }

    /// On what, when and how often it was measured.
    pub fn provenance(&self) -> String {
        let fact =
            |name: &str| self.run.machine.iter().find(|(known, _)| known == name).map_or("?", |(_, value)| value);
        let rounds = match self.end {
            Some((rounds, _)) => format!("{rounds} rounds"),
            None => "cut short".to_owned(),
        };
        let few = self.end.is_some_and(|(rounds, _)| rounds < statistics::FEW);
        let range = if few { ", so few that brackets hold the range and no interval" } else { "" };
        let date = self.run.date.split('T').next().unwrap_or_default();
        format!("{}, {} CPUs, Linux {}; {rounds}{range}, {date}.\n", fact("cpu"), fact("cpus"), fact("kernel"))
    }

    /// One subject's answer to one question: the median, and its ratio to native of the same round with the 95 % interval.
    pub fn cell(&self, question: &str, subject: &str) -> String {
        if let Some(excuse) = self.excuse(question, subject) {
            return format!("*{}*", excuse.replace('|', "/"));
        }
        let unit = self.question(question).map_or(Unit::Ns, |question| question.unit);
        let Some(Estimate { median, .. }) = self.estimate(question, subject) else { return "-".to_owned() };
        let value = unit.pretty(median);
        if subject == self.native() {
            return value;
        }
        match self.ratio(question, subject) {
            Some(Estimate { median, low, high }) => format!("{value}, {median:.2}x ({low:.2}-{high:.2})"),
            None => value,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> anyhow::Result<Results> {
        Results::read(text.as_bytes())
    }

    const RUN: &str = r#"{"record":"run","study":"peers","quick":true,"date":"2000-01-01T00:00:00Z","version":"1","machine":[]}
{"record":"subject","name":"native","role":"native","how":"","version":null,"missing":null}
{"record":"subject","name":"again","role":"control","how":"","version":null,"missing":null}
{"record":"subject","name":"box","role":"peer","how":"box","version":"2","missing":null}
{"record":"question","name":"open","asks":"`open`","group":"calls","unit":"ns"}
{"record":"sample","question":"open","subject":"native","round":0,"value":100.0}
{"record":"sample","question":"open","subject":"native","round":1,"value":200.0}
{"record":"sample","question":"open","subject":"again","round":0,"value":130.0}
{"record":"sample","question":"open","subject":"again","round":1,"value":260.0}
{"record":"sample","question":"open","subject":"box","round":1,"value":400.0}
"#;

    #[test]
    fn rounds_that_both_have_are_compared() {
        let results = lines(RUN).unwrap();
        assert_eq!(results.ratio("open", "box").unwrap().median, 2.0);
        assert_eq!(results.end, None);
        assert_eq!(results.cell("open", "box"), "400 ns, 2.00x (2.00-2.00)");
    }

    #[test]
    fn a_control_that_is_not_native_is_told() {
        let results = lines(RUN).unwrap();
        let disturbed = results.disturbed();
        assert_eq!(disturbed.len(), 1);
        assert_eq!(disturbed[0].1.median, 1.3);
    }

    #[test]
    fn who_failed_is_not_fast() {
        let failed = RUN.to_owned()
            + r#"{"record":"failure","question":"open","subject":"box","why":"it | broke"}
{"record":"end","rounds":2,"seconds":1.5}"#;
        let results = lines(&failed).unwrap();
        assert_eq!(results.ratio("open", "box"), None);
        assert_eq!(results.estimate("open", "box"), None);
        assert_eq!(results.cell("open", "box"), "*it / broke*");
        assert_eq!(results.end, Some((2, 1.5)));
    }

    #[test]
    fn what_is_no_results_file_is_an_error() {
        for text in ["", "{}", "x", r#"{"record":"end","rounds":2,"seconds":1.5}"#] {
            assert!(lines(text).is_err(), "{text}");
        }
        assert!(lines(&(RUN.to_owned() + "{\"record\":\"sam")).is_err());
    }

    #[test]
    fn company_is_told() {
        let ended = |foreign: &str| {
            let end = format!(r#"{{"record":"end","rounds":2,"seconds":1.5{foreign}}}"#);
            lines(&(RUN.to_owned() + &end)).unwrap()
        };
        assert_eq!(ended("").company(), None);
        assert_eq!(ended(r#","foreign":0.04"#).company(), None);
        assert!(ended(r#","foreign":0.42"#).company().unwrap().starts_with("others used 42 %"));
    }

    #[test]
    fn a_journal_reads_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new/run.jsonl");
        let mut journal = Journal::create(&path).unwrap();
        for line in RUN.lines() {
            journal.put(&serde_json::from_str(line).unwrap()).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), RUN);
        assert_eq!(Results::load(&path).unwrap().rows.len(), 3);
    }
}
