//! Which numbers stand where: one results file, several tables.
//!
//! A table stands in a Markdown file between `<!-- numbers NAME -->` and `<!-- /numbers -->`. Nothing there is typed.

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
}

/// All questions of a group, and all subjects that answered any of them.
pub fn of_group(results: &Results, group: &str) -> String {
    let questions: Vec<&Question> = results.questions.iter().filter(|question| question.group == group).collect();
    let told = |subject: &str| questions.iter().any(|question| results.row(&question.name, subject).is_some());
    let names = results.subjects.iter().map(|subject| subject.name.as_str());
    grid(results, &questions, &names.filter(|name| told(name)).collect::<Vec<_>>()) + "\n" + &results.provenance()
}

/// A line a question, a column a subject.
fn grid(results: &Results, questions: &[&Question], subjects: &[&str]) -> String {
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

/// The text of a Markdown file with every table in it made anew.
pub fn rewritten(text: &str, results: &Results) -> anyhow::Result<String> {
    const OPEN: &str = "<!-- numbers ";
    const CLOSE: &str = "<!-- /numbers -->";
    let (mut new, mut rest) = (String::new(), text);
    while let Some(from) = rest.find(OPEN) {
        let (before, marked) = rest.split_at(from);
        let name_ends = marked.find(" -->").context("a marker does not end")?;
        let name = &marked[OPEN.len()..name_ends];
        let Some(table) = Table::named(name) else {
            let known: Vec<&str> = ALL.iter().map(|table| table.name).collect();
            bail!("there is no table {name:?}; there are {}", known.join(", "));
        };
        let to = marked.find(CLOSE).with_context(|| format!("the table {name} has no {CLOSE}"))?;
        new.push_str(&format!("{before}{OPEN}{name} -->\n\n{}\n{CLOSE}", table.markdown(results)));
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
        let new = rewritten(old, &results()).unwrap();
        assert!(new.starts_with("a\n<!-- numbers main -->\n\n| |") && new.ends_with("<!-- /numbers -->\nc\n"), "{new}");
        assert!(
            new.contains("<!-- /numbers -->\nb\n<!-- numbers features -->\n\n| |") && !new.contains("old"),
            "{new}"
        );
        assert_eq!(rewritten(&new, &results()).unwrap(), new);
    }

    #[test]
    fn markers_that_mean_nothing_are_errors() {
        for text in ["", "<!-- numbers none --><!-- /numbers -->", "<!-- numbers main -->", "<!-- numbers main"] {
            assert!(rewritten(text, &results()).is_err(), "{text}");
        }
    }
}
