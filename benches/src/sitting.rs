//! How a subject is asked.
//!
//! One start of a subject answers all cheap questions, and one crowd of it two; what was answered along is handed out when its
//! turn comes in the same round. Without proof that its guest ran there is no answer.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::time::Duration;

use anyhow::{Context, anyhow, bail, ensure};

use crate::limited::{Ended, Running};
use crate::place::{Place, which};
use crate::proof::{Token, filled_in};
use crate::questions::crowd::Told;
use crate::questions::{Method, Question, memory};
use crate::subjects::Subject;

/// The word that a guest greets with.
pub const GREETING: &str = "here";
/// A subject that does not start in this time does not run.
const FIRST_TRY: Duration = Duration::from_secs(10);

/// What a guest says of one question.
#[derive(Debug, PartialEq)]
enum Said {
    Values(Vec<f64>),
    Failed(String),
}

/// What was said of `name` with the right proof, or of its failure.
fn said(output: &str, name: &str, token: Token) -> Option<Said> {
    let word = token.word(name);
    output.lines().find_map(|line| {
        let rest = line.trim_end().strip_prefix(name)?.strip_prefix(' ')?;
        if let Some(why) = rest.strip_prefix("failed: ") {
            return Some(Said::Failed(why.to_owned()));
        }
        let numbers = rest.strip_suffix(&word)?;
        let values = numbers.split_ascii_whitespace().map(str::parse).collect::<Result<Vec<f64>, _>>().ok()?;
        Some(Said::Values(values))
    })
}

/// Why a subject cannot be measured, if so: tried as the user, with a guest that only proves that it runs.
pub fn missing(place: &Place, subject: &Subject) -> Option<String> {
    let program = subject.prefix.first();
    if let Some(program) = program.filter(|program| which(program).is_none()) {
        return Some(format!("{program} is not installed"));
    }
    let lines = subject.needs.iter().chain(&subject.prepare);
    if let Some(error) = lines.map(|line| place.shell(line)).find_map(Result::err) {
        return Some(format!("does not run here: {error:#}"));
    }
    let token = Token::new();
    let mut words = prefix(subject, token);
    words.extend([place.micro().into(), "greet".into(), token.to_string().into()]);
    match Running::start(&mut place.command(&words), FIRST_TRY).and_then(Running::end) {
        Ok(ended) if said(&ended.output, GREETING, token).is_some() => None,
        Ok(ended) => Some(format!("does not run its guest: {}", ended.why())),
        Err(error) => Some(format!("does not run here: {error}")),
    }
}

fn prefix(subject: &Subject, token: Token) -> Vec<OsString> {
    subject.prefix.iter().map(|word| filled_in(word.as_ref(), token)).collect()
}

/// All questions put to all subjects, one after the other.
pub struct Sitting<'a> {
    /// Where.
    pub place: &'a Place,
    /// To whom.
    pub subjects: &'a [Subject],
    /// Which.
    pub questions: &'a [&'static Question],
    /// Whether it is the short form.
    pub quick: bool,
    told: HashMap<(usize, usize), anyhow::Result<f64>>,
    failed: HashSet<(usize, usize)>,
}

