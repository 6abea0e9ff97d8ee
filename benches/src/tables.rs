//! Which numbers stand where: results files, several tables.
//!
//! A table stands in a Markdown file between `<!-- numbers NAME -->` and `<!-- /numbers -->`. Nothing there is typed. NAME
//! is one of the tables below, or `promises`. Before it may stand the study that the numbers come from, as in
//! `mechanisms:NAME`; then NAME may also be a group of that study's questions, of which all are shown. What the given
//! results files do not tell stays as it is.

use anyhow::{Context, bail};

use crate::record::Question;
use crate::results::Results;
use crate::targets;

/// A selection of the results.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// Its name in the marker.
    pub name: &'static str,
    /// Its columns.
    pub subjects: &'static [&'static str],
    /// Its lines.
    pub questions: &'static [&'static str],
}

/// Other sandboxes beside ours.
const PEERS: &[&str] = &[
    "native",
    "native again",
    "sentry --write .",
    "bwrap, same view",
    "firejail",
    "nsjail",
    "sandlock",
    "runsc, systrap",
    "podman, crun",
    "podman, runc",
    "proot",
    "strace -f",
];

/// All tables.
pub const ALL: &[Table] = &[
    Table {
        name: "main",
        subjects: &[
            "native",
            "native again",
            "bwrap, /usr only",
            "bwrap, same view",
            "sentry --write .",
            "sentry --read .",
            "sentry (copy-on-write)",
        ],
        questions: &[
            "null_call",
            "clock",
            "fstat",
            "read",
            "stat",
            "open",
            "connect",
            "fork",
            "exec",
            "startup",
            "memory",
        ],
    },
    Table {
        name: "features",
        subjects: &[
            "native",
            "native again",
            "sentry --write .",
            "sentry (copy-on-write)",
            "sentry --hide '**/.env*'",
            "sentry --interpose full",
            "sentry --fake-root",
        ],
        questions: &[
            "null_call",
            "trapped",
            "fstat",
            "stat",
            "relative",
            "missing",
            "open",
            "listing",
            "exec",
            "startup",
            "memory",
        ],
    },
    Table {
        name: "peers",
        subjects: PEERS,
        questions: &[
            "null_call",
            "clock",
            "fstat",
            "read",
            "write",
            "stat",
            "open",
            "listing",
            "mmap",
            "signal",
            "pipe",
            "futex",
            "connect",
            "thread",
            "fork",
            "exec",
            "startup",
            "memory",
        ],
    },
    Table {
        name: "peers-programs",
        subjects: PEERS,
        questions: &[
            "shell", "find", "status", "python", "compile", "tar", "untar", "sqlite", "redis", "npm", "sysbench",
        ],
    },
    Table {
        name: "many",
        subjects: PEERS,
        questions: &[
            "at_once_1",
            "at_once_4",
            "at_once_8",
            "at_once_16",
            "at_once_64",
            "at_once_256",
            "at_once_1_cpu",
            "at_once_4_cpu",
            "at_once_8_cpu",
            "at_once_16_cpu",
            "at_once_64_cpu",
            "at_once_256_cpu",
        ],
    },
    Table {
        name: "clock",
        subjects: &["native", "native again", "sentry --write .", "sentry --clock virtual"],
        questions: &["clock", "fork", "exec", "startup", "python", "compile"],
    },
    Table {
        name: "containers",
        subjects: &["crun", "crun again", "sentry oci", "sentry oci, the user's own file", "runc", "runsc"],
        questions: &["run", "podman", "exec", "memory", "null_call", "stat", "open", "fork"],
    },
    Table {
        name: "programs",
        subjects: &[
            "native",
            "native again",
            "bwrap, same view",
            "sentry --write .",
            "sentry (copy-on-write)",
            "sentry --hide '**/.env*'",
            "sentry --interpose full",
            "sentry --fake-root",
        ],
        questions: &[
            "shell", "find", "status", "python", "compile", "tar", "untar", "sqlite", "redis", "npm", "sysbench",
        ],
    },
];

impl Table {
    /// The table called `name`.
    pub fn named(name: &str) -> Option<&'static Self> {
        ALL.iter().find(|table| table.name == name)
    }

    /// In Markdown: a line a question, a column a subject. What was not asked in that run is left out.
    pub fn markdown(&self, results: &Results) -> String {
        let subjects: Vec<&str> =
            self.subjects.iter().copied().filter(|name| results.subject(name).is_some()).collect();
        let questions: Vec<&Question> = self.questions.iter().filter_map(|name| results.question(name)).collect();
        grid(results, &questions, &subjects) + "\n" + &results.provenance()
    }

    /// How many subjects of it a run has, native aside; none when it has none of its questions.
    fn fits(&self, results: &Results) -> usize {
        let asked = self.questions.iter().any(|name| results.question(name).is_some());
        let compared = |name: &&&str| results.subject(name).is_some_and(|subject| !subject.role.is_native());
        if asked { self.subjects.iter().filter(compared).count() } else { 0 }
    }
}

