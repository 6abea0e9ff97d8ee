//! config-linux.md, Namespaces: new ones, others by path, and the caller's own.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use nix::sched::CloneFlags;
use sentry_tests::oci::{Bundle, Stand};
use serde_json::json;

use crate::verdict::{Level, Test, Unmet, Verdict, must, not_applicable};

const PLACE: &str = "config-linux.md, Namespaces";

macro_rules! namespace {
    ($new:literal $by_path:literal $inherited:literal $kind:literal $since:literal) => {
        [
            Test {
                id: $new,
                place: PLACE,
                level: Level::Must,
                asks: concat!("a new ", $kind, " namespace"),
                since: $since,
                run: |stand| new(stand, $kind),
            },
            Test {
                id: $by_path,
                place: PLACE,
                level: Level::Must,
                asks: concat!("the ", $kind, " namespace of a path"),
                since: $since,
                run: |stand| by_path(stand, $kind),
            },
            Test {
                id: $inherited,
                place: PLACE,
                level: Level::Must,
                asks: concat!("without an entry the runtime's ", $kind, " namespace"),
                since: $since,
                run: |stand| inherited(stand, $kind),
            },
        ]
    };
}

const KINDS: [[Test; 3]; 8] = [
    namespace!("namespace_pid" "namespace_pid_by_path" "namespace_pid_inherited" "pid" "1.0"),
    namespace!("namespace_network" "namespace_network_by_path" "namespace_network_inherited" "network" "1.0"),
    namespace!("namespace_mount" "namespace_mount_by_path" "namespace_mount_inherited" "mount" "1.0"),
    namespace!("namespace_ipc" "namespace_ipc_by_path" "namespace_ipc_inherited" "ipc" "1.0"),
    namespace!("namespace_uts" "namespace_uts_by_path" "namespace_uts_inherited" "uts" "1.0"),
    namespace!("namespace_user" "namespace_user_by_path" "namespace_user_inherited" "user" "1.0"),
    namespace!("namespace_cgroup" "namespace_cgroup_by_path" "namespace_cgroup_inherited" "cgroup" "1.0"),
    namespace!("namespace_time" "namespace_time_by_path" "namespace_time_inherited" "time" "1.1"),
];

const RULES: [Test; 4] = [
    must("namespace_twice", PLACE, "two entries of one type are refused", twice),
    must("namespace_of_another_type", PLACE, "a path that is a namespace of another type is refused", other_type),
    must("namespace_path_that_is_none", PLACE, "a path that is no namespace is refused", not_one),
    must("namespace_path_is_absolute", PLACE, "a relative path is refused", relative),
];

/// All of the above in one list.
pub const TESTS: &[Test] = &{
    let [[a, b, c], [d, e, f], [g, h, i], [j, k, l], [m, n, o], [p, q, r], [s, t, u], [v, w, x]] = KINDS;
    let [y1, y2, y3, y4] = RULES;
    [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w, x, y1, y2, y3, y4]
};

fn file(kind: &str) -> &str {
    match kind {
        "network" => "net",
        "mount" => "mnt",
        other => other,
    }
}

fn own(kind: &str) -> Result<String, Unmet> {
    let link = fs::read_link(format!("/proc/self/ns/{}", file(kind)));
    link.map(|link| link.to_string_lossy().into_owned())
        .map_err(|_| Unmet::NotApplicable(format!("this kernel has no {kind} namespaces")))
}

fn map_all(bundle: &mut Bundle) {
    let map = json!([{ "containerID": 0, "hostID": 0, "size": 65_536 }]);
    bundle.config["linux"]["uidMappings"] = map.clone();
    bundle.config["linux"]["gidMappings"] = map;
}

fn new(stand: &Stand, kind: &str) -> Verdict {
    let own = own(kind)?;
    let mut bundle = stand.bundle();
    bundle.drop_namespace(kind);
    bundle.add_namespace(kind);
    if kind == "user" && stand.root {
        map_all(&mut bundle);
    }
    let seen = bundle.report(&[])?["namespaces"][kind].clone();
    ensure!(seen != json!(own), "the {kind} namespace is the runtime's");
    Ok(())
}

fn inherited(stand: &Stand, kind: &str) -> Verdict {
    let own = own(kind)?;
    if kind == "mount" {
        return not_applicable("without a mount namespace of its own a container would mount on the host");
    }
    if !stand.root && ["network", "pid", "user"].contains(&kind) {
        return not_applicable(
            "an ordinary user may mount neither proc of the host's processes nor sysfs of its network",
        );
    }
    let mut bundle = stand.bundle();
    bundle.drop_namespace(kind);
    if kind == "uts" {
        bundle.config.as_object_mut().map(|config| config.remove("hostname"));
    }
    if kind == "ipc" && !stand.root {
        bundle.list("/mounts").retain(|mount| mount["type"] != "mqueue");
    }
    same!(bundle.report(&[])?["namespaces"][kind], json!(own), "the namespace");
    Ok(())
}

