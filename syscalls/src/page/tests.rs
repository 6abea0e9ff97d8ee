use std::{env, fs};

use super::*;
use crate::table::find;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/syscalls.md");

#[test]
fn the_page_in_docs_is_the_generated_one() {
    let page = markdown();
    if env::var_os("UPDATE_DOCS").is_some() {
        fs::write(PAGE, &page).expect("docs can be written");
    }
    let written = fs::read_to_string(PAGE).unwrap_or_default();
    let differs = page.lines().zip(written.lines()).find(|(new, old)| new != old);
    assert!(page == written, "UPDATE_DOCS=1 cargo test -p syscalls page brings it up to date; first: {differs:?}");
}

#[test]
fn every_call_is_on_the_page_once() {
    let page = markdown();
    for call in all() {
        assert_eq!(page.matches(&format!("\n| `{}` |", call.name)).count(), 1, "{}", call.name);
    }
}

#[test]
fn tables_have_as_many_cells_as_their_heads() {
    let page = markdown();
    let cells = |line: &str| line.replace("\\|", "").matches('|').count();
    let mut expected = 0;
    for line in page.lines() {
        if line.starts_with("|") {
            assert!(expected == 0 || cells(line) == expected, "{line}");
            expected = cells(line);
        } else {
            expected = 0;
        }
    }
}

#[test]
fn a_call_is_described_with_all_that_decides_it() {
    let text = describe(find("clone").expect("there is a row"));
    assert!(text.starts_with("clone(flags: Flags, "), "{text}");
    assert!(text.contains("56 on x86_64, 220 on aarch64"), "{text}");
    assert!(text.contains("flags & 0x7e020000 != 0: ask the sentry"), "{text}");
    assert!(text.contains("otherwise: allow"), "{text}");

    let text = describe(find("mount").expect("there is a row"));
    assert!(text.contains("route     emulate"), "{text}");
    assert!(text.contains("limit     "), "{text}");
    let text = describe(find("fork").expect("there is a row"));
    assert!(text.contains("57 on x86_64, - on aarch64"), "{text}");
    let text = describe(find("sched_setaffinity").expect("there is a row"));
    assert!(text.contains("errno EPERM with `--cpus` by pinning"), "{text}");
}
