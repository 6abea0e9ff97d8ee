//! `oci-breakouts --runtime PATH`: root in a container tries the classic ways out, and an effect on the host is looked for.
//!
//! Each attempt is one container of a runtime, with the rights that the attempt is known for (by default all capabilities, no
//! seccomp profile, nothing masked, all devices: what `--privileged` gives). `table FILE...` draws several runs side by side.
#![allow(clippy::print_stdout)] // what it finds is its output

mod attempts;
mod escapes;
mod kernel;
mod scene;
mod table;

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use scene::{Attempt, Scene};
use serde_json::json;

const TOPICS: &[&[Attempt]] = &[attempts::HOST, escapes::ESCAPES, kernel::SURFACE];

const USAGE: &str =
    "usage: oci-breakouts --runtime 'PATH [OPTION]...' [--name NAME] [--only ID-PART] [--json FILE] [--seccomp PROFILE]
       oci-breakouts table FILE.json...";

fn main() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let (mut runtime, mut name, mut only, mut kept, mut seccomp) = (Vec::new(), None, None, None, None);
    while let Some(word) = words.next() {
        let mut value = || words.next().with_context(|| format!("{word} needs a value\n{USAGE}"));
        match word.as_str() {
            "--runtime" => runtime = value()?.split_whitespace().map(str::to_owned).collect::<Vec<_>>(),
            "--name" => name = Some(value()?),
            "--only" => only = Some(value()?),
            "--seccomp" => seccomp = Some(serde_json::from_str(&std::fs::read_to_string(value()?)?)?),
            "--json" => kept = Some(PathBuf::from(value()?)),
            "table" => return table::print(&words.map(PathBuf::from).collect::<Vec<_>>()),
            _ => bail!("{USAGE}"),
        }
    }
    if runtime.is_empty() {
        bail!("{USAGE}");
    }
    let name = name.unwrap_or_else(|| runtime.join(" "));
    let scene = Scene::new(runtime, seccomp)?;
    let mut kept = kept.map(File::create).transpose()?;
    let mut keep =
        |line: serde_json::Value| -> Result<()> { Ok(kept.as_mut().map_or(Ok(()), |out| writeln!(out, "{line}"))?) };
    let user = if scene.stand.root { "root" } else { "an ordinary user" };
    keep(json!({ "record": "run", "runtime": name, "version": scene.stand.version(), "user": user }))?;
    let mut reached = 0;
    for attempt in TOPICS.iter().flat_map(|topic| topic.iter()) {
        if only.as_ref().is_some_and(|part| !attempt.id.contains(part.as_str())) {
            continue;
        }
        let seen = (attempt.run)(&scene);
        scene.stand.bury();
        reached += i32::from(seen.word == scene::REACHED);
        println!("{:28} {:22} {}", attempt.id, seen.word, seen.detail);
        keep(
            json!({ "record": "attempt", "id": attempt.id, "tried": attempt.tried, "with": attempt.with, "word": seen.word,
                     "detail": seen.detail }),
        )?;
    }
    println!("{name} as {user}: the host was reached {reached} times");
    scene.clear();
    Ok(())
}