/// A process that keeps namespaces of its own alive.
struct Holder {
    child: Child,
    pid: u32,
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn hold(stand: &Stand, kind: &str) -> Result<Holder, Unmet> {
    let flag = match kind {
        "network" => CloneFlags::CLONE_NEWNET,
        "mount" => CloneFlags::CLONE_NEWNS,
        "ipc" => CloneFlags::CLONE_NEWIPC,
        "uts" => CloneFlags::CLONE_NEWUTS,
        "user" => CloneFlags::CLONE_NEWUSER,
        "cgroup" => CloneFlags::CLONE_NEWCGROUP,
        // CLONE_NEWTIME, which the caller's children enter.
        "time" => CloneFlags::from_bits_retain(0x80),
        _ => CloneFlags::empty(),
    };
    let mut command = Command::new(&stand.probe);
    command.arg(if kind == "pid" { "hold-pids" } else { "wait" }).stdin(Stdio::null()).stdout(Stdio::piped());
    // SAFETY: unshare(2) allocates nothing and takes no lock.
    unsafe { command.pre_exec(move || Ok(nix::sched::unshare(flag)?)) };
    let mut child =
        command.spawn().map_err(|error| Unmet::NotApplicable(format!("no {kind} namespace can be made: {error}")))?;
    let mut line = String::new();
    if let Some(out) = child.stdout.take() {
        let _ = BufReader::new(out).read_line(&mut line);
    }
    let pid = line.trim().parse().unwrap_or(child.id());
    Ok(Holder { child, pid })
}

fn by_path(stand: &Stand, kind: &str) -> Verdict {
    own(kind)?;
    if !stand.root {
        return not_applicable(
            "an ordinary user may not enter a namespace without entering the user namespace that owns it",
        );
    }
    if kind == "user" {
        return user_by_path(stand);
    }
    let holder = hold(stand, kind)?;
    let path = format!("/proc/{}/ns/{}", holder.pid, file(kind));
    let wanted = fs::read_link(&path).map_err(|error| error.to_string())?;
    let mut bundle = stand.bundle();
    bundle.drop_namespace(kind);
    bundle.list("/linux/namespaces").push(json!({ "type": kind, "path": path }));
    if kind == "time" {
        bundle.config["linux"].as_object_mut().map(|linux| linux.remove("timeOffsets"));
    }
    let report = bundle.report(&[])?;
    same!(report["namespaces"][kind], json!(wanted), "the namespace");
    Ok(())
}

fn user_by_path(stand: &Stand) -> Verdict {
    let holder = hold(stand, "user")?;
    let whole = "0 0 65536";
    for map in ["uid_map", "gid_map"] {
        fs::write(format!("/proc/{}/{map}", holder.pid), whole).map_err(|error| error.to_string())?;
    }
    let path = format!("/proc/{}/ns/user", holder.pid);
    let wanted = fs::read_link(&path).map_err(|error| error.to_string())?;
    let mut bundle = stand.bundle();
    bundle.list("/linux/namespaces").push(json!({ "type": "user", "path": path }));
    same!(bundle.report(&[])?["namespaces"]["user"], json!(wanted), "the namespace");
    Ok(())
}

fn refused(stand: &Stand, change: impl Fn(&mut Bundle)) -> Verdict {
    let mut bundle = stand.bundle();
    change(&mut bundle);
    bundle.is_refused()?;
    Ok(())
}

fn twice(stand: &Stand) -> Verdict {
    refused(stand, |bundle| bundle.add_namespace("uts"))
}

fn with_path(bundle: &mut Bundle, path: &str) {
    bundle.drop_namespace("network");
    bundle.list("/linux/namespaces").push(json!({ "type": "network", "path": path }));
}

fn other_type(stand: &Stand) -> Verdict {
    refused(stand, |bundle| with_path(bundle, "/proc/self/ns/uts"))
}

fn not_one(stand: &Stand) -> Verdict {
    refused(stand, |bundle| with_path(bundle, "/etc/passwd"))?;
    refused(stand, |bundle| with_path(bundle, "/no/such/namespace"))
}

fn relative(stand: &Stand) -> Verdict {
    // It is there, from where the runtime is called.
    let own = "../".repeat(20) + "proc/self/ns/net";
    refused(stand, |bundle| with_path(bundle, &own))
}
