//! The questions, one file each.
//!
//! A question is a name, a sentence, and a way to answer it. Cheap ones are answered by `micro` inside the sandbox, all in one
//! start; a program has a start of its own; starting is timed by `micro` around the sandbox; memory is read by the runner
//! from outside.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::record::{self, Unit};
use crate::stopwatch::Stint;

mod clock;
mod connect;
pub mod crowd;
mod exec;
mod fork;
mod fstat;
mod futex;
mod listing;
pub mod memory;
mod missing;
mod mmap;
mod null_call;
mod open;
mod pipe;
mod programs;
mod read;
mod relative;
mod signal;
pub mod startup;
mod stat;
mod thread;
mod trapped;
mod write;

/// Answers inside the sandbox: the value of one operation.
pub type Ask = fn(&Granted, Stint) -> io::Result<f64>;

/// How a question is answered.
#[derive(Clone, Copy, Debug)]
pub enum Method {
    /// `micro` times a loop inside the sandbox, with other such questions in the same start.
    Call(Ask),
    /// `micro` times a program inside the sandbox, alone.
    Program(Ask),
    /// `micro` times starts of the sandbox around itself.
    Start,
    /// `micro` starts so many sandboxes at once.
    Crowd(usize, crowd::Told),
    /// The runner weighs the sandbox while a guest sleeps in it. Native has none, so it is not asked.
    Weigh,
}

/// In which forms of the study a question is asked; by its name it may be asked in any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// In both.
    Always,
    /// In the short form only.
    Quick,
    /// In the long form only.
    Full,
}

/// One question.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    /// Its name on command lines and in results.
    pub name: &'static str,
    /// What it asks, for the table.
    pub asks: &'static str,
    /// Under which heading it stands.
    pub group: &'static str,
    /// How often the operation is done for one sample, at most.
    pub times: u64,
    /// How it is answered.
    pub method: Method,
    /// When it is asked.
    pub when: When,
    /// Programs of the host's that it needs.
    pub needs: &'static [&'static str],
    /// Makes what it needs in the granted directory, once, by the runner and outside of any sandbox.
    pub prepare: Option<fn(&Granted) -> io::Result<()>>,
}

impl Question {
    const fn new(name: &'static str, asks: &'static str, group: &'static str, times: u64, method: Method) -> Self {
        Self { name, asks, group, times, method, when: When::Always, needs: &[], prepare: None }
    }

    /// About an operation that takes nanoseconds to milliseconds.
    const fn call(name: &'static str, asks: &'static str, times: u64, ask: Ask) -> Self {
        Self::new(name, asks, "calls", times, Method::Call(ask))
    }

    /// About a program, which needs the programs `needs`.
    const fn program(name: &'static str, asks: &'static str, needs: &'static [&'static str], ask: Ask) -> Self {
        Self { needs, ..Self::new(name, asks, "programs", 3, Method::Program(ask)) }
    }

    const fn prepared(self, prepare: fn(&Granted) -> io::Result<()>) -> Self {
        Self { prepare: Some(prepare), ..self }
    }

    const fn only(self, when: When) -> Self {
        Self { when, ..self }
    }

    /// What its samples count.
    pub fn unit(&self) -> Unit {
        match self.method {
            Method::Weigh => Unit::Bytes,
            Method::Call(_) | Method::Program(_) | Method::Start | Method::Crowd(..) => Unit::Ns,
        }
    }

    /// How much work one sample is.
    pub fn stint(&self, quick: bool) -> Stint {
        let (call, run) = if quick { (8, 150) } else { (25, 1000) };
        let within = Duration::from_millis(if matches!(self.method, Method::Call(_)) { call } else { run });
        Stint { most: self.times, within }
    }

    /// Whether it is asked when nobody says which are.
    pub fn belongs(&self, quick: bool) -> bool {
        self.when != if quick { When::Full } else { When::Quick }
    }

    /// As results files tell of it.
    pub fn record(&self) -> record::Question {
        let (name, asks, group) = (self.name.to_owned(), self.asks.to_owned(), self.group.to_owned());
        record::Question { name, asks, group, unit: self.unit() }
    }
}

/// The granted directory as the guest sees it, with what the runner has put there.
pub struct Granted(PathBuf);

impl Granted {
    /// The directory at `path`.
    pub fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A file of [`DATA_BYTES`] bytes.
    pub fn data(&self) -> PathBuf {
        self.0.join("data")
    }

    /// The program `micro` itself.
    pub fn micro(&self) -> PathBuf {
        self.0.join("micro")
    }
}

/// The size of the file that is opened, looked at and read.
pub const DATA_BYTES: usize = 64 * 1024;

