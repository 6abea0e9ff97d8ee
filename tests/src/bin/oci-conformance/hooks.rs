//! config.md, POSIX-platform Hooks, and the lifecycle's steps that call them.

use std::fs;

use sentry_tests::oci::{Bundle, Stand};
use serde_json::{Value, json};

use crate::verdict::{Test, Unmet, Verdict, must};

const PLACE: &str = "config.md, POSIX-platform Hooks";
const STEPS: &str = "runtime.md, Lifecycle";

pub const TESTS: &[Test] = &[
    must("hook_prestart", PLACE, "prestart is called between create and the program", |stand| {
        called(stand, "prestart")
    }),
    must("hook_createruntime", PLACE, "createRuntime is called as part of create", |stand| {
        called(stand, "createRuntime")
    }),
    must("hook_createcontainer", PLACE, "createContainer is called as part of create", |stand| {
        called(stand, "createContainer")
    }),
    must("hook_startcontainer", PLACE, "startContainer is called as part of start", |stand| {
        called(stand, "startContainer")
    }),
    must("hook_poststart", PLACE, "poststart is called after the program was started", |stand| {
        called(stand, "poststart")
    }),
    must("hook_poststop", PLACE, "poststop is called after the container was deleted", |stand| {
        called(stand, "poststop")
    }),
    must("hooks_of_one_kind_in_order", PLACE, "hooks are called in the listed order", listed),
    must("hooks_of_all_kinds_in_order", STEPS, "kinds are called in the order of the lifecycle", all_kinds),
    must("hook_gets_the_state", PLACE, "the state comes over stdin, with the status of that moment", state),
    must("hook_args_and_env", PLACE, "args and env are the configuration's, as execv has them", words),
    must("hook_createruntime_is_outside", PLACE, "createRuntime runs in the runtime's namespaces", outside),
    must(
        "hook_createcontainer_is_inside",
        PLACE,
        "createContainer runs in the container's namespaces, found in the runtime's",
        inside,
    ),
    must("hook_startcontainer_is_inside", PLACE, "startContainer runs in the container, and is found there", within),
    must("hook_poststart_is_outside", PLACE, "poststart runs in the runtime's namespaces", poststart_outside),
    must("hook_prestart_fails", STEPS, "a failing prestart is an error and ends the container", |stand| {
        failing(stand, "prestart")
    }),
    must("hook_createruntime_fails", STEPS, "a failing createRuntime is an error and ends the container", |stand| {
        failing(stand, "createRuntime")
    }),
    must(
        "hook_createcontainer_fails",
        STEPS,
        "a failing createContainer is an error and ends the container",
        |stand| failing(stand, "createContainer"),
    ),
    must(
        "hook_startcontainer_fails",
        STEPS,
        "a failing startContainer is an error, and the program is not run",
        |stand| failing(stand, "startContainer"),
    ),
    must(
        "hook_poststop_fails",
        STEPS,
        "a failing poststop is told, and the lifecycle goes on with the next",
        poststop_fails,
    ),
    must("hook_timeout", PLACE, "a hook that takes longer than its timeout is ended as failed", timeout),
    must("hook_path_is_absolute", PLACE, "a relative path is an error", relative),
    must("hook_does_not_exist", STEPS, "a hook that cannot be run has failed", missing),
];

/// A hook that keeps what it gets in the file `kept`, on the host or inside.
fn hook(bundle: &Bundle, kind: &str, word: &str, more: &[&str]) -> Value {
    let (probe, file) = match kind {
        "startContainer" => ("/probe".into(), "/kept".into()),
        _ => (bundle.stand.probe.to_string_lossy().into_owned(), bundle.rootfs("kept").to_string_lossy().into_owned()),
    };
    let mut args = vec![json!("hook"), json!("hook"), json!(file), json!(word)];
    args.extend(more.iter().map(|word| json!(word)));
    json!({ "path": probe, "args": args, "env": ["KIND=of-hook"] })
}

