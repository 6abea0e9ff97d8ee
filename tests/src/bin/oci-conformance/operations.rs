//! runtime.md, Operations: what is an error, and that an error changes nothing.

use std::fs;

use sentry_tests::oci::{Called, Stand};
use serde_json::json;

use crate::verdict::{Test, Unmet, Verdict, must};

const STATE: &str = "runtime.md, Query State";
const CREATE: &str = "runtime.md, Create";
const START: &str = "runtime.md, Start";
const KILL: &str = "runtime.md, Kill";
const DELETE: &str = "runtime.md, Delete";

pub const TESTS: &[Test] = &[
    must("state_without_an_id", STATE, "an error without an id", |stand| errors(stand, &["state"])),
    must("state_of_nothing", STATE, "an error for a container that does not exist", |stand| {
        errors(stand, &["state", "none"])
    }),
    must("create_without_an_id", CREATE, "an error without an id", create_without),
    must("create_without_a_bundle", CREATE, "an error where the bundle does not exist", create_nowhere),
    must(
        "create_without_a_configuration",
        CREATE,
        "an error where the bundle has no configuration",
        create_unconfigured,
    ),
    must("create_twice", CREATE, "an id that is taken is an error, and its owner is not touched", twice),
    must("create_with_an_invalid_id", CREATE, "an invalid id is an error and makes no container", invalid_id),
    must("create_does_not_run_the_program", CREATE, "the program must not be run yet", not_yet),
    must("create_ignores_later_changes", CREATE, "changes of config.json after create have no effect", later),
    must("create_makes_the_environment", CREATE, "namespaces and mounts are there after create", environment),
    must("create_fails_without_a_trace", "runtime.md, Errors", "a failed create leaves everything as it was", no_trace),
    must("start_without_an_id", START, "an error without an id", |stand| errors(stand, &["start"])),
    must("start_of_nothing", START, "an error for a container that does not exist", |stand| {
        errors(stand, &["start", "none"])
    }),
    must("start_runs_the_program", START, "the program is run", runs),
    must("start_twice", START, "an error for a running container, without effect", start_twice),
    must("start_of_a_stopped_container", START, "an error for a container that is not created", start_stopped),
    must("kill_without_an_id", KILL, "an error without an id", |stand| errors(stand, &["kill"])),
    must("kill_of_nothing", KILL, "an error for a container that does not exist", |stand| {
        errors(stand, &["kill", "none", "TERM"])
    }),
    must("kill_of_a_stopped_container", KILL, "an error for what is neither created nor running", kill_stopped),
    must("kill_of_a_created_container", KILL, "a created container can be killed", kill_created),
    must("kill_sends_the_signal", KILL, "the signal that was named arrives", signals),
    must("delete_without_an_id", DELETE, "an error without an id", |stand| errors(stand, &["delete"])),
    must("delete_of_nothing", DELETE, "an error for a container that does not exist", |stand| {
        errors(stand, &["delete", "none"])
    }),
    must("delete_of_a_running_container", DELETE, "an error for what is not stopped, without effect", delete_running),
    must("delete_of_a_created_container", DELETE, "an error for what is not stopped, without effect", delete_created),
    must("delete_removes_what_create_made", DELETE, "what create made is gone", removes),
    must("delete_spares_what_it_did_not_make", DELETE, "what create did not make stays", spares),
    must("delete_frees_the_id", DELETE, "the id can be used again", again),
];

/// Succeeds if the runtime fails, and says why.
fn fails(called: &Called) -> Verdict {
    ensure!(!called.ok, "no error");
    ensure!(!called.err.is_empty(), "an error without a word");
    ensure!(!called.err.starts_with("did not end"), "{}", called.err);
    Ok(())
}

fn errors(stand: &Stand, words: &[&str]) -> Verdict {
    fails(&stand.call(words))
}

fn create_without(stand: &Stand) -> Verdict {
    let bundle = stand.bundle();
    bundle.write();
    fails(&stand.call(["create".as_ref(), "--bundle".as_ref(), bundle.path.as_os_str()]))
}

