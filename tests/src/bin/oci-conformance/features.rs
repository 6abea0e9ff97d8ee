//! features.md: what a runtime says it can do must be so.

use sentry_tests::oci::Stand;
use serde_json::{Value, json};

use crate::verdict::{Test, Unmet, Verdict, must};

const PLACE: &str = "features.md";

pub const TESTS: &[Test] = &[
    must(
        "features_versions",
        PLACE,
        "ociVersionMin and ociVersionMax are there, and configurations of both are accepted",
        versions,
    )
    .since("1.1"),
    must("features_hooks", PLACE, "the kinds of hooks that are listed are known ones", hooks).since("1.1"),
    must("features_mount_options", PLACE, "the mount options that are listed are recognised", options).since("1.1"),
];

fn document(stand: &Stand) -> Result<Value, Unmet> {
    let called = stand.call(["features"]);
    if !called.ok {
        return Err(Unmet::NotApplicable("the runtime has no features document, which it may do without".to_owned()));
    }
    Ok(serde_json::from_str(&called.out).map_err(|error| format!("no JSON: {error}"))?)
}

fn versions(stand: &Stand) -> Verdict {
    let document = document(stand)?;
    for name in ["ociVersionMin", "ociVersionMax"] {
        ensure!(document[name].is_string(), "{name} is {}", document[name]);
        let mut bundle = stand.bundle();
        bundle.config["ociVersion"] = document[name].clone();
        bundle.run().map_err(|why| format!("{}: {why}", document[name]))?;
    }
    Ok(())
}

fn hooks(stand: &Stand) -> Verdict {
    let known = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];
    for name in document(stand)?["hooks"].as_array().into_iter().flatten() {
        ensure!(name.as_str().is_some_and(|name| known.contains(&name)), "{name} is no kind of hook");
    }
    Ok(())
}

fn options(stand: &Stand) -> Verdict {
    let document = document(stand)?;
    let Some(all) = document["mountOptions"].as_array() else {
        return Err(Unmet::NotApplicable("the document lists no mount options".to_owned()));
    };
    // These change what is mounted, need mappings, or undo each other; they have tests of their own.
    let apart = [
        "remount",
        "idmap",
        "ridmap",
        "bind",
        "rbind",
        "mand",
        "acl",
        "noacl",
        "nomand",
        "tmpcopyup",
        "copy-symlink",
        "src-nofollow",
        "dest-nofollow",
    ];
    for option in all.iter().filter_map(Value::as_str).filter(|option| !apart.contains(option)) {
        let mut bundle = stand.bundle();
        let source = bundle.path.join("volume");
        std::fs::create_dir_all(&source).map_err(|error| error.to_string())?;
        // An unknown option would reach the file system as its data, and tmpfs refuses what it does not know.
        let tree = option.starts_with('r') && !["ro", "rw", "relatime"].contains(&option);
        if tree {
            bundle.mount("/opt", "bind", &source.to_string_lossy(), &["rbind", option]);
        } else {
            bundle.mount("/opt", "tmpfs", "tmpfs", &[option]);
        }
        bundle.config["process"]["args"] = json!(["/probe", "exit", "0"]);
        bundle.run().map_err(|why| format!("{option}: {why}"))?;
    }
    Ok(())
}
