//! `sentry-bench compare` with runs that are made up, so that nothing here depends on a quiet machine.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use sentry_benches::compare::{Change, Comparison};
use sentry_benches::record::{Question, Record, Role, Run, Subject, Unit};
use sentry_benches::results::Results;

const ROUNDS: usize = 12;

/// Numbers between 0 and 1 that look random and are the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as f64 / f64::from(u32::MAX >> 1)
    }

    /// About 1, skewed as times are: now and then much more, never much less.
    fn noise(&mut self) -> f64 {
        let tail = if self.roll() > 0.9 { self.roll() } else { 0.0 };
        1.0 + 0.04 * self.roll() + tail
    }
}

/// A run of 3 subjects and 40 questions, with noise of its own. `planted` makes one subject's answer to one question slower.
fn records(seed: u64, rounds: usize, planted: Option<(&str, &str, f64)>) -> Vec<Record> {
    let machine = vec![("cpu".to_owned(), "made up".to_owned()), ("load before the run".to_owned(), seed.to_string())];
    let date = format!("2000-01-{:02}T00:00:00Z", seed % 28 + 1);
    let mut records =
        vec![Record::Run(Run { study: "peers".to_owned(), quick: false, date, version: "0".to_owned(), machine })];
    let subjects =
        [("native", Role::Native), ("native again", Role::Control), ("ours", Role::Ours), ("box", Role::Peer)];
    for (name, role) in subjects {
        let (name, how) = (name.to_owned(), String::new());
        records.push(Record::Subject(Subject { name, role, how, version: None, missing: None }));
    }
    let questions: Vec<String> = (0..40).map(|number| format!("q{number}")).chain(["memory".to_owned()]).collect();
    for name in &questions {
        let unit = if name == "memory" { Unit::Bytes } else { Unit::Ns };
        let (name, asks, group) = (name.clone(), format!("`{name}`"), "calls".to_owned());
        records.push(Record::Question(Question { name, asks, group, unit }));
    }
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9));
    for round in 0..rounds {
        for question in &questions {
            let base = 100.0 * (1.0 + 0.2 * dice.roll());
            for (subject, role) in subjects {
                if question == "memory" && matches!(role, Role::Native | Role::Control) {
                    continue;
                }
                let base = if question == "memory" { 6e6 } else { base };
                let slower =
                    planted.filter(|(q, s, _)| q == question && *s == subject).map_or(1.0, |(_, _, times)| times);
                let (question, subject) = (question.clone(), subject.to_owned());
                records.push(Record::Sample { question, subject, round, value: base * slower * dice.noise() });
            }
        }
    }
    records.push(Record::End { rounds, seconds: 1.0, foreign: Some(0.02) });
    records
}

fn results(records: Vec<Record>) -> Results {
    let mut results = Results::default();
    records.into_iter().for_each(|record| results.add(record));
    results
}

fn run(seed: u64) -> Results {
    results(records(seed, ROUNDS, None))
}

fn changed(comparison: &Comparison) -> Vec<(String, String, Change)> {
    let told = |change: Change| !matches!(change, Change::Same | Change::Unclear);
    let lines = comparison.lines.iter().filter(|line| told(line.change));
    lines.map(|line| (line.question.clone(), line.subject.clone(), line.change)).collect()
}

#[test]
fn a_planted_delay_is_found_and_nothing_else() {
    for (times, change) in [(1.5, Change::Slower), (0.6, Change::Faster)] {
        let slow = results(records(2, ROUNDS, Some(("q7", "ours", times))));
        let comparison = Comparison::new(&run(1), &slow, 0.05).unwrap();
        assert_eq!(changed(&comparison), [("q7".to_owned(), "ours".to_owned(), change)]);
        assert_eq!(comparison.ours_became_worse(), change == Change::Slower);
        assert!(comparison.warnings.is_empty(), "{:?}", comparison.warnings);
    }
}

#[test]
fn two_runs_of_the_same_thing_come_out_clean() {
    let alarms = (0..24).filter(|seed| {
        let comparison = Comparison::new(&run(2 * seed + 1), &run(2 * seed + 2), 0.0).unwrap();
        !changed(&comparison).is_empty()
    });
    // 82 lines in each of 24 pairs: without care about their number a hundred would be told.
    let alarms = alarms.count();
    assert!(alarms <= 4, "{alarms} of 24 pairs of runs are said to differ");
}

#[test]
fn a_peer_that_became_slower_is_told_but_is_not_ours() {
    let slow = results(records(2, ROUNDS, Some(("q7", "box", 2.0))));
    let comparison = Comparison::new(&run(1), &slow, 0.05).unwrap();
    assert_eq!(comparison.of(Change::Slower).count(), 1);
    assert!(!comparison.ours_became_worse());
}

