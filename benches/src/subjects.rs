//! Who is measured: a name and the command prefix that comes before the guest, from a TOML file.
//!
//! The file of this crate is built in, so that the program needs nothing beside itself; another one can be named instead.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, ensure};
use serde::Deserialize;

use crate::record::{self, Role};

/// The subjects that are built in.
const OWN: &str = include_str!("../subjects.toml");

/// One subject.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Its name in the table.
    pub name: String,
    /// What it is to the others.
    pub role: Role,
    /// What comes before the guest's command; `{unique}` in it becomes another word for each start.
    pub prefix: Vec<String>,
    /// A line of shell that tells its version, if there is one.
    pub version: Option<String>,
    /// Lines of shell that must succeed before it is tried, as the ordinary user.
    pub needs: Vec<String>,
    /// A line of shell that is run once before all, as the ordinary user.
    pub prepare: Option<String>,
    /// A line of shell that is run at the end, as the ordinary user.
    pub cleanup: Option<String>,
    /// What has to be known about it.
    pub note: Option<String>,
    /// Whether the short form leaves it out.
    pub full_only: bool,
}

impl Subject {
    /// As results files tell of it.
    pub fn record(&self, version: Option<String>, missing: Option<String>) -> record::Subject {
        let mut how = self.prefix.join(" ");
        if let Some(note) = &self.note {
            how = if how.is_empty() { note.clone() } else { format!("{how} ({note})") };
        }
        record::Subject { name: self.name.clone(), role: self.role, how, version, missing }
    }
}

/// What stands in a file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// Lists of paths that several subjects show, by name.
    #[serde(default)]
    paths: BTreeMap<String, Vec<String>>,
    subject: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    role: Role,
    /// Words, parted by white space.
    #[serde(default)]
    command: String,
    /// What `{shown}` in the command becomes: the words of `with`, once for each path that exists.
    show: Option<Show>,
    version: Option<String>,
    #[serde(default)]
    needs: Vec<String>,
    prepare: Option<String>,
    cleanup: Option<String>,
    note: Option<String>,
    #[serde(default)]
    full_only: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Show {
    /// The name of a list of paths.
    paths: String,
    /// Words with `{path}` in them.
    with: String,
}

/// What placeholders stand for.
#[derive(Clone, Copy, Debug)]
pub struct Places<'a> {
    /// `{sentry}`: the sentry to measure.
    pub sentry: &'a str,
    /// `{directory}`: the granted directory, in which all guests work.
    pub directory: &'a str,
    /// `{place}`: a directory for what subjects keep for themselves.
    pub place: &'a str,
}

impl Places<'_> {
    fn filled(&self, text: &str) -> String {
        let pairs = [("{sentry}", self.sentry), ("{directory}", self.directory), ("{place}", self.place)];
        pairs.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
    }

    fn words(&self, text: &str) -> Vec<String> {
        text.split_ascii_whitespace().map(|word| self.filled(word)).collect()
    }
}

impl Entry {
    fn subject(self, paths: &BTreeMap<String, Vec<String>>, places: Places) -> anyhow::Result<Subject> {
        let mut shown = Vec::new();
        if let Some(show) = &self.show {
            let paths = paths.get(&show.paths).with_context(|| format!("there is no list paths.{}", show.paths))?;
            for path in paths.iter().filter(|path| Path::new(path).exists()) {
                shown.extend(show.with.split_ascii_whitespace().map(|word| word.replace("{path}", path)));
            }
        }
        let mut prefix = Vec::new();
        for word in places.words(&self.command) {
            if word == "{shown}" { prefix.append(&mut shown) } else { prefix.push(word) }
        }
        let bare = matches!(self.role, Role::Native | Role::Control);
        ensure!(bare == prefix.is_empty(), "native and its control have no command, and all others have one");
        let filled = |line: &Option<String>| line.as_ref().map(|line| places.filled(line));
        Ok(Subject {
            prefix,
            role: self.role,
            version: filled(&self.version),
            needs: self.needs.iter().map(|line| places.filled(line)).collect(),
            prepare: filled(&self.prepare),
            cleanup: filled(&self.cleanup),
            note: self.note,
            full_only: self.full_only,
            name: self.name,
        })
    }
}