fn create_nowhere(stand: &Stand) -> Verdict {
    let bundle = stand.bundle();
    fs::remove_dir_all(&bundle.path).map_err(|error| error.to_string())?;
    let made = stand.call(["create".as_ref(), "--bundle".as_ref(), bundle.path.as_os_str(), bundle.id.as_ref()]);
    fails(&made)
}

fn create_unconfigured(stand: &Stand) -> Verdict {
    let bundle = stand.bundle();
    fails(&stand.call(["create".as_ref(), "--bundle".as_ref(), bundle.path.as_os_str(), bundle.id.as_ref()]))
}

fn twice(stand: &Stand) -> Verdict {
    let mut bundle = stand.bundle();
    bundle.args(["wait"]);
    let container = bundle.start()?;
    container.says("ready")?;
    let again = stand.call(["create".as_ref(), "--bundle".as_ref(), bundle.path.as_os_str(), bundle.id.as_ref()]);
    fails(&again)?;
    same!(container.status()?, "running", "the first one");
    same!(container.state()?["pid"], json!(container.pid), "its pid");
    Ok(())
}

fn invalid_id(stand: &Stand) -> Verdict {
    let bundle = stand.bundle();
    bundle.write();
    for id in ["../outside", "with/slash", ".", "..", ""] {
        let made = stand.call(["create".as_ref(), "--bundle".as_ref(), bundle.path.as_os_str(), id.as_ref()]);
        ensure!(!made.ok, "{id:?} is accepted");
    }
    ensure!(!stand.directory.join("outside").exists(), "something was made outside of the state's directory");
    Ok(())
}

fn not_yet(stand: &Stand) -> Verdict {
    let mut bundle = stand.bundle();
    bundle.args(["wait"]);
    let container = bundle.create()?;
    std::thread::sleep(std::time::Duration::from_millis(30));
    same!(container.output(), "", "what the program said before start");
    container.start()?;
    Ok(container.says("ready")?)
}

fn later(stand: &Stand) -> Verdict {
    let mut bundle = stand.bundle();
    bundle.args(["exit", "7"]);
    let container = bundle.create()?;
    let text = fs::read_to_string(bundle.path.join("config.json")).unwrap_or_default().replace("\"7\"", "\"8\"");
    fs::write(bundle.path.join("config.json"), text).map_err(|error| error.to_string())?;
    container.start()?;
    same!(container.wait()?, 7, "the exit code");
    Ok(())
}

fn environment(stand: &Stand) -> Verdict {
    let bundle = stand.bundle();
    let container = bundle.create()?;
    for name in ["pid", "net", "ipc", "uts", "mnt"] {
        let link = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/{name}"));
        let Ok(theirs) = link(&container.pid.to_string()) else {
            return crate::verdict::not_applicable("the created process may not be looked at, which protects it");
        };
        ensure!(link("self").is_ok_and(|ours| ours != theirs), "the {name} namespace is the caller's");
    }
    let table = fs::read_to_string(format!("/proc/{}/mountinfo", container.pid)).unwrap_or_default();
    ensure!(sentry_tests::oci::mount_at(&table, "/dev/shm").is_some(), "/dev/shm is not mounted: {table}");
    Ok(())
}

fn no_trace(stand: &Stand) -> Verdict {
    let mut bundle = stand.bundle();
    let table = || fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let before = table();
    bundle.mount("/x", "no-such-file-system", "none", &[]);
    bundle.is_refused()?;
    same!(table(), before, "mounts of the host");
    bundle.config["mounts"].as_array_mut().map(Vec::pop);
    bundle.args(["exit", "3"]);
    same!(bundle.run()?.0, 3, "the same id after the error");
    Ok(())
}

fn runs(stand: &Stand) -> Verdict {
    let mut bundle = stand.bundle();
    bundle.args(["exit", "42"]);
    same!(bundle.run()?.0, 42, "the exit code");
    Ok(())
}

