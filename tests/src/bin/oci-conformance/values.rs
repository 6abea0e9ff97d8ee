//! config.md: versions, annotations, unknown properties, and values that are refused.

use sentry_tests::oci::{Bundle, Stand};
use serde_json::{Value, json};

use crate::verdict::{Test, Verdict, must};

const VERSION: &str = "config.md, Specification version";
const UNKNOWN: &str = "config.md, Extensibility";
const VALID: &str = "config.md, Valid values";
const NOTES: &str = "config.md, Annotations";

pub const TESTS: &[Test] = &[
    must("version_of_each_release", VERSION, "every 1.x release up to the runtime's own is accepted", releases),
    must("version_is_required", VERSION, "a configuration without ociVersion is refused", |stand| {
        without(stand, "/ociVersion")
    }),
    must("version_is_semantic", VERSION, "ociVersion must be in SemVer format", |stand| {
        refuses(stand, "/ociVersion", json!("one"))
    }),
    must("unknown_properties_are_ignored", UNKNOWN, "an unknown property is no error, at any depth", unknown),
    must("unknown_annotations_are_ignored", NOTES, "an unknown key is no error, an empty value neither", annotations),
    must("annotation_values_are_strings", NOTES, "a value that is no string is refused", |stand| {
        refuses(stand, "/annotations", json!({ "a": 1 }))
    }),
    must("root_is_required", "config.md, Root", "a configuration without root is refused", |stand| {
        without(stand, "/root")
    }),
    must(
        "process_is_required_by_start",
        "config.md, Process",
        "a configuration without process cannot be started",
        |stand| without(stand, "/process"),
    ),
    must("args_are_required", "config.md, Process", "no args are refused", |stand| {
        refuses(stand, "/process/args", json!([]))
    }),
    must("cwd_is_required", "config.md, Process", "no cwd is refused", |stand| without(stand, "/process/cwd")),
    must("cwd_is_absolute", "config.md, Process", "a relative cwd is refused", |stand| {
        refuses(stand, "/process/cwd", json!("tmp"))
    }),
    must("not_json", VALID, "a configuration that is no JSON is refused", garbage),
    must("wrong_type_of_args", VALID, "args that are no list are refused", |stand| {
        refuses(stand, "/process/args", json!("/probe"))
    }),
    must("wrong_type_of_readonly", VALID, "readonly that is no boolean is refused", |stand| {
        refuses(stand, "/root/readonly", json!("yes"))
    }),
    must("wrong_type_of_uid", VALID, "a uid that is no number is refused", |stand| {
        refuses(stand, "/process/user/uid", json!("root"))
    }),
    must("unknown_namespace", VALID, "a namespace of an unknown type is refused", unknown_namespace),
    must("unknown_mount_type", VALID, "a file system that the kernel does not have is refused", unknown_mount),
    must("unknown_propagation", VALID, "an unknown rootfsPropagation is refused", |stand| {
        refuses(stand, "/linux/rootfsPropagation", json!("sideways"))
    }),
];

/// Puts a value somewhere, or takes it away.
fn set(bundle: &mut Bundle, pointer: &str, value: Option<Value>) {
    let Some((parent, name)) = pointer.rsplit_once('/') else { return };
    let Some(parent) = bundle.config.pointer_mut(parent).and_then(Value::as_object_mut) else { return };
    match value {
        Some(value) => parent.insert(name.to_owned(), value),
        None => parent.remove(name),
    };
}

fn refuses(stand: &Stand, pointer: &str, value: Value) -> Verdict {
    let mut bundle = stand.bundle();
    bundle.args(["wait"]);
    set(&mut bundle, pointer, Some(value));
    bundle.is_refused_as_it_is()?;
    Ok(())
}

fn without(stand: &Stand, pointer: &str) -> Verdict {
    let mut bundle = stand.bundle();
    bundle.args(["wait"]);
    set(&mut bundle, pointer, None);
    bundle.is_refused_as_it_is()?;
    Ok(())
}

fn releases(stand: &Stand) -> Verdict {
    for version in ["1.0.0", "1.0.1", "1.0.2", "1.0.2-dev", "1.1.0", "1.2.0"] {
        let mut bundle = stand.bundle();
        bundle.config["ociVersion"] = json!(version);
        bundle.run().map_err(|error| format!("{version}: {error}"))?;
    }
    Ok(())
}

fn unknown(stand: &Stand) -> Verdict {
    let mut bundle = stand.bundle();
    for pointer in [
        "/unknownTop",
        "/process/unknownHere",
        "/linux/unknownThere",
        "/root/unknown",
        "/mounts/0/unknown",
        "/process/user/unknown",
    ] {
        set(&mut bundle, pointer, Some(json!({ "deep": [1, "two"] })));
    }
    bundle.args(["exit", "12"]);
    same!(bundle.run()?.0, 12, "exit");
    Ok(())
}

fn annotations(stand: &Stand) -> Verdict {
    let mut bundle = stand.bundle();
    bundle.config["annotations"] = json!({ "org.example.unknown": "x", "com.example.empty": "" });
    bundle.args(["exit", "12"]);
    same!(bundle.run()?.0, 12, "exit");
    Ok(())
}

fn garbage(stand: &Stand) -> Verdict {
    let bundle = stand.bundle();
    std::fs::write(bundle.path.join("config.json"), "{ \"ociVersion\": ").map_err(|error| error.to_string())?;
    let made = stand.call(["create".as_ref(), "--bundle".as_ref(), bundle.path.as_os_str(), bundle.id.as_ref()]);
    ensure!(!made.ok, "no error");
    Ok(())
}

fn unknown_namespace(stand: &Stand) -> Verdict {
    let mut bundle = stand.bundle();
    bundle.add_namespace("dreams");
    bundle.is_refused()?;
    Ok(())
}

fn unknown_mount(stand: &Stand) -> Verdict {
    let mut bundle = stand.bundle();
    bundle.mount("/x", "no-such-file-system", "none", &[]);
    bundle.is_refused()?;
    Ok(())
}
