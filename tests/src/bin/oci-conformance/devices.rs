//! config-linux.md, Devices and Default Devices.

use std::fs;

use sentry_tests::oci::Stand;
use serde_json::json;

use crate::verdict::{Level, Test, Verdict, must, not_applicable};

const PLACE: &str = "config-linux.md, Devices";
const DEFAULT: &str = "config-linux.md, Default Devices";

macro_rules! default_device {
    ($id:literal $path:literal $major:literal $minor:literal) => {
        Test {
            id: $id,
            place: DEFAULT,
            level: Level::Must,
            asks: concat!($path, " is supplied"),
            since: "1.0",
            run: |stand| supplied(stand, $path, $major, $minor),
        }
    };
}

pub const TESTS: &[Test] = &[
    default_device!("device_null" "/dev/null" 1 3),
    default_device!("device_zero" "/dev/zero" 1 5),
    default_device!("device_full" "/dev/full" 1 7),
    default_device!("device_random" "/dev/random" 1 8),
    default_device!("device_urandom" "/dev/urandom" 1 9),
    default_device!("device_tty" "/dev/tty" 5 0),
    must("device_ptmx", DEFAULT, "/dev/ptmx is that of the container's /dev/pts", ptmx),
    must("devices_are_made", PLACE, "devices of the list are there, with mode and owner", listed),
    must("devices_outside_of_dev", PLACE, "the path may be anywhere", elsewhere),
    must("devices_fifo", PLACE, "type p is a FIFO", fifo),
    must("devices_unbuffered", PLACE, "type u is a character device", unbuffered),
    must("devices_in_the_way", PLACE, "a file at the path that is something else is an error", in_the_way),
    must("devices_unknown_type", PLACE, "an unknown type is refused", unknown_type),
];

fn supplied(stand: &Stand, path: &str, major: u32, minor: u32) -> Verdict {
    let report = stand.bundle().report(&[path])?;
    let seen = &report["paths"][path];
    same!(
        [&seen["type"], &seen["major"], &seen["minor"]],
        [&json!("c"), &json!(major), &json!(minor)],
        "type, major, minor"
    );
    same!(seen["mode"].as_u64().unwrap_or(0) & 0o666, 0o666, "everybody's rights");
    if path != "/dev/tty" {
        same!([&seen["read"], &seen["write"]], [&json!(0), &json!(0)], "opening it");
    }
    Ok(())
}

fn ptmx(stand: &Stand) -> Verdict {
    let report = stand.bundle().report(&["/dev/ptmx", "/dev/pts/ptmx"])?;
    let (seen, within) = (&report["paths"]["/dev/ptmx"], &report["paths"]["/dev/pts/ptmx"]);
    if seen["type"] == "link" {
        let to = seen["link"].as_str().unwrap_or_default();
        ensure!(["pts/ptmx", "/dev/pts/ptmx", "./pts/ptmx"].contains(&to), "a link to {to}");
    } else {
        same!([&seen["device"], &seen["inode"]], [&within["device"], &within["inode"]], "device and inode");
    }
    same!(seen["read"], json!(0), "opening it");
    Ok(())
}

/// An ordinary user can only be shown devices that the host has, with the host's mode and owner.
fn made(stand: &Stand, device: serde_json::Value, path: &str) -> Result<serde_json::Value, crate::verdict::Unmet> {
    let mut bundle = stand.bundle();
    bundle.list("/linux/devices").push(device);
    Ok(bundle.report(&[path])?["paths"][path].clone())
}

fn listed(stand: &Stand) -> Verdict {
    if !stand.root {
        return not_applicable("mknod is root's; an ordinary user is shown the host's own devices");
    }
    let device =
        json!({ "type": "c", "path": "/dev/mine", "major": 10, "minor": 229, "fileMode": 0o640, "uid": 3, "gid": 4 });
    let seen = made(stand, device, "/dev/mine")?;
    same!(
        [&seen["type"], &seen["major"], &seen["minor"]],
        [&json!("c"), &json!(10), &json!(229)],
        "type, major, minor"
    );
    same!([&seen["mode"], &seen["uid"], &seen["gid"]], [&json!(0o640), &json!(3), &json!(4)], "mode, uid, gid");
    Ok(())
}

fn elsewhere(stand: &Stand) -> Verdict {
    // The null device, which the host has at /dev/null: rootless runtimes bind what lies at the same path only.
    if !stand.root {
        return not_applicable("mknod is root's; runtimes show an ordinary user what the host has at that very path");
    }
    let seen = made(
        stand,
        json!({ "type": "c", "path": "/srv/deep/null", "major": 1, "minor": 3, "fileMode": 0o666 }),
        "/srv/deep/null",
    )?;
    same!([&seen["type"], &seen["major"], &seen["minor"]], [&json!("c"), &json!(1), &json!(3)], "type, major, minor");
    Ok(())
}

fn fifo(stand: &Stand) -> Verdict {
    if !stand.root {
        return not_applicable("rootless runtimes bind devices, and the host has no such FIFO");
    }
    let seen = made(stand, json!({ "type": "p", "path": "/dev/pipe", "fileMode": 0o600 }), "/dev/pipe")?;
    same!(seen["type"], json!("p"), "type");
    Ok(())
}

fn unbuffered(stand: &Stand) -> Verdict {
    if !stand.root {
        return not_applicable("mknod is root's; runtimes show an ordinary user what the host has at that very path");
    }
    let seen = made(
        stand,
        json!({ "type": "u", "path": "/dev/mine", "major": 1, "minor": 3, "fileMode": 0o666 }),
        "/dev/mine",
    )?;
    same!([&seen["type"], &seen["major"], &seen["minor"]], [&json!("c"), &json!(1), &json!(3)], "type, major, minor");
    Ok(())
}

fn in_the_way(stand: &Stand) -> Verdict {
    let mut bundle = stand.bundle();
    fs::write(bundle.rootfs("etc/thing"), "a file").map_err(|error| error.to_string())?;
    bundle.list("/linux/devices").push(json!({ "type": "c", "path": "/etc/thing", "major": 1, "minor": 3 }));
    bundle.is_refused()?;
    Ok(())
}

fn unknown_type(stand: &Stand) -> Verdict {
    let mut bundle = stand.bundle();
    bundle.list("/linux/devices").push(json!({ "type": "x", "path": "/dev/thing", "major": 1, "minor": 3 }));
    bundle.is_refused()?;
    Ok(())
}
