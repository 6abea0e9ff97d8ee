//! config-linux.md, Control groups: where the container is put, and what it may use there.

use std::fs;
use std::path::PathBuf;

use sentry_tests::oci::{Bundle, Stand, mounts};
use serde_json::{Value, json};

use crate::verdict::{Test, Verdict, must, not_applicable};

const PATH: &str = "config-linux.md, Cgroups Path";
const DEVICES: &str = "config-linux.md, Allowed Device list";

pub const TESTS: &[Test] = &[
    must("cgroup_path_absolute", PATH, "an absolute path is taken from the cgroups' mount point", absolute),
    must("cgroup_path_relative", PATH, "a relative path is a place of the runtime's choice, always the same", relative),
    must("cgroup_is_made_and_removed", PATH, "what does not exist is made, and removed with the container", removed),
    must("cgroup_devices_denied", DEVICES, "a device that is denied cannot be opened", denied),
    must("cgroup_devices_in_order", DEVICES, "entries are applied in the listed order", in_order),
    must("cgroup_memory_limit", "config-linux.md, Memory", "limit", |stand| {
        limited(stand, "memory", json!({ "limit": 268_435_456 }), ("memory.limit_in_bytes", "memory.max"), "268435456")
    }),
    must("cgroup_memory_reservation", "config-linux.md, Memory", "reservation", |stand| {
        limited(
            stand,
            "memory",
            json!({ "reservation": 134_217_728 }),
            ("memory.soft_limit_in_bytes", "memory.low"),
            "134217728",
        )
    }),
    must("cgroup_cpu_quota", "config-linux.md, CPU", "quota and period", |stand| {
        limited(stand, "cpu", json!({ "quota": 40_000, "period": 80_000 }), ("cpu.cfs_quota_us", "cpu.max"), "40000")
    }),
    must("cgroup_cpu_shares", "config-linux.md, CPU", "shares", |stand| {
        limited(stand, "cpu", json!({ "shares": 512 }), ("cpu.shares", "cpu.weight"), "512")
    }),
    must("cgroup_cpuset", "config-linux.md, CPU", "cpus", |stand| {
        limited(stand, "cpu", json!({ "cpus": "0" }), ("cpuset.cpus", "cpuset.cpus"), "0")
    }),
    must("cgroup_pids", "config-linux.md, PIDs", "limit", |stand| {
        limited(stand, "pids", json!({ "limit": 77 }), ("pids.max", "pids.max"), "77")
    }),
    must("cgroup_block_weight_device", "config-linux.md, Block IO", "throttleReadBpsDevice", throttle),
    must("cgroup_unified", "config-linux.md, Unified", "a controller that is not present is an error", unified),
];

/// The directory of one line of `/proc/PID/cgroup`.
pub fn directory(line: &str) -> Option<PathBuf> {
    let mut fields = line.splitn(3, ':').skip(1);
    let (controllers, path) = (fields.next()?, fields.next()?);
    let table = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let mount = mounts(&table).into_iter().find(|mount| {
        if controllers.is_empty() {
            mount.kind == "cgroup2"
        } else {
            mount.kind == "cgroup" && controllers.split(',').all(|name| mount.inner.iter().any(|known| known == name))
        }
    })?;
    Some(PathBuf::from(mount.point).join(path.trim_start_matches('/')))
}

fn available(stand: &Stand) -> Verdict {
    match &stand.without_cgroups {
        Some(why) => not_applicable(why),
        None if !stand.root => not_applicable("no cgroup is delegated to this user"),
        None => Ok(()),
    }
}

/// Where a created container is, by controller.
fn places(pid: i32) -> Vec<(String, PathBuf)> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    text.lines().filter_map(|line| Some((line.split(':').nth(1)?.to_owned(), directory(line)?))).collect()
}

fn place(pid: i32, controller: &str) -> Option<PathBuf> {
    places(pid).into_iter().find(|(names, _)| names.split(',').any(|name| name == controller)).map(|(_, path)| path)
}

fn absolute(stand: &Stand) -> Verdict {
    available(stand)?;
    let mut bundle = stand.bundle();
    let path = format!("/oci-conformance/{}", bundle.id);
    bundle.config["linux"]["cgroupsPath"] = json!(path);
    let container = bundle.create()?;
    let text = fs::read_to_string(format!("/proc/{}/cgroup", container.pid)).unwrap_or_default();
    ensure!(text.lines().any(|line| line.ends_with(&format!(":{path}"))), "it is in {text}");
    Ok(())
}

fn relative(stand: &Stand) -> Verdict {
    available(stand)?;
    let mut seen = Vec::new();
    for _ in 0..2 {
        let mut bundle = stand.bundle();
        bundle.config["linux"]["cgroupsPath"] = json!("oci-conformance-relative");
        let container = bundle.create()?;
        seen.push(fs::read_to_string(format!("/proc/{}/cgroup", container.pid)).unwrap_or_default());
        container.kill("KILL")?;
        container.wait()?;
        container.delete()?;
    }
    same!(seen[0], seen[1], "the place of the second one");
    ensure!(seen[0].contains("oci-conformance-relative"), "it is in {}", seen[0]);
    Ok(())
}

