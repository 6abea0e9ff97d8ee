//! What does a database in a file cost?
//!
//! 2000 inserts in one transaction, 100 in transactions of their own, and selects that add them up: reads and writes at
//! places, locks, a journal that is made and removed each time. The disk itself is not waited for.

use std::io;

use super::super::{Granted, Question};
use crate::stopwatch::Stint;

pub(in super::super) const QUESTION: Question =
    Question::program("sqlite", "`sqlite3`, 2100 inserts, 102 transactions", &["sqlite3"], ask);

const SCRIPT: &str = "\
PRAGMA synchronous=OFF;
CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, value INTEGER);
CREATE INDEX by_name ON t (name);
BEGIN;
WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000) \
INSERT INTO t SELECT i, 'name ' || i, i FROM n;
COMMIT;
";
const SINGLES: usize = 100;
/// 1 + 2 + ... + 2000, and a hundred ones.
const SUM: &[u8] = b"2001100\n";

fn ask(granted: &Granted, stint: Stint) -> io::Result<f64> {
    let work = super::Work::new(granted)?;
    let single = "INSERT INTO t (name, value) VALUES ('single', 1);\n".repeat(SINGLES);
    let script = format!("{SCRIPT}{single}SELECT sum(value) FROM t;\n");
    stint.per_run(|| {
        let sum = super::output(
            super::program("sqlite3").args(["-batch", "-init", "/dev/null"]).arg(work.fresh()).arg(&script),
        )?;
        super::did(sum == SUM, "sqlite3")
    })
}