/// So many columns more than lines are too many.
const WIDE: usize = 7;

/// All questions of a group, and all subjects that answered any of them.
pub fn of_group(results: &Results, group: &str) -> String {
    let questions: Vec<&Question> = results.questions.iter().filter(|question| question.group == group).collect();
    let told = |subject: &str| questions.iter().any(|question| results.row(&question.name, subject).is_some());
    let names = results.subjects.iter().map(|subject| subject.name.as_str());
    grid(results, &questions, &names.filter(|name| told(name)).collect::<Vec<_>>()) + "\n" + &results.provenance()
}

/// A line a question, a column a subject; or the other way round where that would be wide.
fn grid(results: &Results, questions: &[&Question], subjects: &[&str]) -> String {
    if subjects.len() > questions.len() + WIDE {
        let heads: String = questions.iter().map(|question| format!(" {} |", question.asks)).collect();
        let mut text = format!("| |{heads}\n|---|{}\n", "---|".repeat(questions.len()));
        for subject in subjects {
            let cells = questions.iter().map(|question| format!(" {} |", results.cell(&question.name, subject)));
            text.push_str(&format!("| {subject} |{}\n", cells.collect::<String>()));
        }
        return text;
    }
    let heads: String = subjects.iter().map(|name| format!(" {name} |")).collect();
    let mut text = format!("| |{heads}\n|---|{}\n", "---|".repeat(subjects.len()));
    for question in questions {
        let cells: String =
            subjects.iter().map(|subject| format!(" {} |", results.cell(&question.name, subject))).collect();
        text.push_str(&format!("| {} |{cells}\n", question.asks));
    }
    text
}

/// The promises, and whether this run kept them, a line each.
pub fn promises(results: &Results) -> Vec<String> {
    let mut lines: Vec<String> = targets::of(&[results]).iter().map(targets::Target::line).collect();
    for (question, ratio) in results.disturbed() {
        lines.push(format!("DISTURBED: {}: the control is {:.2}x and should be 1.0x", question.name, ratio.median));
    }
    lines
}

/// What stands between the markers called `name`; none when these studies do not tell.
fn content(name: &str, studies: &[&Results]) -> anyhow::Result<Option<String>> {
    let (study, table) = name.split_once(':').map_or((None, name), |(study, table)| (Some(study.trim()), table.trim()));
    let from: Vec<&Results> =
        studies.iter().copied().filter(|results| study.is_none_or(|study| results.run.study == study)).collect();
    if from.is_empty() {
        return Ok(None);
    }
    if table == PROMISES {
        return Ok(Some(targets::markdown(&from)));
    }
    if let Some(table) = Table::named(table) {
        let best = from.iter().map(|results| (table.fits(results), results)).max_by_key(|(fits, _)| *fits);
        return Ok(best.filter(|(fits, _)| *fits > 0).map(|(_, results)| table.markdown(results)));
    }
    if let (Some(_), [results, ..]) = (study, &from[..])
        && results.questions.iter().any(|question| question.group == table)
    {
        return Ok(Some(of_group(results, table)));
    }
    let known: Vec<&str> = ALL.iter().map(|table| table.name).chain([PROMISES]).collect();
    bail!(
        "there is no table {name:?}; there are {}, and groups of questions after the name of a study",
        known.join(", ")
    )
}

/// The table of the promises.
const PROMISES: &str = "promises";

