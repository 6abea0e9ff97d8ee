//! What stands between a program and its files: rules of Landlock, bind mounts, overlays. All on a file system in memory, so
//! that no disk takes part.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use landlock::{ABI, AccessFs, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetCreatedAttr, path_beneath_rules};
use nix::fcntl::{OFlag, open};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::{Mode, stat};

use super::own_tree::{ROOT, bind, file_below, make};
use super::pair::Seats;
use super::sys;
use super::{Family, lacking};
use crate::stopwatch::per_operation;

/// The heading.
pub const GROUP: &str = "files";
const OPEN: &str = "open in a tree";
const STAT: &str = "stat in a tree";
const CHANGE: &str = "first change";
const TIMES: u64 = 60_000;
/// Each needs a file of its own.
const CHANGES: u64 = 900;

fn time_open(file: &Path, times: u64) -> io::Result<f64> {
    per_operation(times, || {
        drop(open(file, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?);
        Ok(())
    })
}

fn time_stat(file: &Path, times: u64) -> io::Result<f64> {
    per_operation(times, || Ok(stat(file).map(drop)?))
}

/// Times opening files for writing, each for the first time.
fn time_change(directory: &Path, times: u64) -> io::Result<f64> {
    let mut next = 0;
    per_operation(times, || {
        next += 1;
        drop(open(&directory.join(next.to_string()), OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())?);
        Ok(())
    })
}

fn fill(directory: &Path, times: u64) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    // As many as are opened in the batches of a loop and before.
    (1..=times + times.div_ceil(10) + 20)
        .try_for_each(|number| fs::write(directory.join(number.to_string()), [1; 4096]))
}

fn root() -> PathBuf {
    PathBuf::from(ROOT)
}

/// The plain tree.
fn plain() -> io::Result<PathBuf> {
    Seats::One.guest()?;
    make()?;
    file_below(&root().join("top"))
}

/// Under `layers` of Landlock, each with as many rules, the first of which is about the tree.
fn under_landlock(rules: usize, layers: usize) -> io::Result<PathBuf> {
    let file = plain()?;
    let places: Vec<PathBuf> = (1..rules).map(|number| root().join(format!("other/{number}"))).collect();
    places.iter().try_for_each(fs::create_dir_all)?;
    sys::no_new_privileges()?;
    for _ in 0..layers {
        // Without rules it speaks of programs only, and every file may be read.
        let handled = if rules == 0 { AccessFs::Execute.into() } else { AccessFs::from_read(ABI::V1) };
        let mut ruleset = Ruleset::default()
            .set_compatibility(CompatLevel::HardRequirement)
            .handle_access(handled)
            .and_then(Ruleset::create)
            .map_err(io::Error::other)?;
        if rules > 0 {
            let all = std::iter::once(root().join("top")).chain(places.iter().cloned());
            ruleset = ruleset.add_rules(path_beneath_rules(all, handled)).map_err(io::Error::other)?;
        }
        ruleset.restrict_self().map_err(io::Error::other)?;
    }
    Ok(file)
}

/// Through one of `count` bind mounts beside each other.
fn bound(count: usize) -> io::Result<PathBuf> {
    plain()?;
    for number in 0..count {
        bind(&root().join("top"), &root().join(format!("bound/{number}")))?;
    }
    Ok(root().join("bound/0/a/b/c/data"))
}

/// Through `count` bind mounts, each below the one before.
fn bound_within(count: usize) -> io::Result<PathBuf> {
    let file = plain()?;
    let mut place = root().join("top");
    for _ in 0..count {
        let next = place.join("next");
        bind(&root().join("top"), &next)?;
        place = next;
    }
    let rest = file.strip_prefix(root().join("top")).map_err(io::Error::other)?;
    Ok(place.join(rest))
}

/// Mounts an overlay over the directory `top`, and returns where.
fn overlaid() -> io::Result<PathBuf> {
    let (upper, work, merged) = (root().join("upper"), root().join("work"), root().join("merged"));
    [&upper, &work, &merged].into_iter().try_for_each(fs::create_dir_all)?;
    let options = format!("lowerdir={ROOT}/top,upperdir={ROOT}/upper,workdir={ROOT}/work,userxattr");
    mount(Some("overlay"), &merged, Some("overlay"), MsFlags::empty(), Some(options.as_str()))?;
    Ok(merged)
}

fn in_overlay(changed: bool) -> io::Result<PathBuf> {
    plain()?;
    let file = overlaid()?.join("a/b/c/data");
    if changed {
        fs::write(&file, [2; 4096])?;
    }
    Ok(file)
}

type Setup = Box<dyn Fn() -> io::Result<PathBuf>>;

/// The family.
pub fn family() -> Family {
    let mut family = Family::default();
    family.question(GROUP, OPEN, "`open` and `close` of a file four directories deep");
    family.question(GROUP, STAT, "`stat` of it");
    family.question(GROUP, CHANGE, "open a file of 4 KiB for writing, for the first time");
    family.native(OPEN, TIMES, |times| time_open(&plain()?, times));
    family.native(STAT, TIMES, |times| time_stat(&plain()?, times));
    family.native(CHANGE, CHANGES, |times| {
        plain()?;
        fill(&root().join("top/many"), times)?;
        time_change(&root().join("top/many"), times)
    });

    let no_tree = lacking("a file tree in a user namespace", || plain().map(drop));
    let no_landlock =
        no_tree.clone().or_else(|| lacking("Landlock", || under_landlock(1, 1).and_then(fs::read).map(drop)));
    let no_overlay =
        no_tree.clone().or_else(|| lacking("overlays in a user namespace", || in_overlay(false).map(drop)));
    let subjects: Vec<(&str, &str, &Option<String>, Setup)> = vec![
        (
            "landlock, 0 rules",
            "a ruleset that speaks of programs only",
            &no_landlock,
            Box::new(|| under_landlock(0, 1)),
        ),
        ("landlock, 5 rules", "the first allows the tree", &no_landlock, Box::new(|| under_landlock(5, 1))),
        ("landlock, 50 rules", "the first allows the tree", &no_landlock, Box::new(|| under_landlock(50, 1))),
        (
            "landlock, 5 rules, 4 layers",
            "four rulesets, one on the other",
            &no_landlock,
            Box::new(|| under_landlock(5, 4)),
        ),
        ("bind mount", "through one", &no_tree, Box::new(|| bound(1))),
        ("bind mounts, 20 beside", "through one of twenty", &no_tree, Box::new(|| bound(20))),
        (
            "bind mounts, 20 within",
            "through twenty, each below the one before",
            &no_tree,
            Box::new(|| bound_within(20)),
        ),
        ("overlay, lower", "a file of the lower layer", &no_overlay, Box::new(|| in_overlay(false))),
        ("overlay, upper", "a file that was changed", &no_overlay, Box::new(|| in_overlay(true))),
    ];
    for (name, how, missing, setup) in subjects {
        family.subject(name, how, missing.clone());
        let setup = std::rc::Rc::new(setup);
        let again = std::rc::Rc::clone(&setup);
        family.cell(OPEN, name, TIMES, move |times| time_open(&setup()?, times));
        family.cell(STAT, name, TIMES, move |times| time_stat(&again()?, times));
    }
    family.cell(CHANGE, "overlay, lower", CHANGES, |times| {
        plain()?;
        fill(&root().join("top/many"), times)?;
        time_change(&overlaid()?.join("many"), times)
    });
    family
}
