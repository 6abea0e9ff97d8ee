//! Repositories of git that do not look like one by their names.
//!
//! git obeys the settings and hooks of whatever directory has a `HEAD`, be it called `.git` or not: a bare repository, that of
//! a submodule, one that the run made. Settings can name programs (`core.fsmonitor`, `diff.external`, aliases) that git runs
//! as soon as somebody asks for the status there. So settings are ordinary only as long as each of them is known to run
//! nothing and to lead nowhere else.

use std::ffi::OsString;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;

use super::layer::Layer;
use super::obeyed::is_live_hook;
use super::root::{Root, look_in, names};
use super::{Change, Object, Type};

/// The longest settings that are looked through.
const LONGEST: u64 = 64 * 1024;

/// Sections, and what in them runs nothing and leads nowhere else, in small letters. A `*` stands for a section with a name
/// of its own, such as `[remote "origin"]`.
const PLAIN: [(&str, &[&str]); 12] = [
    (
        "core",
        &[
            "repositoryformatversion",
            "filemode",
            "bare",
            "logallrefupdates",
            "ignorecase",
            "precomposeunicode",
            "symlinks",
            "autocrlf",
            "eol",
            "safecrlf",
        ],
    ),
    ("extensions", &["objectformat", "refstorage"]),
    ("user", &["name", "email"]),
    ("init", &["defaultbranch"]),
    ("gc", &["auto"]),
    ("pull", &["rebase", "ff"]),
    ("push", &["default"]),
    ("remote", &["pushdefault"]),
    ("branch", &["autosetuprebase"]),
    ("remote *", &["url", "fetch", "pushurl", "tagopt", "prune"]),
    ("branch *", &["remote", "merge", "rebase", "description"]),
    ("submodule *", &["url", "active", "branch"]),
];

/// Whether git would obey what `change` brings, because of what lies beside it.
pub fn is_obeyed(layer: &Layer, change: &Change) -> bool {
    let Some(after) = &change.after else { return false };
    let Some(directory) = governed_by(&change.path) else { return false };
    // The name that makes a repository of what is there already.
    if change.path.file_name().is_some_and(|name| name == "HEAD") {
        return change.before.is_none() && waits_for_head(layer, directory);
    }
    has_head(layer, directory) && governs(layer, change, after)
}

/// Whether the host has something there that git would obey if only it were a repository.
fn waits_for_head(layer: &Layer, directory: &Path) -> bool {
    let at = |name: &str| layer.host.look(&directory.join(name)).ok().flatten();
    if at("config.worktree").is_some() || at("commondir").is_some() {
        return true;
    }
    if at("config").is_some() && !has_plain_settings(&layer.host, &directory.join("config")) {
        return true;
    }
    let hooks = layer.host.list(&directory.join("hooks")).and_then(|open| Ok((names(&open)?, open)));
    let runs = |(names, open): (Vec<OsString>, OwnedFd)| {
        names.iter().any(|name| {
            let path = Path::new("hooks").join(name);
            look_in(&open, name).ok().flatten().is_some_and(|found| is_live_hook(&path, &found))
        })
    };
    hooks.is_ok_and(runs)
}

/// Whether a file of this name has a say in a repository that is there: no other file may share its contents.
pub fn is_of_one(layer: &Layer, path: &Path) -> bool {
    governed_by(path).is_some_and(|directory| has_head(layer, directory))
}

/// The directory that would be the repository, if the name is one that has a say in one.
fn governed_by(path: &Path) -> Option<&Path> {
    let above = path.parent()?;
    match path.file_name()?.to_str() {
        Some("HEAD" | "config" | "config.worktree" | "commondir" | "hooks") => Some(above),
        _ if above.file_name()? == "hooks" => above.parent(),
        _ => None,
    }
}

fn has_head(layer: &Layer, directory: &Path) -> bool {
    let head = directory.join("HEAD");
    [&layer.copy, &layer.host].into_iter().any(|root| {
        root.look(&head).is_ok_and(|found| found.is_some_and(|found| matches!(found.kind, Type::File | Type::Symlink)))
    })
}

fn governs(layer: &Layer, change: &Change, after: &Object) -> bool {
    match change.path.file_name().and_then(|name| name.to_str()) {
        Some("config") if after.kind == Type::File => !has_plain_settings(&layer.copy, &change.path),
        Some("config" | "config.worktree" | "commondir") => !after.is_directory(),
        Some("hooks") => after.kind == Type::Symlink,
        _ => is_live_hook(&change.path, after),
    }
}