fn kept(bundle: &Bundle) -> Vec<Value> {
    let text = fs::read_to_string(bundle.rootfs("kept")).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn words_kept(bundle: &Bundle) -> Vec<String> {
    kept(bundle).iter().map(|line| line["word"].as_str().unwrap_or_default().to_owned()).collect()
}

fn one(bundle: &mut Bundle, kind: &str, more: &[&str]) {
    let entry = hook(bundle, kind, kind, more);
    bundle.config["hooks"] = json!({ kind: [entry] });
}

fn called(stand: &Stand, kind: &str) -> Verdict {
    let mut bundle = stand.bundle();
    one(&mut bundle, kind, &[]);
    bundle.args(["wait"]);
    let container = bundle.create()?;
    let after_create = words_kept(&bundle).len();
    container.start()?;
    container.says("ready")?;
    let after_start = words_kept(&bundle).len();
    container.kill("KILL")?;
    container.wait()?;
    container.delete()?;
    let steps = [after_create, after_start, words_kept(&bundle).len()];
    match kind {
        // Runtimes may call the old kind at either of two moments, always before the program.
        "prestart" => ensure!(steps[1] == 1 && steps[2] == 1, "called {steps:?} times after create, start, delete"),
        "createRuntime" | "createContainer" => same!(steps, [1, 1, 1], "calls after create, start, delete"),
        "startContainer" | "poststart" => same!(steps, [0, 1, 1], "calls after create, start, delete"),
        _ => same!(steps, [0, 0, 1], "calls after create, start, delete"),
    }
    Ok(())
}

fn listed(stand: &Stand) -> Verdict {
    for kind in ["createRuntime", "createContainer", "startContainer", "poststart", "poststop"] {
        let mut bundle = stand.bundle();
        let entries = ["first", "second", "third"].map(|word| hook(&bundle, kind, word, &[]));
        bundle.config["hooks"] = json!({ kind: entries });
        bundle.run()?;
        same!(words_kept(&bundle), ["first", "second", "third"], kind);
    }
    Ok(())
}

fn all_kinds(stand: &Stand) -> Verdict {
    let kinds = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];
    let mut bundle = stand.bundle();
    bundle.config["hooks"] =
        kinds.iter().map(|kind| ((*kind).to_owned(), json!([hook(&bundle, kind, kind, &[])]))).collect();
    bundle.args(["sleep", "0.2"]);
    bundle.run()?;
    same!(words_kept(&bundle), kinds, "order");
    Ok(())
}

fn state(stand: &Stand) -> Verdict {
    let mut bundle = stand.bundle();
    let kinds: [(&str, &[&str]); 5] = [
        ("createRuntime", &["creating", "created"]),
        ("createContainer", &["creating", "created"]),
        ("startContainer", &["created", "running"]),
        ("poststart", &["running"]),
        ("poststop", &["stopped"]),
    ];
    bundle.config["hooks"] =
        kinds.iter().map(|(kind, _)| ((*kind).to_owned(), json!([hook(&bundle, kind, kind, &[])]))).collect();
    bundle.config["annotations"] = json!({ "org.example": "told" });
    bundle.args(["wait"]);
    let container = bundle.start()?;
    container.says("ready")?;
    container.kill("KILL")?;
    container.wait()?;
    container.delete()?;
    for ((kind, allowed), line) in kinds.iter().zip(kept(&bundle)) {
        let state = &line["state"];
        ensure!(state.is_object(), "{kind} got {}", line["said"]);
        same!(state["id"], json!(bundle.id), format!("{kind}: id"));
        same!(state["bundle"], json!(bundle.path), format!("{kind}: bundle"));
        same!(state["annotations"]["org.example"], json!("told"), format!("{kind}: annotation"));
        let status = state["status"].as_str().unwrap_or_default();
        ensure!(allowed.contains(&status), "{kind}: status {status:?}, not one of {allowed:?}");
        if *kind == "createRuntime" || *kind == "poststart" {
            same!(state["pid"], json!(container.pid), format!("{kind}: pid"));
        }
    }
    Ok(())
}

