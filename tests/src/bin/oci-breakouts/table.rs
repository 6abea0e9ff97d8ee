//! The documents' table: what each attempt came to under each runtime.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::Value;

pub fn print(files: &[PathBuf]) -> Result<()> {
    let mut heads = Vec::new();
    let mut order: Vec<Value> = Vec::new();
    let mut cells: Vec<BTreeMap<String, Value>> = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
        let mut column = BTreeMap::new();
        for line in text.lines() {
            let record: Value = serde_json::from_str(line).with_context(|| file.display().to_string())?;
            if record["record"] == "run" {
                heads.push(record);
                continue;
            }
            let id = word(&record, "id").to_owned();
            if !order.iter().any(|known| known["id"] == record["id"]) {
                order.push(record.clone());
            }
            column.insert(id, record);
        }
        cells.push(column);
    }
    print!("{}", drawn(&heads, &order, &cells));
    Ok(())
}

fn word<'a>(record: &'a Value, name: &str) -> &'a str {
    record[name].as_str().unwrap_or_default()
}

fn drawn(heads: &[Value], order: &[Value], cells: &[BTreeMap<String, Value>]) -> String {
    let mut page = String::from("| column | version |\n|---|---|\n");
    let name = |head: &Value| {
        format!("{}, {}", word(head, "runtime"), if word(head, "user") == "root" { "root" } else { "rootless" })
    };
    for head in heads {
        page += &format!("| {} | {} |\n", name(head), word(head, "version"));
    }
    page += "\n| tried | beside all capabilities |";
    for head in heads {
        page += &format!(" {} |", name(head));
    }
    page += &format!("\n|---|---|{}\n", "---|".repeat(heads.len()));
    for attempt in order {
        page += &format!("| {} | {} |", word(attempt, "tried"), word(attempt, "with"));
        for column in cells {
            let cell = column.get(word(attempt, "id"));
            page += &cell.map_or(" - |".to_owned(), |cell| format!(" {} |", shown(cell)));
        }
        page += "\n";
    }
    page += "\n| | host reached | call allowed | in the container only | refused | not applicable |\n|---|---:|---:|---:|---:|---:|\n";
    for (head, column) in heads.iter().zip(cells) {
        let count = |wanted: &str| column.values().filter(|cell| word(cell, "word") == wanted).count();
        page += &format!(
            "| {} | {} | {} | {} | {} | {} |\n",
            name(head),
            count("host reached"),
            count("call allowed"),
            count("in the container only"),
            count("refused"),
            count("not applicable")
        );
    }
    page
}

/// A cell: the secret itself is nobody's business, the way is.
fn shown(cell: &Value) -> String {
    let (what, detail) = (word(cell, "word"), word(cell, "detail").replace('|', "\\|"));
    let detail = detail
        .split_whitespace()
        .map(|part| if part.contains("secret-") { "read" } else { part })
        .collect::<Vec<_>>()
        .join(" ");
    let strong = if what == "host reached" { "**host reached**".to_owned() } else { what.to_owned() };
    if detail.is_empty() { strong } else { format!("{strong}: {detail}") }
}