/// The text of a Markdown file with every table in it made anew, as far as these studies tell.
pub fn rewritten(text: &str, studies: &[&Results]) -> anyhow::Result<String> {
    const OPEN: &str = "<!-- numbers ";
    const CLOSE: &str = "<!-- /numbers -->";
    let (mut new, mut rest) = (String::new(), text);
    while let Some(from) = rest.find(OPEN) {
        let (before, marked) = rest.split_at(from);
        let name_ends = marked.find(" -->").context("a marker does not end")?;
        let name = &marked[OPEN.len()..name_ends];
        let to = marked.find(CLOSE).with_context(|| format!("the table {name} has no {CLOSE}"))?;
        match content(name, studies)? {
            Some(table) => new.push_str(&format!("{before}{OPEN}{name} -->\n\n{table}\n{CLOSE}")),
            None => new.push_str(&format!("{before}{}", &marked[..to + CLOSE.len()])),
        }
        rest = &marked[to + CLOSE.len()..];
    }
    anyhow::ensure!(!new.is_empty(), "there is no marker such as {OPEN}main -->");
    Ok(new + rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Record, Role, Subject};
    use crate::{questions, subjects};

    fn results() -> Results {
        let mut results = Results::default();
        results.run.study = "peers".to_owned();
        for (name, role) in
            [("native", Role::Native), ("sentry --write .", Role::Ours), ("sentry --interpose full", Role::Ours)]
        {
            let (name, how) = (name.to_owned(), String::new());
            results.add(Record::Subject(Subject { name, role, how, version: None, missing: None }));
        }
        results.add(Record::Question(questions::named("open").unwrap().record()));
        for (subject, values) in [("native", [100.0, 110.0, 120.0]), ("sentry --write .", [200.0, 220.0, 240.0])] {
            for (round, value) in values.into_iter().enumerate() {
                let (question, subject) = ("open".to_owned(), subject.to_owned());
                results.add(Record::Sample { question, subject, round, value });
            }
        }
        let (question, subject) = ("open".to_owned(), "sentry --interpose full".to_owned());
        results.add(Record::Failure { question, subject, why: "it | broke".to_owned() });
        results
    }

    #[test]
    fn every_table_speaks_of_what_there_is() {
        let subjects = subjects::all("sentry", "/d");
        for table in ALL {
            for name in table.subjects {
                assert!(subjects.iter().any(|subject| subject.name == *name), "{name}");
            }
            for name in table.questions {
                assert!(questions::named(name).is_some(), "{name}");
            }
        }
        for question in questions::ALL {
            assert!(
                ALL.iter().any(|table| table.questions.contains(&question.name)),
                "{} is in no table",
                question.name
            );
        }
    }

    #[test]
    fn a_table_holds_ratios_and_failures() {
        let text = Table::named("features").unwrap().markdown(&results());
        assert!(text.contains("| native | sentry --write . | sentry --interpose full |"), "{text}");
        assert!(text.contains("| 110 ns | 220 ns, 2.00x (2.00-2.00) | *it / broke* |"), "{text}");
    }

    #[test]
    fn tables_are_replaced_and_the_text_between_stays() {
        let old =
            "a\n<!-- numbers main -->\nold\n<!-- /numbers -->\nb\n<!-- numbers features --><!-- /numbers -->\nc\n";
        let new = rewritten(old, &[&results()]).unwrap();
        assert!(new.starts_with("a\n<!-- numbers main -->\n\n| |") && new.ends_with("<!-- /numbers -->\nc\n"), "{new}");
        assert!(
            new.contains("<!-- /numbers -->\nb\n<!-- numbers features -->\n\n| |") && !new.contains("old"),
            "{new}"
        );
        assert_eq!(rewritten(&new, &[&results()]).unwrap(), new);
    }

    #[test]
    fn markers_that_mean_nothing_are_errors() {
        for text in ["", "<!-- numbers none --><!-- /numbers -->", "<!-- numbers main -->", "<!-- numbers main"] {
            assert!(rewritten(text, &[&results()]).is_err(), "{text}");
        }
    }

    #[test]
    fn a_marker_may_name_the_study_and_a_group() {
        let marked = |name: &str| format!("<!-- numbers {name} -->\nold\n<!-- /numbers -->");
        let new = |name: &str| rewritten(&marked(name), &[&results()]).unwrap();
        assert!(new("peers: calls").contains("| `open` and `close` in the granted directory | 110 ns |"));
        assert!(new("peers:main").contains("220 ns, 2.00x"));
        assert!(new("promises").contains("| promise | found | goal | |"));
        assert_eq!(new("mechanisms:calls"), marked("mechanisms:calls"), "what is not told stays");
        assert!(rewritten(&marked("peers:none"), &[&results()]).is_err());
    }

    #[test]
    fn numbers_come_from_the_study_that_has_them() {
        let mut other = results();
        other.run.study = "mechanisms".to_owned();
        other.subjects.truncate(1);
        let text = rewritten("<!-- numbers main --><!-- /numbers -->", &[&other, &results()]).unwrap();
        assert!(text.contains("sentry --write ."), "{text}");
        let none = "<!-- numbers main -->old<!-- /numbers -->";
        assert_eq!(rewritten(none, &[&other]).unwrap(), none);
    }
}
