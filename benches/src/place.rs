//! Where the guests work, and how a subject is asked.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail};

use crate::limited::Running;
use crate::proof::Token;
use crate::questions::{DATA_BYTES, Granted, Method, Question, memory};
use crate::subjects::Subject;

/// No sample takes as long, unless something is wrong.
const LIMIT: Duration = Duration::from_secs(20);
/// Where programs are looked for by all subjects alike.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// A directory of the user that subjects run as; removed when dropped.
pub struct Place {
    /// The directory.
    pub directory: PathBuf,
    user: Option<String>,
}

impl Place {
    /// Makes it, with copies of `micro` and `sentry` in it, in the home of `user` or of whoever we are.
    pub fn new(user: Option<&str>, sentry: &Path) -> anyhow::Result<Self> {
        let home = match user {
            Some(user) => PathBuf::from(format!("/home/{user}")),
            None => PathBuf::from(std::env::var_os("HOME").context("HOME is not set")?),
        };
        let directory = home.join(format!("sentry-bench-{}", std::process::id()));
        std::fs::create_dir(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
        let place = Self { directory, user: user.map(str::to_owned) };
        std::fs::write(place.directory.join("data"), vec![1; DATA_BYTES])?;
        let own = std::env::current_exe()?;
        let built = own.parent().context("no directory")?;
        for (from, to) in [(built.join("micro"), "micro"), (sentry.to_owned(), "sentry")] {
            if to == "sentry" && !from.exists() {
                continue;
            }
            std::fs::copy(&from, place.directory.join(to))
                .with_context(|| format!("cannot copy {}; build it first", from.display()))?;
        }
        place.hand_over()?;
        Ok(place)
    }

    /// What the measured sentry says of its version.
    pub fn version(&self) -> String {
        let output = self.command(&[self.directory.join("sentry").into_os_string(), "--version".into()]).output();
        output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
    }

    /// Makes what a question needs.
    pub fn prepare(&self, question: &Question) -> anyhow::Result<()> {
        if let Some(prepare) = question.prepare {
            prepare(&Granted::new(&self.directory)).context("cannot be prepared")?;
            self.hand_over()?;
        }
        Ok(())
    }

    fn hand_over(&self) -> anyhow::Result<()> {
        if let Some(user) = &self.user {
            let status = Command::new("chown").args(["-R", user]).arg(&self.directory).status()?;
            anyhow::ensure!(status.success(), "cannot give {} to {user}", self.directory.display());
        }
        Ok(())
    }

    fn command(&self, words: &[OsString]) -> Command {
        let mut command = match &self.user {
            Some(user) => {
                let mut command = Command::new("setpriv");
                command.args([&format!("--reuid={user}"), &format!("--regid={user}"), "--init-groups", "--"]);
                command.args(words);
                command.env("HOME", format!("/home/{user}")).env("USER", user);
                command
            }
            None => {
                let mut command = Command::new(&words[0]);
                command.args(&words[1..]);
                command
            }
        };
        command.env("PATH", PATH).current_dir(&self.directory);
        command
    }

    /// Asks `subject` the question once. Without proof that its guest ran there is no answer.
    pub fn ask(&self, subject: &Subject, question: &Question) -> anyhow::Result<f64> {
        let micro = self.directory.join("micro").into_os_string();
        let prefix: Vec<OsString> = subject.prefix.iter().map(OsString::from).collect();
        let token = Token::new();
        let (times, proof) = (question.times.to_string(), token.to_string());
        let words: Vec<OsString> = match question.method {
            Method::Inside(_) => {
                let guest = [micro, question.name.into(), times.into(), proof.into(), self.directory.clone().into()];
                prefix.into_iter().chain(guest).collect()
            }
            Method::Around => {
                let timed = [micro.clone(), "start".into(), times.into(), proof.into()];
                timed.into_iter().chain(prefix).chain([micro, "nothing".into()]).collect()
            }
            Method::Weigh => return self.weigh(prefix, micro, token),
        };
        let ended = Running::start(&mut self.command(&words), LIMIT)?.end()?;
        if !ended.status.success() {
            let complaint = ended.complaint.trim();
            bail!("failed: {}", if complaint.is_empty() { "no reason given" } else { complaint });
        }
        let Some((number, word)) = ended.output.trim().split_once(' ') else {
            bail!("the guest did not run: {:?} is no answer", ended.output);
        };
        anyhow::ensure!(word == token.word(question.name), "the guest did not run: the proof is wrong");
        number.parse().with_context(|| format!("{number:?} is not a number"))
    }

    fn weigh(&self, prefix: Vec<OsString>, micro: OsString, token: Token) -> anyhow::Result<f64> {
        if prefix.is_empty() {
            bail!("native has no sandbox");
        }
        let guest = [micro, "sleep".into(), token.to_string().into()];
        let words: Vec<OsString> = prefix.into_iter().chain(guest).collect();
        let running = Running::start(&mut self.command(&words), LIMIT)?;
        anyhow::ensure!(running.line()? == token.word("sleep"), "the guest did not run: the proof is wrong");
        let family = memory::family(running.id());
        // The youngest is the sleeping program itself.
        let own = family.iter().rev().skip(1);
        let weight = own.map(|pid| memory::weigh(*pid)).sum::<std::io::Result<f64>>();
        weight.context("only root may weigh processes that protect themselves; use --user")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}