/// The subjects that the text of a TOML file names; the first must be native.
pub fn read(text: &str, places: Places) -> anyhow::Result<Vec<Subject>> {
    let file: File = toml::from_str(text)?;
    let mut subjects: Vec<Subject> = Vec::new();
    for entry in file.subject {
        let name = entry.name.clone();
        let subject = entry.subject(&file.paths, places).with_context(|| format!("subject {name:?}"))?;
        ensure!(subjects.iter().all(|other| other.name != name), "there are two subjects called {name:?}");
        subjects.push(subject);
    }
    let natives = subjects.iter().filter(|subject| subject.role == Role::Native).count();
    ensure!(natives == 1, "there must be one subject with the role native; all are compared with it");
    Ok(subjects)
}

/// The subjects of `file`, or those that are built in.
pub fn load(file: Option<&Path>, places: Places) -> anyhow::Result<Vec<Subject>> {
    let Some(file) = file else { return read(OWN, places).context("the built-in subjects") };
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    read(&text, places).with_context(|| format!("{} names no subjects", file.display()))
}

/// The subjects that are built in, for guests that work in `directory`.
///
/// # Panics
///
/// Never: a test reads the built-in file.
pub fn all(sentry: &str, directory: &str) -> Vec<Subject> {
    load(None, Places { sentry, directory, place: "/nonexistent" }).unwrap_or_else(|error| panic!("{error:#}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACES: Places = Places { sentry: "/d/sentry", directory: "/d", place: "/p" };
    const NATIVE: &str = "[[subject]]\nname = \"native\"\nrole = \"native\"\n";

    #[test]
    fn the_built_in_file_has_the_usual_subjects() {
        let all = all("/d/sentry", "/d");
        assert_eq!(all[0].role, Role::Native);
        assert_eq!(all[1].role, Role::Control);
        for name in ["bwrap, same view", "sentry --write .", "runsc, systrap", "strace -f"] {
            let subject = all.iter().find(|subject| subject.name == name).unwrap();
            let words = subject.prefix.join(" ");
            assert!(!words.replace("{unique}", "").contains(['{', '}']), "{words}");
        }
        let ours = all.iter().find(|subject| subject.name == "sentry --hide '**/.env*'").unwrap();
        assert_eq!(ours.prefix.join(" "), "/d/sentry run --quiet --write . --hide **/.env* --");
    }

    #[test]
    fn placeholders_become_paths() {
        let text = format!(
            "{NATIVE}[paths]\nx = [\"/usr\", \"/nonexistent\"]\n[[subject]]\nname = \"box\"\nrole = \"peer\"\n\
             command = \"box {{shown}} --in {{directory}} {{unique}}\"\nshow = {{ paths = \"x\", with = \"--see {{path}}\" }}\n\
             note = \"sees less\"\n"
        );
        let all = read(&text, PLACES).unwrap();
        assert_eq!(all[1].prefix, ["box", "--see", "/usr", "--in", "/d", "{unique}"]);
        assert_eq!(all[1].record(None, None).how, "box --see /usr --in /d {unique} (sees less)");
    }

    #[test]
    fn what_makes_no_sense_is_an_error() {
        let peer = |more: &str| format!("{NATIVE}[[subject]]\nname = \"box\"\nrole = \"peer\"\n{more}");
        for (text, why) in [
            (String::new(), "missing field"),
            (peer("command = \"box\"\ncolour = 1"), "unknown field"),
            (peer(""), "have one"),
            (peer("command = \"box\"\nshow = { paths = \"y\", with = \"\" }"), "no list paths.y"),
            (format!("{NATIVE}{NATIVE}"), "two subjects"),
            (
                peer("command = \"box\"").replace("\"native\"\nrole = \"native\"", "\"x\"\nrole = \"control\""),
                "one subject",
            ),
        ] {
            let error = format!("{:#}", read(&text, PLACES).unwrap_err());
            assert!(error.contains(why), "{error}");
        }
    }
}