fn removed(stand: &Stand) -> Verdict {
    available(stand)?;
    let mut bundle = stand.bundle();
    bundle.config["linux"]["cgroupsPath"] = json!(format!("/{}", bundle.id));
    let container = bundle.create()?;
    let made: Vec<_> = places(container.pid).into_iter().filter(|(_, path)| path.ends_with(&bundle.id)).collect();
    ensure!(!made.is_empty(), "no cgroup was made");
    container.kill("KILL")?;
    container.wait()?;
    container.delete()?;
    for (name, path) in made {
        ensure!(!path.exists(), "{name}: {} is still there", path.display());
    }
    Ok(())
}

fn limited(stand: &Stand, section: &str, value: Value, files: (&str, &str), wanted: &str) -> Verdict {
    available(stand)?;
    let mut bundle = stand.bundle();
    bundle.config["linux"]["resources"] = json!({ section: value });
    let container = bundle.create()?;
    let controller = files.0.split('.').next().unwrap_or_default();
    if let Some(place) = place(container.pid, controller) {
        let text = fs::read_to_string(place.join(files.0))
            .map_err(|error| format!("{}: {error}", place.join(files.0).display()))?;
        same!(text.trim(), wanted, files.0);
        return Ok(());
    }
    let Some(place) = place(container.pid, "") else { return not_applicable("the controller is not there") };
    let file = place.join(files.1);
    let Ok(text) = fs::read_to_string(&file) else {
        return not_applicable(&format!("the controller {controller} is neither in version 1 nor in the unified tree"));
    };
    ensure!(
        text.split_whitespace().any(|word| word == wanted) || files.1 == "cpu.weight",
        "{} is {text}",
        file.display()
    );
    Ok(())
}

fn device_list(bundle: &mut Bundle, entries: Value) {
    bundle.config["linux"]["resources"] = json!({ "devices": entries });
}

fn denied(stand: &Stand) -> Verdict {
    available(stand)?;
    let mut bundle = stand.bundle();
    bundle
        .list("/linux/devices")
        .push(json!({ "type": "c", "path": "/dev/fuse", "major": 10, "minor": 229, "fileMode": 0o666 }));
    device_list(
        &mut bundle,
        json!([{ "allow": false, "access": "rwm" }, { "allow": true, "type": "c", "major": 10, "minor": 200, "access": "rwm" }]),
    );
    // Version 1 or a program in version 2: both say EPERM.
    let report = bundle.report(&["/dev/fuse", "/dev/null"])?;
    same!(report["paths"]["/dev/fuse"]["read"], json!(libc::EPERM), "opening it");
    same!(report["paths"]["/dev/null"]["read"], json!(0), "a default device");
    Ok(())
}

fn in_order(stand: &Stand) -> Verdict {
    available(stand)?;
    if !std::path::Path::new("/dev/fuse").exists() {
        return not_applicable("this host has no /dev/fuse to try it with");
    }
    let mut bundle = stand.bundle();
    bundle
        .list("/linux/devices")
        .push(json!({ "type": "c", "path": "/dev/fuse", "major": 10, "minor": 229, "fileMode": 0o666 }));
    device_list(
        &mut bundle,
        json!([
            { "allow": false, "access": "rwm" },
            { "allow": true, "type": "c", "major": 10, "minor": 229, "access": "rw" },
            { "allow": false, "type": "c", "major": 10, "minor": 229, "access": "w" }
        ]),
    );
    let report = bundle.report(&["/dev/fuse"])?;
    let seen = &report["paths"]["/dev/fuse"];
    same!([&seen["read"], &seen["write"]], [&json!(0), &json!(libc::EPERM)], "read and write");
    Ok(())
}

fn throttle(stand: &Stand) -> Verdict {
    available(stand)?;
    use std::os::unix::fs::MetadataExt;
    let device = fs::metadata(&stand.directory).map(|meta| meta.dev()).map_err(|error| error.to_string())?;
    let mut bundle = stand.bundle();
    let (major, minor) = (libc::major(device), libc::minor(device));
    bundle.config["linux"]["resources"] =
        json!({ "blockIO": { "throttleReadBpsDevice": [{ "major": major, "minor": minor, "rate": 123_456_512 }] } });
    let container = bundle.create()?;
    let Some(place) = place(container.pid, "blkio") else {
        return not_applicable("there is no blkio controller of version 1");
    };
    let text = fs::read_to_string(place.join("blkio.throttle.read_bps_device")).map_err(|error| error.to_string())?;
    ensure!(text.contains("123456512"), "blkio.throttle.read_bps_device is {text:?}");
    Ok(())
}

fn unified(stand: &Stand) -> Verdict {
    available(stand)?;
    let mut bundle = stand.bundle();
    bundle.config["linux"]["resources"] = json!({ "unified": { "dreams.max": "1" } });
    bundle.is_refused()?;
    Ok(())
}
