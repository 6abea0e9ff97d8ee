//! The study of peers names whoever is missing, crashes or runs nothing, and never shows them as fast.
#![allow(clippy::unwrap_used)] // a panic is how a test fails

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use sentry_tests::{Outcome, Project, as_user, outcome, site};
use serde_json::Value;

/// Puts the programs of the benchmarks where the ordinary user finds them, beside the product.
fn installed() -> &'static Path {
    static INSTALLED: OnceLock<PathBuf> = OnceLock::new();
    INSTALLED.get_or_init(install)
}

fn install() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let built = own.parent().and_then(Path::parent).unwrap();
    let shared = site().sentry.parent().unwrap();
    for name in ["sentry-bench", "micro"] {
        let (from, to) = (built.join(name), shared.join(name));
        fs::copy(&from, &to).unwrap_or_else(|error| panic!("{}: {error}; build the workspace first", from.display()));
        fs::set_permissions(&to, fs::Permissions::from_mode(0o755)).unwrap();
    }
    site().sentry.clone()
}

fn script(project: &Project, name: &str, text: &str) -> String {
    let path = project.write(name, format!("#!/bin/sh\n{text}\n"));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.to_str().unwrap().to_owned()
}

fn bench(project: &Project, options: &[&str]) -> Outcome {
    let mut command = as_user(installed());
    command.args(["bench", "peers"]).args(options).current_dir(project.path());
    outcome(command)
}

fn records(project: &Project, kind: &str) -> Vec<Value> {
    let lines = project.read("run.jsonl");
    let records = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    records.filter(|record| record["record"] == kind).collect()
}

fn of<'a>(records: &'a [Value], key: &str, name: &str) -> Vec<&'a Value> {
    records.iter().filter(|record| record[key] == name).collect()
}

#[test]
fn whoever_does_not_run_its_guest_is_named_and_never_fast() {
    let project = Project::new();
    let crashes = script(&project, "crashes", "kill -SEGV $$");
    // Runs a guest that only greets, and dies when there is something to do.
    let later =
        script(&project, "later", "case \"$*\" in *greet*) exec \"$@\";; esac\necho such is life >&2\nkill -SEGV $$");
    let lies = script(&project, "lies", "echo here 0000000000000000\necho null_call 0.1 0000000000000000");
    let picky = "needs = [\"echo the moon is not full >&2; exit 1\"]";
    let mut subjects = "[[subject]]\nname = \"native\"\nrole = \"native\"\n".to_owned();
    for (name, role, command, more) in [
        ("ours", "ours", "{sentry} run --quiet --write . --", "version = \"{sentry} --version\""),
        ("absent", "peer", "no-such-sandbox --", ""),
        ("crashes", "peer", crashes.as_str(), ""),
        ("later", "peer", later.as_str(), ""),
        ("lies", "peer", lies.as_str(), ""),
        ("nothing", "peer", "true", ""),
        ("picky", "peer", "env", picky),
    ] {
        subjects
            .push_str(&format!("[[subject]]\nname = \"{name}\"\nrole = \"{role}\"\ncommand = \"{command}\"\n{more}\n"));
    }
    project.write("subjects.toml", subjects);

    let options = "--quick --rounds 2 --question null_call --question startup --question at_once_8_cpu \
                   --subjects subjects.toml --json run.jsonl";
    let told = bench(&project, &options.split_whitespace().collect::<Vec<_>>()).exits(0);

    let subjects = records(&project, "subject");
    for (name, why) in [
        ("absent", "no-such-sandbox is not installed"),
        ("crashes", "SIGSEGV"),
        ("lies", "does not run its guest"),
        ("nothing", "does not run its guest"),
        ("picky", "the moon is not full"),
    ] {
        let missing = of(&subjects, "name", name)[0]["missing"].as_str().unwrap().to_owned();
        assert!(missing.contains(why), "{name}: {missing}");
        assert!(told.err.contains(&format!("skipped: {name}: ")), "{}", told.err);
    }
    let ours = of(&subjects, "name", "ours")[0];
    assert_eq!((&ours["missing"], ours["role"].as_str()), (&Value::Null, Some("ours")));
    assert!(ours["version"].as_str().unwrap().starts_with("sentry "), "{ours}");

    let (samples, failures) = (records(&project, "sample"), records(&project, "failure"));
    for (name, count) in
        [("native", 6), ("ours", 6), ("absent", 0), ("crashes", 0), ("later", 0), ("lies", 0), ("nothing", 0)]
    {
        assert_eq!(of(&samples, "subject", name).len(), count, "{name}: {}", told.err);
    }
    assert!(samples.iter().all(|sample| sample["value"].as_f64().unwrap() > 0.0));
    let later = of(&failures, "subject", "later");
    assert_eq!(later.len(), 3, "{later:?}");
    let called = of(&failures, "question", "null_call")[0]["why"].as_str().unwrap().to_owned();
    assert!(called.contains("SIGSEGV") && called.contains("such is life"), "{called}");
    assert_eq!(records(&project, "end").len(), 1);
    let left = fs::read_dir(&site().home).unwrap().flatten();
    let left = left.filter(|entry| entry.file_name().to_string_lossy().starts_with("sentry-bench-"));
    let own = |name: &str| !Path::new("/proc").join(name.trim_start_matches("sentry-bench-")).exists();
    let left: Vec<_> =
        left.map(|entry| entry.file_name().to_string_lossy().into_owned()).filter(|name| own(name)).collect();
    assert!(left.is_empty(), "left behind: {left:?}");
}

#[test]
fn what_is_not_there_to_ask_is_said_with_what_is() {
    let project = Project::new();
    bench(&project, &["--question", "nonsense"]).exits(1).says("null_call");
    bench(&project, &["--subject", "nonsense"]).exits(1).says("sentry --write .");
    project.write("subjects.toml", "[[subject]]\nname = 3\n");
    bench(&project, &["--subjects", "subjects.toml"]).exits(1).says("subjects.toml");
}

#[test]
fn without_its_program_the_verb_tells_how_to_get_it() {
    let project = Project::new();
    let lonely = project.join("sentry");
    fs::copy(&site().sentry, &lonely).unwrap();
    project.give(&lonely);
    let mut command = as_user(&lonely);
    command.args(["bench", "peers", "--quick"]);
    outcome(command).exits(125).says("there is no sentry-bench").says("make bench-build");
}
