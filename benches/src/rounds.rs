//! Round after round: each asks every subject every question once, in turning order.
//!
//! What is compared is taken close together in time and in both orders, so that what disturbs the machine disturbs all
//! alike. A round that warms up is not counted. Who fails once is not asked that question again.

use std::time::{Duration, Instant};

use crate::machine::Watch;
use crate::record::Record;
use crate::results::{Journal, Results};

/// How often to ask.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Counted rounds, at most.
    pub rounds: usize,
    /// No further round begins that would end later than this after the start; at least [`Effort::FEWEST`] are made.
    pub within: Option<Duration>,
}

impl Effort {
    /// Fewer rounds make no interval.
    pub const FEWEST: usize = 3;
}

/// What `ask` may fail with to end the run: the round that has begun does not count.
#[derive(Debug, thiserror::Error)]
#[error("time is up")]
pub struct TimeIsUp;

/// Asks `ask(question, subject)`, by their places in `results`, which answers nothing where the question makes no sense or
/// is not put in this round, and keeps the answers in `journal` and `results`. The run, its subjects and questions must be in
/// both already. `say` tells the user how far it is.
pub fn run(
    results: &mut Results,
    journal: &mut Journal,
    effort: Effort,
    say: &mut dyn FnMut(&str),
    ask: &mut dyn FnMut(usize, usize) -> anyhow::Result<Option<f64>>,
) -> anyhow::Result<()> {
    let start = Instant::now();
    let watch = Watch::begin();
    let names = |items: &mut dyn Iterator<Item = &String>| items.cloned().collect::<Vec<_>>();
    let questions = names(&mut results.questions.iter().map(|question| &question.name));
    let subjects = names(&mut results.subjects.iter().map(|subject| &subject.name));
    let missing: Vec<bool> = results.subjects.iter().map(|subject| subject.missing.is_some()).collect();
    let mut failed = vec![missing; questions.len()];
    for row in &results.rows {
        let place = |names: &[String], name: &str| names.iter().position(|known| known == name);
        if let (Some(q), Some(s), true) =
            (place(&questions, &row.question), place(&subjects, &row.subject), row.failure.is_some())
        {
            failed[q][s] = true;
        }
    }
    let mut counted = 0;
    let mut longest = Duration::ZERO;
    // Round 0 warms up.
    'rounds: for round in 0..=effort.rounds {
        let began = Instant::now();
        if counted >= Effort::FEWEST && effort.within.is_some_and(|within| start.elapsed() + longest > within) {
            break;
        }
        say(&if round == 0 { "a round to warm up".to_owned() } else { format!("round {round} of {}", effort.rounds) });
        for (q, question) in questions.iter().enumerate() {
            for turn in 0..subjects.len() {
                let s = place_in_turn(turn, round, subjects.len());
                if failed[q][s] {
                    continue;
                }
                let (question, subject) = (question.clone(), subjects[s].clone());
                let record = match ask(q, s) {
                    Ok(Some(value)) if round > 0 => Record::Sample { question, subject, round: round - 1, value },
                    Ok(_) => continue,
                    Err(error) if error.is::<TimeIsUp>() => break 'rounds,
                    Err(error) => {
                        let why = format!("{error:#}");
                        say(&format!("{subject}, {question}: {why}"));
                        failed[q][s] = true;
                        Record::Failure { question, subject, why }
                    }
                };
                journal.put(&record)?;
                results.add(record);
            }
        }
        longest = longest.max(began.elapsed());
        counted = round;
    }
    let end = Record::End { rounds: counted, seconds: start.elapsed().as_secs_f64(), foreign: watch.foreign() };
    journal.put(&end)?;
    results.add(end);
    Ok(())
}

/// Whose turn it is: each round begins with another, and every other one goes backwards, so that nobody always comes after the same.
fn place_in_turn(turn: usize, round: usize, count: usize) -> usize {
    if round.is_multiple_of(2) { (round + turn) % count } else { (round % count + count - turn) % count }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Question, Role, Subject, Unit};

    fn results() -> Results {
        let subject = |name: &str, missing: Option<&str>| Subject {
            name: name.to_owned(),
            role: Role::Native,
            how: String::new(),
            version: None,
            missing: missing.map(str::to_owned),
        };
        let question =
            |name: &str| Question { name: name.to_owned(), asks: String::new(), group: String::new(), unit: Unit::Ns };
        Results {
            subjects: vec![subject("a", None), subject("b", None), subject("c", Some("not here"))],
            questions: vec![question("x"), question("y")],
            ..Results::default()
        }
    }

    fn asked(effort: Effort, ask: &mut dyn FnMut(usize, usize) -> anyhow::Result<f64>) -> Results {
        let directory = tempfile::tempdir().unwrap();
        let mut results = results();
        let mut ask = |q, s| ask(q, s).map(Some);
        let mut journal = Journal::create(&directory.path().join("j")).unwrap();
        run(&mut results, &mut journal, effort, &mut |_| {}, &mut ask).unwrap();
        results
    }

    #[test]
    fn everybody_is_asked_in_turn_and_the_first_round_does_not_count() {
        let mut order = Vec::new();
        let results = asked(Effort { rounds: 2, within: None }, &mut |q, s| {
            order.push((q, s));
            Ok(order.len() as f64)
        });
        assert_eq!(order[..4], [(0, 0), (0, 1), (1, 0), (1, 1)]);
        assert_eq!(order[4..6], [(0, 1), (0, 0)], "the next round begins with another");
        assert_eq!(results.row("x", "a").unwrap().samples, [(0, 6.0), (1, 9.0)]);
        assert!(results.row("x", "c").is_none());
        assert_eq!(results.end.unwrap().0, 2);
    }

    #[test]
    fn who_fails_is_not_asked_again() {
        let mut times = 0;
        let results = asked(Effort { rounds: 3, within: None }, &mut |q, s| {
            times += usize::from((q, s) == (0, 1));
            anyhow::ensure!((q, s) != (0, 1) || times < 3, "broke");
            Ok(1.0)
        });
        assert_eq!(times, 3);
        let row = results.row("x", "b").unwrap();
        assert_eq!((row.failure.as_deref(), row.values().len()), (Some("broke"), 0));
    }

    #[test]
    fn who_has_no_turn_has_not_failed() {
        let directory = tempfile::tempdir().unwrap();
        let (mut results, mut times) = (results(), [0, 0]);
        let mut journal = Journal::create(&directory.path().join("j")).unwrap();
        let effort = Effort { rounds: 9, within: None };
        let mut ask = |q: usize, s: usize| {
            times[s] += usize::from(q == 0);
            match (q, s, times[s]) {
                (0, 0, 5) => Err(TimeIsUp.into()),
                (0, 1, 2) => Ok(None),
                _ => Ok(Some(1.0)),
            }
        };
        run(&mut results, &mut journal, effort, &mut |_| {}, &mut ask).unwrap();
        let rounds = |subject| {
            let samples = &results.row("x", subject).unwrap().samples;
            samples.iter().map(|(round, _)| *round).collect::<Vec<_>>()
        };
        assert_eq!((rounds("a"), rounds("b")), (vec![0, 1, 2], vec![1, 2, 3]));
        assert!(results.rows.iter().all(|row| row.failure.is_none()));
        assert_eq!(results.end.unwrap().0, 3);
    }

    #[test]
    fn time_ends_a_run_but_not_before_there_is_an_interval() {
        let effort = Effort { rounds: 50, within: Some(Duration::ZERO) };
        assert_eq!(asked(effort, &mut |_, _| Ok(1.0)).end.unwrap().0, Effort::FEWEST);
    }
}
