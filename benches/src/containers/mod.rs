//! What a container costs: the same bundle under each OCI runtime, and the same container under podman with each of them.
//!
//! All are compared with crun, which is asked twice. A sample counts only if the container's program ended with the code that
//! it computes from a token that is new each time. The program is `micro`, alone in its root file system.

mod bundle;
mod subjects;

use std::io;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

use crate::limited::Running;
use crate::place::Place;
use crate::proof::Token;
use crate::questions::memory;
use crate::record::{Question, Unit};

pub use subjects::{CRUN, OURS, Runtime, all};

use bundle::Bundle;

/// How long one container may take.
const LIMIT: Duration = Duration::from_secs(30);

/// The questions, in the order of tables.
pub fn questions() -> Vec<Question> {
    let question = |name: &str, asks: &str, unit| Question {
        name: name.to_owned(),
        asks: asks.to_owned(),
        group: "containers".to_owned(),
        unit,
    };
    vec![
        question("run", "`RUNTIME run`, from start to end", Unit::Ns),
        question("podman", "`podman run --rm`, from start to end", Unit::Ns),
        question("exec", "`RUNTIME exec` in a running container", Unit::Ns),
        question("memory", "memory of what stays beside a running container", Unit::Bytes),
        question("null_call", "`getppid` inside", Unit::Ns),
        question("stat", "`stat` inside", Unit::Ns),
        question("open", "`open` and `close` inside", Unit::Ns),
        question("fork", "`fork` and `wait` inside", Unit::Ns),
    ]
}

/// The questions that `micro` answers inside.
const INSIDE: [&str; 4] = ["null_call", "stat", "open", "fork"];

/// The runtimes, their bundles, and the containers that stay.
pub struct Yard<'a> {
    place: &'a Place,
    bundles: Vec<Bundle>,
    staying: Vec<Option<(String, Child)>>,
    quick: bool,
    count: u64,
}

impl<'a> Yard<'a> {
    /// A bundle for each runtime.
    pub fn new(place: &'a Place, runtimes: &[Runtime], quick: bool) -> anyhow::Result<Self> {
        let bundles = runtimes.iter().map(|runtime| Bundle::new(place, runtime)).collect::<anyhow::Result<Vec<_>>>()?;
        let staying = bundles.iter().map(|_| None).collect();
        Ok(Self { place, bundles, staying, quick, count: 0 })
    }

    /// Why a runtime cannot be measured here: its program is not there, or a first container does not run.
    pub fn missing(&mut self, runtime: usize) -> Option<String> {
        let program = &self.bundles[runtime].runtime.program;
        if !PathBuf::from(program).exists() {
            return Some(format!("{program} is not installed"));
        }
        self.run(runtime).err().map(|error| format!("{error:#}"))
    }

    /// Asks a question of a runtime; nothing where it makes no sense.
    pub fn ask(&mut self, question: &str, runtime: usize) -> anyhow::Result<Option<f64>> {
        match question {
            "run" => self.run(runtime).map(Some),
            "podman" => self.podman(runtime),
            "exec" => self.exec(runtime).map(Some),
            "memory" => self.memory(runtime),
            name => self.inside(name, runtime).map(Some),
        }
    }

    fn id(&mut self) -> String {
        self.count += 1;
        format!("bench-{}-{}", std::process::id(), self.count)
    }

    /// Nanoseconds from the start of the runtime to its end, which must bring the program's exit code.
    fn timed(&self, mut command: Command, code: u8) -> anyhow::Result<f64> {
        let began = Instant::now();
        let ended = Running::start(&mut command, LIMIT)?.end()?;
        let took = began.elapsed().as_nanos() as f64;
        ensure!(ended.status.and_then(|status| status.code()) == Some(i32::from(code)), "{}", ended.why());
        Ok(took)
    }

    fn run(&mut self, runtime: usize) -> anyhow::Result<f64> {
        let (id, token) = (self.id(), Token::new());
        let bundle = &self.bundles[runtime];
        bundle.configure(&["/micro", "nothing", &token.to_string()])?;
        self.timed(bundle.command(self.place, &["run", &id]), token.exit_code())
    }