fn start_twice(stand: &Stand) -> Verdict {
    let mut bundle = stand.bundle();
    bundle.args(["wait"]);
    let container = bundle.start()?;
    container.says("ready")?;
    fails(&container.call("start", &[]))?;
    same!(container.status()?, "running", "status");
    same!(container.output(), "ready\n", "what the program said");
    Ok(())
}

fn start_stopped(stand: &Stand) -> Verdict {
    let bundle = stand.bundle();
    let container = bundle.start()?;
    container.wait()?;
    fails(&container.call("start", &[]))?;
    same!(container.status()?, "stopped", "status");
    Ok(())
}

fn kill_stopped(stand: &Stand) -> Verdict {
    let bundle = stand.bundle();
    let container = bundle.start()?;
    container.wait()?;
    fails(&container.call("kill", &["TERM"]))
}

fn kill_created(stand: &Stand) -> Verdict {
    let bundle = stand.bundle();
    let container = bundle.create()?;
    container.kill("KILL")?;
    container.wait()?;
    same!(container.status()?, "stopped", "status");
    Ok(container.delete()?)
}

fn signals(stand: &Stand) -> Verdict {
    for (name, number) in [("TERM", 15), ("SIGUSR1", 10), ("1", 1)] {
        let mut bundle = stand.bundle();
        bundle.args(["wait"]);
        let container = bundle.start()?;
        container.says("ready")?;
        container.kill(name)?;
        same!(container.wait()?, number, format!("{name} arrived as"));
    }
    Ok(())
}

fn delete_running(stand: &Stand) -> Verdict {
    let mut bundle = stand.bundle();
    bundle.args(["wait"]);
    let container = bundle.start()?;
    container.says("ready")?;
    fails(&container.call("delete", &[]))?;
    same!(container.status()?, "running", "status");
    Ok(())
}

fn delete_created(stand: &Stand) -> Verdict {
    let bundle = stand.bundle();
    let container = bundle.create()?;
    let deleted = container.call("delete", &[]);
    ensure!(!deleted.ok, "a created container is deleted without an error");
    same!(container.status()?, "created", "status");
    Ok(())
}

fn removes(stand: &Stand) -> Verdict {
    let mut bundle = stand.bundle();
    bundle.args(["wait"]);
    let container = bundle.start()?;
    container.says("ready")?;
    let groups = fs::read_to_string(format!("/proc/{}/cgroup", container.pid)).unwrap_or_default();
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    container.kill("KILL")?;
    container.wait()?;
    container.delete()?;
    ensure!(!stand.directory.join("state").join(&bundle.id).exists(), "the state's directory is still there");
    ensure!(!stand.call(["state", &bundle.id]).ok, "state still answers");
    for line in groups.lines().filter(|line| !own.lines().any(|known| known == *line)) {
        let directory = crate::cgroups::directory(line).ok_or_else(|| Unmet::Failed(format!("what is {line}?")))?;
        ensure!(!directory.exists(), "{} is still there", directory.display());
    }
    Ok(())
}

fn spares(stand: &Stand) -> Verdict {
    let mut bundle = stand.bundle();
    let volume = bundle.path.join("volume");
    fs::create_dir_all(&volume)
        .and_then(|()| fs::write(volume.join("kept"), "kept"))
        .map_err(|error| error.to_string())?;
    bundle.mount("/volume", "bind", &volume.to_string_lossy(), &["rbind", "rw"]);
    let report = bundle.report(&["/volume/kept"])?;
    same!(report["paths"]["/volume/kept"]["content"], json!("kept"), "inside");
    same!(fs::read_to_string(volume.join("kept")).unwrap_or_default(), "kept", "the volume after delete");
    ensure!(bundle.rootfs("probe").exists(), "the root file system is gone");
    ensure!(bundle.path.join("config.json").exists(), "the configuration is gone");
    Ok(())
}

fn again(stand: &Stand) -> Verdict {
    let mut bundle = stand.bundle();
    for code in ["5", "6"] {
        bundle.args(["exit", code]);
        same!(bundle.run()?.0.to_string(), code, "the exit code");
    }
    Ok(())
}
