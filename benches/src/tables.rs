//! Which numbers stand where: one results file, several tables.
//!
//! A table stands in a Markdown file between `<!-- numbers NAME -->` and `<!-- /numbers -->`. Nothing there is typed.

use anyhow::{Context, bail};

use crate::questions;
use crate::results::Results;
use crate::statistics::median;

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
        let mut text = format!(
            "| |{}\n|---|{}\n",
            subjects.iter().map(|name| format!(" {name} |")).collect::<String>(),
            "---|".repeat(subjects.len())
        );
        let asked = |name: &str| results.question(name).is_some();
        for question in questions::ALL.iter().filter(|question| self.questions.contains(&question.name)) {
            if asked(question.name) {
                let cells = subjects.iter().map(|subject| format!(" {} |", results.cell(question.name, subject)));
                text.push_str(&format!("| {} |{}\n", question.asks, cells.collect::<String>()));
            }
        }
        text + "\n" + &results.provenance()
    }
}

/// The promises, and whether this run kept them.
pub fn promises(results: &Results) -> Vec<String> {
    let mut text = Vec::new();
    let ours = "sentry --write .";
    if let Some(more) = results.difference_to("null_call", ours, results.native()) {
        text.push(format!("an untrapped call costs {:.0} ns more than native (goal 25)", more.median));
    }
    for question in ["open", "stat"] {
        if let Some(times) = results.ratio(question, ours) {
            text.push(format!(
                "{question} in a granted directory: {:.2}x native (goal 1.1x and the filter's price)",
                times.median
            ));
        }
    }
    for question in ["open", "stat"] {
        if let Some(times) = results.ratio(question, "sentry --interpose full") {
            text.push(format!("{question} with every path interposed: {:.1}x native (goal 5x)", times.median));
        }
    }
    if let Some(times) = results.ratio_to("startup", ours, "bwrap, same view") {
        text.push(format!("start of true: {:.2}x of bwrap with the same view (goal 1.0x)", times.median));
    }
    if let Some(own) = results.row("memory", ours).and_then(|row| median(&row.values())) {
        text.push(format!("our processes around a sleeping program: {:.1} MB PSS (goal 6)", own / 1e6));
    }
    for (question, ratio) in results.disturbed() {
        text.push(format!("DISTURBED: {}: the control is {:.2}x and should be 1.0x", question.name, ratio.median));
    }
    text
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
    use crate::subjects;

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