fn has_plain_settings(root: &Root, path: &Path) -> bool {
    let Ok(open) = root.read(path) else { return false };
    let mut text = Vec::new();
    // One byte more than allowed tells of a file that is longer.
    let read = std::fs::File::from(open).take(LONGEST + 1).read_to_end(&mut text);
    read.is_ok_and(|length| length as u64 <= LONGEST) && std::str::from_utf8(&text).is_ok_and(is_plain)
}

/// Whether these settings, in the format of git-config(1), are all plain. What is written in an unusual way is not.
fn is_plain(text: &str) -> bool {
    let mut known: Option<&[&str]> = None;
    for line in text.split('\n') {
        let line = line.trim_matches([' ', '\t', '\r']);
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(header) = line.strip_prefix('[') {
            known = header.strip_suffix(']').and_then(section);
            if known.is_none() {
                return false;
            }
            continue;
        }
        let key = line.split(['=', ' ', '\t']).next().unwrap_or_default().to_ascii_lowercase();
        // A line that goes on in the next one, or is none that git understands, is read by nobody here.
        let unusual = line.ends_with('\\') || line.contains(['\0', '\r']);
        if unusual || !known.is_some_and(|known| known.contains(&key.as_str())) {
            return false;
        }
    }
    true
}

/// What is known of the section with this header.
fn section(header: &str) -> Option<&'static [&'static str]> {
    let (name, own) = match header.split_once(' ') {
        None => (header, false),
        Some((name, rest)) => {
            let own = rest.trim_matches([' ', '\t']).strip_prefix('"')?.strip_suffix('"')?;
            if own.contains(['"', '\\']) {
                return None;
            }
            (name, true)
        }
    };
    let wanted = if own { format!("{} *", name.to_ascii_lowercase()) } else { name.to_ascii_lowercase() };
    PLAIN.into_iter().find(|(section, _)| *section == wanted).map(|(_, keys)| keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_git_writes_by_itself_is_plain() {
        for text in [
            "",
            "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = false\n\tlogallrefupdates = true\n",
            "[remote \"origin\"]\n\turl = https://example.org/x.git\n\tfetch = +refs/heads/*:refs/remotes/origin/*\n\
             [branch \"main\"]\n\tremote = origin\n\tmerge = refs/heads/main\n",
            "# a comment \\\n\r\n[CORE]\r\n\tBare=true\r\n[submodule \"a/b\"]\n active\n",
            "[remote \"a] b\"]\n\turl = x\n",
        ] {
            assert!(is_plain(text), "{text:?}");
        }
    }

    #[test]
    fn what_could_run_something_is_not() {
        for text in [
            "[core]\n\tfsmonitor = evil\n",
            "[core]\n\tbare = false \\\n[core]\n",
            "[core]\n\tworktree = /home/u\n",
            "[core] fsmonitor = evil\n",
            "[core] fsmonitor = [x]\n",
            "[core \"x\"] fsmonitor = \"y\"]\n",
            "[core \"x\"]\n\tbare = false\n",
            "[core] ; x]\n",
            "[remote.origin]\n\turl = x\n",
            "[remote \"origin\"]\n\tuploadpack = evil\n",
            "[submodule \"s\"]\n\tupdate = !evil\n",
            "[include]\n\tpath = ../evil\n",
            "[alias]\n\tstatus = !evil\n",
            "[filter \"x\"]\n\tclean = evil\n",
            "\u{feff}[core]\n",
            "\tbare = false\n",
            "[core]\n\tbare = false\r\r[core]\n",
            "[core\n",
            "[\n",
            "[]\n",
        ] {
            assert!(!is_plain(text), "{text:?}");
        }
    }

    #[test]
    fn names_that_have_a_say_are_told() {
        let directory = |path: &str| governed_by(Path::new(path)).map(|found| found.to_string_lossy().into_owned());
        assert_eq!(directory("a/config").as_deref(), Some("a"));
        assert_eq!(directory("HEAD").as_deref(), Some(""));
        assert_eq!(directory(".git/modules/s/hooks/post-checkout").as_deref(), Some(".git/modules/s"));
        assert_eq!(directory("a/hooks").as_deref(), Some("a"));
        assert_eq!(directory("a/hooks/x/y"), None);
        assert_eq!(directory("a/configs"), None);
    }
}
