//! runtime.md, State: what a runtime says about a container.

use sentry_tests::oci::Stand;
use serde_json::json;

use crate::verdict::{Test, Verdict, must};

const PLACE: &str = "runtime.md, State";

pub const TESTS: &[Test] = &[
    must("state_has_the_required_properties", PLACE, "ociVersion, id, status, pid and bundle are there", required),
    must("state_version", PLACE, "ociVersion is a version", version),
    must("state_pid_is_the_hosts", PLACE, "pid is the container process as seen by the host", pid),
    must("state_bundle_is_absolute", PLACE, "bundle is the absolute path, also if another was given", bundle),
    must("state_annotations", PLACE, "annotations are those of the configuration", annotations),
    must("state_created", PLACE, "created: neither exited nor run the user's program", created),
    must("state_running", PLACE, "running: the program has been run and has not exited", running),
    must("state_stopped_by_exit", PLACE, "stopped: the process has exited", stopped),
    must("state_stopped_by_a_signal", PLACE, "stopped: the process was killed", killed),
];

fn required(stand: &Stand) -> Verdict {
    let bundle = stand.bundle();
    let container = bundle.create()?;
    let state = container.state()?;
    for name in ["ociVersion", "id", "status", "bundle"] {
        ensure!(state[name].is_string(), "{name} is {}", state[name]);
    }
    same!(state["id"], json!(bundle.id), "id");
    same!(state["pid"], json!(container.pid), "pid");
    Ok(())
}

fn version(stand: &Stand) -> Verdict {
    let bundle = stand.bundle();
    let state = bundle.create()?.state()?;
    let version = state["ociVersion"].as_str().unwrap_or_default().to_owned();
    let core = version.split(['-', '+']).next().unwrap_or_default();
    let numbers = core.split('.').filter(|part| part.parse::<u32>().is_ok()).count();
    ensure!(numbers == 3 && core.split('.').count() == 3, "{version:?} is not a semantic version");
    Ok(())
}

fn pid(stand: &Stand) -> Verdict {
    let mut bundle = stand.bundle();
    bundle.args(["wait"]);
    let container = bundle.start()?;
    container.says("ready")?;
    let pid = &container.state()?["pid"];
    let program = std::fs::read(format!("/proc/{pid}/cmdline")).map_err(|error| format!("pid {pid}: {error}"))?;
    ensure!(program.starts_with(b"/probe\0wait"), "pid {pid} is {:?}", String::from_utf8_lossy(&program));
    Ok(())
}

fn bundle(stand: &Stand) -> Verdict {
    let bundle = stand.bundle();
    bundle.write();
    // The runtime is called in the directory above.
    let made = stand.call([
        "create",
        "--bundle",
        &bundle.id,
        "--pid-file",
        &format!("{}/pid", bundle.path.display()),
        &bundle.id,
    ]);
    ensure!(made.ok, "create with a relative bundle failed: {}", made.err);
    let state = stand.call(["state", &bundle.id]);
    let said: serde_json::Value = serde_json::from_str(&state.out).unwrap_or_default();
    let _ = stand.call(["delete", "--force", &bundle.id]);
    same!(said["bundle"], json!(bundle.path), "bundle");
    Ok(())
}

fn annotations(stand: &Stand) -> Verdict {
    let mut bundle = stand.bundle();
    bundle.config["annotations"] = json!({ "org.example.one": "1", "org.example.nothing": "" });
    let state = bundle.create()?.state()?;
    for (name, value) in [("org.example.one", "1"), ("org.example.nothing", "")] {
        same!(state["annotations"][name], json!(value), name);
    }
    Ok(())
}

fn created(stand: &Stand) -> Verdict {
    let bundle = stand.bundle();
    same!(bundle.create()?.status()?, "created", "status");
    Ok(())
}

fn running(stand: &Stand) -> Verdict {
    let mut bundle = stand.bundle();
    bundle.args(["wait"]);
    let container = bundle.start()?;
    container.says("ready")?;
    same!(container.status()?, "running", "status");
    Ok(())
}

fn stopped(stand: &Stand) -> Verdict {
    let bundle = stand.bundle();
    let container = bundle.start()?;
    container.wait()?;
    same!(container.status()?, "stopped", "status");
    Ok(())
}

fn killed(stand: &Stand) -> Verdict {
    let mut bundle = stand.bundle();
    bundle.args(["wait"]);
    let container = bundle.start()?;
    container.says("ready")?;
    container.kill("KILL")?;
    same!(container.wait()?, 137, "exit");
    same!(container.status()?, "stopped", "status");
    Ok(())
}
