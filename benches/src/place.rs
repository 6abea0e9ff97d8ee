//! Where the guests work, and as whom.

use std::ffi::OsStr;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail, ensure};

use crate::limited::Running;
use crate::questions::{DATA_BYTES, Granted, Question};

/// Where programs are looked for by all subjects alike.
pub const PATH: &str = "/usr/local/bin:/usr/bin:/bin";
/// What a line of shell may take.
const LIMIT: Duration = Duration::from_secs(30);

const RUNTIME: &str = "runtime";
const STATE: &str = "state";

/// Where `program` is, for the subjects.
pub fn which(program: &str) -> Option<PathBuf> {
    if program.contains('/') {
        return Some(PathBuf::from(program)).filter(|path| path.exists());
    }
    PATH.split(':').map(|directory| Path::new(directory).join(program)).find(|path| path.exists())
}

/// The guest program: it lies beside the runner, or where `make install` puts it.
fn guest() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("cannot find the runner's own program")?;
    let places = [own.with_file_name("micro"), own.with_file_name("../libexec/sentry/micro")];
    let found = places.into_iter().find(|place| place.exists());
    found.with_context(|| {
        format!("the guest program micro is not beside {}; build it with make bench-build", own.display())
    })
}

/// A directory of the user that subjects run as; removed when dropped.
pub struct Place {
    /// What subjects keep for themselves lies here, and the directory of the guests.
    pub whole: PathBuf,
    /// The directory that guests are granted and work in.
    pub directory: PathBuf,
    /// The user's home directory.
    pub home: PathBuf,
    user: Option<String>,
}

impl Place {
    /// Makes it, with copies of `micro` and `sentry` in it, in the home of `user` or of whoever we are.
    pub fn new(user: Option<&str>, sentry: &Path) -> anyhow::Result<Self> {
        let home = match user {
            Some(user) => home_of(user)?,
            None => PathBuf::from(std::env::var_os("HOME").context("HOME is not set; set it")?),
        };
        let whole = home.join(format!("sentry-bench-{}", std::process::id()));
        std::fs::create_dir(&whole).with_context(|| format!("cannot make {}", whole.display()))?;
        let place = Self { directory: whole.join("granted"), whole, home, user: user.map(str::to_owned) };
        for name in [RUNTIME, STATE, "granted"] {
            DirBuilder::new().mode(0o700).create(place.whole.join(name))?;
        }
        std::fs::write(place.directory.join("data"), vec![1; DATA_BYTES])?;
        for (from, to) in [(guest()?, place.micro()), (sentry.to_owned(), place.sentry())] {
            std::fs::copy(&from, to).with_context(|| format!("cannot copy {}", from.display()))?;
        }
        place.hand_over()?;
        Ok(place)
    }

    /// The copy of the measured sentry, where guests see it too.
    pub fn sentry(&self) -> PathBuf {
        self.directory.join("sentry")
    }

    /// The copy of the guest program.
    pub fn micro(&self) -> PathBuf {
        self.directory.join("micro")
    }

    /// What the measured sentry says of its version.
    pub fn version(&self) -> String {
        self.first_line(&[self.sentry().as_os_str(), "--version".as_ref()]).unwrap_or_default()
    }

    /// The first line that a command writes, if it ends well.
    pub fn first_line(&self, words: &[impl AsRef<OsStr>]) -> Option<String> {
        let ended = Running::start(&mut self.command(words), LIMIT).ok()?.end().ok()?;
        let line = ended.output.lines().map(str::trim).find(|line| !line.is_empty())?.to_owned();
        ended.well().then_some(line)
    }

    /// Runs a line of shell as the user; an error in its own words if it fails.
    pub fn shell(&self, line: &str) -> anyhow::Result<()> {
        let ended = Running::start(&mut self.command(&["sh", "-c", line]), LIMIT)?.end()?;
        ensure!(ended.well(), "{}", ended.why());
        Ok(())
    }

    /// Makes what a question needs.
    pub fn prepare(&self, question: &Question) -> anyhow::Result<()> {
        for program in question.needs {
            if which(program).is_none() {
                bail!("{program} is not installed");
            }
        }
        if let Some(prepare) = question.prepare {
            prepare(&Granted::new(&self.directory)).context("cannot be prepared")?;
            self.hand_over()?;
        }
        Ok(())
    }

    fn hand_over(&self) -> anyhow::Result<()> {
        if let Some(user) = &self.user {
            let status = Command::new("chown").args(["-R", &format!("{user}:")]).arg(&self.whole).status()?;
            ensure!(status.success(), "cannot give {} to {user}", self.whole.display());
        }
        Ok(())
    }

    /// A command that the user starts in the directory.
    pub fn command(&self, words: &[impl AsRef<OsStr>]) -> Command {
        let mut words = words.iter().map(AsRef::as_ref);
        let mut command = match &self.user {
            Some(user) => {
                let mut command = Command::new("setpriv");
                command.args([&format!("--reuid={user}"), &format!("--regid={user}"), "--init-groups", "--"]);
                command.env("USER", user);
                command
            }
            None => Command::new(words.next().unwrap_or_default()),
        };
        // Sandboxes keep things there; the user's own are not for us to add to, and ours might be root's.
        command.env("XDG_RUNTIME_DIR", self.whole.join(RUNTIME)).env("XDG_STATE_HOME", self.whole.join(STATE));
        command.env("HOME", &self.home);
        command.args(words).env("PATH", PATH).current_dir(&self.directory);
        command
    }
}

fn home_of(user: &str) -> anyhow::Result<PathBuf> {
    // Read without name services, which a static program must not load.
    let users = std::fs::read_to_string("/etc/passwd").context("cannot read /etc/passwd")?;
    let entry = users.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|entry| entry[0] == user);
    let home = entry.and_then(|entry| entry.get(5).map(PathBuf::from));
    home.with_context(|| format!("there is no user {user}; make one with useradd -m {user}"))
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.whole);
    }
}
