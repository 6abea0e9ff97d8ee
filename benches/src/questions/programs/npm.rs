//! What does installing packages cost?
//!
//! `npm ci` of 20 packages from archives that lie in the granted directory, without a network: an interpreter with a large
//! heap and several threads, that unpacks, makes directories, links and renames.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::super::{Granted, Question, When};
use crate::stopwatch::Stint;

pub(in super::super) const QUESTION: Question =
    Question::program("npm", "`npm ci`, offline, 20 packages", &["npm", "node", "tar"], ask)
        .prepared(prepare)
        .only(When::Full);

const PACKAGES: usize = 20;
const FILES_EACH: usize = 15;

fn project(granted: &Granted) -> PathBuf {
    granted.path().join("npm-project")
}

fn npm(directory: &Path, verb: &str) -> Command {
    let mut npm = super::program("npm");
    npm.current_dir(directory).env("HOME", directory).env("npm_config_cache", directory.join(".cache"));
    npm.args([verb, "--offline", "--no-audit", "--no-fund", "--no-update-notifier", "--ignore-scripts"]);
    npm
}

fn prepare(granted: &Granted) -> io::Result<()> {
    let project = project(granted);
    fs::create_dir(&project)?;
    let name = |number: usize| format!("package-{number:02}");
    for number in 0..PACKAGES {
        let package = project.join("package");
        fs::create_dir(&package)?;
        let about = serde_json::json!({ "name": name(number), "version": "1.0.0", "main": "file-00.js" });
        fs::write(package.join("package.json"), about.to_string())?;
        for file in 0..FILES_EACH {
            let text = format!("module.exports = {};\n", number * file).repeat(40);
            fs::write(package.join(format!("file-{file:02}.js")), text)?;
        }
        let mut tar = super::program("tar");
        tar.current_dir(&project).arg("-czf").arg(format!("{}.tgz", name(number))).arg("package");
        super::output(&mut tar)?;
        fs::remove_dir_all(package)?;
    }
    let dependencies: serde_json::Map<String, serde_json::Value> =
        (0..PACKAGES).map(|number| (name(number), format!("file:{}.tgz", name(number)).into())).collect();
    let about = serde_json::json!({ "name": "project", "version": "1.0.0", "dependencies": dependencies });
    fs::write(project.join("package.json"), about.to_string())?;
    super::output(npm(&project, "install").arg("--package-lock-only"))?;
    let _ = fs::remove_dir_all(project.join(".cache"));
    super::did(project.join("package-lock.json").exists(), "npm")
}

fn ask(granted: &Granted, stint: Stint) -> io::Result<f64> {
    let (project, work) = (project(granted), super::Work::new(granted)?);
    for entry in fs::read_dir(project)? {
        let entry = entry?;
        fs::copy(entry.path(), work.path().join(entry.file_name()))?;
    }
    let last = format!("node_modules/package-{:02}/file-{:02}.js", PACKAGES - 1, FILES_EACH - 1);
    stint.per_run(|| {
        // What an earlier run installed is removed by `npm ci` itself.
        super::output(&mut npm(work.path(), "ci"))?;
        super::did(work.path().join(&last).exists(), "npm")
    })
}
