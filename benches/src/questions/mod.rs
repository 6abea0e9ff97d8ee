//! The questions, one file each.
//!
//! A question is a name, a sentence, and a way to answer it. Most are answered by `micro` inside the sandbox; starting
//! is timed by `micro` around the sandbox; memory is read by the runner from outside.

use std::io;
use std::path::{Path, PathBuf};

use crate::record::{self, Unit};

mod clock;
mod connect;
mod exec;
mod fork;
mod fstat;
mod listing;
pub mod memory;
mod missing;
mod null_call;
mod open;
mod programs;
mod read;
mod relative;
pub mod startup;
mod stat;
mod trapped;

/// How a question is answered.
#[derive(Clone, Copy, Debug)]
pub enum Method {
    /// `micro` times a loop of this many operations inside the sandbox.
    Inside(fn(&Granted, u64) -> io::Result<f64>),
    /// `micro` times this many starts of the sandbox around itself.
    Around,
    /// The runner weighs the sandbox while a guest sleeps in it. Native has none, so it is not asked.
    Weigh,
}

/// One question.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    /// Its name on command lines and in results.
    pub name: &'static str,
    /// What it asks, for the table.
    pub asks: &'static str,
    /// How often the operation is done for one sample.
    pub times: u64,
    /// How it is answered.
    pub method: Method,
    /// Makes what it needs in the granted directory, once, by the runner and outside of any sandbox.
    pub prepare: Option<fn(&Granted) -> io::Result<()>>,
}

impl Question {
    /// What its samples count.
    pub fn unit(&self) -> Unit {
        match self.method {
            Method::Weigh => Unit::Bytes,
            Method::Inside(_) | Method::Around => Unit::Ns,
        }
    }

    /// As results files tell of it.
    pub fn record(&self) -> record::Question {
        let group = match self.method {
            Method::Weigh => "memory",
            Method::Around => "start",
            Method::Inside(_) => "calls",
        };
        let (name, asks, group) = (self.name.to_owned(), self.asks.to_owned(), group.to_owned());
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

/// All questions, cheapest first, programs at the end.
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
    connect::QUESTION,
    fork::QUESTION,
    exec::QUESTION,
    startup::QUESTION,
    memory::QUESTION,
    programs::find::QUESTION,
    programs::status::QUESTION,
    programs::python::QUESTION,
    programs::compile::QUESTION,
];

/// The question called `name`.
pub fn named(name: &str) -> Option<&'static Question> {
    ALL.iter().find(|question| question.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Those that need a program of the host's.
    const PROGRAMS: [&str; 4] = ["find", "status", "python", "compile"];

    #[test]
    fn names_are_unique() {
        for question in ALL {
            assert_eq!(ALL.iter().filter(|other| other.name == question.name).count(), 1, "{}", question.name);
        }
    }

    #[test]
    fn questions_about_files_fail_where_the_file_is_missing() {
        let empty = tempfile::tempdir().unwrap();
        for name in ["open", "stat", "fstat", "read", "exec", "listing", "status", "compile"] {
            let Method::Inside(answer) = named(name).unwrap().method else { panic!("{name} is asked inside") };
            assert!(answer(&Granted::new(empty.path()), 10).is_err(), "{name} found something to measure");
        }
    }

    #[test]
    fn questions_inside_are_answered_natively() {
        let place = tempfile::tempdir().unwrap();
        let granted = Granted::new(place.path());
        std::fs::write(granted.data(), vec![1; DATA_BYTES]).unwrap();
        std::os::unix::fs::symlink("/bin/true", granted.micro()).unwrap();
        for question in ALL {
            match question.prepare.map_or(Ok(()), |prepare| prepare(&granted)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    eprintln!("skipped: {}: {error}", question.name)
                }
                prepared => prepared.unwrap(),
            }
            if let Method::Inside(answer) = question.method {
                let times = question.times.min(20);
                let nanoseconds = match answer(&granted, times) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound && PROGRAMS.contains(&question.name) => {
                        eprintln!("skipped: the program that {} asks for is not installed", question.name);
                        continue;
                    }
                    answer => answer.unwrap(),
                };
                assert!(nanoseconds > 0.0, "{}: {nanoseconds}", question.name);
            }
        }
    }
}