impl<'a> Sitting<'a> {
    /// One in which nothing was asked yet.
    pub fn new(place: &'a Place, subjects: &'a [Subject], questions: &'a [&'static Question], quick: bool) -> Self {
        Self { place, subjects, questions, quick, told: HashMap::new(), failed: HashSet::new() }
    }

    /// Says that a question need not be put to anybody: it could not be prepared.
    pub fn leave_out(&mut self, question: usize) {
        self.failed.extend((0..self.subjects.len()).map(|subject| (question, subject)));
    }

    /// Asks one subject one question.
    pub fn ask(&mut self, q: usize, s: usize) -> anyhow::Result<f64> {
        if !self.told.contains_key(&(q, s)) {
            match self.questions[q].method {
                Method::Call(_) => self.calls(s)?,
                Method::Crowd(count, _) => self.crowd(count, s),
                Method::Program(_) | Method::Start | Method::Weigh => {
                    let answer = self.alone(q, s);
                    self.told.insert((q, s), answer);
                }
            }
        }
        let answer = self.told.remove(&(q, s)).unwrap_or_else(|| Err(anyhow!("there was no answer")));
        if answer.is_err() {
            self.failed.insert((q, s));
        }
        answer
    }

    fn limit(&self, question: &Question) -> Duration {
        let seconds = match question.method {
            _ if self.quick => 6,
            Method::Call(_) | Method::Start | Method::Weigh => 20,
            Method::Program(_) | Method::Crowd(..) => 40,
        };
        Duration::from_secs(seconds)
    }

    fn run(&self, words: &[OsString], limit: Duration) -> anyhow::Result<Ended> {
        let program = words[0].display();
        Ok(Running::start(&mut self.place.command(words), limit)
            .with_context(|| format!("cannot run {program}"))?
            .end()?)
    }

    /// The words for a guest that answers the questions `names` inside.
    fn inside(&self, s: usize, names: &[usize], token: Token) -> Vec<OsString> {
        let mut words = prefix(&self.subjects[s], token);
        words.extend([self.place.micro().into(), "answer".into(), token.to_string().into()]);
        words.extend([self.place.directory.clone().into(), if self.quick { "quick" } else { "full" }.into()]);
        words.extend(names.iter().map(|q| self.questions[*q].name.into()));
        words
    }

    /// Puts all cheap questions that may still be answered to a subject, in one start.
    fn calls(&mut self, s: usize) -> anyhow::Result<()> {
        let open = |q: &usize| {
            let cheap = matches!(self.questions[*q].method, Method::Call(_));
            cheap && !self.failed.contains(&(*q, s)) && !self.told.contains_key(&(*q, s))
        };
        let open: Vec<usize> = (0..self.questions.len()).filter(open).collect();
        let token = Token::new();
        let limit = self.limit(self.questions[open[0]]);
        let ended = self.run(&self.inside(s, &open, token), limit)?;
        if said(&ended.output, GREETING, token).is_none() {
            let why = format!("the guest did not run: {}", ended.why());
            self.told.extend(open.iter().map(|q| ((*q, s), Err(anyhow!(why.clone())))));
            return Ok(());
        }
        for q in open {
            let answer = answered(&ended, self.questions[q].name, token);
            let silent = answer.is_none();
            let answer = answer.unwrap_or_else(|| Err(anyhow!("no answer: {}", ended.why())));
            self.told.insert((q, s), answer.and_then(|values| values.first().copied().context("an empty answer")));
            if silent {
                // The first that is not answered is to blame; the others are asked again without it.
                break;
            }
        }
        Ok(())
    }

    /// Starts a crowd and keeps both answers.
    fn crowd(&mut self, count: usize, s: usize) {
        let answer = self.around(s, "crowd", count, self.limit_of_crowds());
        for (q, question) in self.questions.iter().enumerate() {
            let Method::Crowd(known, told) = question.method else { continue };
            if known != count || self.failed.contains(&(q, s)) {
                continue;
            }
            let answer = match (&answer, told) {
                (Ok(values), Told::Time) if values.len() == 2 => Ok(values[0]),
                (Ok(values), Told::Processor) if values.len() == 2 => Ok(values[1]),
                (Ok(_), _) => Err(anyhow!("half an answer")),
                (Err(error), _) => Err(anyhow!("{error:#}")),
            };
            self.told.insert((q, s), answer);
        }
    }

    fn limit_of_crowds(&self) -> Duration {
        Duration::from_secs(if self.quick { 6 } else { 40 })
    }

    /// What `micro` answers that starts the subject itself.
    fn around(&self, s: usize, verb: &str, times: usize, limit: Duration) -> anyhow::Result<Vec<f64>> {
        let token = Token::new();
        let subject = &self.subjects[s];
        let mut words: Vec<OsString> = vec![self.place.micro().into(), verb.into(), times.to_string().into()];
        words.extend([if self.quick { "quick" } else { "full" }.into(), token.to_string().into()]);
        words.extend(subject.prefix.iter().map(OsString::from));
        words.extend([self.place.micro().into(), "nothing".into()]);
        let ended = self.run(&words, limit)?;
        answered(&ended, verb, token).unwrap_or_else(|| bail!("{}", ended.why()))
    }

    fn alone(&self, q: usize, s: usize) -> anyhow::Result<f64> {
        let question = self.questions[q];
        let limit = self.limit(question);
        if matches!(question.method, Method::Weigh) {
            return self.weigh(s, limit);
        }
        let values = if matches!(question.method, Method::Start) {
            self.around(s, "start", usize::try_from(question.times)?, limit)?
        } else {
            let token = Token::new();
            let ended = self.run(&self.inside(s, &[q], token), limit)?;
            answered(&ended, question.name, token).unwrap_or_else(|| bail!("the guest did not run: {}", ended.why()))?
        };
        values.first().copied().context("an empty answer")
    }

    fn weigh(&self, s: usize, limit: Duration) -> anyhow::Result<f64> {
        let subject = &self.subjects[s];
        ensure!(!subject.prefix.is_empty(), "native has no sandbox");
        let before: HashSet<u32> = memory::everybody().into_keys().collect();
        let token = Token::new();
        let guest: [OsString; 3] = [self.place.micro().into(), "sleep".into(), token.to_string().into()];
        let words: Vec<OsString> = prefix(subject, token).into_iter().chain(guest.clone()).collect();
        let running = Running::start(&mut self.place.command(&words), limit)?;
        let said_so = |line: &str| said(line, "sleep", token).is_some();
        ensure!(said_so(&running.line()?), "the guest did not run: the proof is wrong");
        let family = memory::newcomers(&before, &memory::everybody(), std::process::id());
        let sleeps = |pid: &u32| {
            let words = memory::words(*pid);
            words.iter().zip(&guest).all(|(word, wanted)| word == wanted.as_encoded_bytes())
                && words.len() >= guest.len()
        };
        let own = family.into_iter().filter(|pid| !sleeps(pid));
        let weight = own.map(memory::weigh).sum::<std::io::Result<f64>>();
        weight.context("only root may weigh processes that protect themselves; run as root with --user")
    }
}

/// What `ended` has answered to `name`; none if nothing.
fn answered(ended: &Ended, name: &str, token: Token) -> Option<anyhow::Result<Vec<f64>>> {
    Some(match said(&ended.output, name, token)? {
        Said::Values(values) => Ok(values),
        Said::Failed(why) if ended.complaint.trim().is_empty() => Err(anyhow!("{why}")),
        Said::Failed(why) => Err(anyhow!("{why}: {}", ended.complaint.trim())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_count_with_their_proof_only() {
        let token = Token::new();
        let output =
            format!("noise\nopen 12.5 {}\nstat 7 {}\nread failed: refused\n", token.word("open"), token.word("open"));
        assert_eq!(said(&output, "open", token), Some(Said::Values(vec![12.5])));
        assert_eq!(said(&output, "stat", token), None, "with another's proof");
        assert_eq!(said(&output, "read", token), Some(Said::Failed("refused".to_owned())));
        assert_eq!(said(&output, "ope", token), None);
        let crowd = format!("crowd 3 4 {}", token.word("crowd"));
        assert_eq!(said(&crowd, "crowd", token), Some(Said::Values(vec![3.0, 4.0])));
    }
}