/// All questions, cheapest first, then programs, then many sandboxes.
pub const ALL: &[Question] = &[
    null_call::QUESTION,
    clock::QUESTION,
    fstat::QUESTION,
    read::QUESTION,
    stat::QUESTION,
    relative::QUESTION,
    missing::QUESTION,
    open::QUESTION,
    trapped::QUESTION,
    listing::QUESTION,
    write::QUESTION,
    mmap::QUESTION,
    signal::QUESTION,
    pipe::QUESTION,
    futex::QUESTION,
    connect::QUESTION,
    thread::QUESTION,
    fork::QUESTION,
    exec::QUESTION,
    startup::QUESTION,
    memory::QUESTION,
    programs::shell::QUESTION,
    programs::find::QUESTION,
    programs::status::QUESTION,
    programs::python::QUESTION,
    programs::compile::QUESTION,
    programs::tar::PACK,
    programs::tar::UNPACK,
    programs::sqlite::QUESTION,
    programs::redis::QUESTION,
    programs::npm::QUESTION,
    programs::sysbench::QUESTION,
    crowd::time(1, "at_once_1", "1 start of `true`: time"),
    crowd::time(4, "at_once_4", "4 starts at once: time for each").only(When::Full),
    crowd::time(8, "at_once_8", "8 starts at once: time for each").only(When::Quick),
    crowd::time(16, "at_once_16", "16 starts at once: time for each").only(When::Full),
    crowd::time(64, "at_once_64", "64 starts at once: time for each"),
    crowd::time(256, "at_once_256", "256 starts at once: time for each").only(When::Full),
    crowd::processor(1, "at_once_1_cpu", "1 start of `true`: CPU time"),
    crowd::processor(4, "at_once_4_cpu", "4 starts at once: CPU time of each").only(When::Full),
    crowd::processor(8, "at_once_8_cpu", "8 starts at once: CPU time of each").only(When::Quick),
    crowd::processor(16, "at_once_16_cpu", "16 starts at once: CPU time of each").only(When::Full),
    crowd::processor(64, "at_once_64_cpu", "64 starts at once: CPU time of each"),
    crowd::processor(256, "at_once_256_cpu", "256 starts at once: CPU time of each").only(When::Full),
];

/// The question called `name`.
pub fn named(name: &str) -> Option<&'static Question> {
    ALL.iter().find(|question| question.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(2);

    fn ask(question: &Question) -> Option<Ask> {
        match question.method {
            Method::Call(ask) | Method::Program(ask) => Some(ask),
            Method::Start | Method::Crowd(..) | Method::Weigh => None,
        }
    }

    #[test]
    fn names_are_unique() {
        for question in ALL {
            assert_eq!(ALL.iter().filter(|other| other.name == question.name).count(), 1, "{}", question.name);
        }
    }

    #[test]
    fn both_forms_ask_the_basics() {
        for quick in [true, false] {
            let names: Vec<&str> =
                ALL.iter().filter(|question| question.belongs(quick)).map(|question| question.name).collect();
            for name in ["null_call", "open", "startup", "memory", "find", "at_once_64"] {
                assert!(names.contains(&name), "{name}");
            }
            assert_eq!(names.contains(&"at_once_256"), !quick);
        }
    }

    #[test]
    fn questions_about_files_fail_where_the_file_is_missing() {
        let empty = tempfile::tempdir().unwrap();
        for name in ["open", "stat", "fstat", "read", "write", "exec", "listing", "status", "compile", "untar", "npm"] {
            let answer = ask(named(name).unwrap()).unwrap();
            let stint = Stint { most: 10, within: SHORT };
            assert!(answer(&Granted::new(empty.path()), stint).is_err(), "{name} found something to measure");
        }
    }

    #[test]
    fn questions_inside_are_answered_natively() {
        let place = tempfile::tempdir().unwrap();
        let granted = Granted::new(place.path());
        std::fs::write(granted.data(), vec![1; DATA_BYTES]).unwrap();
        std::os::unix::fs::symlink("/bin/true", granted.micro()).unwrap();
        for question in ALL {
            let Some(answer) = ask(question) else { continue };
            if let Some(missing) = question.needs.iter().find(|program| crate::place::which(program).is_none()) {
                eprintln!("skipped: {}: {missing} is not installed", question.name);
                continue;
            }
            if let Some(prepare) = question.prepare {
                prepare(&granted).unwrap_or_else(|error| panic!("{}: {error}", question.name));
            }
            let nanoseconds = answer(&granted, Stint { most: question.times.min(20), within: SHORT })
                .unwrap_or_else(|error| panic!("{}: {error}", question.name));
            assert!(nanoseconds > 0.0, "{}: {nanoseconds}", question.name);
        }
    }
}
