//! Why a sandbox could not be built: the step, what it was about, the errno and the remedy.

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

/// A step that failed. It crosses process borders as JSON, so it holds plain data.
#[derive(Clone, Debug, Serialize, Deserialize, thiserror::Error)]
#[error("{}{step}{}{}", if *whole { "" } else { "cannot " }, self.reason(), self.advice())]
pub struct Failure {
    /// What was being done, such as `make a user namespace`.
    pub step: String,
    /// The kernel's answer; 0 if it was our own check that failed.
    pub errno: i32,
    /// What the user can do about it; empty if nothing better than the errno is known.
    pub remedy: String,
    /// The exit code it calls for: 125, or 126 and 127 for a command that cannot be run.
    pub exit: u8,
    /// Whether `step` is a whole message.
    pub whole: bool,
}

impl Failure {
    /// A failed kernel call.
    pub fn new(step: impl Into<String>, errno: Errno) -> Self {
        Self { step: step.into(), errno: errno as i32, remedy: String::new(), exit: 125, whole: false }
    }

    /// A failed check of our own.
    pub fn check(step: impl Into<String>) -> Self {
        Self { step: step.into(), errno: 0, remedy: String::new(), exit: 125, whole: false }
    }

    /// A message that is whole already and needs no "cannot" before it.
    pub fn check_text(message: impl Into<String>) -> Self {
        Self { whole: true, ..Self::check(message) }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = remedy.into();
        self
    }

    fn reason(&self) -> String {
        if self.errno == 0 { String::new() } else { format!(": {}", Errno::from_raw(self.errno).desc()) }
    }

    fn advice(&self) -> String {
        if self.remedy.is_empty() { String::new() } else { format!("; {}", self.remedy) }
    }
}

/// Gives an errno the name of the step that met it.
pub trait Step<T> {
    /// Names the step; the closure runs only on failure.
    fn step<S: Into<String>>(self, step: impl FnOnce() -> S) -> Result<T, Failure>;
}

impl<T> Step<T> for Result<T, Errno> {
    fn step<S: Into<String>>(self, step: impl FnOnce() -> S) -> Result<T, Failure> {
        self.map_err(|errno| Failure::new(step(), errno))
    }
}
