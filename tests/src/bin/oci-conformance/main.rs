//! `oci-conformance --runtime PATH`: does a runtime do what the OCI runtime specification asks?
//!
//! One named test for each sentence that can be tried, against any runtime, as root or as an ordinary user. Each is one
//! bundle with a static probe in it; the verdict compares what the probe saw, or what the runtime said, with the configuration.
//! A runtime that lacks what the host lacks is not blamed: such a test is not applicable, with the reason.
#![allow(clippy::print_stdout)] // what it finds is its output

#[macro_use]
mod verdict;
mod capabilities;
mod cgroups;
mod devices;
mod features;
mod filesystem;
mod hooks;
mod identity;
mod lifecycle;
mod limits;
mod mapped;
mod mounts;
mod namespaces;
mod operations;
mod options;
mod process;
mod seccomp;
mod state;
mod table;
mod terminal;
mod values;

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use sentry_tests::oci::Stand;
use serde_json::json;
use verdict::{Test, Unmet};

const TOPICS: &[&[Test]] = &[
    state::TESTS,
    operations::TESTS,
    lifecycle::TESTS,
    hooks::TESTS,
    values::TESTS,
    process::TESTS,
    terminal::TESTS,
    identity::TESTS,
    capabilities::TESTS,
    limits::TESTS,
    filesystem::TESTS,
    mounts::TESTS,
    options::TESTS,
    devices::TESTS,
    namespaces::TESTS,
    mapped::TESTS,
    cgroups::TESTS,
    seccomp::TESTS,
    features::TESTS,
];

const USAGE: &str =
    "usage: oci-conformance --runtime 'PATH [OPTION]...' [--name NAME] [--only ID-PART] [--json FILE] [--quiet]
                       [--without-cgroups REASON] [--directory DIR] [--version-of COMMAND]
       oci-conformance --list
       oci-conformance table FILE.json...     the documents' table of several runs
It runs as root or as an ordinary user, whose containers then have user namespaces.";

/// The command line.
#[derive(Default)]
struct Asked {
    runtime: Vec<String>,
    name: Option<String>,
    only: Vec<String>,
    json: Option<PathBuf>,
    directory: Option<PathBuf>,
    without_cgroups: Option<String>,
    quiet: bool,
}

fn main() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let mut asked = Asked::default();
    while let Some(word) = words.next() {
        let mut value = || words.next().with_context(|| format!("{word} needs a value\n{USAGE}"));
        match word.as_str() {
            "--runtime" => asked.runtime = value()?.split_whitespace().map(str::to_owned).collect(),
            "--name" => asked.name = Some(value()?),
            "--only" => asked.only.push(value()?),
            "--json" => asked.json = Some(value()?.into()),
            "--directory" => asked.directory = Some(value()?.into()),
            "--without-cgroups" => asked.without_cgroups = Some(value()?),
            "--quiet" => asked.quiet = true,
            "--list" => return list(),
            "table" => return table::print(&words.map(PathBuf::from).collect::<Vec<_>>()),
            _ => bail!("{USAGE}"),
        }
    }
    if asked.runtime.is_empty() {
        bail!("{USAGE}");
    }
    conform(&asked)
}

fn all() -> impl Iterator<Item = &'static Test> {
    TOPICS.iter().flat_map(|topic| topic.iter())
}

fn list() -> Result<()> {
    for test in all() {
        println!("{}\t{}\t{}\t{}\t{}", test.id, test.level.word(), test.since, test.place, test.asks);
    }
    Ok(())
}

/// Runs the tests and says what came of each.
fn conform(asked: &Asked) -> Result<()> {
    let directory = asked
        .directory
        .clone()
        .unwrap_or_else(|| std::env::temp_dir().join(format!("oci-conformance-{}", std::process::id())));
    let probe = std::env::current_exe()?.with_file_name("oci-probe");
    let mut stand = Stand::new(asked.runtime.clone(), &directory, &probe)
        .with_context(|| format!("cannot work in {} with {}", directory.display(), probe.display()))?;
    stand.without_cgroups.clone_from(&asked.without_cgroups);
    let version = stand.version();
    let name = asked.name.clone().unwrap_or_else(|| asked.runtime.join(" "));
    let mut kept = asked.json.as_ref().map(File::create).transpose()?;
    let mut keep =
        |line: serde_json::Value| -> Result<()> { Ok(kept.as_mut().map_or(Ok(()), |out| writeln!(out, "{line}"))?) };
    let user = if stand.root { "root" } else { "an ordinary user" };
    keep(
        json!({ "record": "run", "runtime": name, "command": asked.runtime.join(" "), "version": version, "user": user,
                 "kernel": kernel(), "without_cgroups": stand.without_cgroups }),
    )?;

    let (mut passed, mut failed, mut not) = (0, 0, 0);
    for test in
        all().filter(|test| asked.only.is_empty() || asked.only.iter().any(|part| test.id.contains(part.as_str())))
    {
        let began = Instant::now();
        let (word, why) = match (test.run)(&stand) {
            Ok(()) => ("pass", String::new()),
            Err(Unmet::Failed(why)) => ("fail", why),
            Err(Unmet::NotApplicable(why)) => ("n/a", why),
        };
        stand.bury();
        match word {
            "pass" => passed += 1,
            "fail" => failed += 1,
            _ => not += 1,
        }
        if !asked.quiet || word == "fail" {
            println!("{word:5}{:44} {:7} {}{}", test.id, test.level.word(), test.place, told(&why));
        }
        let milliseconds = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        keep(
            json!({ "record": "test", "id": test.id, "place": test.place, "level": test.level.word(), "asks": test.asks, "since": test.since,
                     "verdict": word, "why": why, "ms": milliseconds }),
        )?;
    }
    println!("{name} as {user}: {passed} passed, {failed} failed, {not} not applicable");
    clear(&directory);
    std::process::exit(i32::from(failed > 0));
}

fn told(why: &str) -> String {
    let line = why.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.is_empty() { line } else { format!("\n     {}", line.chars().take(300).collect::<String>()) }
}

fn clear(directory: &Path) {
    let _ = std::fs::remove_dir_all(directory);
}

fn kernel() -> String {
    nix::sys::utsname::uname().map(|names| names.release().to_string_lossy().into_owned()).unwrap_or_default()
}
