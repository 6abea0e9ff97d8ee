//! The study of mechanisms: what the kernel's ways to interpose on a call cost, each alone, without a sandbox around.
//!
//! A *family* is a file of mechanisms that answer the same questions. Each answer is a [`Cell`]: a function that sets the
//! mechanism up, proves that it answers, and times a loop. It runs in a process of its own, for a filter cannot be taken
//! off again, and that process is killed when it takes too long.

use std::io;
use std::time::Duration;

use crate::record::{Question, Role, Subject, Unit};

pub mod alone;
pub mod calls;
pub mod files;
pub mod filter;
pub mod filters;
pub mod namespaces;
pub mod notify;
mod own_tree;
pub mod pair;
pub mod ring;
#[allow(unsafe_code)]
pub mod sys;
pub mod threads;
pub mod trace;

/// The time limit of one sample.
pub const LIMIT: Duration = Duration::from_secs(10);

/// Sets a mechanism up, and times about so many operations: nanoseconds for one.
pub type Measure = Box<dyn Fn(u64) -> io::Result<f64>>;

/// One subject's way to answer one question.
pub struct Cell {
    /// The question's name.
    pub question: String,
    /// The subject's name.
    pub subject: String,
    /// Operations in a sample of the full study; the quick one does fewer.
    pub times: u64,
    /// How it is answered.
    pub measure: Measure,
}

/// The name of the subject that all are compared with.
pub const NATIVE: &str = "native";
/// And of the one that is the same again.
pub const CONTROL: &str = "native again";

/// Questions, who is asked, and the answers that make sense.
#[derive(Default)]
pub struct Family {
    /// In the order of tables.
    pub questions: Vec<Question>,
    /// In the order of tables; `missing` where the kernel lacks one.
    pub subjects: Vec<Subject>,
    /// Of those.
    pub cells: Vec<Cell>,
}

impl Family {
    /// Asks one question more, under the heading `group`.
    pub fn question(&mut self, group: &str, name: &str, asks: &str) {
        let (name, asks, group) = (name.to_owned(), asks.to_owned(), group.to_owned());
        self.questions.push(Question { name, asks, group, unit: Unit::Ns });
    }

    /// Names one subject more, unless it is known already.
    pub fn subject(&mut self, name: &str, how: &str, missing: Option<String>) {
        let role = match name {
            NATIVE => Role::Native,
            CONTROL => Role::Control,
            _ => Role::Mechanism,
        };
        if self.subjects.iter().all(|subject| subject.name != name) {
            let (name, how) = (name.to_owned(), how.to_owned());
            self.subjects.push(Subject { name, role, how, version: None, missing });
        }
    }

    /// How a subject answers a question.
    pub fn cell(
        &mut self,
        question: &str,
        subject: &str,
        times: u64,
        measure: impl Fn(u64) -> io::Result<f64> + 'static,
    ) {
        let (question, subject) = (question.to_owned(), subject.to_owned());
        self.cells.push(Cell { question, subject, times, measure: Box::new(measure) });
    }

    /// The cells of native and of its control, which are the same.
    pub fn native(&mut self, question: &str, times: u64, measure: impl Fn(u64) -> io::Result<f64> + Clone + 'static) {
        self.subject(NATIVE, "nothing in the way", None);
        self.subject(CONTROL, "the same once more: differs from native only by chance", None);
        self.cell(question, NATIVE, times, measure.clone());
        self.cell(question, CONTROL, times, measure);
    }

    /// Takes another in.
    pub fn join(&mut self, other: Self) {
        for subject in other.subjects {
            if self.subjects.iter().all(|known| known.name != subject.name) {
                self.subjects.push(subject);
            }
        }
        self.questions.extend(other.questions);
        self.cells.extend(other.cells);
    }

    /// The cell of a question and a subject.
    pub fn find(&self, question: &str, subject: &str) -> Option<&Cell> {
        self.cells.iter().find(|cell| cell.question == question && cell.subject == subject)
    }
}

/// Everything that is studied.
pub fn all() -> Family {
    let mut all = Family::default();
    let families: [fn() -> Family; 8] = [
        calls::family,
        notify::family,
        trace::family,
        ring::family,
        threads::family,
        filters::family,
        files::family,
        namespaces::family,
    ];
    for family in families {
        all.join(family());
    }
    all
}

/// Measures one cell in a process of its own.
pub fn sample(cell: &Cell, times: u64) -> io::Result<f64> {
    alone::measured(LIMIT, || (cell.measure)(times))
}

/// Why something cannot be had here, found out by doing it in a process of its own.
fn lacking(what: &str, probe: impl FnOnce() -> io::Result<()>) -> Option<String> {
    let tried = alone::measured(LIMIT, || probe().map(|()| 1.0));
    tried.err().map(|error| format!("{what}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mechanism_that_is_there_answers() {
        let all = all();
        for cell in &all.cells {
            let subject = all.subjects.iter().find(|subject| subject.name == cell.subject).unwrap();
            if let Some(missing) = &subject.missing {
                eprintln!("SKIPPED: {}: {missing}", subject.name);
                continue;
            }
            let nanoseconds = sample(cell, cell.times.min(20));
            let nanoseconds =
                nanoseconds.unwrap_or_else(|error| panic!("{}, {}: {error}", cell.subject, cell.question));
            assert!(nanoseconds > 0.0, "{}, {}", cell.subject, cell.question);
        }
    }

    #[test]
    fn every_question_has_a_native_answer_and_every_cell_is_of_something() {
        let all = all();
        for question in &all.questions {
            assert_eq!(
                all.questions.iter().filter(|other| other.name == question.name).count(),
                1,
                "{}",
                question.name
            );
            assert!(all.find(&question.name, NATIVE).is_some(), "{}", question.name);
            assert!(all.find(&question.name, CONTROL).is_some(), "{}", question.name);
        }
        for cell in &all.cells {
            assert!(all.questions.iter().any(|question| question.name == cell.question), "{}", cell.question);
            assert!(all.subjects.iter().any(|subject| subject.name == cell.subject), "{}", cell.subject);
        }
    }
}
