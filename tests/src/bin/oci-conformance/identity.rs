//! config.md, POSIX-platform User.

use sentry_tests::oci::Stand;
use serde_json::json;

use crate::verdict::{Test, Unmet, Verdict, must};

const PLACE: &str = "config.md, POSIX-platform User";

pub const TESTS: &[Test] = &[
    must("user_root", PLACE, "uid and gid 0", root),
    must("user_uid_and_gid", PLACE, "other ids, in the container's namespace", other),
    must("user_without_a_name", PLACE, "ids that no file in the container names", nameless),
    must("user_additional_groups", PLACE, "additionalGids are the supplementary groups", groups),
    must(
        "user_no_groups_of_the_caller",
        PLACE,
        "without additionalGids none of the caller's groups remain mapped",
        no_groups,
    ),
    must("user_umask", PLACE, "umask is set", umask),
    must("user_unmapped", "config-linux.md, User namespace mappings", "a uid that is not mapped is refused", unmapped),
];

fn many<'a>(stand: &'a Stand) -> Result<sentry_tests::oci::Bundle<'a>, Unmet> {
    let mut bundle = stand.bundle();
    if bundle.map_many() { Ok(bundle) } else { Err(Unmet::NotApplicable("the user has no subordinate ids".to_owned())) }
}

fn root(stand: &Stand) -> Verdict {
    let report = stand.bundle().report(&[])?;
    same!([&report["uid"], &report["gid"]], [&json!(0), &json!(0)], "ids");
    Ok(())
}

fn as_ids(stand: &Stand, uid: u32, gid: u32) -> Verdict {
    let mut bundle = many(stand)?;
    bundle.config["process"]["user"] = json!({ "uid": uid, "gid": gid });
    let report = bundle.report(&[])?;
    same!([&report["uid"], &report["gid"]], [&json!(uid), &json!(gid)], "ids");
    let all = |id: u32| json!([id, id, id, id].map(|id| id.to_string()).join("\t"));
    same!(
        [&report["status"]["Uid"], &report["status"]["Gid"]],
        [&all(uid), &all(gid)],
        "real, effective, saved and fs ids"
    );
    Ok(())
}

fn other(stand: &Stand) -> Verdict {
    as_ids(stand, 1, 2)
}

fn nameless(stand: &Stand) -> Verdict {
    as_ids(stand, 12_345, 23_456)
}

fn groups(stand: &Stand) -> Verdict {
    let mut bundle = many(stand)?;
    bundle.config["process"]["user"] = json!({ "uid": 1000, "gid": 1000, "additionalGids": [7, 4242] });
    let report = bundle.report(&[])?;
    let mut seen: Vec<u64> =
        report["groups"].as_array().into_iter().flatten().filter_map(serde_json::Value::as_u64).collect();
    seen.retain(|group| *group != 1000);
    seen.sort_unstable();
    same!(seen, [7, 4242], "supplementary groups");
    Ok(())
}

fn no_groups(stand: &Stand) -> Verdict {
    let mut bundle = many(stand)?;
    bundle.config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
    let report = bundle.report(&[])?;
    let seen: Vec<u64> =
        report["groups"].as_array().into_iter().flatten().filter_map(serde_json::Value::as_u64).collect();
    ensure!(seen.iter().all(|group| *group == 1000), "supplementary groups {seen:?}");
    Ok(())
}

fn umask(stand: &Stand) -> Verdict {
    let mut bundle = stand.bundle();
    bundle.config["process"]["user"]["umask"] = json!(0o137);
    same!(bundle.report(&[])?["umask"], json!(0o137), "umask");
    Ok(())
}

fn unmapped(stand: &Stand) -> Verdict {
    if stand.root {
        return crate::verdict::not_applicable("every id is mapped without a user namespace");
    }
    let mut bundle = stand.bundle();
    bundle.config["process"]["user"] = json!({ "uid": 5, "gid": 5 });
    bundle.is_refused()?;
    Ok(())
}
