//! What does version control cost?
//!
//! `git status` on a repository of 5000 files: an `lstat` each, and a look into every directory.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::super::{Granted, Question};
use crate::stopwatch::Stint;

pub(in super::super) const QUESTION: Question =
    Question::program("status", "`git status`, 5000 files", &["git"], ask).prepared(prepare);

const DIRECTORIES: usize = 100;
const FILES_EACH: usize = 50;

fn repository(granted: &Granted) -> PathBuf {
    granted.path().join("repository")
}

fn git(repository: &Path) -> Command {
    let mut command = super::program("git");
    // Nobody's own settings, and no quarrel over whose repository it is when root made it for somebody.
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    command.args(["-c", "safe.directory=*", "-C"]).arg(repository);
    command
}

fn prepare(granted: &Granted) -> io::Result<()> {
    let repository = repository(granted);
    for number in 0..DIRECTORIES {
        let directory = repository.join(format!("part-{number:03}"));
        fs::create_dir_all(&directory)?;
        for file in 0..FILES_EACH {
            fs::write(directory.join(format!("file-{file:02}.txt")), format!("{number} {file}\n"))?;
        }
    }
    let me = ["-c", "user.name=bench", "-c", "user.email=bench@localhost", "-c", "commit.gpgsign=false"];
    for words in [&["init", "--quiet"][..], &["add", "."], &["commit", "--quiet", "--message", "all"]] {
        super::output(git(&repository).args(me).args(words))?;
    }
    // Files as young as the index would be read again by every status.
    std::thread::sleep(Duration::from_millis(1100));
    fs::write(repository.join("part-000/file-00.txt"), "another text\n")?;
    fs::write(repository.join("new.txt"), "new\n")
}

fn ask(granted: &Granted, stint: Stint) -> io::Result<f64> {
    let mut command = git(&repository(granted));
    command.args(["status", "--porcelain"]);
    super::time(stint, &mut command, |text| text == b" M part-000/file-00.txt\n?? new.txt\n")
}