#[test]
fn what_native_does_not_do_is_compared_as_it_is() {
    let heavy = results(records(2, ROUNDS, Some(("memory", "ours", 1.4))));
    let comparison = Comparison::new(&run(1), &heavy, 0.05).unwrap();
    let line = comparison.of(Change::Slower).next().unwrap();
    assert_eq!((line.question.as_str(), line.basis), ("memory", "amount"));
    assert!(comparison.to_string().contains("ours, `memory`: 6."), "{comparison}");
}

#[test]
fn what_native_did_to_itself_is_no_news() {
    // The control moved by more than ours did.
    let mut moved = results(records(2, ROUNDS, Some(("q7", "native again", 1.8))));
    for row in moved.rows.iter_mut().filter(|row| row.question == "q7" && row.subject == "ours") {
        row.samples.iter_mut().for_each(|(_, value)| *value *= 1.5);
    }
    let comparison = Comparison::new(&run(1), &moved, 0.05).unwrap();
    assert_eq!(changed(&comparison), []);
    assert!(comparison.warnings.iter().any(|warning| warning.contains("disturbed in q7")), "{:?}", comparison.warnings);
}

#[test]
fn who_fails_now_is_worse_and_who_is_new_is_not() {
    let mut broken = records(2, ROUNDS, None);
    let (question, subject) = ("q3".to_owned(), "ours".to_owned());
    broken.push(Record::Failure { question, subject, why: "it broke".to_owned() });
    let broken = results(broken);
    let comparison = Comparison::new(&run(1), &broken, 0.05).unwrap();
    assert!(comparison.ours_became_worse() && comparison.to_string().contains("ours, `q3`: it broke"), "{comparison}");
    let comparison = Comparison::new(&broken, &run(1), 0.05).unwrap();
    assert_eq!(changed(&comparison), [("q3".to_owned(), "ours".to_owned(), Change::Works)]);

    let mut more = run(1);
    more.subjects.retain(|subject| subject.name != "ours");
    more.rows.retain(|row| row.subject != "ours");
    let comparison = Comparison::new(&more, &run(2), 0.05).unwrap();
    assert!(comparison.lines.iter().all(|line| line.subject == "box"), "who is new has nothing to be compared with");
}

#[test]
fn few_rounds_say_that_they_are_few() {
    let (old, new) = (results(records(1, 3, None)), results(records(2, 3, Some(("q7", "ours", 3.0)))));
    let comparison = Comparison::new(&old, &new, 0.05).unwrap();
    assert_eq!(changed(&comparison), []);
    assert!(comparison.of(Change::Unclear).any(|line| line.question == "q7"));
    assert!(comparison.warnings.iter().any(|warning| warning.contains("3 and 3 rounds are few")), "{comparison}");
}

#[test]
fn another_machine_is_told_and_another_study_refused() {
    let mut other = run(2);
    other.run.machine[0].1 = "another".to_owned();
    let comparison = Comparison::new(&run(1), &other, 0.05).unwrap();
    assert_eq!(comparison.warnings, ["another machine: cpu was made up, is another"]);
    other.foreign = Some(0.4);
    let comparison = Comparison::new(&run(1), &other, 0.05).unwrap();
    assert!(comparison.warnings[1].starts_with("in the new run others used 40 %"), "{:?}", comparison.warnings);
    other.run.study = "mechanisms".to_owned();
    assert!(Comparison::new(&run(1), &other, 0.05).is_err());
}

fn written(directory: &Path, name: &str, records: &[Record]) -> PathBuf {
    let path = directory.join(name);
    let mut file = std::fs::File::create(&path).expect("a file");
    for record in records {
        writeln!(file, "{}", serde_json::to_string(record).expect("JSON")).expect("room");
    }
    path
}

#[test]
fn the_exit_code_is_for_scripts() {
    let directory = tempfile::tempdir().unwrap();
    let old = written(directory.path(), "old", &records(1, ROUNDS, None));
    let same = written(directory.path(), "same", &records(2, ROUNDS, None));
    let slow = written(directory.path(), "slow", &records(2, ROUNDS, Some(("q7", "ours", 1.5))));
    let compare = |arguments: &[&Path]| {
        let output = Command::new(env!("CARGO_BIN_EXE_sentry-bench")).arg("compare").args(arguments).output().unwrap();
        (
            output.status.code().unwrap(),
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    assert_eq!(compare(&[&old, &same]).0, 0);
    let (code, out, _) = compare(&[&old, &slow]);
    assert_eq!(code, 1);
    assert!(out.contains("costs more:\n  ours, `q7`: 1.0"), "{out}");
    let (code, out, _) = compare(&[Path::new("--json"), &old, &slow]);
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, json["lines"].as_array().unwrap().len()), (1, 82));
    let (code, _, err) = compare(&[&old, Path::new("nowhere")]);
    assert_eq!(code, 2);
    assert!(err.contains("cannot read nowhere"), "{err}");
}
