//! The worlds that scripts run in, each with a program that takes one after another.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;

use sentry_tests::script::Script;
use sentry_tests::{Project, Sandbox, as_user, site};

struct World {
    name: &'static str,
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    _project: Project,
}

impl World {
    fn start(name: &'static str, mut command: Command, project: Project) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (to, from) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { name, child, to, from, _project: project }
    }

    fn run(&mut self, script: &Script) -> String {
        let _ = self.to.write_all(format!("{script}\n").as_bytes());
        let mut answer = String::new();
        loop {
            let mut line = String::new();
            match self.from.read_line(&mut line) {
                Ok(0) | Err(_) => panic!("{} ended during\n{script}", self.name),
                Ok(_) if line == "\n" => return answer,
                Ok(_) => answer.push_str(&line),
            }
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// All of them.
pub struct Worlds(Vec<World>);

impl Worlds {
    /// `plain`: without special file systems, which cannot be had natively.
    pub fn new(plain: bool) -> Self {
        let mut worlds = Vec::new();
        // Every world has a directory of its own: all may run at once, and none finds what another left.
        if plain {
            let project = Project::new();
            let mut command = as_user(&site().script_runner);
            command.current_dir(project.path());
            worlds.push(World::start("native", command, project));
        }
        for (name, interpose) in [("ring 1", "minimal"), ("interposed", "full")] {
            let project = Project::new();
            let runner = site().script_runner.to_str().unwrap();
            let mut options = vec!["--quiet".to_owned(), "--interpose".into(), interpose.into()];
            options.extend(["--write".to_owned(), ".".into(), "--read".into(), runner.to_owned()]);
            // Rare calls as well.
            options.extend(["--policy".to_owned(), policy().display().to_string()]);
            if !plain {
                for name in ["ro/d/e", "small"] {
                    std::fs::create_dir_all(project.join(name)).unwrap();
                }
                project.write("ro/f", "text");
                project.write("ro/d/f", "text");
                std::os::unix::fs::symlink("f", project.join("ro/l")).unwrap();
                std::os::unix::fs::symlink("nowhere", project.join("ro/dang")).unwrap();
                for name in ["ro", "ro/d", "ro/d/e", "ro/l", "ro/dang", "small"] {
                    project.give(&project.join(name));
                }
                options.extend(["--read".to_owned(), "ro".into(), "--tmpfs".into()]);
                options.push(format!("{}:64K", project.join("small").display()));
            }
            let command = Sandbox::new(&project).options(options).command([runner]);
            worlds.push(World::start(name, command, project));
        }
        Self(worlds)
    }

    /// What each world answers.
    pub fn answers(&mut self, script: &Script) -> Vec<(&'static str, String)> {
        self.0.iter_mut().map(|world| (world.name, world.run(script))).collect()
    }

    /// What is different from world to world, if anything is.
    pub fn difference(&mut self, script: &Script) -> Option<String> {
        let answers = self.answers(script);
        if answers.iter().all(|(_, answer)| *answer == answers[0].1) {
            return None;
        }
        let mut told = String::new();
        for number in 0..script.0.len() {
            let line = |answer: &str| answer.lines().nth(number).unwrap_or("(nothing)").to_owned();
            let lines: Vec<String> = answers.iter().map(|(_, answer)| line(answer)).collect();
            if lines.iter().any(|line| *line != lines[0]) {
                for ((name, _), line) in answers.iter().zip(lines) {
                    let _ = writeln!(told, "{name:>12}: {line}");
                }
                return Some(told);
            }
        }
        for (name, answer) in &answers {
            let others = |line: &&str| !answers.iter().all(|(_, answer)| answer.lines().any(|other| other == *line));
            for line in answer.lines().skip(script.0.len()).filter(others) {
                let _ = writeln!(told, "{name:>12}: {line}");
            }
        }
        Some(told)
    }
}

/// A policy with the largest surface; written once, for tests that run at the same time start sandboxes that read it.
fn policy() -> &'static Path {
    static POLICY: OnceLock<PathBuf> = OnceLock::new();
    POLICY.get_or_init(|| {
        let path = site().script_runner.with_file_name("surface.toml");
        std::fs::write(&path, "[process]\nsurface = \"compat\"\n").unwrap();
        path
    })
}
