//! Tries the product as a user would: real programs, real attacks, as an ordinary user.
//!
//! When the tests run as root (CI), every sandbox is still started by the ordinary user `sentry-test`; a few tests that are
//! about root say so. Binaries are copied to a directory that this user can read, for a checkout may be private. A test
//! that needs what the host lacks is skipped aloud: `SKIPPED: name: reason`.

pub mod listener;
pub mod oci;
pub mod platform;
pub mod script;

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The user that sandboxes are started by.
const USER: &str = "sentry-test";

/// Skips the rest of a test, aloud.
#[macro_export]
macro_rules! skip {
    ($($reason:tt)*) => {{
        eprintln!("SKIPPED: {}: {}", module_path!(), format!($($reason)*));
        return;
    }};
}

/// What the tests run with.
#[derive(Debug)]
pub struct Site {
    /// The product.
    pub sentry: PathBuf,
    /// The product with a supervisor that answers CONTINUE to everything.
    pub always_continue: PathBuf,
    /// The product, also where a stand-in takes its place.
    pub sentry_itself: PathBuf,
    /// A program that runs others in a small container, supervised.
    pub contained: PathBuf,
    /// A program that runs others below a listener.
    pub listened: PathBuf,
    /// The program that attacks.
    pub probe: PathBuf,
    /// The program that races.
    pub racer: PathBuf,
    /// The program that runs scripts of calls.
    pub script_runner: PathBuf,
    /// The ordinary user's home directory.
    pub home: PathBuf,
    ids: Option<(u32, u32)>,
}

/// The site of this test process.
pub fn site() -> &'static Site {
    static SITE: OnceLock<Site> = OnceLock::new();
    SITE.get_or_init(prepare)
}

/// Where a test process puts what the ordinary user must be able to run; its number follows.
const STAGE: &str = "/tmp/sentry-tests-";

/// A test process cannot remove its stage at its end, for it ends where its last test does: the next one does it.
fn remove_what_dead_ones_left() {
    let stages = fs::read_dir("/tmp").into_iter().flatten().flatten().map(|entry| entry.path());
    for stage in stages {
        let process = stage.to_str().and_then(|path| path.strip_prefix(STAGE)?.parse::<u32>().ok());
        if process.is_some_and(|process| !Path::new(&format!("/proc/{process}")).exists()) {
            let _ = fs::remove_dir_all(&stage);
        }
    }
}

fn prepare() -> Site {
    let own = std::env::current_exe().expect("the test's own path");
    // target/TRIPLE/debug/deps/escapes-0123: the binaries are two levels up.
    let built = own.parent().and_then(Path::parent).expect("a target directory").to_owned();
    remove_what_dead_ones_left();
    let shared = PathBuf::from(format!("{STAGE}{}", std::process::id()));
    let _ = fs::remove_dir_all(&shared);
    fs::create_dir_all(&shared).expect("a directory in /tmp");
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o755)).expect("its mode");
    let copy_as = |from: &str, name: &str| {
        let to = shared.join(name);
        let from = built.join(from);
        fs::copy(&from, &to).unwrap_or_else(|error| panic!("{}: {error}; build the workspace first", from.display()));
        fs::set_permissions(&to, fs::Permissions::from_mode(0o755)).expect("its mode");
        to
    };
    let copy = |name: &str| copy_as(name, name);
    let ids = is_root().then(test_user);
    let home = match ids {
        Some(_) => PathBuf::from(format!("/home/{USER}")),
        None => PathBuf::from(std::env::var_os("HOME").expect("HOME")),
    };
    Site {
        sentry: copy_as(if platform::on_ptrace() { "sentry-ptrace" } else { "sentry" }, "sentry"),
        always_continue: copy("sentry-continue"),
        sentry_itself: copy_as("sentry", "sentry-itself"),
        contained: copy("contained"),
        listened: copy("listened"),
        probe: copy("probe"),
        racer: copy("racer"),
        script_runner: copy("script-runner"),
        home,
        ids,
    }
}

/// Whether the tests themselves run as root.
pub fn is_root() -> bool {
    nix::unistd::Uid::current().is_root()
}

fn test_user() -> (u32, u32) {
    // Read without name services, which a static program must not load.
    let find = || {
        let passwd = fs::read_to_string("/etc/passwd").ok()?;
        let entry = passwd.lines().find_map(|line| line.strip_prefix(USER)?.strip_prefix(':').map(str::to_owned))?;
        let mut ids = entry.split(':').skip(1).map(str::parse::<u32>);
        Some((ids.next()?.ok()?, ids.next()?.ok()?))
    };
    if find().is_none() {
        let _ = Command::new("useradd").args(["-m", USER]).status();
    }
    find().expect("the user sentry-test; make test-deps makes it")
}

/// Whether a program is installed.
pub fn has(program: &str) -> bool {
    ["/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin"]
        .iter()
        .any(|directory| Path::new(directory).join(program).exists())
}

/// Whether the ordinary user has ids of its own for `--fake-root=range`, and the host a program that maps them.
pub fn has_id_range() -> bool {
    let owned = |file: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        let counts = text.lines().filter_map(|line| line.strip_prefix(USER)?.rsplit(':').next()?.parse::<u32>().ok());
        counts.max().unwrap_or_default() >= 65_536
    };
    let _ = site();
    has("newuidmap") && has("newgidmap") && owned("/etc/subuid") && owned("/etc/subgid")
}

