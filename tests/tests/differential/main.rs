//! The same calls give the same results natively, in a sandbox of ring 1 only, and with every path interposed.
//!
//! Random scripts of calls about files run in three worlds, and results, errnos and the trees that are left must be equal.
//! `SENTRY_DIFFERENTIAL=100000` sets how many, and `SENTRY_SCRIPT=FILE` runs one that was kept and shows what it gave.
#![allow(clippy::unwrap_used)] // a panic is how a test fails

mod calls;
mod worlds;

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};

use sentry_tests::script::Script;
use worlds::Worlds;

/// How many scripts are run if the environment does not say.
const SCRIPTS: u32 = 1000;

fn wanted() -> u32 {
    std::env::var("SENTRY_DIFFERENTIAL").ok().and_then(|text| text.parse().ok()).unwrap_or(SCRIPTS)
}

/// Runs scripts until one shows a difference, and fails with the shortest like it.
fn differ(scripts: u32, strategy: &impl Strategy<Value = Script>, mut differs: impl FnMut(&Script) -> Option<String>) {
    let config = Config { cases: scripts, failure_persistence: None, max_shrink_iters: 2000, ..Config::default() };
    let seed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
    let seed: Vec<u8> = seed.to_ne_bytes().repeat(2);
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed));
    let differs = std::cell::RefCell::new(&mut differs);
    let outcome = runner.run(strategy, |script| match (differs.borrow_mut())(&script) {
        Some(how) => Err(proptest::test_runner::TestCaseError::fail(how)),
        None => Ok(()),
    });
    match outcome {
        Ok(()) => {}
        Err(TestError::Fail(how, script)) => panic!("this script (SENTRY_SCRIPT runs it again):\n{script}\n{how}"),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn results_are_the_same_natively_and_interposed() {
    let mut worlds = Worlds::new(true);
    differ(wanted(), &calls::script(false), |script| worlds.difference(script));
}

#[test]
fn results_are_the_same_on_read_only_and_full_file_systems() {
    let mut worlds = Worlds::new(false);
    differ(wanted(), &calls::script(true), |script| worlds.difference(script));
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