fn words(stand: &Stand) -> Verdict {
    let mut bundle = stand.bundle();
    one(&mut bundle, "createRuntime", &["spaced word"]);
    bundle.run()?;
    let line = kept(&bundle).pop().ok_or_else(|| Unmet::Failed("it was not called".to_owned()))?;
    same!(line["args"][0], json!("hook"), "args[0]");
    same!(line["args"][4], json!("spaced word"), "args[4]");
    same!(line["env"], json!(["KIND=of-hook"]), "env");
    Ok(())
}

fn namespaces(stand: &Stand, kind: &str) -> Result<(Value, Value), Unmet> {
    let mut bundle = stand.bundle();
    one(&mut bundle, kind, &[]);
    let seen = bundle.report(&[])?["namespaces"].clone();
    let line = kept(&bundle).pop().ok_or_else(|| Unmet::Failed("it was not called".to_owned()))?;
    Ok((line, seen))
}

fn outside_of(stand: &Stand, kind: &str) -> Verdict {
    let (line, seen) = namespaces(stand, kind)?;
    for name in ["mount", "network", "uts", "ipc"] {
        ensure!(line["namespaces"][name] != seen[name], "{name}: that of the container");
    }
    Ok(())
}

fn outside(stand: &Stand) -> Verdict {
    outside_of(stand, "createRuntime")
}

fn poststart_outside(stand: &Stand) -> Verdict {
    outside_of(stand, "poststart")
}

fn inside(stand: &Stand) -> Verdict {
    let (line, seen) = namespaces(stand, "createContainer")?;
    for name in ["mount", "network", "uts", "ipc"] {
        same!(line["namespaces"][name], seen[name], name);
    }
    Ok(())
}

fn within(stand: &Stand) -> Verdict {
    let (line, seen) = namespaces(stand, "startContainer")?;
    same!(line["probe_at_root"], json!(true), "the container's root");
    for name in ["mount", "network", "uts", "ipc", "pid"] {
        same!(line["namespaces"][name], seen[name], name);
    }
    Ok(())
}

fn failing(stand: &Stand, kind: &str) -> Verdict {
    let mut bundle = stand.bundle();
    one(&mut bundle, kind, &["exit=9"]);
    bundle.args(["wait"]);
    let refused = bundle.is_refused_as_it_is();
    same!(words_kept(&bundle), [kind], "the hook was called");
    let said = fs::read_to_string(bundle.path.join("io.out")).unwrap_or_default();
    ensure!(!said.contains("ready"), "the program was run");
    ensure!(refused.is_ok(), "the program is not run, but neither create nor start is an error");
    Ok(())
}

fn poststop_fails(stand: &Stand) -> Verdict {
    let mut bundle = stand.bundle();
    let entries = [hook(&bundle, "poststop", "fails", &["exit=9"]), hook(&bundle, "poststop", "next", &[])];
    bundle.config["hooks"] = json!({ "poststop": entries });
    let container = bundle.start()?;
    container.wait()?;
    container.delete()?;
    same!(words_kept(&bundle), ["fails", "next"], "calls");
    Ok(())
}

fn timeout(stand: &Stand) -> Verdict {
    let mut bundle = stand.bundle();
    one(&mut bundle, "createRuntime", &["sleep=15"]);
    bundle.config["hooks"]["createRuntime"][0]["timeout"] = json!(1);
    let began = std::time::Instant::now();
    bundle.is_refused()?;
    ensure!(began.elapsed().as_secs() < 10, "it was waited for");
    Ok(())
}

fn relative(stand: &Stand) -> Verdict {
    let mut bundle = stand.bundle();
    one(&mut bundle, "createRuntime", &[]);
    // It is there, below the directory in which the runtime is called.
    bundle.config["hooks"]["createRuntime"][0]["path"] = json!("./oci-probe");
    bundle.is_refused()?;
    Ok(())
}

fn missing(stand: &Stand) -> Verdict {
    let mut bundle = stand.bundle();
    one(&mut bundle, "createRuntime", &[]);
    bundle.config["hooks"]["createRuntime"][0]["path"] = json!("/no/such/hook");
    bundle.is_refused()?;
    Ok(())
}
