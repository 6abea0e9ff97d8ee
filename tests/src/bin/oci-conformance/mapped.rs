//! config-linux.md: id mappings of user namespaces, and offsets of time namespaces.

use std::fs;
use std::os::unix::fs::MetadataExt;

use sentry_tests::oci::Stand;
use serde_json::{Value, json};

use crate::verdict::{Test, Unmet, Verdict, must, should};

const PLACE: &str = "config-linux.md, User namespace mappings";
const TIME: &str = "config-linux.md, Offset for Time Namespace";

pub const TESTS: &[Test] = &[
    must("mapping_of_one_id", PLACE, "one id is mapped", one),
    must("mapping_of_ranges", PLACE, "ranges are mapped as they are listed", ranges),
    should("mapping_spares_owners", PLACE, "the runtime does not change who owns files", owners),
    must("time_offset_monotonic", TIME, "timeOffsets of monotonic", |stand| offset(stand, "monotonic")).since("1.1"),
    must("time_offset_boottime", TIME, "timeOffsets of boottime", |stand| offset(stand, "boottime")).since("1.1"),
];

fn rows(config: &Value) -> Vec<[u64; 3]> {
    let number = |entry: &Value, name: &str| entry[name].as_u64().unwrap_or(u64::MAX);
    config
        .as_array()
        .into_iter()
        .flatten()
        .map(|entry| [number(entry, "containerID"), number(entry, "hostID"), number(entry, "size")])
        .collect()
}

fn compare(bundle: &mut sentry_tests::oci::Bundle) -> Verdict {
    let report = bundle.report(&[])?;
    for (seen, told) in [("uid_map", "uidMappings"), ("gid_map", "gidMappings")] {
        // Read from inside, the second column is the parent's ids.
        same!(report[seen], json!(rows(&bundle.config["linux"][told])), seen);
    }
    Ok(())
}

fn one(stand: &Stand) -> Verdict {
    let mut bundle = stand.bundle();
    if stand.root {
        bundle.add_namespace("user");
    }
    bundle.map_one();
    compare(&mut bundle)
}

fn ranges(stand: &Stand) -> Verdict {
    let mut bundle = stand.bundle();
    if stand.root {
        bundle.add_namespace("user");
        let map = json!([{ "containerID": 0, "hostID": 0, "size": 1000 }, { "containerID": 1000, "hostID": 300_000, "size": 500 }]);
        bundle.config["linux"]["uidMappings"] = map.clone();
        bundle.config["linux"]["gidMappings"] = map;
    } else if !bundle.map_many() {
        return Err(Unmet::NotApplicable("the user has no subordinate ids".to_owned()));
    }
    compare(&mut bundle)
}

fn owners(stand: &Stand) -> Verdict {
    let mut bundle = stand.bundle();
    if stand.root {
        bundle.add_namespace("user");
        let map = json!([{ "containerID": 0, "hostID": 0, "size": 65_536 }]);
        bundle.config["linux"]["uidMappings"] = map.clone();
        bundle.config["linux"]["gidMappings"] = map;
    }
    let file = bundle.rootfs("etc/file");
    fs::write(&file, "").map_err(|error| error.to_string())?;
    let owner = || fs::metadata(&file).map(|meta| (meta.uid(), meta.gid())).unwrap_or_default();
    let before = owner();
    bundle.report(&[])?;
    same!(owner(), before, "uid and gid");
    Ok(())
}

fn offset(stand: &Stand, clock: &str) -> Verdict {
    let mut bundle = stand.bundle();
    bundle.add_namespace("time");
    bundle.config["linux"]["timeOffsets"] = json!({ clock: { "secs": 100_000, "nanosecs": 0 } });
    let seen = bundle.report(&[])?["clocks"][clock].as_f64().unwrap_or_default();
    let which =
        if clock == "monotonic" { nix::time::ClockId::CLOCK_MONOTONIC } else { nix::time::ClockId::CLOCK_BOOTTIME };
    let now = nix::time::clock_gettime(which).map_err(|error| error.to_string())?;
    #[expect(clippy::cast_precision_loss, reason = "seconds since boot")]
    let ahead = seen - now.tv_sec() as f64;
    ensure!((99_900.0..100_100.0).contains(&ahead), "{clock} is {ahead} s ahead of the host's");
    Ok(())
}
