//! The same calls give the same results natively, in a sandbox of ring 1 only, and with every path interposed.
//!
//! Random scripts of calls about files run in three worlds, and results, errnos and the trees that are left must be equal.
//! `SENTRY_DIFFERENTIAL=100000` sets how many, and `SENTRY_SCRIPT=FILE` runs one that was kept and shows what it gave.
#![allow(clippy::unwrap_used)] // a panic is how a test fails

mod calls;
mod worlds;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use sentry_tests::script::Script;
use worlds::Worlds;

/// How many scripts are run if the environment does not say.
const SCRIPTS: u32 = 1000;

fn wanted() -> u32 {
    std::env::var("SENTRY_DIFFERENTIAL").ok().and_then(|text| text.parse().ok()).unwrap_or(SCRIPTS)
}

/// How many differences are shown, each by a shortest script.
const SHOWN: usize = 25;

/// How long a script is made shorter; one that hangs takes its time.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs scripts, and fails if any shows a difference. Only the first of those that differ in the same way is shown.
fn differ(scripts: u32, strategy: &impl Strategy<Value = Script>, worlds: &mut Worlds) {
    // The short run takes the same scripts each time, so that it tells of the change at hand; a long one looks for more.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
    let seed = if scripts == SCRIPTS { 3 } else { now };
    let seed: Vec<u8> = seed.to_ne_bytes().repeat(2);
    // A short script is nice to have; a minute of looking for one is enough.
    let config = Config { max_shrink_time: 60_000, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed));
    let mut found = BTreeMap::new();
    for _ in 0..scripts {
        let mut tree = strategy.new_tree(&mut runner).unwrap();
        let Some(how) = worlds.difference(&tree.current()) else { continue };
        if found.contains_key(&how) {
            continue;
        }
        let (script, how) = shortest(&mut tree, worlds);
        if how.is_empty() {
            // What does not happen again cannot be told from a disturbed machine; but it is not passed over in silence.
            eprintln!("differed once and never again:\n{script}");
            continue;
        }
        found.entry(how).or_insert(script);
        if found.len() == SHOWN {
            break;
        }
    }
    for (how, script) in &found {
        eprintln!("this script (SENTRY_SCRIPT runs it again):\n{script}{how}");
    }
    assert!(found.is_empty(), "{} differences", found.len());
}

/// Makes a script shorter and simpler for as long as it still shows a difference.
fn shortest(tree: &mut impl ValueTree<Value = Script>, worlds: &mut Worlds) -> (Script, String) {
    let mut best = (tree.current(), String::new());
    let mut differs = true;
    let began = Instant::now();
    for _ in 0..200 {
        if began.elapsed() > PATIENCE {
            break;
        }
        if differs && let Some(how) = worlds.difference(&tree.current()) {
            best = (tree.current(), how);
        }
        if !(if differs { tree.simplify() } else { tree.complicate() }) {
            break;
        }
        differs = worlds.difference(&tree.current()).is_some();
    }
    best
}

#[test]
fn results_are_the_same_natively_and_interposed() {
    let mut worlds = Worlds::new(true);
    differ(wanted(), &calls::script(false), &mut worlds);
}

#[test]
fn results_are_the_same_on_read_only_and_full_file_systems() {
    let mut worlds = Worlds::new(false);
    differ(wanted(), &calls::script(true), &mut worlds);
}

/// Scripts that once showed a difference.
#[test]
fn what_once_differed_is_the_same() {
    let mut worlds = Worlds::new(true);
    for text in include_str!("found.txt").split("\n\n").filter(|text| !text.trim().is_empty()) {
        let script: Script = text.parse().unwrap();
        assert_eq!(worlds.difference(&script), None, "{script}");
    }
    if let Ok(file) = std::env::var("SENTRY_SCRIPT") {
        let script: Script = std::fs::read_to_string(file).unwrap().parse().unwrap();
        for (name, answer) in worlds.answers(&script) {
            eprintln!("{name}:\n{answer}");
        }
    }
}
