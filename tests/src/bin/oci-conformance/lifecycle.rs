//! What containers inherit and what not: runtime-linux.md.

use sentry_tests::oci::Stand;
use serde_json::json;

use crate::verdict::{Test, Verdict, must, should};

const FILES: &str = "runtime-linux.md, File descriptors";
const LINKS: &str = "runtime-linux.md, Dev symbolic links";

pub const TESTS: &[Test] = &[
    must("descriptors_are_three", FILES, "only stdin, stdout and stderr are open in the program", three),
    must("dev_links", LINKS, "/dev/fd, stdin, stdout and stderr lead to /proc/self/fd", links),
    should(
        "exit_code_is_the_programs",
        "runtime.md, Lifecycle",
        "whoever adopts the container learns its exit code",
        code,
    ),
    should(
        "nothing_holds_the_callers_output",
        "runtime.md, Create",
        "create ends, and its output is not held open by anyone but the container",
        held,
    ),
];

fn three(stand: &Stand) -> Verdict {
    let report = stand.bundle().report(&[])?;
    let open = report["descriptors"].as_object().cloned().unwrap_or_default();
    let numbers: Vec<&str> = open.keys().map(String::as_str).collect();
    same!(numbers, ["0", "1", "2"], format!("descriptors {open:?}"));
    Ok(())
}

fn links(stand: &Stand) -> Verdict {
    let all = [
        ("/dev/fd", "/proc/self/fd"),
        ("/dev/stdin", "/proc/self/fd/0"),
        ("/dev/stdout", "/proc/self/fd/1"),
        ("/dev/stderr", "/proc/self/fd/2"),
    ];
    let report = stand.bundle().report(&all.map(|(path, _)| path))?;
    for (path, to) in all {
        same!(report["paths"][path]["link"], json!(to), path);
    }
    Ok(())
}

fn code(stand: &Stand) -> Verdict {
    let mut bundle = stand.bundle();
    bundle.args(["exit", "255"]);
    same!(bundle.run()?.0, 255, "the exit code");
    Ok(())
}

/// An engine reads the runtime's output until its end; whoever keeps it open hangs the engine.
fn held(stand: &Stand) -> Verdict {
    let mut bundle = stand.bundle();
    bundle.args(["wait"]);
    let container = bundle.start()?;
    container.says("ready")?;
    let file = bundle.path.join("io.out");
    let mut holders = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Ok(pid) = name.parse::<i32>() else { continue };
        let Ok(open) = std::fs::read_dir(entry.path().join("fd")) else { continue };
        if pid != container.pid && open.flatten().any(|link| std::fs::read_link(link.path()).is_ok_and(|to| to == file))
        {
            holders.push(pid);
        }
    }
    ensure!(holders.is_empty(), "processes {holders:?} keep the output open");
    Ok(())
}