/// A command that runs as the ordinary user with a plain environment.
pub fn as_user(program: impl AsRef<OsStr>) -> Command {
    let site = site();
    let mut command = match site.ids {
        Some((uid, gid)) => {
            let mut command = Command::new("setpriv");
            command.args([format!("--reuid={uid}"), format!("--regid={gid}"), "--clear-groups".to_owned()]);
            command.arg("--").arg(program);
            command
        }
        None => Command::new(program),
    };
    command.env_clear().env("HOME", &site.home).env("USER", USER).env("LANG", "C.UTF-8").env("TERM", "xterm");
    command.env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin").stdin(Stdio::null());
    command
}

/// A fresh directory of the ordinary user, removed at the end.
#[derive(Debug)]
pub struct Project(PathBuf);

impl Project {
    /// Makes one below the user's home.
    pub fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = site().home.join(format!("project-{}-{number}", std::process::id()));
        let made = as_user("mkdir").arg(&path).status().expect("mkdir");
        assert!(made.success());
        Self(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A name in it.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a file of the ordinary user.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::write(&path, content).expect("a file");
        self.give(&path);
        if let Some(parent) = path.parent().filter(|parent| *parent != self.0) {
            self.give(parent);
        }
        path
    }

    /// Gives something to the ordinary user.
    pub fn give(&self, path: &Path) {
        if let Some((uid, gid)) = site().ids {
            std::os::unix::fs::lchown(path, Some(uid), Some(gid)).expect("chown");
        }
    }

    /// The content of a file in it.
    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.0.join(name)).unwrap_or_default()
    }

    /// Whether a name exists in it.
    pub fn has(&self, name: &str) -> bool {
        fs::symlink_metadata(self.0.join(name)).is_ok()
    }
}

impl Default for Project {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    /// The exit code; 128+n if the command itself was killed by signal n.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
    /// The JSON report, or null.
    pub report: serde_json::Value,
}

impl Outcome {
    /// Asserts the exit code and returns itself.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.out, self.err);
        self
    }

    /// Asserts that standard error speaks of `text`.
    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        assert!(self.err.contains(text), "{text:?} is not in: {}", self.err);
        self
    }

    /// Asserts the report's cause.
    #[track_caller]
    pub fn because(self, cause: &str) -> Self {
        assert_eq!(self.report["cause"], cause, "{:?}", self.report);
        self
    }
}

/// Runs a command to its end.
pub fn outcome(mut command: Command) -> Outcome {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    use std::os::unix::process::ExitStatusExt;
    let code = output.status.code().unwrap_or_else(|| 128 + output.status.signal().unwrap_or(0));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Outcome { code, out: text(&output.stdout), err: text(&output.stderr), report: serde_json::Value::Null }
}

/// A sandbox about to be started in a project.
#[derive(Debug)]
pub struct Sandbox<'a> {
    project: &'a Project,
    binary: &'a Path,
    options: Vec<OsString>,
    environment: Vec<(String, String)>,
}

impl<'a> Sandbox<'a> {
    /// The product, in `project`.
    pub fn new(project: &'a Project) -> Self {
        Self { project, binary: &site().sentry, options: Vec::new(), environment: Vec::new() }
    }

    /// Another binary in the product's place.
    #[must_use]
    pub fn binary(mut self, binary: &'a Path) -> Self {
        self.binary = binary;
        self
    }

    /// Options before `--`.
    #[must_use]
    pub fn options<S: AsRef<OsStr>>(mut self, options: impl IntoIterator<Item = S>) -> Self {
        self.options.extend(options.into_iter().map(|option| option.as_ref().to_owned()));
        self
    }

    /// A variable of the caller.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The command, not yet started.
    pub fn command<S: AsRef<OsStr>>(&self, guest: impl IntoIterator<Item = S>) -> Command {
        let mut command = as_user(self.binary);
        command.arg("run").args(&self.options).arg("--").args(guest).current_dir(self.project.path());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs it, with a JSON report.
    pub fn run<S: AsRef<OsStr>>(mut self, guest: impl IntoIterator<Item = S>) -> Outcome {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let report = site().home.join(format!("report-{}-{number}.json", std::process::id()));
        self.options.push("--json".into());
        self.options.push(report.clone().into());
        let mut outcome = outcome(self.command(guest));
        if let Ok(text) = fs::read_to_string(&report) {
            outcome.report = serde_json::from_str(&text).unwrap_or_default();
        }
        let _ = fs::remove_file(&report);
        self.discard(&outcome);
        outcome
    }

    /// Runs a shell script.
    pub fn sh(self, script: &str) -> Outcome {
        self.run(["sh", "-c", script])
    }

    /// Removes what copy-on-write kept.
    fn discard(&self, outcome: &Outcome) {
        if let Some(kept) = outcome.report["changes_kept"].as_str() {
            let _ = Command::new("chmod").args(["-R", "u+rwx", kept]).stderr(Stdio::null()).status();
            let _ = fs::remove_dir_all(kept);
        }
    }
}