    fn podman(&mut self, runtime: usize) -> anyhow::Result<Option<f64>> {
        let token = Token::new();
        let bundle = &self.bundles[runtime];
        if !bundle.runtime.under_podman {
            return Ok(None);
        }
        self.timed(bundle.podman(self.place, &["/micro", "nothing", &token.to_string()]), token.exit_code()).map(Some)
    }

    /// The container that stays, which is started when it is first needed.
    fn stay(&mut self, runtime: usize) -> anyhow::Result<String> {
        if let Some((id, _)) = &self.staying[runtime] {
            return Ok(id.clone());
        }
        let (id, token) = (self.id(), Token::new());
        let bundle = &self.bundles[runtime];
        bundle.configure(&["/micro", "linger", &token.to_string()])?;
        let mut command = bundle.command(self.place, &["run", &id]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        self.staying[runtime] = Some((id.clone(), child));
        let began = Instant::now();
        while !self.is_running(runtime, &id) {
            ensure!(began.elapsed() < LIMIT, "the container that was to stay did not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(id)
    }

    fn is_running(&self, runtime: usize, id: &str) -> bool {
        let state = self.bundles[runtime].command(self.place, &["state", id]).stderr(Stdio::null()).output();
        state.is_ok_and(|state| String::from_utf8_lossy(&state.stdout).contains("\"running\""))
    }

    fn exec(&mut self, runtime: usize) -> anyhow::Result<f64> {
        let id = self.stay(runtime)?;
        let token = Token::new();
        let words = ["exec", &id, "/micro", "nothing", &token.to_string()];
        self.timed(self.bundles[runtime].command(self.place, &words), token.exit_code())
    }

    /// What the runtime leaves beside its container; only root can weigh what protects itself.
    fn memory(&mut self, runtime: usize) -> anyhow::Result<Option<f64>> {
        if !nix::unistd::geteuid().is_root() {
            return Ok(None);
        }
        let (id, token) = (self.id(), Token::new());
        let before = memory::everybody().into_keys().collect();
        let bundle = &self.bundles[runtime];
        bundle.configure(&["/micro", "linger", &token.to_string()])?;
        for verb in [vec!["create", &id], vec!["start", &id]] {
            let mut command = bundle.command(self.place, &verb);
            // Whoever stays would hold a pipe open.
            let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status()?;
            ensure!(status.success(), "{} failed: {status}", verb[0]);
        }
        std::thread::sleep(Duration::from_millis(200));
        let new = memory::newcomers(&before, &memory::everybody(), std::process::id());
        let guest = |pid: &u32| memory::words(*pid).first().is_some_and(|word| word == b"/micro");
        let found = new.iter().any(guest);
        let weights =
            new.iter().filter(|pid| !guest(pid)).map(|pid| memory::weigh(*pid)).collect::<io::Result<Vec<f64>>>();
        let _ = bundle
            .command(self.place, &["delete", "--force", &id])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        ensure!(found, "the container's program is not among the new processes");
        Ok(Some(weights.context("cannot weigh a process")?.iter().fold(0.0, |sum, weight| sum + weight)))
    }

    fn inside(&mut self, name: &str, runtime: usize) -> anyhow::Result<f64> {
        ensure!(INSIDE.contains(&name), "there is no question {name}");
        let (id, token) = (self.id(), Token::new());
        let bundle = &self.bundles[runtime];
        let form = if self.quick { "quick" } else { "full" };
        bundle.configure(&["/micro", "answer", &token.to_string(), "/granted", form, name])?;
        let ended = Running::start(&mut bundle.command(self.place, &["run", &id]), LIMIT)?.end()?;
        let line = ended.output.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        let words: Vec<&str> = line.split(' ').collect();
        match words.as_slice() {
            [_, value, proof] if *proof == token.word(name) => Ok(value.parse()?),
            _ => bail!("{}: {line:?}", ended.why()),
        }
    }
}

impl Drop for Yard<'_> {
    fn drop(&mut self) {
        for (staying, bundle) in self.staying.iter_mut().zip(&self.bundles) {
            if let Some((id, child)) = staying {
                let mut delete = bundle.command(self.place, &["delete", "--force", id.as_str()]);
                let _ = delete.stdout(Stdio::null()).stderr(Stdio::null()).status();
                let _ = child.kill().and_then(|()| child.wait());
            }
        }
        bundle::clear(self.place);
    }
}
